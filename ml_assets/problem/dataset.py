"""A dataset and its split, declared: where rows come from, what they must satisfy, who judges."""

import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from ml_assets.problem.declaration import Declaration, Mode

IntegrityGate = Literal[
    "no_feature_gives_the_target_away",
    "rows_are_unique",
    "labels_agree",
    "features_vary",
    "categories_are_distinct",
    "no_feature_is_an_identifier",
    "dates_have_one_format",
    "no_column_is_new",
]


Rule = Literal["type", "min", "max", "usual", "values", "unique", "missing"]
# What is odd rather than unfit: it is said, and goes on.
ODD: tuple[Rule, ...] = ("usual", "values")


ModeOrModes = Annotated[
    Annotated[Mode, Tag("word")] | Annotated[dict[Rule, Mode], Tag("rules")],
    Discriminator(lambda v: "rules" if isinstance(v, dict) else "word"),
]


class ColumnContract(Declaration):
    """What the values of one column must satisfy."""

    type: Literal["integer", "number", "text", "boolean", "date"] | None = Field(
        None, description="Type of the values.", examples=["integer"]
    )
    format: str | None = Field(
        None,
        description="How dates are written, in the words of strftime; ISO 8601 when absent.",
        examples=["%m/%d/%Y"],
    )
    min: float | None = Field(None, description="Smallest value allowed.", examples=[0])
    max: float | None = Field(None, description="Largest value allowed.", examples=[120])
    usual: tuple[float, float] | None = Field(
        None,
        description="Smallest and largest value that are not surprising. Others warn.",
        examples=[[18, 90]],
    )
    values: list[str | int | float | bool] | None = Field(
        None, description="The categories that are known. Others warn.", examples=[["Yes", "No"]]
    )
    unique: bool = Field(False, description="No value stands twice in one file.")
    missing: float | None = Field(
        None,
        description="Largest share of missing values allowed, between 0 and 1.",
        examples=[0.05],
        ge=0,
        le=1,
    )
    mode: ModeOrModes = Field(
        default_factory=dict,
        description="How severe a breach is, for the column or rule by rule. Default: enforce; "
        "`usual` and `values` warn.",
        examples=["warn", {"values": "enforce"}],
    )

    def mode_of(self, rule: Rule) -> Mode:
        """It returns how severe a breach of one rule is."""
        if isinstance(self.mode, str):
            return self.mode
        return self.mode.get(rule, "warn" if rule in ODD else "enforce")

    @model_validator(mode="after")
    def _rules_are_possible(self) -> "ColumnContract":
        ranges = {"min and max": (self.min, self.max), "usual": self.usual or (None, None)}
        for words, (low, high) in ranges.items():
            if low is not None and high is not None and low > high:
                raise ValueError(f"{words}: {low:g} is more than {high:g}")
        if self.format is not None and self.type != "date":
            raise ValueError("`format` says how dates are written; declare `type: date` with it")
        return self


class Contract(Declaration):
    """What the rows of a dataset must satisfy."""

    min_rows: int = Field(
        50, description="Fewest rows that may be learned from.", examples=[1000], ge=1
    )
    new_columns: Literal["use", "ignore"] = Field(
        "use",
        description="What becomes of columns that the contract does not name. ignore: they are no "
        "features, and a gate warns.",
    )
    columns: dict[str, ColumnContract] = Field(
        default_factory=dict,
        description="Columns that must be there, by name, with what their values must satisfy.",
        examples=[{"tenure": {"type": "integer", "min": 0}}],
    )


