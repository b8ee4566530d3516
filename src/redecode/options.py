"""Options of a restoration, declared once for all interfaces.

The command line, `redecode bulk` and the HTTP API build their parameters from the fields of :class:`Options`, with help texts and ranges.
This module is separate from :mod:`redecode.recode` so that `redecode --help` does not import NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_type_hints

from .codec.formats import FormatName
from .errors import UsageError
from .weights import DEFAULT_PRESET, Precision, Preset

Layer = Literal["fused", "base", "texture", "mask"]
Device = Literal["cpu", "cuda", "coreml", "directml"]
LAYERS: tuple[Layer, ...] = get_args(Layer)

Scope = Literal["restoring", "result", "engine"]


@dataclass(frozen=True)
class Choice:
    """Description of an option, from which interfaces build help texts and checks.

    Attributes:
        help: help text, one sentence.
        scope: "restoring" if a change means restoring the picture again; "result" if a change affects only the file written from a
            restored picture; "engine" if it belongs to the machine: the operator of a server sets it, not its clients.
        least, most: minimum and maximum of a number.
        among: the valid numbers.
        unset: meaning of None, if None is the default.
        unit: unit of a number.
    """

    help: str
    scope: Scope = "result"
    least: float | None = None
    most: float | None = None
    among: tuple[int, ...] | None = None
    unset: str | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Options:
    """Options of a restoration; the help text of each field describes it.

    Raises:
        UsageError: a value is out of range or not among the choices.

    Examples:
        >>> Options(texture=0.5, format="webp").written_format()
        'webp'
    """

    texture: Annotated[float, Choice("Amount of texture: 0 for the fidelity layer alone, 1 for full texture.", least=0, most=1)] = 1.0
    threshold: Annotated[
        int,
        Choice(
            "Use texture where the orientation diversity exceeds this threshold; the paper's is 5.",
            scope="restoring",
            least=1,
            most=9,
        ),
    ] = 3
    preset: Annotated[Preset, Choice("Networks to use: best is slower, and closer to the original.", scope="restoring")] = DEFAULT_PRESET
    layer: Annotated[Layer, Choice("Layer to write; the mask is white where texture is used.")] = "fused"
    projection: Annotated[bool, Choice("Project the result onto the file's quantization cells, so that it agrees with the file.")] = True
    format: Annotated[
        FormatName | Literal["jpg", "same"] | None,
        Choice("Format of the result; same keeps the file's format, or png if that cannot be written.", unset="png; jpeg with same_size"),
    ] = None
    quality: Annotated[
        int | None, Choice("Quality of webp (default: lossless), avif or jpeg.", least=1, most=100, unset="avif 90, jpeg 95")
    ] = None
    depth: Annotated[int, Choice("Bits per channel; 16 for png and tiff only.", among=(8, 16))] = 8
    same_size: Annotated[bool, Choice("Write a JPEG with the file's quantization tables, of about the same size.")] = False
    strip: Annotated[bool, Choice("Leave out EXIF, XMP, comments and resolution (the colour profile stays).")] = False
    auto_orient: Annotated[bool, Choice("Turn the picture upright by its EXIF orientation.")] = False
    force_quality: Annotated[
        int | None,
        Choice(
            "Assume this JPEG quality instead of detecting it; a JPEG of lower quality is restored as it is.",
            scope="restoring",
            least=1,
            most=100,
            unset="detected",
        ),
    ] = None
    as_is: Annotated[bool, Choice("Ignore a compression before a later compression or scaling.", scope="restoring")] = False
    max_pixels: Annotated[
        float, Choice("Maximum size of a picture; larger ones are refused.", scope="engine", least=0.001, unit="megapixels")
    ] = 268.435456
    device: Annotated[Device, Choice("Device that the networks run on.", scope="engine")] = "cpu"
    precision: Annotated[
        Precision | None,
        Choice("Precision of the networks; float32 is the slower reference.", scope="engine", unset="int8 on the CPU, else float32"),
    ] = None

    def __post_init__(self) -> None:
        for name, choice in CHOICES.items():
            _check(name, getattr(self, name), choice)

    def written_format(self, source: FormatName | None = "jpeg") -> FormatName:
        """Format in which the result is written.

        Args:
            source: format of the file; None if redecode cannot write it.
        """
        if self.format is None:
            return "jpeg" if self.same_size else "png"
        if self.format == "same":
            return source or "png"
        return "jpeg" if self.format == "jpg" else self.format

    @property
    def pixel_limit(self) -> int:
        """`max_pixels` in pixels."""
        return round(self.max_pixels * 1e6)


CHOICES: dict[str, Choice] = {name: hint.__metadata__[0] for name, hint in get_type_hints(Options, include_extras=True).items()}
DEFAULTS: dict[str, Any] = {option.name: option.default for option in fields(Options)}
TYPES: dict[str, Any] = get_type_hints(Options)


def _literals(kind: Any) -> tuple[str, ...]:
    """The texts that are valid for a Literal type, with or without None."""
    if isinstance(kind, type):
        return ()
    return tuple(text for arg in get_args(kind) for text in ((arg,) if isinstance(arg, str) else _literals(arg)))


TEXTS: dict[str, tuple[str, ...]] = {name: _literals(kind) for name, kind in TYPES.items()}


def _check(name: str, value: Any, choice: Choice) -> None:
    if value is None and choice.unset is not None:
        return
    texts = choice.among or TEXTS[name]
    if texts and value not in texts:
        raise UsageError(f"{name} must be one of {', '.join(map(str, texts))}, not {value!r}")
    least, most = choice.least, choice.most
    if least is not None and not (least <= value and (most is None or value <= most)):
        bounds = f"{least} … {most}" if most is not None else f"at least {least}"
        raise UsageError(f"{name} must be {bounds}, not {value}")
