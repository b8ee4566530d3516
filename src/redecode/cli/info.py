"""`redecode info`: print facts about picture files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import files
from . import plan
from .console import EXPECTED, NOTHING_DONE, SOME_FAILED, complain, reported, say, show_traceback


def info(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILE|FOLDER...", show_default=False, help="Pictures, or folders of JPEGs; - is stdin.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per file.")] = False,
) -> None:
    """Print facts about files: size, quality, quantization tables, chroma subsampling, metadata, traces of earlier compression."""
    with reported():
        from ..facts import inspect

        found, failures = plan.find(plan.expanded(sources) if os.name == "nt" else sources)
        described = 0
        several = len(found) + len(failures) > 1
        for path in found:
            try:
                facts = inspect(files.read(path))
            except EXPECTED as error:
                show_traceback(error)
                failures.append(plan.Failure(path, files.reason(error, path)))
                continue
            described += 1
            name = os.fsencode(path).decode("utf-8", "replace")
            if as_json:
                say(json.dumps({"input": name, **facts}, ensure_ascii=False))
            else:
                say(*([name, *_page(facts), ""] if several else _page(facts)))
        for failure in failures:
            if as_json:
                name = os.fsencode(failure.source).decode("utf-8", "replace")
                say(json.dumps({"input": name, "status": "failed", "reason": failure.reason}, ensure_ascii=False))
            complain(f"{failure.source}: {failure.reason}")
    if failures:
        raise typer.Exit(SOME_FAILED if described else NOTHING_DONE)


def _page(facts: dict[str, Any]) -> list[str]:
    shown = {name: _shown(value) for name, value in facts.items() if value not in (None, [], False)}
    width = max(len(name) for name in shown)
    return [line for name, (first, *rows) in shown.items() for line in (f"{name.replace('_', ' '):{width}}  {first}", *rows)]


def _shown(value: Any) -> list[str]:
    """The lines of a value; the first is printed next to its name."""
    if value is True:
        return ["yes"]
    if isinstance(value, list) and value and isinstance(value[0], list):
        return ["", *("".join(f"{step:5d}" for step in row) for row in value)]
    if isinstance(value, list):
        return [", ".join(map(str, value))]
    return [str(value)]
