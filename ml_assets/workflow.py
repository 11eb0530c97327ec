"""A workflow: a problem is trained by GitHub's runners, and its gates are those of the roll-out."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.errors import DeclarationError, NotMaterialized
from ml_assets.resources.home import find_home
from ml_assets.resources.stores import open_stores

if TYPE_CHECKING:
    from ml_assets.components import MLProblem

TEMPLATE = Path(__file__).parent / "training.yaml"


def training(problem: str, folder: str, install: str = "-e .") -> str:
    """It returns the workflow that trains a problem.

    Args:
        problem: its name.
        folder: where its declaration is, in the repository.
        install: what pip is to install.
    """
    said = TEMPLATE.read_text().replace("ml-assets ci NAME`", f"ml-assets ci {problem}`")
    return said.replace("NAME", problem).replace("DEFS", folder).replace("INSTALL", install)


def summary(document: dict[str, Any]) -> str:
    """It returns what a run came to, as Markdown for the summary of a job."""
    decision, select = document["decision"], document["select"]
    word = "Promoted" if decision["promoted"] else "Held" if document["success"] else "Refused"
    lines = [f"## {document['problem']}: {word}", "", _plain(decision["reason"]), ""]
    names = sorted({m for c in document["candidates"].values() for m in c["metrics"]})
    names = [select, *[n for n in names if n != select]][:5]
    lines += [f"| candidate | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for name, made in document["candidates"].items():
        numbers = [_number(made["metrics"].get(n)) for n in names]
        told = f" (failed: {_plain(made['error'])})" if made["error"] else ""
        leads = " **leads**" if name == document["winner"] else ""
        lines.append(f"| `{name}`{leads}{told} | {' | '.join(numbers)} |")
    lines += ["", "On validation.", "", "| gate | asset | | |", "|---|---|---|---|"]
    for gate in sorted(document["gates"], key=lambda g: g["passed"]):
        sign = "ok" if gate["passed"] else "**failed**" if gate["severity"] == "ERROR" else "warns"
        lines.append(f"| {gate['name']} | {gate['asset']} | {sign} | {_plain(gate['reason'])} |")
    champion = document["champion"]
    if champion:
        lines += ["", f"Champion: version {champion['version']} (`{champion['candidate']}`)."]
    for step, message in document["errors"].items():
        lines += ["", f"`{step}`: {_plain(message)}"]
    return "\n".join(lines) + "\n"


def _plain(text: Any) -> str:
    """It returns a text that means nothing to Markdown: values of data may stand in it."""
    said = " ".join(str(text or "").split())
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in said)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def pack(component: "MLProblem", folder: Path, run: Path, card: Path) -> dict[str, str]:
    """It copies the champion and the round's card into a folder, and returns outputs for later jobs.

    Args:
        component: the problem.
        folder: where they go; it must not be there yet.
        run: what `ml-assets run --json` answered.
        card: the page on this round's challenger.

    Raises:
        NotMaterialized: there is no champion.
        DeclarationError: the folder is there, or the answer cannot be read.
    """
    name, stores = component.problem.name, open_stores(find_home(component.root))
    document = answer(run)
    champion = stores.ledger.champion(name)
    if champion is None:
        raise NotMaterialized(f"{name} has no champion yet: there is nothing to pack.")
    if folder.exists():
        raise DeclarationError(f"--pack {folder}: it is there already. Name a new folder.")
    version = stores.registry.version(name, champion["version"])
    shutil.copytree(version.folder, folder / "model")
    (folder / "champion.json").write_text(json.dumps(champion, indent=2))
    shutil.copy(card, folder / "card.html")
    promoted = "yes" if document["decision"]["promoted"] else "no"
    return {"promoted": promoted, "version": str(champion["version"])}


def answer(run: Path) -> dict[str, Any]:
    """It returns what `ml-assets run --json` answered.

    Raises:
        DeclarationError: that is not in the file.
    """
    try:
        document = json.loads(run.read_text())
        assert {"decision", "candidates", "gates"} <= set(document)
    except (OSError, ValueError, AssertionError, TypeError):
        raise DeclarationError(
            f"{run}: this is not what `ml-assets run --json` answers; write that there first."
        ) from None
    found: dict[str, Any] = document
    return found
