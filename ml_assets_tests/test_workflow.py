"""The workflow that trains: valid, and each of its blocks runs; what follows a failed gate does not."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_assets import workflow
from ml_assets.errors import DeclarationError
from ml_assets_tests.e2e.served import CHECKOUT, COMMANDS, clean_environment, make_project

WORKFLOWS = sorted((CHECKOUT / ".github" / "workflows").glob("*.yml"))
ALSO_AFTER_A_FAILURE = "!cancelled()"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda f: f.stem)
def test_workflows_are_what_githubs_schema_allows(file: Path):
    schema = ["--builtin-schema", "vendor.github-workflows"]
    program = [str(COMMANDS / "check-jsonschema"), *schema, str(file)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_the_shipped_workflow_is_what_the_command_writes():
    written = (CHECKOUT / ".github" / "workflows" / "train_wine.yml").read_text()

    assert written == workflow.training("wine", "ml_assets/defs/wine")


def test_no_block_has_an_expression_in_it_that_somebody_else_may_fill():
    """Values go in by the environment: a branch named like a command would run it."""
    for file in WORKFLOWS:
        for job in yaml.safe_load(file.read_text())["jobs"].values():
            for step in job["steps"]:
                assert "${{" not in step.get("run", ""), f"{file.name}: {step['run']}"


DOCUMENT: dict[str, Any] = {
    "problem": "demo",
    "success": True,
    "select": "roc_auc",
    "winner": "all",
    "decision": {"promoted": False, "reason": "It is `not` better | really."},
    "candidates": {
        "all": {"metrics": {"accuracy": 0.91, "roc_auc": 0.95}, "error": None},
        "kettle": {"metrics": {}, "error": "<script>boiled</script>"},
    },
    "gates": [
        {"name": "a", "asset": "dataset", "passed": True, "severity": "ERROR", "reason": "Fine."},
        {"name": "b", "asset": "dataset", "passed": False, "severity": "WARN", "reason": "Odd."},
        {"name": "c", "asset": "dataset", "passed": False, "severity": "ERROR", "reason": "Bad."},
    ],
    "champion": {"version": 3, "candidate": "all"},
    "errors": {},
}


def test_the_summary_has_leaderboard_gates_and_decision_and_nothing_of_the_data_is_markup():
    said = workflow.summary(DOCUMENT)

    assert said.startswith("## demo: Held\n\nIt is \\`not\\` better \\| really.\n")
    assert "| `all` **leads** | 0.95 | 0.91 |" in said
    assert "| `kettle` (failed: \\<script\\>boiled\\</script\\>) |  |  |" in said
    assert re.search(r"b \| dataset \| warns.*c \| dataset \| \*\*failed\*\*.*a \| ", said, re.S)
    assert "Champion: version 3 (`all`)." in said


@pytest.mark.parametrize("text", ["", "[]", "{}", "no json"])
def test_what_is_no_answer_of_a_run_is_refused(tmp_path: Path, text: str):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DeclarationError, match="is not what `ml-assets run --json` answers"):
        workflow.answer(tmp_path / "run.json")


def _fresh_environment(root: Path) -> dict[str, str]:
    """It returns that of a runner: a Python of its own, which has what we depend on, and not us."""
    venv = root.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    ours = re.sub(r"\W", "", "ml_assets")
    packages = Path(sysconfig.get_paths(vars={"base": str(venv), "platbase": str(venv)})["purelib"])
    there = Path(sysconfig.get_paths()["purelib"])
    for each in there.iterdir():
        if ours not in each.name and not each.name.endswith(".pth"):
            (packages / each.name).symlink_to(each)
    pip = venv / "bin" / "pip"
    pip.write_text(f'#!/bin/sh\nexec "{venv}/bin/python" -m pip "$@"\n')
    pip.chmod(0o755)
    return clean_environment(PATH=f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}")


def _do(job: dict[str, Any], root: Path, environment: dict[str, str]) -> dict[str, Any]:
    """It does the blocks of a job in order, as a runner does, and returns how each ended."""
    output, summary = root.parent / "output", root.parent / "summary"
    for file in (output, summary):
        file.write_text("")
    given = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary), **job["env"]}
    ended: dict[str, int] = {}
    told = ""
    for step in job["steps"]:
        if "run" not in step:
            continue
        if any(ended.values()) and ALSO_AFTER_A_FAILURE not in step.get("if", ""):
            continue
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=root,
            env={**environment, **given},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        ended[step["name"]] = done.returncode
        told += done.stdout + done.stderr
    lines = output.read_text().splitlines()
    outputs = dict(line.split("=", 1) for line in lines)
    return {"ended": ended, "outputs": outputs, "summary": summary.read_text(), "told": told}


@pytest.mark.slow
def test_each_block_runs_on_a_fresh_clone_and_after_a_failed_gate_nothing_goes_out(tmp_path: Path):
    root = make_project(tmp_path / "clone", "wine", whole=True)
    for name in ("README.md", "setup.py", "LICENSE"):
        shutil.copy(CHECKOUT / name, root / name)
    environment = _fresh_environment(root)
    install = "--quiet --no-deps --no-build-isolation -e ."
    text = workflow.training("wine", "ml_assets/defs/wine", install)
    jobs = yaml.safe_load(text)["jobs"]

    good = _do(jobs["train"], root, environment)

    assert set(good["ended"].values()) == {0}, good["told"]
    assert len(good["ended"]) == len([s for s in jobs["train"]["steps"] if "run" in s]) == 5
    assert good["outputs"] == {"promoted": "yes", "version": "1"}
    assert good["summary"].startswith("## wine: Promoted")
    champion = json.loads((root / "out" / "champion" / "champion.json").read_text())
    assert champion["version"] == 1
    assert list((root / "out" / "champion" / "model").rglob("*.skops"))
    assert "<svg" in (root / "out" / "champion" / "card.html").read_text()

    write = ["ml-assets", "ci", "wine"]
    asked = [subprocess.run(write, cwd=root, env=environment, check=False) for _ in range(2)]
    assert [a.returncode for a in asked] == [0, 2]  # what somebody may have changed is left alone
    written = (root / ".github" / "workflows" / "train_wine.yml").read_text()
    assert written == workflow.training("wine", "ml_assets/defs/wine")

    declared = root / "ml_assets" / "defs" / "wine" / "defs.yaml"
    declared.write_text(declared.read_text().replace("min: 0.85}", "min: 1.01}"))
    shutil.rmtree(root / "out")
    bad = _do(jobs["train"], root, environment)

    assert bad["ended"]["Train, evaluate, ask the gates, decide"] == 1
    assert "Pack the champion and its card" not in bad["ended"]
    assert bad["outputs"] == {}
    assert bad["summary"].startswith("## wine: Refused")
    assert "floor 1.01" in bad["summary"]
    assert jobs["image"]["needs"] == "train"
    assert jobs["image"]["if"] == "${{ needs.train.outputs.promoted == 'yes' }}"
    assert jobs["rollout"]["needs"] == ["train", "image"]
