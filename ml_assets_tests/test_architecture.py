"""The house: which way dependencies point, how large its rooms are, and what is kept out."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ml_assets

PACKAGE = Path(ml_assets.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MODELS = sorted((PACKAGE / "defs").glob("*/model.py"))
LONGEST_MODULE, LONGEST_FUNCTION = 560, 60
# Rooms where everything is put that nobody wanted to name.
DRAWERS = ("util", "utils", "helper", "helpers", "common", "base", "misc", "manager", "core")


def _ids(paths: list[Path]) -> list[str]:
    return [p.relative_to(PACKAGE).as_posix() for p in paths]


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_dependencies_point_one_way() -> None:
    """The contracts are in pyproject.toml, and exhaustive: a new module must find its place."""
    pytest.importorskip("importlinter")
    run = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("file", MODELS, ids=_ids(MODELS))
def test_a_model_py_knows_no_dagster(file: Path) -> None:
    """It is a team's code: it must be testable and movable without this house."""
    imported = {name.partition(".")[0] for name in _imports(ast.parse(file.read_text()))}
    assert not imported & {"dagster", "dagster_mlflow", "mlflow", "ml_assets"}


def test_shipped_problems_are_looked_at() -> None:
    assert len(MODELS) >= 2


@pytest.mark.parametrize("file", MODULES, ids=_ids(MODULES))
def test_a_module_is_short_and_so_are_its_functions(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name}: {length} lines"


@pytest.mark.parametrize("file", MODULES, ids=_ids(MODULES))
def test_a_module_says_what_it_is(file: Path) -> None:
    text = file.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("file", MODULES, ids=_ids(MODULES))
def test_nothing_is_printed_and_nothing_left_for_later(file: Path) -> None:
    text = file.read_text()
    called = {
        node.func.id
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"print", "breakpoint", "eval", "exec"}
    assert not [word for word in ("TODO", "FIXME", "XXX", "HACK") if word in text]


@pytest.mark.parametrize("file", MODULES, ids=_ids(MODULES))
def test_no_module_is_a_drawer(file: Path) -> None:
    words = {w for part in file.relative_to(PACKAGE).with_suffix("").parts for w in part.split("_")}
    assert not words & set(DRAWERS)
    classes = [n.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ClassDef)]
    assert not [c for c in classes if c.endswith(("Manager", "Service", "Factory", "Helper"))]


def test_nothing_heavy_is_imported_with_the_package() -> None:
    """A shell completion or `--help` must not wait for scikit-learn."""
    heavy = ("dagster", "mlflow", "pandas", "sklearn", "skrub", "numpy", "fastapi", "uvicorn")
    run = (
        f"import sys, ml_assets, ml_assets.command; print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_heavy_is_imported_to_list_assets() -> None:
    """A code location with a hundred problems loads in the time that Dagster itself takes."""
    heavy = ("mlflow", "dagster_mlflow", "pandas", "sklearn", "skrub", "matplotlib", "fastapi")
    run = (
        "import sys; from ml_assets.definitions import build, tree; build(tree());"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", run], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
