"""Pages of the documentation that are run: their blocks, what a shell says to them, and how it is shown.

A page is a small project.  A block with a title is a file that is written, or added to (`add to FILE`, or
`add to FILE after WORD`: below the first line that has the word); a block `console` holds
commands after `$ ` and what they say; a comment `<!-- run: COMMANDS -->` is run and not shown.
"""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets_tests.e2e.served import CHECKOUT, clean_environment

if TYPE_CHECKING:
    import pandas as pd

DOCS = CHECKOUT / "docs"
BLOCK = re.compile(
    r"(?P<hidden><!-- run: (?P<told>.*?) -->)|"
    r"^(?P<pad> *)```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
ADDED = "add to "
# Figures that another machine, time or release of a library may give otherwise.
_FIGURES = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{12,64}|[-+]?\d[\d,.:TZ-]*")
_SECONDS = re.compile(r" in \d+\.\d s\b")  # of a machine that does other work besides
_NAMES = re.compile(r", by \S+$", re.MULTILINE)
_PROGRESS = re.compile(r"^(  [·✓✗–]  |  (done|failed) in )|^[A-Z].* …$")


def give(folder: Path, telco: Path | None) -> None:
    """It puts the files of the tutorial into a folder: of the open dataset, or rows made up like it."""
    import pandas as pd

    rows = pd.read_csv(telco, dtype=str) if telco else customers(4800)
    late, new = 400, 600
    fresh = rows[rows["tenure"].astype(int) <= (2 if telco else 12)]
    bought = fresh.sample(new, random_state=0)  # customers who have just come, of another company
    rest = rows.drop(bought.index)
    first, second = rest[: 6000 if telco else -late], rest[6000:6400] if telco else rest[-late:]
    folder.mkdir(parents=True)
    first.to_csv(folder / "2026-01.csv", index=False)
    second.to_csv(folder / "2026-02.csv", index=False)
    second.drop(columns="MonthlyCharges").to_csv(folder / "2026-02-wrong.csv", index=False)
    bought.drop(columns="Churn").to_csv(folder / "2026-03.csv", index=False)
    bought.to_csv(folder / "2026-03-known.csv", index=False)


def customers(count: int = 2400) -> "pd.DataFrame":
    """It returns customers of a company that does not exist; some are about to leave it."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    tenure, monthly = random.integers(0, 73, count), random.normal(65, 25, count).clip(18).round(2)
    contract = random.choice(["Month-to-month", "One year", "Two year"], count, p=[0.55, 0.2, 0.25])
    leaning = 0.03 * (monthly - 65) - 0.05 * tenure + (contract == "Month-to-month") * 1.5
    leaves = random.random(count) < 1 / (1 + np.exp(-leaning))
    return pd.DataFrame(
        {
            "customerID": [f"{n:04d}-{'ABCDEFGH'[n % 8]}" for n in random.permutation(count)],
            "gender": random.choice(["Female", "Male"], count),
            "tenure": tenure,
            "Contract": contract,
            "MonthlyCharges": monthly,
            "Churn": np.where(leaves, "Yes", "No"),
        }
    )


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Attributes:
        kind: console, yaml, python, bash, hidden …
        title: the file that it is, or empty.
        text: its content.
        span: where the content stands in the page.
    """

    kind: str
    title: str
    text: str
    span: tuple[int, int]


def blocks(page: str) -> Iterator[Block]:
    """It yields the blocks of a page, in order."""
    for found in BLOCK.finditer(page):
        if found["hidden"]:
            yield Block("hidden", "", found["told"], found.span("told"))
        else:
            yield Block(found["kind"], found["title"] or "", found["text"], found.span("text"))


@dataclass
class Said:
    """What a shell said to one command.

    Attributes:
        command: as it is typed.
        text: what it wrote, progress left out.
        status: its exit status.
    """

    command: str
    text: str
    status: int


@dataclass
class Walk:
    """A walk through a page, in a folder of its own.

    Attributes:
        root: the folder.
        said: every command with what it said, in order.
        pieces: how each console block reads now.
    """

    root: Path
    said: list[Said] = field(default_factory=list)
    pieces: dict[tuple[int, int], str] = field(default_factory=dict)

    def through(self, page: str) -> None:
        """It writes the files and runs the commands of a page."""
        for block in blocks(page):
            if block.title:
                self.write(block)
            elif block.kind == "console":
                typed = [line[2:] for line in block.text.split("\n") if line.startswith("$ ")]
                told = [self.run(command) for command in typed]
                self.pieces[block.span] = "".join(shown(one) for one in told)
            elif block.kind == "hidden":
                told_ = self.run(block.text)
                assert told_.status == 0, told_

    def write(self, block: Block) -> None:
        """It writes a block's file, or adds the block to it."""
        name, _, word = block.title.removeprefix(ADDED).partition(" after ")
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.read_text() if block.title.startswith(ADDED) else ""
        place = before.index("\n", before.index(word)) + 1 if word else len(before)
        file.write_text(before[:place] + block.text + before[place:])

    def run(self, command: str) -> Said:
        """It runs one command as a shell does, when what was just written counts as whole."""
        self._age()
        environment = clean_environment(
            ML_ASSETS_ACTOR="ada", OMP_NUM_THREADS="1", DATA=str(self.root.parent / "given")
        )
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.root,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
        )
        text = done.stdout.replace(f"{self.root}/", "").replace(str(self.root), ".")
        text = _SECONDS.sub(" in … s", text)
        kept = [line for line in text.split("\n") if not _PROGRESS.match(line)]
        said = Said(command, "\n".join(kept).strip("\n"), done.returncode)
        self.said.append(said)
        return said

    def _age(self) -> None:
        then = time.time() - 60
        for file in [*self.root.glob("landing/**/*.csv"), *self.root.glob("inbox/**/*.csv")]:
            os.utime(file, (then, then))


def shown(said: Said) -> str:
    """It returns a command and its answer as a page shows them: 80 columns, and a status that is not 0."""
    from ml_assets.command.terminal import fitted

    lines = [f"$ {said.command}"]
    ours = said.command.startswith("ml-assets ")
    lines += [fitted(said.text, 80) if ours else said.text] if said.text else []
    lines += [f"(exit status {said.status})"] if said.status else []
    return "\n".join(lines) + "\n\n"


def written(page: str, walk: Walk) -> str:
    """It returns the page with what the commands said on this walk."""
    for (start, end), text in sorted(walk.pieces.items(), reverse=True):
        page = page[:start] + text.rstrip("\n") + "\n" + page[end:]
    return page


def without_figures(page: str) -> str:
    """It returns a page for a comparison: figures, digests and line breaks do not count."""
    return " ".join(_FIGURES.sub("#", _NAMES.sub("", page)).split())
