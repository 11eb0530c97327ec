"""What the pages show of Airflow and Kubeflow Pipelines is taken by these, each in an environment of its own."""

import json
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_assets_tests.e2e.served import clean_environment
from ml_assets_tests.environments import COMMANDS, environment
from ml_assets_tests.pages import DOCS, blocks, customers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

OF_THE_DAG = """
import json
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

def did(): print("did")

load_data = validate_data = train_model = evaluate_model = deploy_model = did
BLOCK
if __name__ == "__main__":
    run = dag.test()
    ended = sorted((t.end_date, t.task_id, t.state) for t in run.get_task_instances())
    print("ENDED", json.dumps([run.state, [[i, s] for _, i, s in ended]]))
"""
OF_THE_PIPELINE = """
from kfp import compiler, dsl
from kfp.dsl import Dataset, Input, Model, Output

@dsl.component
def load_data(path: str, dataset: Output[Dataset]): ...

@dsl.component
def train_model(dataset: Input[Dataset], n_estimators: int, accuracy: dsl.OutputPath(float), model: Output[Model]): ...

@dsl.component
def deploy_model(model: Input[Model]): ...

BLOCK
compiler.Compiler().compile(churn, "churn.yaml")
"""
CHURN = """\
type: ml_assets.components.MLProblem
attributes:
  name: churn
  dataset: {path: landing/churn/, target: Churn, key: customerID, positive: "Yes"}
  candidates: {tree: {estimator: sklearn.tree.DecisionTreeClassifier, params: {max_depth: 3}}}
  gates: [{metric: accuracy, min: LEAST}]
"""


def _python(page: str) -> list[str]:
    text = (DOCS / "how-to" / page).read_text()
    return [textwrap.dedent(b.text) for b in blocks(text) if b.kind == "python"]


def _ran(bin_: Path, folder: Path, source: str) -> str:
    """It runs a file with Airflow's settings in a folder, and returns what it printed."""
    (folder / "dags").mkdir(exist_ok=True)
    file = folder / "dags" / "churn.py"
    file.write_text(source)
    told = clean_environment(
        AIRFLOW_HOME=str(folder),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        PATH=f"{bin_}:{COMMANDS}:/usr/bin:/bin",
        PYTHONDONTWRITEBYTECODE="",
    )
    if not (folder / "airflow.db").exists():
        subprocess.run(
            [bin_ / "airflow", "db", "migrate"], env=told, check=True, capture_output=True
        )
    done = subprocess.run(
        [bin_ / "python", file], env=told, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def _ended(printed: str) -> Any:
    return json.loads(printed.rpartition("ENDED ")[2].splitlines()[0])


def test_airflow_runs_the_dags_of_the_page_and_a_gate_that_fails_is_a_task_that_fails(
    tmp_path: Path,
) -> None:
    bin_ = environment(tmp_path / "airflow", "apache-airflow>=3,<4")
    dag, ours = _python("from_airflow.md")
    state, tasks = _ended(_ran(bin_, tmp_path, OF_THE_DAG.replace("BLOCK", dag)))
    assert state == "success"
    order = ["load_data", "validate_data", "train_model", "evaluate_model", "deploy_model"]
    assert [name for name, _ in tasks] == order

    project = tmp_path / "project"
    (project / "landing" / "churn").mkdir(parents=True)
    (project / "ml_assets" / "defs" / "churn").mkdir(parents=True)
    (project / "workspace.yaml").touch()
    customers(900).to_csv(project / "landing" / "churn" / "1.csv", index=False)
    source = OF_THE_DAG.replace("BLOCK", ours.replace("/projects/churn", str(project)))
    assert source.count(str(project)) == 1
    for least, state in (("0.6", "success"), ("0.999", "failed")):
        declared = CHURN.replace("LEAST", least)
        (project / "ml_assets" / "defs" / "churn" / "defs.yaml").write_text(declared)
        assert _ended(_ran(bin_, tmp_path, source)) == [state, [["churn", state]]]


def test_kubeflow_takes_the_pipeline_of_the_page(tmp_path: Path) -> None:
    """Compiled, for there is no cluster: the loop over what the page names, and the condition."""
    bin_ = environment(tmp_path / "kfp", "kfp>=2,<3")
    [block] = _python("from_kubeflow.md")
    (tmp_path / "churn.py").write_text(OF_THE_PIPELINE.replace("BLOCK", block))
    done = subprocess.run(
        [bin_ / "python", "churn.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "churn.yaml").read_text()
    assert yaml.safe_load(written)["pipelineInfo"]["name"] == "churn"
    assert "[50, 100, 200, 300]" in written and "> 0.85" in written
