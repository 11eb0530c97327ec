"""Parts that other packages provide: found by name, told, used, pinned, and refitted when they change."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from ml_assets.candidate import build
from ml_assets.command import main
from ml_assets.errors import CandidateError, DeclarationError, PromotionRefused
from ml_assets.parts import first_sentence, listed
from ml_assets.problem import CandidateDeclaration, parts_of
from ml_assets.provided import locate_part, part, provided
from ml_assets.round.reproduction import reproduce
from ml_assets_tests.conftest import problem, table
from ml_assets_tests.e2e.served import clean_environment
from ml_assets_tests.problems import Project, declared, quickly, rows

ROOT = Path(__file__).parent.parent
EXAMPLE = Path(__file__).parent / "example_package"
Install = Callable[..., None]


def forget() -> None:
    provided.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """It installs a package: its module, its metadata, and the parts that it names."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def installed(package: str, module: str, version: str = "1.0", **parts: list[str]) -> None:
        (tmp_path / f"{package}.py").write_text(module)
        about = tmp_path / f"{package}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        lines = []
        for kind, named in parts.items():
            lines += [f"[ml_assets.{kind}]", *(f"{n} = {package}:{n}" for n in named)]
        (about / "entry_points.txt").write_text("\n".join(lines))
        forget()

    forget()
    yield installed
    forget()


MODULE = '''
from sklearn.tree import DecisionTreeClassifier
from sklearn.preprocessing import StandardScaler

def oak(depth=3):
    """An old tree. It has rings."""
    return DecisionTreeClassifier(max_depth=depth)

def planed():
    return StandardScaler()

def is_wood(rows, truth, predictions, probabilities):
    return True
'''


def test_a_name_of_a_package_is_used_where_ours_are(install):
    install("forest_a", MODULE, candidates=["oak"], transforms=["planed"], gates=["is_wood"])
    made = problem(
        candidates={"oak": {"depth": 2}, "other": {"estimator": "oak", "search": {"depth": [1]}}},
        transform="planed",
        gates=[{"custom": "is_wood"}],
    )
    assert made.candidates["oak"].params == {"depth": 2}
    [estimator, transform] = parts_of(made.candidates["oak"], made.transform)
    assert (estimator.pin, transform.path) == ("forest_a==1.0", "forest_a.planed")
    numbers = table(40)[["whole", "noise"]]
    model = build(made.candidates["oak"], made, "binary", numbers, None)
    assert type(model[-1]).__name__ == "DecisionTreeClassifier"
    assert (model[-1].max_depth, model[-1].random_state) == (2, 0)
    assert locate_part("gates", "is_wood", None)(None, None, None, None) is True


def test_nothing_of_the_package_is_imported_to_declare(install):
    install("forest_b", "raise RuntimeError('imported')", candidates=["oak"])
    assert problem(candidates={"oak": {}}).candidates["oak"].estimator == "oak"
    assert "forest_b" not in sys.modules
    [told] = [p for p in listed("candidates") if p["name"] == "oak"]
    assert "RuntimeError: imported" in told["remark"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"candidates": {"oka": {}}}, "Did you mean `oak`?"),
        ({"candidates": {"x": {"estimator": "oka"}}}, "Did you mean `oak`?"),
        ({"transform": "plane"}, "Did you mean `planed`?"),
        ({"transform": "atuo"}, "Did you mean `auto`?"),
        ({"candidates": {"x": {"estimator": "linear", "transform": "plane"}}}, "`planed`?"),
        ({"gates": [{"custom": "is_woods"}]}, "Did you mean `is_wood`?"),
    ],
)
def test_a_name_that_nobody_provides_is_refused_with_what_is_near(install, given, said):
    install("forest_c", MODULE, candidates=["oak"], transforms=["planed"], gates=["is_wood"])
    with pytest.raises(ValueError, match="is no") as refused:
        problem(**given)
    assert said in str(refused.value)