class DatasetDeclaration(Declaration):
    """Where the rows come from and what their columns are for."""

    path: str | None = Field(
        None,
        description="A csv, csv.gz or parquet file, relative to the project's root; or where such "
        "files arrive: a glob, a folder, or a URL (`s3://…`). One file is the whole dataset, and "
        "replaces what was; of many, each is a batch that is added once.",
        examples=["data/churn.csv", "landing/churn/*.csv", "s3://bucket/churn/"],
    )
    loader: str | None = Field(
        None,
        description="Instead of `path`: a function that returns a DataFrame, by import path or "
        "`.model.function` for one in the model.py beside this file.",
        examples=[".model.rows"],
    )
    sql: str | None = Field(
        None,
        description="Instead of `path`: a query, asked through SQLAlchemy at `connection`.",
        examples=["SELECT * FROM customers"],
    )
    connection: str | None = Field(
        None,
        description="With `sql`: the environment variable that holds the database's URL; a URL "
        "holds a password, and does not belong into a file.",
        examples=["WAREHOUSE_URL"],
    )
    asset: str | None = Field(
        None,
        description="Instead of `path`: the key of a Dagster asset, of this or another team, whose "
        "value is a DataFrame; used when its checks passed.",
        examples=["warehouse/customers"],
    )
    resent: Literal["replace", "append"] = Field(
        "replace",
        description="What a file of a known name with new content is. replace: a corrected "
        "version, the rows of the former one go out of the dataset. append: another batch.",
    )
    settle: float = Field(
        2.0,
        description="A file that changed within so many seconds may still be written, and is "
        "waited for.",
        ge=0,
    )
    number_rows: str | None = Field(
        None,
        description="Name of a column that numbers the rows in the order of the file, where that "
        "order is the time. Never a feature; `split: {by: {time: …}}` may name it.",
        examples=["position"],
    )
    target: str = Field(description="The column to be predicted.", examples=["Churn"])
    positive: str | int | float | bool | None = Field(
        None,
        description="Binary tasks: the target's value that counts as positive. Inferred when "
        "absent: yes/true/1, else the rarer value.",
        examples=["Yes"],
    )
    key: str | None = Field(
        None,
        description="The column that identifies an entity. Never a feature; all rows of one "
        "entity land in one part of the split.",
        examples=["customerID"],
    )
    drop: list[str] = Field(
        default_factory=list,
        description="Columns that are kept in the dataset but are never features.",
        examples=[["internal_note"]],
    )
    separator: str = Field(",", description="csv: what separates fields.", examples=[";"])
    quote: str = Field('"', description="csv: what quotes text.", examples=["'"])
    bad_lines: int = Field(
        0,
        description="csv: so many lines of a file may have another number of fields than its "
        "header; they are left out, and shown.",
        ge=0,
    )
    decimal: str = Field(".", description="csv: the decimal mark.", examples=[","])
    encoding: str = Field("utf-8", description="csv: how text is encoded.", examples=["latin-1"])
    names: list[str] | None = Field(
        None,
        description="csv: column names for a file that has no header row.",
        examples=[["age", "income"]],
    )
    missing: list[str] = Field(
        default_factory=list,
        description="csv: words that mean a missing value, beside empty, blank, NA, N/A, NaN and null.",
        examples=[["?"]],
    )
    skip_initial_space: bool = Field(
        False, description="csv: blanks after a separator do not belong to the value."
    )
    contract: Contract = Field(
        default_factory=Contract, description="What the rows must satisfy before they are used."
    )
    integrity: dict[IntegrityGate, Mode] = Field(
        default_factory=dict,
        description="How severe an integrity gate is, where it differs from its default.",
        examples=[{"rows_are_unique": "enforce"}],
    )

    @model_validator(mode="after")
    def _one_source(self) -> "DatasetDeclaration":
        sources = ("path", "loader", "sql", "asset")
        if sum(getattr(self, s) is not None for s in sources) != 1:
            raise ValueError(
                "a dataset has one source: give exactly one of `path`, `loader`, `sql`, `asset`"
            )
        if (self.sql is None) != (self.connection is None):
            raise ValueError("`sql` and `connection` go together")
        if self.connection is not None and "://" in self.connection:
            raise ValueError(
                "`connection` names an environment variable that holds the URL, not the URL itself"
            )
        if self.number_rows and self.number_rows in (self.target, self.key, *self.drop):
            raise ValueError(f"`number_rows` names `{self.number_rows}`, which is a column already")
        for word, column in [("key", self.key), *(("drop", c) for c in self.drop)]:
            if column == self.target:
                raise ValueError(f"`{word}` names the target `{self.target}`; it cannot be both")
        if any(len(c) != 1 for c in (self.separator, self.decimal, self.quote)):
            raise ValueError("`separator`, `decimal` and `quote` are one character each")
        return self

    @property
    def source(self) -> str:
        """Where the rows come from, as declared."""
        return str(self.path or self.loader or self.asset or f"query at {self.connection}")

    @property
    def is_landing(self) -> bool:
        """Whether files arrive there, each a batch; else the source is the whole dataset."""
        if self.path is None:
            return False
        last = self.path.rsplit("/", 1)[-1]
        return any(c in self.path for c in "*?") or not last or "." not in last.strip(".")


