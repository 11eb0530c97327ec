"""A takeover: what becomes of a recipe, collected key by key while it is read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ml_assets.draft import Draft
from ml_assets.recipe import Recipe
from ml_assets.recipe.code import Code, Step

Fate = Literal["carried over", "done otherwise", "no equivalent"]


@dataclass(frozen=True)
class Line:
    """What became of one key of a recipe.

    Attributes:
        fate: carried over, done otherwise, or no equivalent.
        key: the key, by dotted path.
        told: into what, how, or what to do instead.
    """

    fate: Fate
    key: str
    told: str


@dataclass
class Takeover:
    """A problem in the making, from a recipe.

    Attributes:
        recipe: the recipe.
        name: the problem's name.
        folder: where its defs.yaml will be.
        root: the project's folder, where relative data paths start.
        draft: the declaration.
        code: the steps that code is taken from.
        lines: what became of each key.
        own: source of functions that call those of the recipe.
        steps: names of the steps whose source stands in model.py.
        package: names of the steps that have to be an installed package.
    """

    recipe: Recipe
    name: str
    folder: Path
    root: Path
    draft: Draft
    code: Code
    lines: list[Line] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    package: list[str] = field(default_factory=list)

    @property
    def attributes(self) -> dict[str, Any]:
        """The declaration's attributes."""
        return self.draft.attributes

    @property
    def package_name(self) -> str:
        """How the package of steps is imported, where one is needed."""
        return f"{self.name}_steps"

    def carried(self, key: str, told: str, where: str = "") -> None:
        """It notes a key that means the same here; `where` is what it became, for a comment."""
        self._note("carried over", key, told, where)

    def otherwise(self, key: str, told: str, where: str = "") -> None:
        """It notes a key whose purpose is served in another way."""
        self._note("done otherwise", key, told, where)

    def lacks(self, key: str, told: str) -> None:
        """It notes a key that has no equivalent, and what to do."""
        self._note("no equivalent", key, told, "")

    def _note(self, fate: Fate, key: str, told: str, where: str) -> None:
        self.lines.append(Line(fate, key, told))
        if where:
            self.draft.why[where] = f"{key}: {told}"

    def take(self, step: str, method: str) -> tuple[Step, str]:
        """It takes a function over into model.py, with all that its module holds.

        Raises:
            DeclarationError: there is no such function.
        """
        found, name = self.code.find(step, method)
        if found.name not in self.steps:
            self.steps.append(found.name)
        return found, name

    def keys(self, where: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
        """It notes keys that Recipes did not read either."""
        for key in given:
            if key not in known:
                self.lacks(f"{where}{key}", "Recipes did not read this key; it is left out.")
