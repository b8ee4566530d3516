"""Harness for fuzzing: restore a file without the networks, and check the behaviour.

A file may be restored or refused with a RedecodeError. Anything else is a finding: another exception, a warning, output, a file or a
descriptor left behind.
"""

from __future__ import annotations

import os
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from redecode import Decoder
from redecode.codec.formats import FORMATS
from redecode.codec.picture import Picture
from redecode.errors import RedecodeError
from redecode.options import LAYERS, Options
from redecode.recode import restore

Float32 = NDArray[np.float32]

# Pictures of this size take milliseconds.
MAX_PIXELS = 1 << 16


class BrokenPromiseError(Exception):
    """A finding: neither success nor a clean refusal."""


class Identity(Decoder):
    """Networks that change almost nothing: the texture is a checkerboard, so that fusion and projection have an effect."""

    def base_layer(self, picture: Picture) -> Float32:
        """The picture."""
        return picture.planes()

    def texture_layer(self, picture: Picture, base: Float32) -> Float32:
        """The picture with a pattern."""
        planes = picture.planes()
        planes[..., ::2, 1::2] += 24
        planes[..., 1::2, ::2] -= 24
        return planes


def options_of(data: bytes) -> Options:
    """Options drawn by a checksum of the file, so that every finding can be reproduced from the file alone."""
    draw = np.random.default_rng(zlib.crc32(data))
    same_size = draw.random() < 0.1
    # AVIF's encoder takes ten times as long as everything else.
    name = "jpeg" if same_size else "avif" if draw.random() < 0.03 else str(draw.choice([f for f in FORMATS if f != "avif"]))
    depth = 16 if name in ("png", "tiff") and draw.random() < 0.3 else 8
    return Options(
        texture=float(draw.choice([0, 0.5, 1])),
        layer=str(draw.choice(LAYERS)) if draw.random() < 0.3 else "fused",
        projection=bool(draw.random() < 0.9),
        format=name,
        quality=75 if name == "avif" else None,
        depth=depth,
        same_size=same_size,
        strip=bool(draw.random() < 0.1),
        auto_orient=bool(draw.random() < 0.3),
        force_quality=30 if draw.random() < 0.5 else None,
        max_pixels=MAX_PIXELS / 1e6,
    )


def check(data: bytes, options: Options | None = None) -> RedecodeError | None:
    """Restore a file; return the refusal if it was refused.

    Args:
        data: the file.
        options: None draws them (see options_of).

    Raises:
        BrokenPromiseError: something was left behind or printed.
        Exception: whatever redecode did not expect.
    """
    with _clean():
        try:
            restored = restore(Identity(), data, options or options_of(data))
            restored.report()
        except RedecodeError as refusal:
            return refusal
    return None


@contextmanager
def _clean() -> Iterator[None]:
    """Check that there is no output (warnings are errors), no temporary file and no open descriptor."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as printed:
        before, saved = tempfile.tempdir, [os.dup(1), os.dup(2)]
        tempfile.tempdir = folder
        descriptors = _descriptors()
        try:
            os.dup2(printed.fileno(), 1)
            os.dup2(printed.fileno(), 2)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                yield
        finally:
            tempfile.tempdir = before
            for number, kept in zip((1, 2), saved, strict=True):
                os.dup2(kept, number)
            # Counted while the copies are open, as before.
            left, opened = os.listdir(folder), _descriptors() - descriptors
            for kept in saved:
                os.close(kept)
        printed.seek(0)
        text = printed.read()
        if text or left or opened:
            raise BrokenPromiseError(f"printed {text!r}, left the files {left} and the descriptors {opened}")


def _descriptors() -> set[tuple[str, str]]:
    """Descriptors and names of open files, where the system lists them (without sockets, which ONNX Runtime opens at any time)."""
    found = set()
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with suppress(OSError):  # The descriptor of the listing itself is closed.
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return {(number, name) for number, name in found if name.startswith("/")}
