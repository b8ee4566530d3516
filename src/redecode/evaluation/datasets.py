"""Where data sets and published weights lie: outside the project, in one folder."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import DependencyError

_DEFAULT = Path("..", "shared", "data")


def data_path(*parts: str) -> Path:
    """A file or folder under $REDECODE_DATA, else under ../shared/data.

    Args:
        parts: path below the data folder, for example "eval", "LIVE1".

    Raises:
        DependencyError: it is not there.
    """
    folder = Path(os.environ.get("REDECODE_DATA") or _DEFAULT)
    path = folder.joinpath(*parts)
    if not path.exists():
        raise DependencyError(f"{'/'.join(parts)} is not in {folder}; set REDECODE_DATA to the data folder")
    return path