class GroupBy(Declaration):
    """All rows with one value of a column land in one part."""

    group: str = Field(description="The column whose equal values stay together.")


class TimeBy(Declaration):
    """Rows are cut by time: train is before validation, validation before test."""

    time: str = Field(description="The column that says when: a date or a number.")
    validation_from: str | int | float | None = Field(
        None,
        description="Rows from here on choose. Absent: found from the shares when the first rows "
        "arrive, and kept from then on, so that no row changes sides.",
        examples=["2024-01-01"],
    )
    test_from: str | int | float | None = Field(
        None, description="Rows from here on judge.", examples=["2024-03-01"]
    )
    gap: str | float | None = Field(
        None,
        description="Rows so shortly before a cut are left out: they may know what came after. "
        "A duration for dates, an amount for numbers.",
        examples=["7d", "12h", 48],
    )
    rolling: bool = Field(
        False,
        description="Instead of `validation_from` and `test_from`: the cuts are found from the shares "
        "again whenever rows come, so that a retraining learns newer ones. They only go forward: no "
        "champion is judged by rows that it learned from.",
    )

    @model_validator(mode="after")
    def _cuts_go_together(self) -> "TimeBy":
        if (self.validation_from is None) != (self.test_from is None):
            raise ValueError("`validation_from` and `test_from` go together: give both or none")
        if self.rolling and self.validation_from is not None:
            raise ValueError(
                "`rolling` finds the cuts, `validation_from` and `test_from` say them: give one of both"
            )
        return self


def _kind_of_split(value: Any) -> str | None:
    if isinstance(value, str):
        return "word" if value in ("key", "row") else None
    if isinstance(value, dict):
        return next((k for k in ("group", "time") if k in value), None)
    if isinstance(value, GroupBy):
        return "group"
    return "time" if isinstance(value, TimeBy) else None


SplitBy = Annotated[
    Annotated[Literal["key", "row"], Tag("word")]
    | Annotated[GroupBy, Tag("group")]
    | Annotated[TimeBy, Tag("time")],
    Discriminator(
        _kind_of_split,
        custom_error_type="unknown_split",
        custom_error_message="rows are split by `key`, `row`, `{group: column}` or `{time: column}`",
    ),
]


class SplitDeclaration(Declaration):
    """Which rows a candidate may learn from, which choose it, which judge it."""

    by: SplitBy | None = Field(
        None,
        description="`key`: by the dataset's key. `row`: by the row's own content, so that equal "
        "rows stay together. `{group: column}`: by a column. `{time: column}`: the past learns, "
        "the future judges. Default: key if there is one, else row.",
        examples=["key", "row", {"group": "patient"}, {"time": "date"}],
    )
    train: float = Field(0.7, description="Share of rows to learn from.", gt=0, lt=1)
    validation: float = Field(0.15, description="Share of rows to choose by.", gt=0, lt=1)
    test: float = Field(0.15, description="Share of rows to judge by.", gt=0, lt=1)

    salt: int = Field(
        0,
        description="Which of many ways to hash rows into parts. `ml-assets new` chooses, where "
        "rows are few, one whose parts have the classes in equal shares.",
        ge=0,
    )

    @model_validator(mode="after")
    def _shares_are_whole(self) -> "SplitDeclaration":
        total = self.train + self.validation + self.test
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"train + validation + test is {total:g}; the three shares make 1")
        return self
