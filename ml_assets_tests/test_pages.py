"""Every block of every page: commands that exist, declarations that hold, Python that runs; and the site."""

import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from ml_assets.command import main
from ml_assets.problem import Problem
from ml_assets.user_code import locate
from ml_assets_tests.e2e.served import CHECKOUT
from ml_assets_tests.pages import DOCS, Block, blocks, customers
from ml_assets_tests.problems import quickly

PAGES = sorted([*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md")])
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
SMALLEST: dict[str, Any] = {"name": "churn", "dataset": {"path": "a.csv", "target": "y"}}


def _names(pages: list[Path]) -> list[str]:
    return [p.relative_to(CHECKOUT).as_posix() for p in pages]


def of_kind(page: Path, *kinds: str) -> list[Block]:
    return [b for b in blocks(page.read_text()) if b.kind in kinds]


@pytest.mark.parametrize("page", PAGES, ids=_names(PAGES))
def test_every_command_of_a_page_can_be_typed(page: Path) -> None:
    """Seen to fail: a page advised `ml-assets run churn --promoted`."""
    for block in of_kind(page, "console", "bash"):
        for line in block.text.split("\n"):
            typed = line.strip().removeprefix("$ ")
            if typed.startswith("ml-assets ") and "(exit status" not in typed:
                _parse(shlex.split(re.split(r"\s[|>]", typed)[0], comments=True)[1:], page.name)


def _parse(words: list[str], where: str) -> None:
    if words[0].startswith("-"):
        return
    command = main.commands.get(words[0])
    assert command is not None, f"{where}: ml-assets {words[0]}"
    words = [w for w in words[1:] if not w.startswith("(")]
    words = words[: words.index("in")] if "in" in words else words
    try:
        command.make_context(str(command.name), words)
    except click.UsageError as error:
        raise AssertionError(f"{where}: {command.name} {words}: {error.message}") from None


@pytest.mark.parametrize("page", PAGES, ids=_names(PAGES))
def test_every_declaration_of_a_page_holds(page: Path) -> None:
    """A whole one as it stands; a piece of one as an attribute of the smallest."""
    for block in of_kind(page, "yaml"):
        read = yaml.safe_load(textwrap.dedent(block.text).replace("…", ""))
        if not isinstance(read, dict) or not _is_declaration(read):
            continue
        given = read["attributes"] if "type" in read else _placed(read)
        Problem(**{**SMALLEST, **given})


def _is_declaration(read: dict[str, Any]) -> bool:
    ours = set(Problem.model_fields) | {"contract", "type"}
    return bool(set(read) & ours) and (
        read.get("type", "").startswith("ml_assets") or "type" not in read
    )


def _placed(read: dict[str, Any]) -> dict[str, Any]:
    if "contract" in read:
        return {"dataset": {**SMALLEST["dataset"], **read}}
    return read


@pytest.mark.parametrize("page", PAGES, ids=_names(PAGES))
def test_every_python_of_a_page_can_be_compiled(page: Path) -> None:
    for block in of_kind(page, "python"):
        compile(textwrap.dedent(block.text), str(page), "exec")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with customers, and nothing declared yet."""
    (tmp_path / "landing" / "churn").mkdir(parents=True)
    customers(300).to_csv(tmp_path / "landing" / "churn" / "1.csv", index=False)
    (tmp_path / "workspace.yaml").touch()
    with quickly():
        monkeypatch.chdir(tmp_path)
        yield tmp_path


@pytest.mark.parametrize("page", HOW_TO, ids=_names(HOW_TO))
def test_the_commands_of_a_how_to_do_what_it_says(page: Path, shop: Path) -> None:
    for block in blocks(page.read_text()):
        if block.title:
            file = shop / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
        elif block.kind == "console":
            for line in block.text.split("\n"):
                if line.startswith("$ ml-assets "):
                    done = CliRunner().invoke(main, shlex.split(line[len("$ ml-assets ") :]))
                    assert done.exit_code == 0, done.output
        elif block.kind == "python" and "ml_assets" in block.text:
            exec(textwrap.dedent(block.text), {})


def _model(shop: Path, page: str) -> Path:
    [model] = [
        b for b in blocks((DOCS / "how-to" / page).read_text()) if b.title.endswith("model.py")
    ]
    (shop / "model.py").write_text(model.text)
    return shop


def test_the_transform_of_the_page_prepares_the_rows(shop: Path) -> None:
    features = locate(".model.features", _model(shop, "custom_transformer.md"))()
    prepared = features.fit_transform(customers(300))
    assert prepared.shape == (300, 5)
    assert np.isfinite(prepared).all()


def test_the_gate_of_the_page_holds_and_fails(shop: Path) -> None:
    ask = locate(".model.loyal_customers_are_left_alone", _model(shop, "custom_gate.md"))
    rows = pd.DataFrame({"tenure": [60, 70, 1]})
    assert ask(rows, None, np.array(["No", "No", "Yes"]), None) == (
        True,
        "0.0% of 2 loyal customers are flagged; at most 10 %.",
    )
    assert ask(rows, None, np.array(["Yes", "No", "Yes"]), None)[0] is False


def test_the_site_is_built_without_a_warning_and_asks_nobody_else(tmp_path: Path) -> None:
    """Links, anchors and the table of contents: a page that is not in it is a warning.

    Seen to fail: a picture was named that had not been taken. With `--quiet` it did not.
    """
    words = ["build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *words],
        cwd=CHECKOUT,
        env={"PATH": "/usr/bin:/bin", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)', page.read_text()
        )
        assert not loaded, page.name
    assert sum(f.stat().st_size for f in (DOCS / "pictures").glob("*.png")) < 1_500_000


def test_every_page_stands_once_in_the_table_of_contents() -> None:
    """Seen to fail: two that were merged at the same time had been entered twice."""
    named = re.findall(r"- ([\w/-]+\.md)$", (CHECKOUT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md"))
