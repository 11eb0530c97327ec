"""The scaffolder: what ``dg scaffold defs ml_assets.components.MLProblem NAME`` writes."""

from dagster.components import Scaffolder, ScaffoldRequest

SMALLEST = """\
# A prediction problem. Every key is described in docs/reference.md and in Dagster's docs tab;
# `ml-assets check {name}` validates this file, `ml-assets run {name}` brings it to production.
type: {type_name}
attributes:
  name: {name}
  dataset:
    path: data/{name}.csv   # csv, csv.gz or parquet, relative to the project's root
    target: target          # the column to be predicted
"""


class MLProblemScaffolder(Scaffolder):
    """It writes a ``defs.yaml`` with the two things that only its owner knows: data and target."""

    def scaffold(self, request: ScaffoldRequest) -> None:
        """It writes the folder of a new problem."""
        folder = request.target_path
        folder.mkdir(parents=True, exist_ok=True)
        text = SMALLEST.format(type_name=request.type_name, name=folder.name)
        (folder / "defs.yaml").write_text(text)