def test_ours_win_and_the_list_says_so(install):
    install("forest_d", MODULE.replace("oak", "linear"), candidates=["linear"])
    assert part("candidates", "linear", ["linear"]) is None
    of = problem(candidates={"linear": {}}).candidates["linear"]
    model = build(of, problem(), "binary", table(40)[["whole"]], None)
    assert type(model[-1]).__name__ == "LogisticRegression"
    ours, theirs = [p for p in listed("candidates") if p["name"] == "linear"]
    assert (ours["package"], theirs["package"], theirs["version"]) == (
        "ml_assets",
        "forest_d",
        "1.0",
    )
    assert (
        theirs["remark"]
        == "`linear` is the one of ml_assets; write `forest_d.linear` for this one."
    )


def test_a_name_of_two_packages_is_refused_with_both(install):
    install("forest_e", MODULE, candidates=["oak"])
    install("forest_f", MODULE, candidates=["oak"])
    with pytest.raises(ValueError, match="provided by several packages") as refused:
        problem(candidates={"oak": {}})
    assert all(f"`forest_{x}.oak` (forest_{x})" in str(refused.value) for x in "ef")
    assert len([p for p in listed("candidates") if p["name"] == "oak" and p["remark"]]) == 2


def test_a_gate_named_as_one_of_our_checks_is_refused(install):
    install("forest_g", "def answers_in_time(*_): return True", gates=["answers_in_time"])
    with pytest.raises(ValueError, match="a check of ml_assets is named `answers_in_time`"):
        problem(gates=[{"custom": "answers_in_time"}])
    assert "cannot be declared" in listed("gates")[-1]["remark"]


def test_errors_in_what_is_provided_name_the_package(install):
    install("forest_h", MODULE, candidates=["oak", "elm"])
    with pytest.raises(DeclarationError, match=r"`elm`, provided by forest_h 1.0: .* has no `elm`"):
        locate_part("candidates", "elm", None)
    of = CandidateDeclaration(estimator="oak", params={"dept": 2})
    said = "oak has no parameter `dept`. Did you mean `depth`?"
    with pytest.raises(CandidateError, match=said):
        build(of, problem(), "binary", table(40)[["whole"]], None)
    with pytest.raises(DeclarationError, match="`oak` is no regressor, but the task is regression"):
        whole = table(40)[["whole"]]
        build(CandidateDeclaration(estimator="oak"), problem(), "regression", whole, None)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two.", "One."),
        ("It is\n   long? Yes.", "It is long?"),
        ("No end\n\nMore.", "No end"),
        ("", ""),
        ("Version 1.5 of it. B", "Version 1.5 of it."),
    ],
)
def test_the_first_sentence_of_a_docstring_is_told(text, first):
    assert first_sentence(text) == first


@pytest.mark.parametrize("kind", ["candidates", "transforms", "gates", "metrics"])
def test_each_of_ours_is_told_in_a_sentence(kind):
    for told in listed(kind):
        assert told["about"].endswith("."), told


def test_the_list_is_told_in_lines_and_in_json(install):
    install("forest_j", MODULE, candidates=["oak"], gates=["is_wood"])
    told = CliRunner().invoke(main, ["list", "candidates"])
    assert told.exit_code == 0
    assert "oak" in told.stdout
    assert "An old tree. [forest_j 1.0]" in told.stdout
    asked = CliRunner().invoke(main, ["list", "gates", "--json"])
    document = json.loads(asked.stdout)
    assert document["kind"] == "gates"
    assert [p["name"] for p in document["parts"] if p["package"] == "forest_j"] == ["is_wood"]
    wrong = CliRunner().invoke(main, ["list", "trees"])
    assert wrong.exit_code == 2
    assert "'candidates', 'transforms', 'gates', 'metrics'" in wrong.output


@pytest.mark.slow
def test_a_version_is_not_made_again_without_the_package_of_its_parts(install, tmp_path):
    """Seen to fail: it ended with pydantic's own error."""
    install("forest_i", MODULE, candidates=["oak"])
    with quickly():
        project = Project(tmp_path / "project")
        project.write(rows(300))
        project.production(declared(candidates={"oak": {}}))
        assert project.champion() == (1, 1)
        again = project.round(declared())
        assert reproduce(again, None).same
        shutil.rmtree(tmp_path / "forest_i-1.0.dist-info")
        forget()
        with pytest.raises(PromotionRefused, match="`oak` is no short name") as refused:
            reproduce(again, None)
    assert "Install the packages that provided its parts." in str(refused.value)


