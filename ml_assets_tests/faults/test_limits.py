"""Faults, each beside its twin: limits. The list is in `injections`, and in docs/faults.md."""

import pytest

from ml_assets_tests.faults.injections import LIMITS, Fault
from ml_assets_tests.faults.scene import Scene, scene

__all__ = ["scene"]
pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.mark.parametrize("fault", LIMITS, ids=lambda f: f.name.replace(" ", "_"))
def test_the_laws_hold_and_the_next_run_ends_as_the_twin(scene: Scene, fault: Fault) -> None:
    scene.suffers(fault)
