"""Every block of every page: commands that exist, declarations that hold, Python that runs; and the site."""

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import dagster as dg
import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from ml_assets.command import main
from ml_assets.problem import Problem
from ml_assets.user_code import locate
from ml_assets_tests.e2e.served import CHECKOUT, COMMANDS, free_port
from ml_assets_tests.pages import ADDED, DOCS, Block, blocks, customers
from ml_assets_tests.problems import quickly

KINDS = {"bash", "console", "python", "text", "yaml"}  # `text` is what something looks like
PAGES = sorted([*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md")])
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
SMALLEST: dict[str, Any] = {"name": "churn", "dataset": {"path": "a.csv", "target": "y"}}


def _names(pages: list[Path]) -> list[str]:
    return [p.relative_to(CHECKOUT).as_posix() for p in pages]


def of_kind(page: Path, *kinds: str) -> list[Block]:
    return [b for b in blocks(page.read_text()) if b.kind in kinds]


@pytest.mark.parametrize("page", PAGES, ids=_names(PAGES))
def test_every_block_of_a_page_is_of_a_kind_that_is_looked_at(page: Path) -> None:
    """Seen to fail: a block without a kind, and one of toml."""
    text = page.read_text()
    fences = re.findall(r"^ *```", text, re.MULTILINE)
    found = [b for b in blocks(text) if b.kind != "hidden"]
    assert len(fences) == 2 * len(found)
    assert {b.kind for b in found} <= KINDS


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
        if block.title.startswith(ADDED):  # the page is run: test_first_hour
            assert page.name == "tutorial.md"
            continue
        if not _is_declaration(read):
            _is_of_an_instance(read)
            continue
        given = read["attributes"] if "type" in read else _placed(read)
        Problem(**{**SMALLEST, **given})


def _is_declaration(read: dict[str, Any]) -> bool:
    ours = set(Problem.model_fields) | {"contract", "type"}
    return bool(set(read) & ours) and (
        read.get("type", "").startswith("ml_assets") or "type" not in read
    )


def _is_of_an_instance(read: dict[str, Any]) -> None:
    """It lets Dagster say whether this is what a dagster.yaml holds."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dagster.yaml").write_text(yaml.safe_dump(read))
        with dg.DagsterInstance.from_config(folder) as instance:
            assert instance.get_settings(next(iter(read)))


def _placed(read: dict[str, Any]) -> dict[str, Any]:
    if "contract" in read:
        return {"dataset": {**SMALLEST["dataset"], **read}}
    return read


@pytest.mark.parametrize("page", PAGES, ids=_names(PAGES))
def test_every_python_of_a_page_can_be_compiled(page: Path) -> None:
    for block in of_kind(page, "python"):
        compile(textwrap.dedent(block.text), str(page), "exec")


# What a page tells to type besides `ml-assets`, and what looks at it here.
def _is_script(words: list[str]) -> None:
    """A script of the repository, with options that it reads."""
    file = CHECKOUT / next(w for w in words if w.startswith(("scripts/", "benchmarks/")))
    source = file.read_text()
    if source.startswith("#!") and "python" not in source.split("\n")[0]:
        return  # of a shell: it hands its arguments on
    for option in (w for w in words if w.startswith("--")):
        assert f'"{option}"' in source or f"{option} " in source, (words, option)


def _is_installed(words: list[str]) -> None:
    """A package of ours with extras that it has, or what the page itself writes."""
    known = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    for word in words[words.index("install") + 1 :]:
        if named := re.fullmatch(r"ml_assets\[(.+)\]", word):
            assert set(named[1].split(",")) <= set(known["optional-dependencies"])


def _is_read(words: list[str]) -> None:
    """A variable that the code, its deployment or a library of it reads."""
    for word in words[1:]:
        name = word.partition("=")[0]
        read = {
            f.read_text() for f in [*CHECKOUT.glob("ml_assets/**/*.py"), *CHECKOUT.glob("deploy/*")]
        }
        assert any(name in text for text in read), name


def _is_there(words: list[str]) -> None:
    """A file of the repository."""
    assert (CHECKOUT / words[1]).exists(), words


def _has_options(words: list[str]) -> None:
    """A command of another package, which says itself what options it has."""
    bin_, heads = Path(sys.executable).parent, [w for w in words[:3] if not w.startswith("-")]
    known = subprocess.run([bin_ / words[0], *heads[1:2], "--help"], capture_output=True, text=True)
    for option in (w.partition("=")[0] for w in words if w.startswith("--")):
        assert option in known.stdout, (words, option)


LOOKED_AT = {
    "scripts/run": _is_script,
    "scripts/test": _is_script,
    "scripts/faults": _is_script,
    "scripts/compose": _is_script,
    "python": lambda words: "-m" in words or _is_script(words),
    "FLAML_VENV/bin/pip": lambda _: None,  # test_benchmarks makes that environment
    "pip": _is_installed,
    "export": _is_read,
    "cp": _is_there,
    "pytest": _is_there,
    "mlflow": _has_options,
    "ray": _has_options,
    "dg": lambda _: None,  # test_examples types it
    "curl": lambda _: None,  # typed below
    "eval": lambda _: None,  # test_command asks for each shell's completion
    "docker": lambda _: None,  # scripts/compose types it, where an engine runs
    "helm": lambda _: None,  # the chart is out of reach here; test_deployment looks at the values
}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=_names(PAGES))
def test_every_other_command_of_a_page_is_looked_at(page: Path) -> None:
    """Seen to fail: an option of a benchmark that was renamed, an extra that is none."""
    for block in of_kind(page, "bash"):
        for line in block.text.replace("\\\n", " ").split("\n"):
            for typed in line.split(" && "):
                words = shlex.split(typed, comments=True)
                if words and words[0] != "ml-assets":
                    assert words[0] in LOOKED_AT, (page.name, words)
                    LOOKED_AT[words[0]](words)


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


# Commands that are not typed below, and where they are.
ELSEWHERE = {"ui": "e2e", "serve": "serving", "replay": "test_replaying", "import": "test_recipe"}
CHURN = """\
type: ml_assets.components.MLProblem
attributes:
  name: churn
  dataset: {path: landing/churn/*.csv, target: Churn, key: customerID}
  candidates:
    random_forest: {estimator: random_forest, params: {n_estimators: 3}}
    forest: {estimator: random_forest, params: {n_estimators: 2, max_depth: 3}}
    ours: {estimator: sklearn.tree.DecisionTreeClassifier, params: {max_depth: 2}}
  predictions: {path: inbox/churn/*.csv, output: scored/churn}
  monitoring: {window: 100}
  alerts: {webhook: ALERTS_WEBHOOK}
"""
# What is no state of the project below is refused, with words that a page may be read beside.
REFUSED = {
    "new churn --data churn.csv --target Churn": "exists already. Edit it",
    "new churn --data data/churn.csv --target Churn": "exists already. Edit it",
    "ci churn --pack out/champion --run out/run.json": "this is not what `ml-assets run --json` answers",
    "ci churn --summary out/run.json": "this is not what `ml-assets run --json` answers",
    "alert churn": "not sent: `alerts.webhook` needs the environment variable ALERTS_WEBHOOK",
    "alert churn --test": "not sent: `alerts.webhook` needs the environment variable ALERTS_WEBHOOK",
    "approve churn 7 *": "churn promotes automatically; to approve by hand, declare",
    "override churn 7 *": "churn asks its challenger no gate `answers_in_time`. Known: ",
    "release churn 2026-11-23.csv *": "No batch `2026-11-23.csv` awaits in quarantine",
    "rollback churn --why *": "cannot be rolled back to a champion before this one",
    "rollback churn --to 3 *": "cannot be rolled back to version 3. Champions so far: version 1",
    "rollback churn --canary *": "churn has no canary",
    "predict churn --input new.csv --output old.parquet --version 3": "Version 3 of churn was never",
    "reproduce churn 3 *": "The ledger of churn knows no version 3",
    "check taxi": "no problem taxi. Known: ",
    "run taxi": "no problem `taxi` in",
}


@pytest.fixture
def desk(shop: Path) -> Path:
    """A project with everything that the pages' commands name, and a champion."""
    for folder in ("data", "other", "out", "inbox/churn", "landing/bikes", "ml_assets/defs/churn"):
        (shop / folder).mkdir(parents=True)
    known, new = customers(900)[:600], customers(900)[600:].drop(columns="Churn")
    for file in ("churn.csv", "data/churn.csv", "other/churn.csv", "landing/churn/1.csv"):
        known.to_csv(shop / file, index=False)
    for file in ("new.csv", "inbox/churn/a.csv"):
        new.to_csv(shop / file, index=False)
    random = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=300).strftime("%Y-%m-%d")
    rides = pd.DataFrame({"date": days, "rides": random.integers(10, 500, 300)})
    rides.to_csv(shop / "landing/bikes/1.csv", index=False)
    people = pd.DataFrame(
        {"a": random.integers(20, 60, 300), "j": "x", "i": ["<=50K", ">50K"] * 150}
    )
    people.to_csv(shop / "adult.csv", index=False, header=False)
    (shop / "ml_assets/defs/churn/defs.yaml").write_text(CHURN)
    for file in shop.rglob("*.csv"):  # what was just written is waited for
        os.utime(file, (1.7e9, 1.7e9))
    done = CliRunner().invoke(main, ["run", "churn"])
    assert done.exit_code == 0, done.output
    return shop


@pytest.mark.slow
def test_every_command_of_the_pages_does_what_it_says_or_says_why_not(desk: Path) -> None:
    """Seen to fail: `quarantine` of a page took a second name, and a block of `run` an option of before."""
    typed = dict.fromkeys(
        line.strip().split(" > ")[0].removeprefix("ml-assets ")
        for page in PAGES
        for block in of_kind(page, "bash")
        for line in block.text.split("\n")
        if line.strip().startswith("ml-assets ")
    )
    assert len(typed) > 40
    asked = set()
    for line in sorted(typed, key=lambda line: line == "clean churn"):  # that one last
        words = shlex.split(line, comments=True)
        if words[0] in ELSEWHERE:
            continue
        done = CliRunner().invoke(main, words)
        assert isinstance(done.exception, SystemExit | None), (line, done.exception)
        assert "Traceback" not in done.output
        why = [r for r in REFUSED if fnmatch.fnmatchcase(" ".join(words), r)]
        asked |= set(why)
        assert (done.exit_code != 0) == bool(why), (line, done.output)
        assert not why or REFUSED[why[0]] in " ".join(done.output.split()), (line, done.output)
    assert asked == set(REFUSED), set(REFUSED) - asked


@pytest.mark.slow
def test_what_the_page_asks_of_a_server_is_answered(desk: Path) -> None:
    """Seen to fail: the page asked with columns that its own customers do not have."""
    [block] = [b for b in of_kind(DOCS / "serving.md", "bash") if "curl" in b.text]
    start, _, ask = block.text.replace("\\\n", " ").partition("\n")
    port = free_port()
    server = subprocess.Popen(
        [COMMANDS / "ml-assets", *shlex.split(start)[1:], "--port", str(port)], cwd=desk
    )
    try:
        typed = shlex.split(ask.replace("localhost:8000", f"localhost:{port}"))
        typed += ["--silent", "--retry", "60", "--retry-delay", "1", "--retry-connrefused"]
        done = subprocess.run(typed, capture_output=True, text=True, timeout=90, check=True)
    finally:
        server.terminate()
        server.wait(60)
    answer = json.loads(done.stdout)
    assert answer["predictions"][0] in ("Yes", "No") and answer["model_version"] == 1


@pytest.mark.slow
def test_the_history_of_a_table_is_had_as_the_page_says(desk: Path) -> None:
    [block] = of_kind(DOCS / "data.md", "python")
    [table] = desk.glob(".ml_assets/lake/churn/table/*")
    text = block.text.replace(".ml_assets/lake/wine/table/…", str(table))
    exec(text.replace("version=1", "version=0"), {})
    assert text != block.text


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
