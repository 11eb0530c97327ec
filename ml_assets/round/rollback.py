"""A rollback: an earlier champion serves again, after it was verified, because somebody says why."""

from typing import Any

from ml_assets.errors import PromotionRefused, shortened
from ml_assets.resources.ledger import MAKES_CHAMPION, ROLLBACK
from ml_assets.resources.registry import CHAMPION
from ml_assets.round import Round
from ml_assets.round.alias import mirrored
from ml_assets.verification import in_clean_process


def roll_back(
    round_: Round, to: int | None, why: str, meant: dict[str, Any] | None = None
) -> dict[str, Any]:
    """It makes an earlier champion the champion again, and returns the ledger's entry of that.

    The version is loaded in a clean process (digest, types, columns, golden predictions) before
    the pointer moves.  What it replaces is withdrawn: it is not promoted again by itself.

    Args:
        round_: problem, stores, and who asks.
        to: the version; None for the champion before this one.
        why: the reason, kept in the ledger.
        meant: the ledger's entry of the champion that is to go; None for whoever it is.

    Raises:
        PromotionRefused: there is no such earlier champion, no reason, or the champion changed
            meanwhile.
        ModelRefused: the version is not what was recorded.
    """
    name, stores = round_.problem.name, round_.stores
    if not why.strip():
        raise PromotionRefused("A rollback needs a reason: --why TEXT.")
    before = stores.ledger.champion(name)
    if meant is not None and before != meant:
        raise _changed(name, meant["version"])
    target = _target(stores.ledger.entries(name), before, to, name)
    version = stores.registry.version(name, target["version"])
    in_clean_process(version.folder, target["digest"], tuple(round_.problem.trust))
    assert before is not None
    kept = ("version", "candidate", "digest", "model_digest", "metrics", "dataset_version")
    told = ("split", "config_digest", "code_version", "gates", "test", "record")
    entry = {
        "event": ROLLBACK,
        "at": round_.clock(),
        **{k: target.get(k) for k in (*kept, *told)},
        "previous": before["version"],
        "withdrawn": before["model_digest"],
        "reason": why.strip(),
        "actor": round_.actor,
        "run_id": round_.run.run_id,
    }
    with stores.ledger.deciding(name) as deciding:
        if stores.ledger.champion(name) != before:
            raise _changed(name, target["version"])
        written = deciding.append(entry)
        stores.registry.point(name, CHAMPION, target["version"])
        mirrored(stores, name)  # a canary beside the former champion is none any more
    return written


def _changed(name: str, version: int) -> PromotionRefused:
    return PromotionRefused(
        f"The champion of {name} changed while version {version} was being verified. Look at "
        "`ml-assets status`, and ask again if it is still meant."
    )


def _target(
    entries: list[dict[str, Any]], before: dict[str, Any] | None, to: int | None, name: str
) -> dict[str, Any]:
    """It returns the entry that once made the wanted version champion."""
    made = [e for e in entries if e["event"] in MAKES_CHAMPION]
    if before is None:
        raise PromotionRefused(f"{name} has no champion: there is nothing to roll back.")
    others = [e for e in made if e["version"] != before["version"]]
    if to is None:
        withdrawn = {e["withdrawn"] for e in made if e["event"] == ROLLBACK}
        others = [e for e in others if e["model_digest"] not in withdrawn]
    else:
        others = [e for e in others if e["version"] == to]
    if not others:
        was = shortened(dict.fromkeys(f"version {e['version']}" for e in made))
        what = f"version {to}" if to is not None else "a champion before this one"
        raise PromotionRefused(
            f"{name} cannot be rolled back to {what}. Champions so far: {was}; now: version "
            f"{before['version']}."
            + (" Name one with --to." if to is None and len(made) > 1 else "")
        )
    return others[-1]
