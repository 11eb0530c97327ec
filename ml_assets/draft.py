"""A draft: the declaration that the first data suggest, with the reason for each choice.

It is what ``ml-assets new`` writes.  Nothing here is needed to run a problem: a draft is read by
its owner, corrected, and from then on only the declaration counts.
"""

import csv
import gzip
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from ml_assets import dataset as datasets
from ml_assets.data_file import fingerprint, read
from ml_assets.errors import DatasetError, shortened
from ml_assets.integrity import inspect
from ml_assets.problem import DatasetDeclaration, Problem, Task

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


def infer(
    name: str, path: Path, shown_path: str, target: str, names: list[str] | None, task: Task | None
) -> Draft:
    """It returns the draft of a problem from its first file.

    Args:
        name: the problem's name.
        path: the file.
        shown_path: how the file is to be named in the declaration.
        target: the column to be predicted.
        names: column names, for a csv without a header.
        task: the task, when its owner says it.

    Raises:
        DatasetError: the file cannot be read, or holds no such target.
    """
    reading: dict[str, Any] = {"path": shown_path, "target": target}
    draft = Draft({"name": name, "dataset": reading})
    fingerprint(path)
    if path.suffix != ".parquet" and path.is_file():
        _infer_reading(path, reading, names, draft)
    declared = DatasetDeclaration(**{**reading, "path": str(path)})
    rows = read(path, declared)
    if target not in rows.columns:
        raise DatasetError(_no_target(path, rows, target, names))
    words = _missing_words(rows, target)
    if words:
        reading["missing"] = words
        draft.say("dataset.missing", f"{shortened(words)} stands where a value is missing.")
        rows = read(path, DatasetDeclaration(**{**reading, "path": str(path)}))
    _infer_roles(rows, target, reading, draft)
    _infer_target(rows, task, reading, draft)
    _drop_leaks(rows, reading, draft)
    _infer_split(reading, draft)
    reading["contract"] = _contract(rows, target, reading.get("key"))
    kept = len(datasets.features(list(rows.columns), DatasetDeclaration(**reading)))
    draft.notes.append(f"{len(rows):,} rows; {kept} of {len(rows.columns)} columns are features.")
    draft.attributes["gates"] = [
        {"beats": "baseline"},
        {"beats": "champion", "confidence": 0.95},
    ]
    Problem(**draft.attributes)  # what is written down must be possible
    return draft


def _no_target(path: Path, rows: pd.DataFrame, target: str, names: list[str] | None) -> str:
    found = shortened(rows.columns)
    if names is None and path.suffix != ".parquet":
        return (
            f"{path} has no column `{target}`; its first line reads {found}. If the file has no "
            "header, give the names: `--names a,b,c`."
        )
    return f"{path} has no column `{target}`; it has {found}."


def _infer_reading(
    path: Path, reading: dict[str, Any], names: list[str] | None, draft: Draft
) -> None:
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
    if names is not None:
        reading["names"] = names
        draft.say("dataset.names", "The file has no header; its column names were given.")


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
        if name == target:
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
            "never a feature, and the split keeps its rows together.",
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
    draft.say("task", f"{found.task}: {found.why}.")
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


def _infer_split(reading: dict[str, Any], draft: Draft) -> None:
    by = "key" if "key" in reading else "row"
    draft.attributes["split"] = {"by": by, "train": 0.7, "validation": 0.15, "test": 0.15}
    said = "the key" if by == "key" else "the content of the row"
    draft.say("split", f"Rows are split by {said}: none changes sides when more arrive.")


def _contract(rows: pd.DataFrame, target: str, key: str | None) -> dict[str, Any]:
    columns = {}
    for name in list(rows.columns)[:MOST_CONTRACT_COLUMNS]:
        values, kind = rows[name], datasets.column_type(rows[name])
        rule: dict[str, Any] = {"type": kind} if values.notna().any() else {}
        if kind == "integer" and name != target:
            rule["type"] = "number"  # tomorrow's file may hold a half
        if kind in ("integer", "number") and values.min() >= 0:
            rule["min"] = 0
        missing = float(values.isna().mean())
        whole = not missing and name in (target, key)
        room = 0.0 if whole else min(1.0, 1.5 * missing + 0.05)
        rule["missing"] = round(room, 3)
        columns[str(name)] = rule
    return {
        "min_rows": max(20, len(rows) // 2),
        "new_columns": "ignore" if len(columns) == rows.shape[1] else "use",
        "columns": columns,
    }


def render(draft: Draft, type_name: str = "ml_assets.components.MLProblem") -> str:
    """It returns the text of ``defs.yaml``, with the reasons as comments."""
    lines = [
        "# Written by `ml-assets new` from the first data. Read it, correct it: from now on this",
        "# file alone counts. `ml-assets check` validates it; keys are described in the docs.",
        f"type: {type_name}",
        "attributes:",
    ]
    for key, value in draft.attributes.items():
        lines += _rendered(key, value, 1, key, draft.why)
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
    comment = [f"{pad}# {why[where]}"] if where in why else []
    if isinstance(value, dict) and where in (
        "dataset",
        "dataset.contract",
        "dataset.contract.columns",
    ):
        inner = [
            line
            for k, v in value.items()
            for line in _rendered(k, v, depth + 1, f"{where}.{k}", why)
        ]
        return [*comment, f"{pad}{_flow(key)}:", *inner]
    if where == "gates":
        return [*comment, f"{pad}gates:", *(f"{pad}  - {_flow(g)}" for g in value)]
    return [*comment, f"{pad}{_flow(key)}: {_flow(value)}"]


def _flow(value: Any) -> str:
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
