"""Environments of their own, with what a page or an image installs and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

COMMANDS = Path(sys.executable).parent


def environment(folder: Path, *packages: str, of: Path | None = None) -> Path:
    """It makes an environment, and returns where its commands are.

    By uv where it is, in seconds; else by pip.

    Args:
        folder: of the environment.
        packages: as they are given to pip.
        of: where paths among them start.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = ["--python", str(folder / "bin" / "python")]
    uv = shutil.which("uv", path=f"{COMMANDS}{os.pathsep}{os.environ['PATH']}")
    words = (
        [uv, "pip", "install", *python] if uv else [sys.executable, "-m", "pip", *python, "install"]
    )
    subprocess.run([*words, "--quiet", *packages], cwd=of, check=True, timeout=900)
    return folder / "bin"
