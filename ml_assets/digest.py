"""A digest: the name of a thing by its content (SHA-256)."""

import hashlib
import json
from pathlib import Path
from typing import Any


def digest_of(*parts: Any) -> str:
    """It returns a short SHA-256 name (16 hex digits) of JSON-like parts, in a stable way."""
    text = json.dumps(parts, sort_keys=True, default=_plain, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):  # a declaration
        return value.model_dump(mode="json")
    raise TypeError(f"cannot name a {type(value).__name__} by content")


def file_digest(path: Path) -> str:
    """It returns the SHA-256 of a file's bytes, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(folder: Path) -> str:
    """It returns the SHA-256 of a folder: the relative name and the content of every file in it.

    A link or a file that leads out of the folder is an error: what is named must be inside.
    """
    whole = hashlib.sha256()
    root = folder.resolve()
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            raise OSError(f"{path} is a link; a digest covers only what is inside its folder")
        if path.is_file():
            name = path.relative_to(root).as_posix().encode()
            whole.update(len(name).to_bytes(4, "big") + name + bytes.fromhex(file_digest(path)))
    return whole.hexdigest()
