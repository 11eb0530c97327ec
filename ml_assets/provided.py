"""Parts that other installed packages provide: candidates, transforms and gates, by entry points.

A package names them in its metadata, and nothing of it is imported before a part is used::

    [project.entry-points."ml_assets.candidates"]
    tabnet = "package.module:function"

A candidate or a transform is a function or a class that returns an unfitted estimator or
transformer; a gate is a function as that of a `custom` gate.
"""

import functools
import importlib.metadata
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ml_assets.errors import DeclarationError, did_you_mean
from ml_assets.user_code import locate

Kind = Literal["candidates", "transforms", "gates"]
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,63}$")


@dataclass(frozen=True)
class Provided:
    """A part that an installed package provides.

    Attributes:
        name: how a declaration names it.
        path: its import path.
        package: the distribution that provides it.
        version: of the distribution.
    """

    name: str
    path: str
    package: str
    version: str

    @property
    def pin(self) -> str:
        """The package as pip writes it, with its version."""
        return f"{self.package}=={self.version}"


@functools.cache
def provided(kind: Kind) -> dict[str, tuple[Provided, ...]]:
    """It returns what installed packages provide, by name; several of one name are all there."""
    found: dict[str, tuple[Provided, ...]] = {}
    for point in importlib.metadata.entry_points(group=f"ml_assets.{kind}"):
        if point.dist is None or not _NAME.match(point.name):
            continue
        path = f"{point.module}.{point.attr}"
        part = Provided(point.name, path, point.dist.name, point.dist.version)
        found[point.name] = (*found.get(point.name, ()), part)
    return {name: found[name] for name in sorted(found)}


def refuse_unknown(kind: Kind, name: str, own: Iterable[str], what: str) -> None:
    """It refuses a name that is not ours, no import path, and not provided by one package.

    Args:
        kind: what it is to be.
        name: what was written.
        own: our names, which win.
        what: the kind in words, with what else could be written.

    Raises:
        ValueError: nobody provides it, or two packages do.
    """
    own = list(own)
    if name in own or "." in name:
        return
    known = provided(kind)
    parts = known.get(name, ())
    if not parts:
        raise ValueError(f"`{name}` is no {what}.{did_you_mean(name, [*own, *known])}")
    if len(parts) > 1:
        paths = " or ".join(f"`{p.path}` ({p.package})" for p in parts)
        raise ValueError(f"`{name}` is provided by several packages: write {paths} instead.")


def part(kind: Kind, name: str, own: Iterable[str] = ()) -> Provided | None:
    """It returns what a package provides under a name; None for our names and for paths."""
    if not name or "." in name or name in own:
        return None
    found = provided(kind).get(name, ())
    return found[0] if len(found) == 1 else None


def locate_part(kind: Kind, name: str, folder: Path | None) -> Any:
    """It returns the object at a path, or that a package provides under a name.

    Raises:
        DeclarationError: there is none; the message says where it was looked for.
    """
    if "." in name:
        return locate(name, folder)
    found = part(kind, name)
    if found is None:
        raise DeclarationError(
            f"No installed package provides `{name}` to ml_assets.{kind}."
            f"{did_you_mean(name, provided(kind))}"
        )
    try:
        return locate(found.path, None)
    except DeclarationError as error:
        raise DeclarationError(
            f"`{name}`, provided by {found.package} {found.version}: {error}"
        ) from None
