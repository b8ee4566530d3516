"""`redecode info`: what a file says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import files
from .console import reported, say


def info(
    source: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A picture; - is stdin.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what a file is: size, quality, quantization tables, chroma subsampling, metadata, signs of earlier compression."""
    with reported():
        from ..facts import inspect

        facts = inspect(files.read(source))
        say(json.dumps(facts, ensure_ascii=False) if as_json else _page(facts))


def _page(facts: dict[str, Any]) -> str:
    shown = {name: _shown(value) for name, value in facts.items() if value not in (None, [], False)}
    width = max(len(name) for name in shown)
    return "\n".join(f"{name.replace('_', ' '):{width}}  {text}" for name, text in shown.items())


def _shown(value: Any) -> str:
    if value is True:
        return "yes"
    if isinstance(value, list) and value and isinstance(value[0], list):
        rows = ["".join(f"{step:5d}" for step in row) for row in value]
        return "\n" + "\n".join(rows)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
