"""The documents say what the code does."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from ml_assets import errors, problem
from ml_assets.command import SECTIONS, main
from ml_assets.gates import CATALOGUE as GATES
from ml_assets.metric import METRICS
from ml_assets.problem import Problem

ROOT = Path(__file__).parent.parent
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
RECORDS = problem.Declaration.__subclasses__()


def test_the_reference_is_what_the_code_says():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def section_of(record: type[BaseModel]) -> str:
    """It returns the section of the reference that describes a record."""
    sections = re.split(r"^##+ ", REFERENCE, flags=re.MULTILINE)
    found = [
        s for s in sections if f"\n\n{inspect.cleandoc(record.__doc__ or '')}\n\n| field |" in s
    ]
    assert len(found) == 1, record.__name__
    return found[0]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.__name__)
def test_every_field_is_described_and_in_the_reference(record: type[BaseModel]):
    section = section_of(record)
    for name, field in record.model_fields.items():
        assert field.description or name == "beats", f"{record.__name__}.{name}"
        assert f"| `{name}` |" in section
    assert section.count("\n| `") == len(record.model_fields)


def test_every_record_of_a_declaration_is_looked_for():
    assert {r.__name__ for r in RECORDS} == {
        "Problem",
        "Parameters",
        *Problem.model_json_schema()["$defs"],
    }


@pytest.mark.parametrize("name", [*GATES, *METRICS, *problem.SHORT_NAMES])
def test_every_gate_metric_and_short_name_is_in_the_reference(name: str):
    assert f"| `{name}` |" in REFERENCE


@pytest.mark.parametrize("command", main.commands.values(), ids=lambda c: str(c.name))
def test_every_command_and_option_is_documented(command: click.Command):
    page = (ROOT / "docs" / "commands.md").read_text()
    section = page.split(f"### `ml-assets {command.name}", 1)[1].split("\n### ")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert all(f"{name}" in section for name in parameter.opts)
            assert " ".join(parameter.help.split()).replace("|", "\\|") in section


@pytest.mark.parametrize("error", [e for e in vars(errors).values() if inspect.isclass(e)])
def test_every_error_is_documented(error: type[Exception]):
    assert f"| `{error.__name__}` |" in REFERENCE or not issubclass(error, errors.MLAssetsError)


def test_the_help_fits_a_terminal_and_no_line_of_it_is_cut():
    """Seen to fail: eleven of eighteen commands were described by half a sentence and dots."""
    for words in [[], *([name] for name in main.commands)]:
        said = CliRunner().invoke(main, [*words, "--help"], terminal_width=80).output
        assert max(map(len, said.split("\n"))) <= 80, words
        assert "..." not in said.replace("]...", "").replace("[ARGS]...", ""), words
    assert not set(main.commands) - {n for names in SECTIONS.values() for n in names}


def test_every_yaml_block_of_the_readme_is_a_declaration():
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

    assert blocks
    for block in blocks:
        Problem(**yaml.safe_load(block)["attributes"])


def test_every_command_is_in_the_readme_and_gives_an_example():
    readme = (ROOT / "README.md").read_text()

    for name, command in main.commands.items():
        assert f"ml-assets {name}" in readme
        assert name == "ui" or f"ml-assets {name}" in (command.help or "")


def test_files_named_in_the_documents_exist():
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
        for script in re.findall(r"`(scripts/\w+|benchmarks/[\w.]+)", document.read_text()):
            assert (ROOT / script).exists(), f"{document.name}: {script}"


def test_every_command_and_option_that_a_text_names_exists():
    """Seen to fail: a scaffolded file once advised `ml-assets check --keys`."""
    files = [
        *(ROOT / "ml_assets").rglob("*.py"),
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
    ]
    for file in files:
        for name, rest in re.findall(r"`ml-assets ([a-z]+)([^`\n]*)`", file.read_text()):
            assert name in main.commands, f"{file.name}: ml-assets {name}"
            known = {o for p in main.commands[name].params for o in p.opts} | {"--help"}
            for option in re.findall(r"--[a-z-]+", rest):
                assert option in known, f"{file.name}: ml-assets {name} {option}"
