"""A contract: what the values of a file's columns must satisfy, asked piece by piece.

pandera asks; what it finds is gathered over all pieces of a file, so that everything that is
wrong with it is said at once, in bounded length, with lines and examples.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ml_assets.errors import did_you_mean, shortened
from ml_assets.later import later
from ml_assets.problem import ColumnContract, DatasetDeclaration, Mode
from ml_assets.problem.dataset import Rule

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

MOST_EXAMPLES = 3
MOST_TOLD = 10
# A share of missing values is too large when chance gives so many less often than this.
CHANCE = 1e-4
_EXPECTED = {
    "min": "is below {min:g}",
    "max": "is above {max:g}",
    "usual": "lies outside the usual {usual[0]:g} to {usual[1]:g}",
    "values": "is none of the known categories",
    "unique": "stands more than once",
    "type": "is no {type}",
}


@dataclass(frozen=True)
class Breach:
    """What a file breaches of its contract.

    Attributes:
        column: the column.
        rule: type, min, max, usual, values, unique, missing, or absent.
        mode: how severe that is.
        reason: a finished sentence, with lines and examples.
    """

    column: str
    rule: str
    mode: Mode
    reason: str


@dataclass
class _Found:
    rows: int = 0
    lines: list[int] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)


class Judge:
    """It sees the pieces of one file, and tells at the end what they breach.

    Args:
        declared: the dataset's declaration.
        expected: columns that every accepted batch has: they are under contract, said or not.
    """

    def __init__(self, declared: DatasetDeclaration, expected: tuple[str, ...] = ()) -> None:
        self.declared = declared
        self.rules = declared.contract.columns
        needed = [*self.rules, declared.target, *([declared.key] if declared.key else [])]
        self.needed = list(dict.fromkeys([*needed, *expected]))
        self.rows, self.columns = 0, list[str]()
        self._first_line = 1 if declared.names else 2
        self._found: dict[tuple[str, str], _Found] = {}
        self._missing: Counter[str] = Counter()
        self._keys: dict[str, set[int]] = {n: set() for n, c in self.rules.items() if c.unique}
        self._asked: Any = None

    def see(self, frame: pd.DataFrame, columns: list[str]) -> None:
        """It takes note of one piece.

        Args:
            frame: the columns that are under contract.
            columns: the names of all columns.
        """
        self.columns = columns
        offset, self.rows = self.rows, self.rows + len(frame)
        frame = frame.set_axis(np.arange(offset, self.rows), axis=0)
        looked = {}
        for name in [n for n in self.rules if n in frame.columns]:
            self._missing[name] += int(frame[name].isna().sum())
            looked[name] = self._typed(frame[name], self.rules[name])
            if name in self._keys:
                self._seen_before(looked[name])
        if looked:
            self._ask(pd.DataFrame(looked))

    def breaches(self) -> list[Breach]:
        """It returns what the pieces breach, the most severe first."""
        empty = {n for n, c in self.rules.items() if c.missing == 1}
        found = [self._absent(n) for n in self.needed if n not in {*self.columns, *empty}]
        for (name, rule), seen in self._found.items():
            contract = self.rules[name]
            mode = contract.mode_of(rule)  # type: ignore[arg-type]
            what = _EXPECTED[rule].format(**contract.model_dump())
            if rule == "type" and contract.format:
                what += f" written {contract.format}"
            where = f"line{'s' if seen.rows > 1 else ''} {shortened(seen.lines)}"
            more = " …" if seen.rows > len(seen.lines) else ""
            reason = (
                f"`{name}` {what} in {seen.rows:,} row{'s' if seen.rows > 1 else ''} "
                f"({where}{more}: {shortened(seen.examples)})."
            )
            found.append(Breach(name, rule, mode, reason))
        found += [b for n, c in self.rules.items() if (b := self._too_many_missing(n, c))]
        told = [b for b in found if b.mode != "off"]
        place = {name: i for i, name in enumerate(self.needed)}
        return sorted(told, key=lambda b: (b.mode != "enforce", place[b.column], b.rule))

    def _absent(self, name: str) -> Breach:
        new = [c for c in self.columns if c not in self.needed]
        hint = did_you_mean(name, new) if new else ""
        hint = hint if "Did you mean" in hint else ""
        return Breach(name, "absent", "enforce", f"`{name}` is not there.{hint}")

    def _too_many_missing(self, name: str, contract: ColumnContract) -> Breach | None:
        from scipy.special import bdtrc

        count, allowed = self._missing[name], contract.missing
        if allowed is None or not count or count <= allowed * self.rows:
            return None
        if 0 < allowed < 1 and bdtrc(count - 1, self.rows, allowed) > CHANCE:
            return None
        reason = (
            f"`{name}` is missing in {count:,} of {self.rows:,} rows ({count / self.rows:.2%}); "
            f"{allowed:.2%} is allowed."
        )
        return Breach(name, "missing", contract.mode_of("missing"), reason)

    def _typed(self, values: pd.Series, contract: ColumnContract) -> pd.Series:
        """It returns values of the declared type; those that are of another become missing."""
        typed, kind = values, values.dtype
        nothing = pd.Series(np.nan, index=values.index)
        dated = pd.api.types.is_datetime64_any_dtype(kind)
        truth = pd.api.types.is_bool_dtype(kind)
        if contract.type in ("number", "integer"):
            if pd.api.types.is_object_dtype(kind):
                typed = pd.to_numeric(values, errors="coerce")
            elif dated or truth:
                typed = nothing
            if contract.type == "integer" and len(typed):
                typed = typed.where(typed.isna() | (typed % 1 == 0))
        elif contract.type == "date" and not dated:
            typed = (
                dates(values, contract.format) if pd.api.types.is_object_dtype(kind) else nothing
            )
        elif contract.type == "boolean" and not truth:
            # truth values with gaps are read as 1, 0 and missing
            with_gaps = pd.api.types.is_float_dtype(kind)
            typed = values.where(values.isin([0, 1])) if with_gaps else nothing
        elif contract.type == "text" and not pd.api.types.is_object_dtype(kind):
            typed = values.astype(object).where(values.isna(), None)
        self._note(values.name, "type", values[values.notna() & typed.isna()])
        return typed

    def _seen_before(self, values: pd.Series) -> None:
        name, there = str(values.name), values.dropna()
        hashed = pd.util.hash_array(there.to_numpy())
        again = pd.Series(hashed).duplicated().to_numpy()
        again |= np.fromiter((h in self._keys[name] for h in hashed), bool, len(hashed))
        self._keys[name].update(hashed.tolist())
        self._note(name, "unique", there[again])

    def _ask(self, frame: pd.DataFrame) -> None:
        import pandera.pandas as pa
        from pandera.errors import SchemaErrors

        if self._asked is None:
            columns = {
                n: pa.Column(checks=_checks(c), nullable=True, required=False)
                for n, c in self.rules.items()
            }
            self._asked = pa.DataFrameSchema(columns)
        try:
            self._asked.validate(frame, lazy=True)
        except SchemaErrors as errors:
            for (name, rule), cases in errors.failure_cases.groupby(
                ["column", "check"], sort=False
            ):
                at = cases["index"].astype("int64")
                self._note(name, str(rule), frame.loc[at, name])

    def _note(self, name: Any, rule: Rule | str, wrong: pd.Series) -> None:
        if wrong.empty:
            return
        seen = self._found.setdefault((str(name), rule), _Found())
        seen.rows += len(wrong)
        for at, value in wrong.sort_index().head(MOST_EXAMPLES - len(seen.lines)).items():
            seen.lines.append(int(at) + self._first_line)
            seen.examples.append(repr(value) if isinstance(value, str) else f"{value}")


def _checks(contract: ColumnContract) -> list[Any]:
    """It returns the rules of one column as pandera's checks, each named after its rule."""
    import pandera.pandas as pa

    asked = []
    if contract.min is not None:
        asked.append(pa.Check.ge(contract.min, error="min"))
    if contract.max is not None:
        asked.append(pa.Check.le(contract.max, error="max"))
    if contract.usual is not None:
        asked.append(pa.Check.in_range(*contract.usual, error="usual"))
    if contract.values is not None:
        asked.append(pa.Check.isin(contract.values, error="values"))
    return asked


def dates(values: pd.Series, form: str | None) -> pd.Series:
    """It returns dates written as text; what is none becomes missing."""
    written = values.dropna().unique()
    parsed = pd.to_datetime(written, format=form or "ISO8601", errors="coerce")
    known = dict(zip(written, parsed, strict=True))
    return pd.to_datetime(values.map(known))


def told(breaches: list[Breach]) -> str:
    """It returns breaches as one text of bounded length."""
    more = f" (and {len(breaches) - MOST_TOLD} more)" if len(breaches) > MOST_TOLD else ""
    return " ".join(b.reason for b in breaches[:MOST_TOLD]) + more
