"""redecode: decode a JPEG again, better.

Example:
    >>> import redecode
    >>> redecode.decode("examples/parrots-q10.jpg").image.shape  # uint8: edges true to the signal, textures alive
    (512, 768, 3)
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .errors import (
    DependencyError,
    LimitError,
    OutputExistsError,
    RedecodeError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
    UsageError,
)
from .options import Options

# From 1.32 on, ONNX Runtime's wheels report to their maker, and leave a device id in the user's cache, unless this is set before they are
# loaded. Set here, it holds for all of redecode, its worker processes, and whatever else the program loads afterwards.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__all__ = [
    "Decoded",
    "Decoder",
    "DependencyError",
    "LimitError",
    "Options",
    "OutputExistsError",
    "RedecodeError",
    "TooLargeError",
    "UnreadableError",
    "UnsupportedError",
    "UsageError",
    "decode",
    "decode_many",
    "read",
]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .codec.picture import Picture
    from .codec.source import Source
    from .decoder import Decoder
    from .restoration.tiling import Progress
    from .result import Decoded
    from .weights import Precision, Preset


def __getattr__(name: str) -> Any:
    # The engine's libraries take longer to import than a command line takes to print its help: they come on first use.
    if name == "Decoded":
        from .result import Decoded

        return Decoded
    if name == "Decoder":
        from .decoder import Decoder

        return Decoder
    if name == "__version__":
        from importlib.metadata import version

        return version("redecode")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@lru_cache(maxsize=4)
def _decoder(preset: Preset, device: str, precision: Precision | None) -> Decoder:
    from .decoder import Decoder

    return Decoder(preset, device=device, precision=precision)


def decode(
    source: Source,
    texture: float = 1.0,
    preset: Preset = "fast",
    layers: bool = False,
    *,
    project: bool = True,
    threshold: int = 3,
    device: str = "cpu",
    precision: Precision | None = None,
    progress: Progress | None = None,
) -> Decoded:
    """Restore a JPEG, or a picture that was one; keeps the networks loaded for the next call.

    Args:
        source: a path, the bytes of a file, an open file, a Pillow image, or a uint8 array [H, W], [H, W, 3] or [H, W, 4].
        texture: 0 … 1; 0 is the fidelity layer alone, 1 the paper's hard merge.
        preset: which networks, "fast" or "best".
        layers: keep both layers beside the result.
        project: keep the result consistent with the file's data.
        threshold: texture may enter where more orientations meet than this; 5 is the paper's.
        device: "cpu", "cuda", "coreml" or "directml".
        precision: "int8" or "float32"; None is int8 on the CPU, else float32.
        progress: called with the tiles done and their number, after each.

    Raises:
        RedecodeError: the picture cannot be restored; the message says why.
        OSError: the path cannot be read.
        ValueError: texture, preset, device or precision out of range.

    Example:
        >>> decoded = redecode.decode("examples/parrots-q10.jpg", texture=0.5)
        >>> decoded
        <Decoded 768×512 RGB, quality 10, texture 0.5>
        >>> decoded.image.shape, decoded.image.dtype
        ((512, 768, 3), dtype('uint8'))
    """
    return _decoder(preset, device, precision).decode(source, texture, project, progress, layers, threshold)


def decode_many(sources: Iterable[Source], preset: Preset = "fast", **choices: Any) -> Iterator[Decoded]:
    """Restore several pictures, in their order; while one is computed, the next is read.

    Args:
        sources: each as :func:`decode` takes it.
        preset: which networks.
        choices: texture, layers, project, threshold and progress, as for :func:`decode`.

    Raises:
        RedecodeError, OSError: in its turn, for a picture that cannot be restored.

    Example:
        >>> [decoded.mode for decoded in redecode.decode_many(["examples/parrots-q10.jpg"], texture=0)]
        ['RGB']
    """
    return _decoder(preset, "cpu", None).decode_many(sources, **choices)


def read(source: Source, force_quality: int | None = None, as_is: bool = False) -> Picture:
    """Read a picture without restoring it: its size, its quality, its metadata, what is known of earlier compressions.

    Args:
        source: as for :func:`decode`, which takes the result, too.
        force_quality: take a picture that is no JPEG for one of this quality factor.
        as_is: ignore an earlier compression of a file that was compressed twice.

    Raises:
        RedecodeError: the picture cannot be read.
        OSError: the path cannot be read.

    Example:
        >>> picture = redecode.read("examples/parrots-q10.jpg")
        >>> picture.width, picture.height, picture.quality
        (768, 512, 10)
    """
    from .codec.source import picture_of

    return picture_of(source, force_quality=force_quality, as_is=as_is)