# ------------------------------------------------------------- a package, installed by pip


class Shop:
    """A project beside the example package, which pip installed into a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.installed = root / "installed"
        (root / "defs" / "demo").mkdir(parents=True)
        rows(400).to_csv(root / "data.csv", index=False)
        (root / "workspace.yaml").write_text("load_from: []\n")

    def install(self, version: str) -> None:
        source = self.root / f"source-{version}"
        shutil.copytree(EXAMPLE, source)
        about = source / "pyproject.toml"
        about.write_text(about.read_text().replace('version = "1.0"', f'version = "{version}"'))
        shutil.rmtree(self.installed, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        pip += ["--no-deps", "--no-build-isolation", "--target", str(self.installed), str(source)]
        subprocess.run(pip, check=True, capture_output=True)

    def declare(self, **more: Any) -> None:
        dataset = {"path": "data.csv", "target": "y", "key": "id", "positive": "yes"}
        said = {"type": "ml_assets.components.MLProblem"}
        attributes = {"name": "demo", "dataset": dataset, **more}
        file = self.root / "defs" / "demo" / "defs.yaml"
        file.write_text(yaml.safe_dump({**said, "attributes": attributes}))

    def __call__(self, *words: str) -> tuple[int, Any, str]:
        paths = {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.installed}",
            "ML_ASSETS_HOME": str(self.root / "state"),
            "ML_ASSETS_DEFS": str(self.root / "defs"),
        }
        done = subprocess.run(
            [sys.executable, "-m", "ml_assets.command", *words, "--json"],
            env=clean_environment(**paths),
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.mark.slow
def test_an_installed_package_takes_part_from_the_list_to_production(tmp_path):
    shop = Shop(tmp_path)
    shop.install("1.0")
    shop.declare(
        candidates={"linear": {"transform": "auto"}, "small_tree": {"depth": 2}, "loudest": {}},
        transform="scaled",
        gates=[{"custom": "hardly_ever_sure_and_wrong"}],
        select="accuracy",
    )

    status, found, _ = shop("list", "candidates")
    theirs = [p for p in found["parts"] if p["package"] == "ml-assets-example"]
    assert status == 0
    assert [(p["name"], p["version"]) for p in theirs] == [
        ("linear", "1.0"),
        ("loudest", "1.0"),
        ("small_tree", "1.0"),
    ]
    assert theirs[2]["about"] == "A tree that a person can read."
    assert shop("check")[:2] == (0, {"ok": True, "problems": ["demo"], "faults": {}})

    status, ran, said = shop("run", "demo")
    assert (status, ran["decision"]["promoted"]) == (0, True), said
    assert "name them under `trust:`" in ran["candidates"]["loudest"]["error"]
    assert "ml_assets_example.Loudest" in ran["candidates"]["loudest"]["error"]
    assert "hardly_ever_sure_and_wrong" in {g["name"] for g in ran["gates"] if g["passed"]}
    needs = list((tmp_path / "state" / "mlflow").rglob("requirements.txt"))
    assert needs
    of_package = "ml-assets-example==1.0"
    assert (of_package in needs[0].read_text()) == (ran["champion"]["candidate"] == "small_tree")
    [tree] = [
        card
        for f in (tmp_path / "state" / "lake" / "demo" / "candidate").rglob("card.json")
        if (card := json.loads(f.read_text()))["candidate"] == "small_tree"
    ]
    assert of_package in tree["requirements"]

    shop.install("1.1")
    upgraded = shop("run", "demo")[1]["candidates"]
    assert {n: c["reused"] for n, c in upgraded.items()} == {
        "baseline": False,  # its key has the problem's transform
        "linear": True,
        "small_tree": False,
        "loudest": False,
    }
    again = shop("reproduce", "demo")[1]
    assert again["same"]
    assert again["differences"] == [
        {"what": "ml-assets-example", "recorded": "1.0", "found": "1.1"}
    ]
