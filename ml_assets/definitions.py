"""The code location: every problem in the folder of problems, and how its steps are run."""

import contextlib
import functools
import gc
import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import dagster as dg
from dagster.components.core.component_tree import ComponentTree

from ml_assets.components import MLProblem
from ml_assets.components.alerts import build_alerts
from ml_assets.components.aliases import build_alias_guard
from ml_assets.components.ml_problem.engine import executor_for
from ml_assets.components.worker import build_guard
from ml_assets.errors import DeclarationError
from ml_assets.resources.home import find_home, find_root, problems_folder
from ml_assets.resources.stores import open_stores


def _module(folder: Path) -> ModuleType:
    """It returns the folder as a module, wherever it lies: Dagster finds components by module."""
    if folder == Path(__file__).parent / "defs":
        return importlib.import_module("ml_assets.defs")
    spec = importlib.util.spec_from_loader("ml_assets_problems", loader=None, is_package=True)
    assert spec and spec.submodule_search_locations is not None
    spec.submodule_search_locations.append(str(folder))
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    return module


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve other steps
warnings.filterwarnings("ignore", category=dg.BetaWarning)  # each use below is deliberate


@contextlib.contextmanager
def _no_looking_for_garbage() -> Iterator[None]:
    """What is made inside stays as long as the process: to look through it costs a fifth of the time."""
    looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if looking:
            gc.enable()


def tree() -> ComponentTree:
    """It returns the components of the folder of problems."""
    root = find_root()
    folder = problems_folder(root)
    if not any(file.suffix in (".yaml", ".py") for file in folder.rglob("*")):
        raise DeclarationError(
            f"There is no problem in {folder}. `ml-assets new` makes one, or set ML_ASSETS_DEFS "
            "to where they are."
        )
    found = ComponentTree.from_module(_module(folder), root)
    with _no_looking_for_garbage():
        # Told of all, it does not list all of them again for each one that it loads.
        for place, declared in found.find_root_decl().iterate_loc_component_decl_pairs():
            found.state_tracker.set_cache_data(place, component_decl=declared)
    return found


def problems_of(components: ComponentTree) -> dict[str, MLProblem]:
    """It returns all problems by name."""
    found = components.get_all_components(of_type=MLProblem)
    return {component.problem.name: component for component in found}


def build(components: ComponentTree) -> dg.Definitions:
    """It returns every problem's definitions.

    An upstream asset that this code location does not define is another's: it is named here, so
    that its value can be loaded by the default IO manager.
    """
    with _no_looking_for_garbage():
        merged, problems = components.build_defs(), problems_of(components)
    named = [p.problem.dataset.asset for p in problems.values()]
    wanted = {dg.AssetKey(name.split("/")) for name in named if name}
    known = {key for asset in merged.assets or [] for key in _keys(asset)} if wanted else set()
    others = [dg.AssetSpec(key) for key in sorted(wanted - known)]
    home = find_home(find_root())
    stores, declared = open_stores(home), {n: p.problem for n, p in problems.items()}
    built = [
        build_alias_guard(list(problems), stores),
        build_guard(list(problems)),
        build_alerts(declared, stores, home),
    ]
    guards = [sensor for sensor in built if sensor is not None]
    ours = dg.Definitions(assets=others, sensors=guards, executor=executor_for(declared.values()))
    return dg.Definitions.merge(merged, ours)


def _keys(asset: object) -> set[dg.AssetKey]:
    if isinstance(asset, dg.AssetsDefinition):
        return set(asset.keys)
    return {asset.key} if isinstance(asset, (dg.AssetSpec, dg.SourceAsset)) else set()


def _declared() -> frozenset[tuple[object, ...]]:
    """It returns what definitions depend on: the files of the folder of problems, and the environment."""
    root = find_root()
    seen: list[tuple[object, ...]] = [(root,), *os.environ.items()]
    for file in problems_folder(root).rglob("*"):
        if file.suffix in (".yaml", ".py"):
            with contextlib.suppress(FileNotFoundError):  # an editor's lock is a link to nowhere
                status = file.stat()
                seen.append((file, status.st_mtime_ns, status.st_size))
    return frozenset(seen)


@functools.lru_cache(maxsize=1)
def _built(_: frozenset[tuple[object, ...]]) -> dg.Definitions:
    return build(tree())


@dg.definitions
def defs() -> dg.Definitions:
    """Every problem in the folder of problems."""
    return _built(_declared())  # a code server asks twice when it starts
