"""What a user can choose for a picture: declared once, here, and offered by every door.

The command line, `redecode bulk` and the HTTP API build their parameters from the fields of :class:`Options`, help and ranges included.
It is not part of :mod:`redecode.recode`, which uses it, so that `redecode --help` needs no NumPy.
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
    """What a door tells of an option, and what it refuses.

    Attributes:
        help: one sentence.
        scope: "restoring" where another choice means to restore the picture anew; "result" where it changes only what is made of a restored
            one; "engine" where it is the machine's: a server's operator chooses it, not who sends a picture.
        least, most: range of a number.
        among: the numbers to choose from.
        unset: what None means, where that is the default.
        unit: of a number.
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
    """The choices for a picture; each field's help tells what it does.

    Raises:
        UsageError: a value outside its range or its choices.

    Example:
        >>> Options(texture=0.5, format="webp").written_format()
        'webp'
    """

    texture: Annotated[float, Choice("How much texture: 0 is the fidelity layer alone.", least=0, most=1)] = 1.0
    threshold: Annotated[
        int,
        Choice(
            "Texture may enter where more orientations meet than this; 5 is the paper's, 3 wins more.",
            scope="restoring",
            least=1,
            most=9,
        ),
    ] = 3
    preset: Annotated[Preset, Choice("Which networks.", scope="restoring")] = DEFAULT_PRESET
    layer: Annotated[Layer, Choice("Write this layer; the mask is white where texture may enter.")] = "fused"
    projection: Annotated[bool, Choice("Keep the result consistent with the file's data.")] = True
    format: Annotated[
        FormatName | Literal["jpg", "same"] | None,
        Choice("Format of the results; same is that of the file, or png where that cannot be written.", unset="png; jpeg with same_size"),
    ] = None
    quality: Annotated[int | None, Choice("Quality of webp (else lossless), avif, jpeg.", least=1, most=100, unset="avif 90, jpeg 95")] = (
        None
    )
    depth: Annotated[int, Choice("Bits per channel; 16 is for png and tiff.", among=(8, 16))] = 8
    same_size: Annotated[bool, Choice("Write a JPEG with the file's own tables, and so its coefficients.")] = False
    strip: Annotated[bool, Choice("Leave EXIF, XMP, comments and resolution out (the colour profile stays).")] = False
    auto_orient: Annotated[bool, Choice("Turn the picture upright, by its EXIF orientation.")] = False
    force_quality: Annotated[
        int | None,
        Choice(
            "Restore the picture as one of this quality, whatever it shows; a JPEG only if this is lower than its own.",
            scope="restoring",
            least=1,
            most=100,
            unset="what the picture shows",
        ),
    ] = None
    as_is: Annotated[bool, Choice("Ignore an earlier compression of a file that was compressed twice.", scope="restoring")] = False
    max_pixels: Annotated[float, Choice("Refuse larger pictures.", scope="engine", least=0.001, unit="megapixels")] = 268.435456
    device: Annotated[Device, Choice("What the networks run on.", scope="engine")] = "cpu"
    precision: Annotated[
        Precision | None,
        Choice("What the networks compute in; float32 is the slower reference.", scope="engine", unset="int8 on the CPU, else float32"),
    ] = None

    def __post_init__(self) -> None:
        for name, choice in CHOICES.items():
            _check(name, getattr(self, name), choice)

    def written_format(self, source: FormatName | None = "jpeg") -> FormatName:
        """The format that the result is written in.

        Args:
            source: the format of the file; None for one that is not written.
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
    """The texts that a type of literals, with or without None, admits."""
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
