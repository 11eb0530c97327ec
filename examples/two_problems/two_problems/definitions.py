"""The code location: everything in defs/, as in any project of dg."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """The assets, checks, jobs and sensors of all components in defs/."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
