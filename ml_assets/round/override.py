"""An override: somebody lets one version pass one gate that it fails, until a time, and says why.

The gate is asked all the same, and its answer stays in sight; it only stops nothing.
"""

from dataclasses import replace
from typing import Any

from ml_assets.errors import PromotionRefused, did_you_mean
from ml_assets.gates import Verdict
from ml_assets.gates import challenger as gates
from ml_assets.resources.ledger import OVERRIDE
from ml_assets.round import Round

# A model that cannot predict every row is not fit by anybody's word.
NEVER = ("predictions_are_complete",)


def override(round_: Round, version: int, gate: str, why: str, until: float) -> dict[str, Any]:
    """It writes an override into the ledger, and returns the entry.

    Args:
        round_: problem, stores, and who asks.
        version: the version that may pass; later versions may not.
        gate: the gate's name, as its check is named.
        why: the reason.
        until: when it ends, in seconds since 1970.

    Raises:
        PromotionRefused: no such gate, no reason, a time that has passed, or a gate or a version
            that cannot be overridden.
        ModelRefused: the registry has no such version.
    """
    name = round_.problem.name
    if not why.strip():
        raise PromotionRefused("An override needs a reason: --why TEXT.")
    if until <= round_.clock():
        raise PromotionRefused("An override ends in the future: --until TIME, like 2030-12-31.")
    known = [v.name for v in gates.expected(round_.problem)]
    if gate not in known:
        raise PromotionRefused(
            f"{name} asks its challenger no gate `{gate}`.{did_you_mean(gate, known)} Gates on "
            "rows and on the split, and `beats_the_champion`, cannot be overridden."
        )
    if gate in NEVER:
        raise PromotionRefused(f"`{gate}` cannot be overridden: such a model has no answer.")
    entry = {
        "event": OVERRIDE,
        "at": round_.clock(),
        "version": version,
        "model_digest": round_.stores.registry.version(name, version).tags["model_digest"],
        "gate": gate,
        "until": until,
        "reason": why.strip(),
        "actor": round_.actor,
        "run_id": round_.run.run_id,
    }
    with round_.stores.ledger.deciding(name) as deciding:
        return deciding.append(entry)


def overridden(round_: Round, verdicts: list[Verdict], version: int) -> list[Verdict]:
    """It returns the verdicts of a version; those that are overridden now stop nothing."""
    entries = round_.stores.ledger.entries(round_.problem.name)
    now = round_.clock()
    valid = {
        e["gate"]: e
        for e in entries
        if e["event"] == OVERRIDE and e["version"] == version and e["at"] <= now < e["until"]
    }
    return [_let_pass(v, valid[v.name]) if v.stops and v.name in valid else v for v in verdicts]


def _let_pass(verdict: Verdict, entry: dict[str, Any]) -> Verdict:
    told = f"Overridden by {entry['actor'] or 'somebody'} (ledger, entry {entry['number']}): "
    return replace(verdict, mode="warn", reason=f"{verdict.reason} {told}{entry['reason']}")
