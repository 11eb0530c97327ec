"""Later: a library that is imported when something of it is first asked for.

A run in which nothing changed looks up names and digests, and asks no row: numpy, pandas, PyArrow,
scipy and scikit-learn, which take longer to import than all else it does, it never needs.
"""

import importlib
from typing import Any


class Later:
    """A module that is not imported yet.

    Attributes of it are those of the module; asking for the first one imports it.
    """

    def __init__(self, *names: str) -> None:
        self._names = names
        self._module: Any = None

    def __getattr__(self, attribute: str) -> Any:
        if self._module is None:  # a request about one row asks for some twenty attributes
            made = [importlib.import_module(name) for name in self._names]
            self._module = made[0]
        return getattr(self._module, attribute)


def later(*names: str) -> Any:
    """It returns what stands for a module until it is used.

    Args:
        names: the module; and those of its own that are to be imported with it.
    """
    return Later(*names)
