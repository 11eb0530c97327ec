"""A draft: the declaration that the first data suggest, with the reason for each choice.

It is what ``ml-assets new`` writes.  Nothing here is needed to run a problem: a draft is read by
its owner, corrected, and from then on only the declaration counts.
"""

import csv
import difflib
import gzip
import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from ml_assets import dataset as datasets
from ml_assets.contract import dates
from ml_assets.data_file import fingerprint, read
from ml_assets.errors import DatasetError, did_you_mean, shortened
from ml_assets.integrity import inspect
from ml_assets.problem import DatasetDeclaration, Problem, SplitDeclaration, Task
from ml_assets.split import FEW_ROWS, best_salt, find_cuts

SAMPLE_BYTES = 1 << 18
_SEPARATORS = ",;\t|"
# Words that some files write for a missing value, beside those that are always read so.
_MISSING_SUSPECTS = ("?", "-", "--", ".", "N.A.", "n.a.", "None", "none", "missing", "Missing")
_ID_NAME = re.compile(
    r"(?i:(^|[^a-z])(ids?|uuid|guid|key|pk)($|[^a-z]))|[a-z](ID|Id|UUID|Key)$|^index$|^instant$"
)
_COUNTER_NAME = re.compile(r"(number|no\.?|nr|num|index|row|seq|instant|#)\s*$", re.IGNORECASE)
FREE_TEXT_WORDS = 4  # on average, from so many words on, text is prose
MOST_CONTRACT_COLUMNS = 200
MOST_CATEGORIES = 30  # that a contract names
MUCH_WORK = 5_000_000  # rows times classes, from where the default candidates take too long


@dataclass
class Draft:
    """A declaration in the making.

    Attributes:
        attributes: the YAML's `attributes`.
        notes: what was inferred and why, one sentence each.
        why: a comment for some of the keys, by dotted path.
    """

    attributes: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)

    def say(self, where: str, sentence: str) -> None:
        """It keeps the reason for one choice."""
        self.notes.append(sentence)
        self.why[where] = sentence


@dataclass(frozen=True)
class Told:
    """What the owner says of the data, which cannot be seen in them.

    Attributes:
        names: column names, for a csv without a header.
        task: the task.
        time: the column by which the past is told from the future.
        in_order: the rows are in the order of time.
        bad_lines: so many lines may have another number of fields.
    """

    names: list[str] | None = None
    task: Task | None = None
    time: str | None = None
    in_order: bool = False
    bad_lines: int = 0


def infer(name: str, path: Path, shown_path: str, target: str, told: Told = Told()) -> Draft:
    """It returns the draft of a problem from its first file.

    Args:
        name: the problem's name.
        path: the file.
        shown_path: how the source is to be named in the declaration.
        target: the column to be predicted.
        told: what its owner says.

    Raises:
        DatasetError: the file cannot be read, or holds no such target.
    """
    reading: dict[str, Any] = {"path": shown_path, "target": target}
    draft = Draft({"name": name, "dataset": reading})
    fingerprint(path)
    if path.suffix != ".parquet" and path.is_file():
        _infer_reading(path, reading, told, draft)
    if told.in_order:
        reading["number_rows"] = _free_name(path, reading)
        draft.say("dataset.number_rows", "Rows are in the order of time, as was said.")
    rows = _rows(path, reading)
    if target not in rows.columns:
        raise DatasetError(_no_target(path, rows, target, told.names))
    words = _missing_words(rows, target)
    if words:
        reading["missing"] = words
        draft.say("dataset.missing", f"{shortened(words)} stands where a value is missing.")
        rows = _rows(path, reading)
    forms = _date_forms(rows, target, draft)
    for column, form in forms.items():
        rows[column] = dates(rows[column], form)
    _infer_roles(rows, target, reading, draft)
    _infer_target(rows, told.task, reading, draft)
    _drop_leaks(rows, reading, draft)
    reading["contract"] = _contract(rows, reading, forms)
    draft.why |= {
        "dataset.contract": "What each later file must be like, else it is kept out, with the reason. "
        "`usual` and `values` only warn; `missing` is the largest share of missing values.",
        "dataset.contract.min_rows": "Half of what was there: fewer, and nothing is learned.",
    }
    _infer_split(rows, told, reading, draft)
    _infer_candidates(rows, reading, draft)
    kept = len(datasets.features(list(rows.columns), DatasetDeclaration(**reading)))
    draft.notes.append(f"{len(rows):,} rows; {kept} of {len(rows.columns)} columns are features.")
    draft.attributes["gates"] = [
        {"beats": "baseline"},
        {"beats": "champion", "confidence": 0.95},
    ]
    draft.why |= {
        "gates": "What a challenger must pass. Add floors that matter to you, like "
        "{metric: accuracy, min: 0.8}: the check is red, and nothing is promoted, below them.",
        "gates.0": "Better than a model that ignores the features, on validation.",
        "gates.1": "Better than what serves now, on the same rows of test, beyond noise.",
    }
    Problem(**draft.attributes)  # what is written down must be possible
    return draft


