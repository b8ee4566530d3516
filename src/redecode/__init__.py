"""redecode: decode a JPEG again, better.

import redecode
result = redecode.decode("photo.jpg")
result.image        # uint8 [H, W, 3]: edges true to the signal, textures alive
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

# From 1.32 on, ONNX Runtime's wheels report to their maker, and leave a device id in the user's cache, unless this is set before they are
# loaded. Set here, it holds for all of redecode, its worker processes, and whatever else the program loads afterwards.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__all__ = [
    "Decoded",
    "Decoder",
    "DependencyError",
    "LimitError",
    "OutputExistsError",
    "RedecodeError",
    "TooLargeError",
    "UnreadableError",
    "UnsupportedError",
    "UsageError",
    "decode",
]

if TYPE_CHECKING:
    from .decoder import Decoder, Source
    from .result import Decoded
    from .weights import Preset


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


@lru_cache(maxsize=2)
def _decoder(preset: Preset) -> Decoder:
    from .decoder import Decoder

    return Decoder(preset)


def decode(source: Source, texture: float = 1.0, preset: Preset = "fast", layers: bool = False) -> Decoded:
    """Restore a JPEG; keeps the networks loaded for the next call.

    Args:
        source: path or bytes of a JPEG.
        texture: 0 … 1; 0 is the fidelity layer alone, 1 the paper's hard merge.
        preset: which networks, see redecode.weights.PRESETS.
        layers: keep both layers beside the result.

    Raises:
        RedecodeError: the file cannot be restored; the message says why.
        OSError: the path cannot be read.
        ValueError: texture or preset out of range.

    Example:
        >>> import redecode
        >>> result = redecode.decode("photo.jpg", texture=0.5)
        >>> result.image.shape, result.image.dtype
        ((120, 168, 3), dtype('uint8'))
        >>> result.consistency > 0.99  # share of the blocks that encode to the file's own coefficients again
        True
    """
    return _decoder(preset).decode(source, texture, layers=layers)
