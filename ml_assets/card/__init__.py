"""A card: what one candidate did on one part of the split, on one page that a person reads.

``measured`` computes, ``sections`` says it in tables and pictures, ``drawing`` draws and ``page``
writes the HTML.  A card reads the part that it is handed and no other: validation for a candidate,
test for the challenger.  The same records give the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ml_assets.dataset import Target
from ml_assets.evaluation import Contender
from ml_assets.gates import Verdict

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ml_assets.candidate import Predictions

# Part of every card's key: change it when the same records would be shown otherwise.
DRAWING = "1"


@dataclass(frozen=True)
class Table:
    """A table of a card.

    Attributes:
        columns: their headings.
        lines: the cells, as values; the page escapes them.
        note: what is to be said below.
    """

    columns: tuple[str, ...]
    lines: tuple[tuple[Any, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Section:
    """One part of a card.

    Attributes:
        name: its heading.
        note: a sentence on how to read it.
        pictures: SVG, as `drawing` makes it.
        tables: its tables.
    """

    name: str
    note: str = ""
    pictures: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Card:
    """A page.

    Attributes:
        title: whom it is about.
        told: a few words each, below the title.
        tiles: the numbers to be seen first: name, value.
        sections: all else.
    """

    title: str
    told: tuple[str, ...]
    tiles: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Past:
    """What an earlier version reached on test.

    Attributes:
        what: champion, or best ever.
        version: its number.
        candidate: its candidate's name.
        metrics: as they were recorded.
        same_rows: they were measured on the test rows of this card.
    """

    what: str
    version: int
    candidate: str
    metrics: Mapping[str, float]
    same_rows: bool


@dataclass(frozen=True)
class Importance:
    """How much worse a metric gets when one column is shuffled.

    Attributes:
        metric: the metric.
        losses: by column, greatest first.
        rows: the number of rows that were shuffled.
        repeats: how often each column was.
        left_out: columns that were not asked.
    """

    metric: str
    losses: Mapping[str, float]
    rows: int
    repeats: int
    left_out: int


@dataclass(frozen=True)
class Shown:
    """All that a card is made of.

    Attributes:
        problem: the problem's name.
        candidate: the candidate's name.
        part: validation or test: where rows, predictions and metrics come from.
        target: task and classes.
        rows: that part's rows.
        truth: what was to be predicted.
        said: the predictions of the same rows.
        metrics: of these predictions.
        select: the metric that ranks.
        record: what is recorded of the candidate.
        facts: what its fitting cost.
        types: the type of each column.
        key: the column that identifies an entity.
        provenance: from which data, by which words.
        board: the leaderboard on validation; empty before there is one.
        winner: who leads it.
        past: what earlier versions reached on test.
        verdicts: the gates' answers.
        importance: of the columns; a sentence when there is none to be had; None when not asked.
        version: its number in the registry, for a challenger.
    """

    problem: str
    candidate: str
    part: str
    target: Target
    rows: "pd.DataFrame"
    truth: "np.ndarray"
    said: "Predictions"
    metrics: Mapping[str, float]
    select: str
    record: Mapping[str, Any]
    facts: Mapping[str, Any]
    types: Mapping[str, str]
    key: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    board: tuple[Contender, ...] = ()
    winner: str | None = None
    past: tuple[Past, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    importance: Importance | str | None = None
    version: int | None = None