def _rows(path: Path, reading: dict[str, Any]) -> pd.DataFrame:
    rows = read(path, DatasetDeclaration(**{**reading, "path": str(path)}))
    if name := reading.get("number_rows"):
        rows[name] = range(len(rows))
    return rows


def _free_name(path: Path, reading: dict[str, Any]) -> str:
    given = {**reading, "path": str(path)}
    columns = read(path, DatasetDeclaration(**given)).columns
    return next(n for n in ("position", "row_position", "row_position_") if n not in columns)


def _no_target(path: Path, rows: pd.DataFrame, target: str, names: list[str] | None) -> str:
    found = shortened(rows.columns)
    near = difflib.get_close_matches(target.lower(), [str(c).lower() for c in rows.columns], n=1)
    if near:
        return f"{path} has no column `{target}`.{did_you_mean(target, rows.columns)}"
    if names is None and path.suffix != ".parquet":
        return (
            f"{path} has no column `{target}`; its first line reads {found}. If the file has no "
            "header, give the names: `--names a,b,c`."
        )
    return f"{path} has no column `{target}`; it has {found}."


def _infer_reading(path: Path, reading: dict[str, Any], told: Told, draft: Draft) -> None:
    raw = _head(path)
    encoding = _encoding(raw, len(raw) >= SAMPLE_BYTES)
    if encoding != "utf-8":
        reading["encoding"] = encoding
        draft.say("dataset.encoding", f"The text is encoded as {encoding}.")
    lines = raw.decode(encoding, errors="replace").splitlines()
    lines = [line for line in lines[: -1 if len(raw) >= SAMPLE_BYTES else None] if line.strip()]
    separator = _separator(lines[:200])
    if separator != ",":
        reading["separator"] = separator
        draft.say("dataset.separator", f"Fields are separated by {separator!r}.")
    fields = [f for row in csv.reader(lines[1:200], delimiter=separator) for f in row[1:]]
    there = [f for f in fields if f]
    if there and sum(f.startswith(" ") for f in there) > 0.95 * len(there):
        reading["skip_initial_space"] = True
        draft.say("dataset.skip_initial_space", "A blank follows each separator.")
    if separator != "," and _decimal_comma(there):
        reading["decimal"] = ","
        draft.say("dataset.decimal", "Numbers are written with a decimal comma.")
    if sum(_single_quoted(f) for f in there) > 0.9 * sum("'" in f for f in there) > 0:
        reading["quote"] = "'"
        draft.say("dataset.quote", "Text is quoted with single quotes.")
    if told.names is not None:
        reading["names"] = told.names
        draft.say("dataset.names", "The file has no header; its column names were given.")
    if told.bad_lines:
        reading["bad_lines"] = told.bad_lines
        draft.say("dataset.bad_lines", "So many lines of another width are left out, as was said.")


def _single_quoted(field: str) -> bool:
    return len(field) > 1 and field[0] == field[-1] == "'"


# Ways to write a date, beside ISO 8601; each pair reads the same text as another day.
_FORMS = (
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m-%d-%Y",
    "%d-%m-%Y",
    "%d.%m.%Y",
    "%Y/%m/%d",
    "%B %d, %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
)


