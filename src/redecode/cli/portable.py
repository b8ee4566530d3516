"""`redecode onnx` and `redecode page`: export the method for use outside Python."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .. import files
from ..options import CHOICES
from ..weights import DEFAULT_PRESET, Precision, Preset
from .console import complain, extra, reported, say


class Part(str, Enum):
    """Parts of the method to export."""

    WHOLE = "whole"
    LAYERS = "layers"
    FINISH = "finish"


def onnx(
    output: Annotated[Path, typer.Argument(help="File to write, for example redecode.onnx.")],
    preset: Annotated[Preset, typer.Option(help=CHOICES["preset"].help)] = DEFAULT_PRESET,
    precision: Annotated[Precision, typer.Option(help=CHOICES["precision"].help)] = "int8",
    part: Annotated[Part, typer.Option(help="The whole method, or the part before or after the amount of texture is set.")] = Part.WHOLE,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write the whole method as one ONNX file: from a JPEG's coefficients to pixels (needs the extra `onnx`)."""
    with reported(), extra("onnx"):
        if not overwrite:
            files.refuse_existing(output)
        from ..portable import graph

        files.save(graph.build(part.value, preset, precision).SerializeToString(), output, overwrite=overwrite)
        say(output)


def page(
    folder: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    runtime: Annotated[
        Path | None,
        typer.Option(metavar="TGZ", show_default="downloaded from npm", help="Use this file as the npm package of ONNX Runtime Web."),
    ] = None,
    preset: Annotated[Preset | None, typer.Option(show_default="all", help="Include only the networks of this preset.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of an older page.")] = False,
) -> None:
    """Write the page as static files for any web host: it restores pictures in the browser (needs the extra `onnx`)."""
    with reported(), extra("onnx"):
        from ..portable import runtime as runtimes
        from ..portable import static
        from ..weights import PRESETS

        if runtime is None:
            complain(f"downloading {runtimes.ADDRESS}")
        static.write(folder, runtime, [preset] if preset else PRESETS, overwrite)
        say(folder)
