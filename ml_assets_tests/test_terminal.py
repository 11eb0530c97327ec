"""What a person sees at a terminal, and a script does not: colours, widths, what goes on, completion."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ml_assets.command import main
from ml_assets.command.listing import WHERE
from ml_assets.command.terminal import fitted

CODE = """
import time, click
from ml_assets.command import terminal
terminal.PATIENCE = {patience}
with terminal.working("Counting the sheep"):
    time.sleep(0.5 if terminal.PATIENCE < 1 else 0)
with terminal.progress() as tell:
    tell("  ·  dataset …")
    tell("  ✓  dataset   " + "a remark " * 30)
terminal.answer(False, None, click.style("red", fg="red") + " and a word" * 30)
"""


def at_a_terminal(code: str, **more: str) -> str:
    """It returns what a program writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", **more}
    environment = {k: v for k, v in environment.items() if v}
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    said, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            break
        if not piece:
            break
        said += piece
    os.close(ours)
    assert program.wait(timeout=30) == 0, said
    return said.decode()


def test_a_person_sees_what_goes_on_and_colours_and_lines_that_fit() -> None:
    said = at_a_terminal(CODE.format(patience=0.1), NO_COLOR="")
    assert "Counting the sheep …" in said
    assert "\x1b[31mred\x1b[0m" in said
    shown = click.unstyle(said.replace("\r\n", "\n").replace("\r", "\n"))
    assert max(map(len, shown.split("\n"))) <= 80
    assert shown.rstrip().endswith("and a word")


def test_the_line_of_a_step_that_ended_takes_the_place_of_the_one_that_said_it_began() -> None:
    said = at_a_terminal(CODE.format(patience=60))
    assert "Counting the sheep" not in said  # it took less than a person's patience
    assert "dataset …\r\x1b[K  ✓  dataset   a remark" in said


def test_no_color_is_heard() -> None:
    said = at_a_terminal(CODE.format(patience=60), NO_COLOR="1")
    assert "\x1b[31m" not in said
    assert "red and a word" in said


def test_a_script_gets_whole_lines_without_colours() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(patience=0.1)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert done.stdout == "red" + " and a word" * 30 + "\n"
    assert done.stderr.startswith("Counting the sheep …\n  ·  dataset …\n  ✓  dataset   a remark")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("  one two three four", "  one two\n      three\n      four"),
        ("    http://a-link-that-no-break-helps", "    http://a-link-that-no-break-helps"),
        ("a  few more words", "a  few more\n   words"),
        ("a\n\nb", "a\n\nb"),
        (click.style("ok", fg="green") + " and all", click.style("ok", fg="green") + " and all"),
    ],
    ids=["fits", "indented", "a word too long", "columns", "lines", "colours have no width"],
)
def test_lines_are_broken_between_words_and_what_follows_stands_further_in(
    text: str, shown: str
) -> None:
    assert fitted(text, 11) == shown


@pytest.mark.parametrize("shell", WHERE)
def test_completion_is_written_for_each_shell(shell: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert "_ML_ASSETS_COMPLETE" in done.output
    assert "ml-assets" in done.output


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("ml-assets rol", ["rollback"]),
        ("ml-assets status chu", ["churn"]),
        ("ml-assets run ", ["chess", "churn"]),
        ("ml-assets rollback churn --w", ["--why"]),
    ],
)
def test_commands_options_and_problems_are_completed(
    typed: str, completed: list[str], tmp_path: Path
) -> None:
    for name in ("churn", "chess"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "defs.yaml").touch()
    words = typed.split(" ")
    asked = {
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
        "_ML_ASSETS_COMPLETE": "bash_complete",
        "ML_ASSETS_DEFS": str(tmp_path),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in asked.items():
            patch.setenv(name, value)
        done = CliRunner().invoke(main, [], prog_name="ml-assets")
    assert [line.split(",")[1] for line in done.output.split()] == completed