def _date_forms(rows: pd.DataFrame, target: str, draft: Draft) -> dict[str, str]:
    """It returns the format of each text column that holds dates in one unmistakable format."""
    forms = {}
    for name in rows.columns:
        values = rows[name].dropna()
        if name == target or datasets.column_type(rows[name]) != "text" or values.empty:
            continue
        written = pd.Series(values.unique())
        if not written.head(50).str.contains(r"\d").all():
            continue
        fit = [f for f in _FORMS if dates(written.head(50), f).notna().all()]
        fit = [f for f in fit if dates(written, f).notna().all()]
        if len(fit) == 1:
            forms[str(name)] = fit[0]
            draft.notes.append(f"`{name}` holds dates written {fit[0]}, like {written.iloc[0]!r}.")
        elif fit:
            draft.notes.append(
                f"`{name}` may be dates, but {' and '.join(fit)} both fit: declare its `format`."
            )
    return forms


def _head(path: Path) -> bytes:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            return file.read(SAMPLE_BYTES)
    except (OSError, EOFError) as error:
        raise DatasetError(f"{path} cannot be unpacked: {error}.") from None


def _encoding(raw: bytes, cut: bool) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        if not (cut and error.start > len(raw) - 4):  # a letter cut in two at the sample's end
            return "latin-1"
    return "utf-8"


def _separator(lines: list[str]) -> str:
    def width(separator: str) -> int:
        counts = [
            len(row) for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)
        ]
        common = max(set(counts), key=counts.count) if counts else 1
        return common if counts.count(common) > 0.8 * len(counts) else 1

    return max(_SEPARATORS, key=width)


def _decimal_comma(fields: list[str]) -> bool:
    comma = sum(bool(re.fullmatch(r"\s*-?\d+,\d+\s*", f)) for f in fields)
    point = sum(bool(re.fullmatch(r"\s*-?\d+\.\d+\s*", f)) for f in fields)
    return comma > 0 and point == 0


def _missing_words(rows: pd.DataFrame, target: str) -> list[str]:
    found = []
    for word in _MISSING_SUSPECTS:
        for name in rows.columns:
            if name == target or rows[name].dtype != object:
                continue
            here = rows[name] == word
            if not here.any():
                continue
            rest = rows[name][~here].dropna()
            numeric = len(rest) > 0 and pd.to_numeric(rest, errors="coerce").notna().all()
            if word == "?" or numeric:
                found.append(word)
                break
    return found


def _infer_roles(rows: pd.DataFrame, target: str, reading: dict[str, Any], draft: Draft) -> None:
    unique, entity, drop = [], [], []
    for name in rows.columns:
        if name in (target, reading.get("number_rows")):
            continue
        role = _role(rows[name], str(name))
        if role == "unique":
            unique.append(str(name))
        elif role == "entity":
            entity.append(str(name))
        elif role:
            drop.append(str(name))
            draft.notes.append(f"`{name}` is {role}: kept, but never a feature.")
    keys = entity or unique
    if keys:
        reading["key"] = keys[0]
        again = rows[keys[0]].nunique() < len(rows)
        draft.say(
            "dataset.key",
            f"`{keys[0]}` identifies {'an entity with several rows' if again else 'each row'}: "
            "never a feature.",
        )
    for name in [k for k in (*entity, *unique) if k != reading.get("key")]:
        drop.append(name)
        draft.notes.append(f"`{name}` is an identifier: kept, but never a feature.")
    if drop:
        reading["drop"] = drop
        draft.why["dataset.drop"] = "Identifiers, counters, free text and constants."


def _role(values: pd.Series, name: str) -> str | None:
    """It returns unique, entity, a reason to drop the column, or None for a feature."""
    there = values.dropna()
    distinct, kind = there.nunique(), datasets.column_type(values)
    if distinct <= 1:
        return "constant" if distinct else "empty"
    share = distinct / len(there)
    named = bool(_ID_NAME.search(name))
    complete = len(there) == len(values)
    if kind == "text":
        words = there.head(2000).str.split().str.len().mean()
        if words >= FREE_TEXT_WORDS and (share > 0.3 or len(there) < 0.5 * len(values)):
            return "free text"
        if share == 1 and complete and len(values) > 20:
            return "unique"
        if named and share > 0.2:
            return "entity" if complete else "an identifier"
        return "an identifier (nearly every value is another)" if share > 0.95 else None
    if kind == "integer":
        steps = there.diff().dropna()
        counts_up = len(steps) > 20 and (steps == 1).mean() > 0.95
        if share == 1 and complete and (named or counts_up) and len(values) > 20:
            return "unique"
        if counts_up and (share == 1 or _COUNTER_NAME.search(name)):
            return "a counter of rows"
        if named and share > 0.2:
            return "entity" if complete else "an identifier"
    return None


