"""The code that a problem brings: found by its path, and named by its source."""

import hashlib
import importlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from ml_assets.errors import DeclarationError, did_you_mean

_BESIDE = "ml_assets_problem_"  # how modules beside a defs.yaml are named


def locate(path: str, folder: Path | None) -> Any:
    """It returns the object at an import path, or at ``.module.name`` beside ``defs.yaml``.

    Raises:
        DeclarationError: there is no such module or name; the message says which, and what is near.
    """
    module_name, _, name = path.rpartition(".")
    if path.startswith("."):
        module = _beside(module_name.lstrip("."), folder, path)
    else:
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise DeclarationError(
                f"`{path}` cannot be imported: {error}. Install the package, or correct the path."
            ) from None
    try:
        return getattr(module, name)
    except AttributeError:
        known = [n for n in dir(module) if not n.startswith("_")]
        raise DeclarationError(
            f"`{path}`: {module_name or module.__name__} has no `{name}`.{did_you_mean(name, known)}"
        ) from None


def source_digest(path: str, folder: Path | None) -> str:
    """It returns a digest of the file that holds ``.module.name``; empty for installed code."""
    if not path.startswith(".") or folder is None:
        return ""
    file = folder / f"{path.rpartition('.')[0].lstrip('.')}.py"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else ""


def code_digest(path: str, folder: Path | None) -> str:
    """It returns a digest of the file that holds what a path names, beside ``defs.yaml`` or installed.

    Nothing is imported.  It is empty where there is no such file, and for scikit-learn, which is named
    by its version already.
    """
    if path.startswith("."):
        return source_digest(path, folder)
    package, *names = path.split(".")[:-1] or [""]
    if package in ("", "sklearn"):
        return ""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # one that is being imported, or was made by hand
        return ""
    if found is None:
        return ""
    file = Path(found.origin or "")
    for place in found.submodule_search_locations or ():
        module = Path(place, *names)
        file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
        if file.is_file():
            break
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else ""


def is_loaded() -> bool:
    """It says whether a module beside a ``defs.yaml`` was run in this process."""
    return any(name.startswith(_BESIDE) for name in sys.modules)


def _beside(module_name: str, folder: Path | None, path: str) -> ModuleType:
    if folder is None:
        raise DeclarationError(f"`{path}` is relative, but this problem is in no folder.")
    file = folder / f"{module_name}.py"
    if not file.is_file():
        raise DeclarationError(f"`{path}`: there is no {file.name} beside defs.yaml in {folder}.")
    full = f"{_BESIDE}{hashlib.sha256(str(file).encode()).hexdigest()[:8]}_{module_name}"
    module = ModuleType(full)
    module.__file__ = str(file)
    sys.modules[full] = module
    try:
        _Uncached(full, str(file)).exec_module(module)
    except Exception as error:
        del sys.modules[full]
        raise DeclarationError(
            f"{file} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module


class _Uncached(SourceFileLoader):
    """A loader past Python's cache of compiled files.

    That goes by time and size, and could run the code of before an edit whose digest is new.
    """

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)
