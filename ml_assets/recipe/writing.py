"""From a recipe to the files of a problem."""

import re
from dataclasses import dataclass
from pathlib import Path

from ml_assets.draft import Draft, render
from ml_assets.errors import DeclarationError
from ml_assets.problem import Problem
from ml_assets.recipe import Recipe
from ml_assets.recipe.code import Code, packaged, together
from ml_assets.recipe.data import take_rows
from ml_assets.recipe.judging import take_metrics, take_rest
from ml_assets.recipe.takeover import Line, Takeover
from ml_assets.recipe.training import take_training, take_transform

_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{version}"
description = "Functions and classes that stored candidates of {problem} hold."
"""


@dataclass(frozen=True)
class Written:
    """A problem that was made of a recipe.

    Attributes:
        name: its name.
        files: the text of each file, by its path in the problem's folder.
        lines: what became of each key of the recipe.
        draft: its declaration.
    """

    name: str
    files: dict[str, str]
    lines: tuple[Line, ...]
    draft: Draft


def name_of(recipe: Recipe) -> str:
    """It returns a name for the problem: that of the registered model, else the folder's."""
    said = recipe.table("model_registry").get("model_name")
    said = said or recipe.step("register").get("model_name") or recipe.root.name
    plain = re.sub(r"\W+", "_", str(said).rpartition(".")[2]).strip("_").lower()
    return plain if re.match(r"[a-z]", plain) else f"recipe_{plain}".rstrip("_")


def take_over(recipe: Recipe, name: str, folder: Path, root: Path) -> Written:
    """It returns the problem that behaves as the recipe did, as text; nothing is written yet.

    Args:
        recipe: the recipe.
        name: the problem's name.
        folder: where its defs.yaml will be.
        root: the project's folder.

    Raises:
        DeclarationError: the recipe cannot have run as it is.
    """
    draft = Draft({"name": name, "task": recipe.task})
    taken = Takeover(recipe, name, folder, root, draft, Code(recipe.root))
    taken.carried(f"recipe ({recipe.kind})", f"task: {recipe.task}.", "task")
    take_rows(taken)
    take_transform(taken)
    take_training(taken)
    take_metrics(taken)
    take_rest(taken)
    _note_code(taken)
    files = {"defs.yaml": render(draft, _head(recipe))}
    files |= _code(taken)
    Problem(**draft.attributes)  # what is written down must be possible
    return Written(name, files, tuple(taken.lines), draft)


def _head(recipe: Recipe) -> list[str]:
    return [
        f"# Written by `ml-assets import` from a recipe of MLflow ({recipe.kind}), profile",
        f"# {recipe.profile}. From now on this file alone counts: read it, correct it. Each comment",
        "# names the key that a line came from.",
    ]


def _note_code(taken: Takeover) -> None:
    for step in taken.code.steps.values():
        for where, told in step.mended:
            taken.otherwise(where, told)
    for name in taken.code.absent():
        if name != "steps":
            told = f"model.py imports `{name}` of the recipe's folder: install it as a package."
        else:
            told = "model.py imports `steps` in a way that is not taken over: correct the import."
        taken.lacks(f"import {name}", told)


def _code(taken: Takeover) -> dict[str, str]:
    """It returns model.py, and the package of what stored candidates hold, where that is needed."""
    files, asked = {}, ""
    wanted = list(taken.code.steps)  # with those that the named ones import from
    if taken.package:
        package, place = taken.package_name, f"package/{taken.package_name}"
        version = "1"
        pyproject = _PYPROJECT.format(
            name=package.replace("_", "-").lower(), version=version, problem=taken.name
        )
        files["package/pyproject.toml"] = (
            pyproject + f'\n[tool.setuptools]\npackages = ["{package}"]\n'
        )
        files[f"{place}/__init__.py"] = f'"""Functions and classes that {taken.name} stores."""\n'
        # what a packaged step imports from others has to come along
        moved = list(wanted) if _linked(taken) else list(taken.package)
        for name in moved:
            files[f"{place}/{name}.py"] = packaged(taken.code.steps[name], package)
        wanted = [n for n in wanted if n not in moved]
        asked = _imports(taken, moved)
    if wanted or taken.own:
        about = (
            f"What {taken.name} took over from its recipe's steps, and how they are called here."
        )
        steps = [taken.code.steps[n] for n in wanted]
        files["model.py"] = together(steps, about, asked, taken.own)
    return files


def _linked(taken: Takeover) -> bool:
    return any("from steps." in taken.code.steps[n].text for n in taken.package)


def _imports(taken: Takeover, moved: list[str]) -> str:
    """It returns the imports of what model.py calls, from the package."""
    called = "\n".join([*taken.own, str(taken.attributes.get("transform"))])
    lines = []
    for name in moved:
        step = taken.code.steps[name]
        own = re.findall(r"^def (\w+)", step.text, re.MULTILINE)
        there = [n for n in own if re.search(rf"\b{n}\b", called)]
        if there:
            lines.append(f"from {taken.package_name}.{name} import {', '.join(there)}")
    for step in [taken.code.steps[n] for n in taken.code.steps if n not in moved]:
        lines += [f"from {taken.package_name}.{what}" for what in step.imported(moved)]
    told = (
        "# Of the folder package/ beside this file: pip install it. Version 1: change this line with\n"
        "# it, and candidates are fitted anew."
    )
    return "\n".join([told, *lines]) if lines else ""


def refuse_existing(folder: Path, files: dict[str, str]) -> None:
    """It raises DeclarationError where a file would be overwritten."""
    for name in files:
        if (folder / name).exists():
            raise DeclarationError(
                f"{folder / name} exists already. Choose another --name, or remove it to begin anew."
            )