def _infer_target(
    rows: pd.DataFrame, task: Task | None, reading: dict[str, Any], draft: Draft
) -> None:
    found = datasets.find_target(rows, DatasetDeclaration(**reading), task)
    draft.attributes = {
        "name": draft.attributes["name"],
        "task": found.task,
        "dataset": draft.attributes["dataset"],
    }
    draft.say("task", f"The task is {found.task}, {found.why}.")
    if found.task == "binary":
        positive = found.positive
        reading["positive"] = positive.item() if hasattr(positive, "item") else positive
        count = dict(zip(found.classes, found.counts, strict=True))[positive]
        draft.say(
            "dataset.positive",
            f"`{positive}` counts as positive ({count / sum(found.counts):.1%} of the rows).",
        )


def _drop_leaks(rows: pd.DataFrame, reading: dict[str, Any], draft: Draft) -> None:
    declared = DatasetDeclaration(**reading)
    asked = datasets.features(list(rows.columns), declared)
    target = datasets.find_target(rows, declared, draft.attributes["task"])
    found = inspect(rows, asked, declared.target, target)
    told = [(name, f"gives the target away ({how})") for name, how in found.leaks]
    told += [(name, "sums up to the target with others") for name in found.together]
    told += [(name, "has a value for nearly each row") for name in found.identifiers]
    if found.dates:
        reading["integrity"] = {"dates_have_one_format": "warn"}
        columns = shortened(name for name, _ in found.dates)
        draft.say("dataset.integrity", f"{columns} mixes formats of dates: correct that at source.")
    for name, why in told:
        draft.notes.append(f"`{name}` {why}: kept, but never a feature.")
    if told:
        reading["drop"] = [*reading.get("drop", []), *(name for name, _ in told)]
        draft.why["dataset.drop"] = "Identifiers, counters, free text, constants, and leaks."


def _infer_split(rows: pd.DataFrame, told: Told, reading: dict[str, Any], draft: Draft) -> None:
    shares = {"train": 0.7, "validation": 0.15, "test": 0.15}
    time = told.time or reading.get("number_rows")
    if time is not None:
        declared = SplitDeclaration(by={"time": time}, **shares)
        cuts = find_cuts(rows[rows[reading["target"]].notna()], declared)
        by = {"time": time, "validation_from": cuts.validation_from, "test_from": cuts.test_from}
        draft.attributes["split"] = {"by": by, **shares}
        said = f"Rows are split by `{time}`: the past learns, the future judges."
        draft.say(
            "split",
            f"{said} The cuts stay until you move them; `rolling: true` "
            "in their place lets them go forward with the rows.",
        )
        return
    by_word = "key" if "key" in reading else "row"
    split: dict[str, Any] = {"by": by_word, **shares}
    said = "the key, all rows of one together" if by_word == "key" else "the content of the row"
    draft.say("split", f"Rows are split by {said}: none changes sides when more arrive.")
    if draft.attributes["task"] != "regression" and len(rows) < FEW_ROWS:
        dataset = DatasetDeclaration(**reading)
        split["salt"] = best_salt(rows, SplitDeclaration(**split), dataset)
        draft.notes.append("Rows are few: of many ways to hash them, the most even one was taken.")
    draft.attributes["split"] = split


