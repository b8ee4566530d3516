"""What can be chosen for a picture, spelled once for all commands: the types of their parameters, and the step to Options."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import weights
from ..codec.formats import Format as FormatName
from ..codec.formats import LayerName as LayerName

if TYPE_CHECKING:
    from ..recode import Options


class DepthName(str, Enum):
    """Bits per channel."""

    EIGHT = "8"
    SIXTEEN = "16"


class PrecisionName(str, Enum):
    """What the networks compute in."""

    INT8 = "int8"
    FLOAT32 = "float32"


class DeviceName(str, Enum):
    """What the networks run on."""

    CPU = "cpu"
    CUDA = "cuda"
    COREML = "coreml"
    DIRECTML = "directml"


def _preset(name: str) -> str:
    if name not in weights.PRESETS:
        raise typer.BadParameter(f"must be one of {', '.join(weights.PRESETS)}")
    return name


Preset = Annotated[str, typer.Option(callback=_preset, help=f"Which networks: {', '.join(weights.PRESETS)}.")]
DEFAULT_PRESET = weights.DEFAULT_PRESET
Precision = Annotated[
    PrecisionName | None,
    typer.Option(show_default="int8 on the CPU, else float32", help="What the networks compute in; float32 is the slower reference."),
]
Device = Annotated[DeviceName, typer.Option(help="What the networks run on.")]
Texture = Annotated[float, typer.Option(min=0, max=1, help="How much texture: 0 is the fidelity layer alone.")]
Threshold = Annotated[
    int, typer.Option(min=1, max=9, help="Texture may enter where more orientations meet than this; 5 is the paper's, 3 wins more.")
]
DEFAULT_THRESHOLD = 3
Layer = Annotated[LayerName, typer.Option(help="Write this layer; the mask is white where texture may enter.")]
Projection = Annotated[bool, typer.Option("--projection/--no-projection", help="Keep the result true to the file's data.")]
Format = Annotated[FormatName | None, typer.Option("--format", show_default="by the suffix of -o, else png", help="Format of the results.")]
Quality = Annotated[
    int | None, typer.Option(min=1, max=100, show_default="avif 90, jpeg 95", help="Quality of webp (else lossless), avif, jpeg.")
]
Depth = Annotated[DepthName, typer.Option(help="Bits per channel; 16 is for png and tiff.")]
SameSize = Annotated[bool, typer.Option("--same-size", help="Write a JPEG with the file's own tables, and so its coefficients.")]
Strip = Annotated[bool, typer.Option("--strip", help="Leave EXIF, XMP, comments and resolution out (the colour profile stays).")]
AutoOrient = Annotated[bool, typer.Option("--auto-orient", help="Turn the picture as its EXIF orientation says.")]
ForceQuality = Annotated[
    int | None, typer.Option(min=1, max=100, help="Take a picture that is no JPEG for one of this quality, whatever it shows.")
]
AsIs = Annotated[bool, typer.Option("--as-is", help="Of a file that was compressed twice, do not go back to the first time.")]
MaxPixels = Annotated[float, typer.Option(min=0.001, metavar="MEGAPIXELS", help="Refuse larger pictures.")]
DEFAULT_MAX_PIXELS = 268.435456


def to_options(
    texture: float,
    layer: LayerName,
    projection: bool,
    format_name: str,
    quality: int | None,
    depth: DepthName,
    same_size: bool,
    strip: bool,
    auto_orient: bool,
    force_quality: int | None,
    max_pixels: float,
    as_is: bool,
    threshold: int,
) -> Options:
    """The choices of a command line; `format_name` is the format that they come to."""
    from ..codec.encode import Encoding
    from ..recode import Options

    fields: dict[str, Any] = {
        "texture": texture,
        "layer": layer.value,
        "projection": projection,
        "encoding": Encoding(format_name, quality),
        "depth": int(depth.value),
        "same_size": same_size,
        "strip": strip,
        "auto_orient": auto_orient,
        "force_quality": force_quality,
        "max_pixels": round(max_pixels * 1e6),
        "as_is": as_is,
        "threshold": threshold,
    }
    return Options(**fields)
