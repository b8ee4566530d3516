"""redecode: decode a JPEG again, better.

Examples:
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

# From version 1.32 on, ONNX Runtime sends telemetry and stores a device id in the user's cache, unless this is set before it is loaded. Set
# here, it applies to all of redecode, to its worker processes, and to everything that the program loads afterwards.
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
    # Imported on first use: the decoder's libraries take longer to import than `redecode --help` to run.
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
    """Restore a JPEG, or a picture that was one. The networks stay loaded for the next call.

    Args:
        source: a path, the bytes of a file, an open file, a Pillow image, or a uint8 array [H, W], [H, W, 3] or [H, W, 4].
        texture: amount of texture, 0 … 1; 0 for the fidelity layer alone, 1 for the paper's hard merge.
        preset: networks to use, "fast" or "best".
        layers: whether to keep both layers with the result.
        project: whether to project the result onto the file's quantization cells, so that it agrees with the file.
        threshold: threshold of the orientation diversity above which texture is used, 1 … 9; the paper's is 5.
        device: "cpu", "cuda", "coreml" or "directml".
        precision: "int8" or "float32"; None for int8 on the CPU and float32 elsewhere.
        progress: function called after each tile with the number of tiles done and their total number.

    Returns:
        The restored picture.

    Raises:
        RedecodeError: the picture cannot be restored; the message says why.
        OSError: the path cannot be read.
        ValueError: texture, preset, device or precision is out of range.

    Examples:
        >>> decoded = redecode.decode("examples/parrots-q10.jpg", texture=0.5)
        >>> decoded
        <Decoded 768×512 RGB, quality 10, texture 0.5>
        >>> decoded.image.shape, decoded.image.dtype
        ((512, 768, 3), dtype('uint8'))
    """
    return _decoder(preset, device, precision).decode(source, texture, project, progress, layers, threshold)


def decode_many(sources: Iterable[Source], preset: Preset = "fast", **choices: Any) -> Iterator[Decoded]:
    """Restore several pictures and yield them in order; while one is restored, the next one is read.

    Args:
        sources: sources of pictures, see :func:`decode`.
        preset: networks to use, "fast" or "best".
        choices: further arguments of :func:`decode`: texture, layers, project, threshold and progress.

    Raises:
        RedecodeError, OSError: a picture cannot be restored; raised in place of its result.

    Examples:
        >>> [decoded.mode for decoded in redecode.decode_many(["examples/parrots-q10.jpg"], texture=0)]
        ['RGB']
    """
    return _decoder(preset, "cpu", None).decode_many(sources, **choices)


def read(source: Source, force_quality: int | None = None, as_is: bool = False) -> Picture:
    """Read a picture without restoring it: size, quality, metadata, and traces of earlier compressions.

    Args:
        source: source of the picture, see :func:`decode`, which also accepts the result.
        force_quality: JPEG quality factor to assume, 1 … 100, instead of detecting it; a JPEG of lower quality stays as it is.
        as_is: whether to ignore an earlier compression of a file that was compressed again or scaled.

    Raises:
        RedecodeError: the picture cannot be read.
        OSError: the path cannot be read.

    Examples:
        >>> picture = redecode.read("examples/parrots-q10.jpg")
        >>> picture.width, picture.height, picture.quality
        (768, 512, 10)
    """
    from .codec.source import picture_of

    return picture_of(source, force_quality=force_quality, as_is=as_is)