def _infer_candidates(rows: pd.DataFrame, reading: dict[str, Any], draft: Draft) -> None:
    """It names lighter candidates where the default ones would take hours."""
    classes = rows[reading["target"]].nunique() if draft.attributes["task"] == "multiclass" else 1
    if len(rows) * classes < MUCH_WORK:
        return
    # A tree per class and round: as many as keep the work at what a million rows cost.
    rounds = max(10, min(100, 100 * MUCH_WORK // (len(rows) * classes)))
    draft.attributes["candidates"] = {
        "extra_trees": {"n_estimators": 60, "min_samples_leaf": 2},
        # stopping early needs two rows of each class
        "hist_gradient_boosting": {"max_iter": rounds, "early_stopping": False},
        "lightgbm": {"n_estimators": rounds},
    }
    draft.say(
        "candidates", f"Lighter than the default ones: {len(rows):,} rows, {classes} classes."
    )


def _contract(rows: pd.DataFrame, reading: dict[str, Any], forms: dict[str, str]) -> dict[str, Any]:
    target, key = reading["target"], reading.get("key")
    columns = {}
    named = [c for c in rows.columns if c != reading.get("number_rows")]
    for name in named[:MOST_CONTRACT_COLUMNS]:
        values, kind = rows[name], datasets.column_type(rows[name])
        rule: dict[str, Any] = {"type": kind} if values.notna().any() else {}
        if name in forms:
            rule["format"] = forms[name]
        if kind == "integer" and name != target:
            rule["type"] = "number"  # tomorrow's file may hold a half
        if kind in ("integer", "number"):
            if values.min() >= 0:
                rule["min"] = 0
            if name not in (target, key, *reading.get("drop", [])):
                rule["usual"] = _usual(values, rule.get("min"))
        known = sorted(values.dropna().unique()) if kind == "text" and name != key else []
        if 0 < len(known) <= MOST_CATEGORIES and len(known) <= max(2, 0.05 * len(values)):
            rule["values"] = known
            if name == target:
                rule["mode"] = {"values": "enforce"}
        missing = float(values.isna().mean())
        whole = not missing and name in (target, key)
        room = 0.0 if whole else min(1.0, 1.5 * missing + 0.05)
        rule["missing"] = round(room, 3)
        columns[str(name)] = rule
    return {
        "min_rows": max(20, len(rows) // 2),
        "new_columns": "ignore" if len(columns) == len(named) else "use",
        "columns": columns,
    }


def _usual(values: pd.Series, least: float | None) -> list[float]:
    """It returns the range of values, half as wide again on each side; of codes, as it is."""
    there = values[np.isfinite(values)]
    low, high = float(there.min()), float(there.max())
    codes = there.nunique() <= MOST_CATEGORIES and bool((there % 1 == 0).all())
    room = 0.0 if codes else 0.5 * (high - low) or 1.0
    low, high = low - room, high + room
    return [float(f"{low if least is None else max(low, least):.3g}"), float(f"{high:.3g}")]


_HEAD = (
    "# Written by `ml-assets new` from the first data. Read it, correct it: from now on this",
    "# file alone counts. `ml-assets check` validates it; keys are described in the docs.",
)


def render(draft: Draft, head: Sequence[str] = _HEAD) -> str:
    """It returns the text of ``defs.yaml``, with the reasons as comments."""
    lines = [
        *head,
        "type: ml_assets.components.MLProblem",
        "attributes:",
    ]
    for key, value in draft.attributes.items():
        lines += _rendered(key, value, 1, key, draft.why)
    if "candidates" in draft.attributes:
        return "\n".join(lines) + "\n"
    lines += [
        "  # candidates: a sensible set when absent (linear, extra_trees, hist_gradient_boosting,",
        "  # lightgbm, catboost). To choose your own:",
        "  # candidates:",
        "  #   random_forest: {n_estimators: 300}",
        "  #   ours: {estimator: .model.boosted_trees}",
    ]
    return "\n".join(lines) + "\n"


def _rendered(key: str, value: Any, depth: int, where: str, why: dict[str, str]) -> list[str]:
    pad = "  " * depth
    comment = _comment(why.get(where), pad)
    if isinstance(value, dict) and where in (
        "dataset",
        "dataset.contract",
        "dataset.contract.columns",
        "candidates",
    ):
        inner = [
            line
            for k, v in value.items()
            for line in _rendered(k, v, depth + 1, f"{where}.{k}", why)
        ]
        return [*comment, f"{pad}{_flow(key)}:", *inner]
    if where == "gates":
        items = []
        for number, gate in enumerate(value):
            said = why.get(f"gates.{number}")
            items += _comment(said, f"{pad}  ")
            items.append(f"{pad}  - {_flow(gate)}")
        return [*comment, f"{pad}gates:", *items]
    return [*comment, f"{pad}{_flow(key)}: {_flow(value)}"]


def _comment(said: str | None, pad: str) -> list[str]:
    return textwrap.wrap(said or "", 100, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# ")


def _flow(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
