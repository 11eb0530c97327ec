"""The scaffolder: what ``dg scaffold defs ml_assets.components.MLProblem NAME`` writes."""

from pathlib import Path

from dagster.components import Scaffolder, ScaffoldRequest
from pydantic import BaseModel, Field

from ml_assets.errors import DeclarationError
from ml_assets.resources.home import find_home

SMALLEST = """\
# A prediction problem. Every key is described in docs/reference.md and in Dagster's docs tab;
# `ml-assets check {name}` validates this file, `ml-assets run {name}` brings it to production.
# With `--data FILE --target COLUMN` the same command fills in what the first data suggest.
type: {type_name}
attributes:
  name: {name}
  dataset:
    path: data/{name}.csv   # csv, csv.gz or parquet, relative to the project's root
    target: target          # the column to be predicted
"""


class ScaffoldParams(BaseModel):
    """What only the owner of a problem knows; with data, the rest is inferred as `ml-assets new` does."""

    data: str | None = Field(
        None, description="The first data: a file, or where files arrive (a glob, a folder, a URL)."
    )
    target: str | None = Field(None, description="The column to be predicted.")
    model: bool = Field(
        False, description="Also write a model.py with a candidate of your own: `--model true`."
    )


class MLProblemScaffolder(Scaffolder[ScaffoldParams]):
    """It writes a ``defs.yaml``: as ``ml-assets new`` does from data, else the smallest there is."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """The options of the command."""
        return ScaffoldParams

    def scaffold(self, request: ScaffoldRequest[ScaffoldParams]) -> None:
        """It writes the folder of a new problem.

        Raises:
            DeclarationError: only one of data and target is given, or a model.py without data.
            DatasetError: the data cannot be used.
        """
        home, given = request.target_path, request.params
        if given.data is None and given.target is None and not given.model:
            home.mkdir(parents=True, exist_ok=True)
            text = SMALLEST.format(type_name=request.type_name, name=home.name)
            (home / "defs.yaml").write_text(text)
            return
        if given.data is None or given.target is None:
            raise DeclarationError("Give both --data and --target, or neither.")
        from ml_assets.draft import Told
        from ml_assets.folder import draft_of, write

        root = request.project_root or Path.cwd()
        fetched = find_home(root).path / "fetched"
        draft = draft_of(home.name, given.data, given.target, Told(), root, fetched, given.model)
        write(home, draft, given.model)
