"""libjpeg-turbo by way of jpeglib's shared library: the quantized coefficients of a checked file."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DependencyError, UnreadableError
from . import markers

# libjpeg-turbo, as jpeglib brings it along. jpeglib's own Python layer is passed by: for every file that fails it would print to
# stdout and leave a temporary file behind, and it decodes each file twice, the first time with a marker handler that never ends on some
# hostile files. libjpeg-turbo rather than jpeglib's default of libjpeg 6b because it is the one that is fuzzed and maintained.
_LIBJPEG = "cjpeglib_turbo210.*"
# How its functions must be declared for the calls below to be sound: jpeglib promises nothing of them, and a library in C does not tell.
# Their source comes along.
_DECLARATIONS = {
    "cjpeglib_common_markers.cpp": "int read_jpeg_markers(const char *srcfile, unsigned char *markers)",
    "cjpeglib_dct.cpp": "int read_jpeg_dct(const char *srcfile, short *Y, short *Cb, short *Cr, short *K, "
    "unsigned short *qt, short *quant_tbl_no)",
}


@lru_cache(maxsize=1)
def _libjpeg() -> ctypes.CDLL:
    spec = importlib.util.find_spec("jpeglib")
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in sorted(Path(folder, "cjpeglib").glob(_LIBJPEG)) if path.is_file()]
    if not found:
        raise DependencyError("this installation has no jpeglib with libjpeg-turbo; reinstall it with: pip install 'jpeglib==1.0.2'")
    _check_declarations(found[0].parent)
    library = ctypes.CDLL(str(found[0]))
    library.read_jpeg_markers.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    # File, four component buffers (a null one is skipped), tables and their numbers (not asked for).
    library.read_jpeg_dct.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 6]
    return library


def _check_declarations(folder: Path) -> None:
    """
    Raises:
        DependencyError: the library's functions are not those that this module calls.
    """
    for name, declaration in _DECLARATIONS.items():
        try:
            source = (folder / name).read_text("utf-8", "replace")
        except OSError:
            source = ""
        if "".join(declaration.split()) not in "".join(source.split()):
            raise DependencyError("this jpeglib is not the one that redecode works with; install it with: pip install 'jpeglib==1.0.2'")


def read_coefficients(segments: markers.Segments) -> tuple[list[NDArray[np.int16]], bool]:
    """The components' coefficients, and whether libjpeg complained about the data."""
    library = _libjpeg()
    # libjpeg writes into these buffers.
    coefficients = [np.zeros((rows, columns, 8, 8), np.int16) for rows, columns in segments.frame.blocks]
    buffers = [c.ctypes.data for c in coefficients] + [None] * (4 - len(coefficients))
    with tempfile.TemporaryDirectory(prefix="redecode-") as folder:
        path = os.path.join(folder, "stripped.jpg")
        Path(path).write_bytes(segments.stripped)
        done, complained = _run(library, os.fsencode(path), buffers)
    if not done:
        raise UnreadableError("the file is damaged: its picture data cannot be decoded")
    return coefficients, complained


# libjpeg counts its warnings, but jpeglib does not hand the count out: what is left are the lines that it prints to the C library's
# stderr. They are caught there, under one lock because the file descriptor belongs to the whole process.
_STDERR = 2
_STDERR_LOCK = threading.Lock()
_COMPLAINT = re.compile(rb"(?:Corrupt JPEG data|Premature end of JPEG|Inconsistent progression|Invalid SOS parameters)[^\n]*\n")


@contextmanager
def caught_stderr() -> Iterator[bytearray]:
    """Catch what C code prints to stderr; it is in the array when the block has ended, however it ends."""
    printed = bytearray()
    with _STDERR_LOCK, tempfile.TemporaryFile() as capture:
        saved = os.dup(_STDERR)
        os.dup2(capture.fileno(), _STDERR)
        try:
            yield printed
        finally:
            os.dup2(saved, _STDERR)
            os.close(saved)
            capture.seek(0)
            printed += capture.read()


def pass_on(printed: bytes) -> None:
    """Write to stderr what another thread (a progress bar, say) had written there while it was caught."""
    if printed:
        os.write(_STDERR, printed)


def _run(library: ctypes.CDLL, name: bytes, buffers: list[int | None]) -> tuple[bool, bool]:
    """Fill the buffers; returns whether that succeeded, and whether libjpeg complained about the data."""
    with caught_stderr() as printed:
        # read_jpeg_dct must not meet a header that libjpeg refuses (it would close a file that it never opened); the other one may.
        done = bool(library.read_jpeg_markers(name, ctypes.create_string_buffer(1)) and library.read_jpeg_dct(name, *buffers, None, None))
    others = _COMPLAINT.sub(b"", printed)
    if done:
        pass_on(others)  # After a failure it cannot be told from libjpeg's error message, and is lost.
    return done, others != printed
