"""A recipe: a project of MLflow Recipes, as its files say it.

``recipe.yaml`` is a template, filled in from ``profiles/NAME.yaml``; nothing of the recipe's own
Python is imported or run, and nothing outside its folder is read.
"""

import json
import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment

from ml_assets.errors import DeclarationError, shortened

KINDS = ("regression/v1", "classification/v1")
_PROFILE = re.compile(r"^[\w-][\w.-]*$")
# What a template may do beside naming a value; none of these makes much out of little.
_FILTERS = ("default", "d", "lower", "upper", "trim", "int", "float", "string", "tojson")


@dataclass(frozen=True)
class Recipe:
    """A recipe, read.

    Attributes:
        root: its folder.
        kind: regression/v1 or classification/v1.
        profile: the profile that filled it in.
        given: all that recipe and profile declare.
    """

    root: Path
    kind: str
    profile: str
    given: dict[str, Any]

    @property
    def task(self) -> str:
        """The task, as Recipes decided it: a positive class makes a classification binary."""
        if self.kind.startswith("regression"):
            return "regression"
        return "multiclass" if self.given.get("positive_class") is None else "binary"

    @property
    def target(self) -> str:
        """The column to be predicted."""
        return str(self.given["target_col"])

    def step(self, name: str) -> dict[str, Any]:
        """It returns what is declared of a step.

        Raises:
            DeclarationError: that is no mapping.
        """
        found = self.given["steps"].get(name) or {}
        if not isinstance(found, dict):
            raise DeclarationError(
                f"{self.root / 'recipe.yaml'}: steps.{name} is {found!r}; keys and values are "
                "expected there. Does the profile define it?"
            )
        return found

    def table(self, name: str) -> dict[str, Any]:
        """It returns a mapping of the recipe or its profile; empty where there is none."""
        found = self.given.get(name)
        return found if isinstance(found, dict) else {}


def read(file: Path, profile: str) -> Recipe:
    """It returns the recipe of a file, filled in from a profile.

    Raises:
        DeclarationError: the file is no recipe, or cannot be filled in; the message says why.
    """
    file = file / "recipe.yaml" if file.is_dir() else file
    if not file.is_file():
        raise DeclarationError(f"There is no recipe at {file}.")
    root = file.resolve().parent
    if not _PROFILE.match(profile):
        raise DeclarationError(f"`{profile}` cannot name a profile: it is a file's name alone.")
    place = root / "profiles" / f"{profile}.yaml"
    if not place.is_file():
        if not re.search(r"^(recipe|template)\s*:", file.read_text(errors="replace"), re.MULTILINE):
            raise DeclarationError(f"{file} is no recipe of MLflow: it has no `recipe:`.")
        there = shortened(sorted(p.stem for p in (root / "profiles").glob("*.yaml")))
        raise DeclarationError(
            f"There is no profile `{profile}` in {root / 'profiles'}; there is {there or 'none'}."
        )
    filled = _loaded(place, _rendered(root, inside(root, place), {}))
    template = _loaded(file, _rendered(root, inside(root, file), filled))
    twice = [k for k in filled if k in template]
    if twice:
        raise DeclarationError(f"`{twice[0]}` is declared in {file} and in {place}: keep one.")
    return _checked(file, root, profile, {**filled, **template})


def _checked(file: Path, root: Path, profile: str, given: dict[str, Any]) -> Recipe:
    kind = given.get("recipe", given.get("template"))
    if kind is None or not isinstance(given.get("steps"), dict):
        raise DeclarationError(
            f"{file} is no recipe of MLflow: it has no `{'recipe' if kind is None else 'steps'}:`."
        )
    if kind not in KINDS:
        raise DeclarationError(
            f"{file} is a recipe {kind!r}; those of {' and '.join(KINDS)} can be taken over."
        )
    if not given.get("target_col"):
        raise DeclarationError(f"{file} names no `target_col`: fill in the column to be predicted.")
    return Recipe(root, str(kind), profile, given)


def inside(root: Path, path: Path) -> Path:
    """It returns a path of the recipe with its links followed.

    Raises:
        DeclarationError: it leads out of the recipe's folder.
    """
    found = path.resolve()
    if not found.is_relative_to(root.resolve()):
        raise DeclarationError(f"{path} leads out of the recipe's folder, to {found}.")
    return found


class _Substitution(SandboxedEnvironment):
    """Jinja that fills in values: no calls, no arithmetic, no other files."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    def call(self, *_: Any, **__: Any) -> Any:
        raise SecurityError("it calls something; only values are filled in")

    def call_binop(self, _context: Any, operator: str, *_: Any) -> Any:
        raise SecurityError(f"it computes with `{operator}`; only values are filled in")


def _rendered(root: Path, file: Path, values: dict[str, Any]) -> str:
    # as Recipes had it: what follows `#` is a comment before it is a template
    jinja = _Substitution(undefined=StrictUndefined, line_comment_prefix="#")
    jinja.filters = {name: jinja.filters[name] for name in _FILTERS}
    jinja.filters["from_json"] = lambda path: json.loads(inside(root, root / path).read_text())
    jinja.globals.clear()
    try:
        return jinja.from_string(file.read_text(encoding="utf-8")).render(values)
    except UndefinedError as error:
        raise DeclarationError(
            f"{file} cannot be filled in: {error.message}. Define it in the profile."
        ) from None
    except TemplateError as error:
        line = f":{lineno}" if (lineno := getattr(error, "lineno", None)) else ""
        raise DeclarationError(f"{file}{line} cannot be filled in: {error.message}") from None
    except (OSError, ValueError, TypeError) as error:  # also of what from_json reads
        raise DeclarationError(f"{file} cannot be filled in: {error}") from None


class _Unique(yaml.SafeLoader):
    """YAML whose keys stand once."""


def _mapping(loader: Any, node: Any) -> dict[Hashable, Any]:
    seen = set()
    for key, _ in node.value:
        name = loader.construct_object(key, deep=True)
        if isinstance(name, Hashable) and name in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"`{name}` stands there twice", key.start_mark
            )
        seen.add(name if isinstance(name, Hashable) else None)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Unique.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG,
    _mapping,
)


def _loaded(file: Path, text: str) -> dict[str, Any]:
    try:
        found = yaml.load(text, Loader=_Unique)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        said = getattr(error, "problem", None) or "it cannot be parsed"
        raise DeclarationError(f"{file}{line} is no YAML: {said}.") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise DeclarationError(f"{file} is no recipe of MLflow: it has no keys.")
    return found
