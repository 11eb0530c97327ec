"""Predictions, declared: which files are scored as they arrive, and where their predictions go."""

from typing import Literal

from pydantic import Field, model_validator

from ml_assets.problem.declaration import Declaration


class PredictionsDeclaration(Declaration):
    """Which files are scored as they arrive, and where their predictions go."""

    path: str = Field(
        description="Where files to be scored arrive, as `dataset.path`: a glob, a folder, a URL, or "
        "one file. They are read as the dataset's files are.",
        examples=["inbox/churn/*.csv", "s3://bucket/churn/"],
    )
    output: str = Field(
        description="The folder of the predictions, relative to the project's root.",
        examples=["scored/churn"],
    )
    format: Literal["parquet", "csv", "csv.gz"] = Field(
        "parquet", description="How predictions are written."
    )
    rescore: bool = Field(
        True,
        description="What a new champion does with files that a former one scored. true: they are "
        "scored again, into files of their own. false: each content is scored once.",
    )

    @model_validator(mode="after")
    def _places_are_apart(self) -> "PredictionsDeclaration":
        if "://" in self.output:
            raise ValueError("`output` is a folder of this machine, no URL")
        parts = self.path.rstrip("/").split("/")
        first = next((i for i, p in enumerate(parts) if any(c in p for c in "*?")), len(parts))
        output = self.output.rstrip("/").split("/")
        if output[:first] == parts[:first]:
            raise ValueError(
                f"`output` lies in {'/'.join(parts[:first])}, where the files to be scored arrive: "
                "name another folder"
            )
        return self
