"""Paths of data sets and published weights: they lie in one folder outside the project, given by REDECODE_DATA."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import DependencyError


def data_path(*parts: str) -> Path:
    """The path of a file or folder in the data folder.

    Args:
        parts: parts of the path relative to the folder in the environment variable REDECODE_DATA, for example "eval", "LIVE1".

    Returns:
        The path, which exists.

    Raises:
        DependencyError: REDECODE_DATA is not set, or the path does not exist.
    """
    wanted = "/".join(parts)
    folder = os.environ.get("REDECODE_DATA")
    if not folder:
        raise DependencyError(f"{wanted} is needed: set REDECODE_DATA to the data folder that holds it")
    path = Path(folder, *parts)
    if not path.exists():
        raise DependencyError(f"{wanted} is not in {folder}; set REDECODE_DATA to the data folder")
    return path
