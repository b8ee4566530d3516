"""Decoding of quantized coefficients by libjpeg, with its warnings about damaged data.

The library is Pillow's libjpeg. On all platforms except Windows, its functions are accessible through Pillow's extension module, which is
linked to it, so that nothing has to be compiled or installed. They are called with ctypes. libjpeg reports a fatal error through a function
that must not return. C code uses longjmp, which Python cannot do. Therefore each call runs in a thread of its own, and the function is
`pthread_exit`: it ends the thread, and joining the thread shows the error. Pictures share no state: there is no lock and no temporary file,
and a fork at any time is safe.

On Windows Pillow's libjpeg is not accessible. There :func:`read_coefficients` calls the functions of the package jpeglib, whose warnings
about damaged data go to stderr.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DependencyError, UnreadableError

# File name of jpeglib's library with libjpeg-turbo, which is maintained and fuzzed, unlike the other versions.
_JPEGLIB = "cjpeglib_turbo210.*"
# Declarations of jpeglib's functions that are called here, to check them in its source, which is installed with it: a library in C does not
# contain them.
_DECLARATIONS = {
    "cjpeglib_common_markers.cpp": "int read_jpeg_markers(const char *srcfile, unsigned char *markers)",
    "cjpeglib_dct.cpp": "int read_jpeg_dct(const char *srcfile, short *Y, short *Cb, short *Cr, short *K, "
    "unsigned short *qt, short *quant_tbl_no)",
}
_INSTALL_JPEGLIB = "install it with: pip install 'jpeglib==1.0.2'"
# Bytes reserved for jpeg_decompress_struct, whose size depends on the build; the largest one seen had 656.
_MAX_STRUCT = 4096
# Number of warnings after which further ones are ignored: the file is certainly damaged.
_MAX_WARNINGS = 100
# Number of bytes after the last block of a scan that are accepted without taking them as a sign of missing blocks.
_MAX_LEFT_OVER = 4

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Emitter = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)
_AccessBlocks = ctypes.CFUNCTYPE(
    ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_int
)


class _ErrorManager(ctypes.Structure):
    """The struct jpeg_error_mgr of jpeglib.h."""

    _fields_ = (
        ("error_exit", ctypes.c_void_p),
        ("emit_message", ctypes.c_void_p),
        ("output_message", ctypes.c_void_p),
        ("format_message", ctypes.c_void_p),
        ("reset_error_mgr", ctypes.c_void_p),
        ("msg_code", ctypes.c_int),
        ("msg_parm", ctypes.c_int * 20),
        ("trace_level", ctypes.c_int),
        ("num_warnings", ctypes.c_long),
        ("jpeg_message_table", ctypes.POINTER(ctypes.c_char_p)),
        ("last_jpeg_message", ctypes.c_int),
        ("addon_message_table", ctypes.c_void_p),
        ("first_addon_message", ctypes.c_int),
        ("last_addon_message", ctypes.c_int),
    )


class _MemoryManager(ctypes.Structure):
    """The beginning of the struct jpeg_memory_mgr of jpeglib.h."""

    _fields_ = (("others", ctypes.c_void_p * 8), ("access_virt_barray", _AccessBlocks))


class _Decompressor(ctypes.Structure):
    """The struct jpeg_decompress_struct of jpeglib.h; `rest` are the fields that are not used here."""

    _fields_ = (
        ("err", ctypes.POINTER(_ErrorManager)),
        ("mem", ctypes.POINTER(_MemoryManager)),
        ("rest", ctypes.c_byte * (_MAX_STRUCT - 2 * ctypes.sizeof(ctypes.c_void_p))),
    )


def read_coefficients(stripped: bytes, blocks: list[tuple[int, int]], padding: int = 0) -> tuple[list[NDArray[np.int16]], list[str]]:
    """Decode the quantized coefficients of a file.

    Args:
        stripped: a JPEG file whose segments were checked by :mod:`redecode.codec.markers`.
        blocks: number of rows and columns of 8×8 blocks of each component.
        padding: maximum number of padding bytes at the end of a scan.

    Returns:
        The coefficients of each component, int16 [rows, columns, 8, 8], with 0 in missing blocks; and libjpeg's warnings about missing or
        corrupt blocks, one sentence each.

    Raises:
        UnreadableError: libjpeg cannot decode the file.
        DependencyError: Pillow's libjpeg cannot be called, and jpeglib is missing or of an unexpected build.
    """
    library = _libjpeg()
    if library is None:
        return _read_through_jpeglib(_jpeglib(), stripped, blocks), []
    with _decompressor(library, padding) as (decompressor, warnings):
        library.jpeg_mem_src(ctypes.byref(decompressor), stripped, len(stripped))
        _on_thread(library.jpeg_consume_input, decompressor)
        arrays = ctypes.cast(_on_thread(library.jpeg_read_coefficients, decompressor), ctypes.POINTER(ctypes.c_void_p))
        access = decompressor.mem.contents.access_virt_barray
        coefficients = []
        for index, (rows, columns) in enumerate(blocks):
            whole = np.empty((rows, columns, 8, 8), np.int16)
            for row in range(rows):
                source = access(ctypes.addressof(decompressor), arrays[index], row, 1, 0)[0]
                ctypes.memmove(whole[row].ctypes.data, source, whole[row].nbytes)
            coefficients.append(whole)
    return coefficients, warnings


@lru_cache(maxsize=1)
def _libjpeg() -> Any:
    """Pillow's libjpeg with declared functions; None if they are not accessible."""
    spec = importlib.util.find_spec("PIL._imaging")
    assert spec is not None
    assert spec.origin is not None
    library = ctypes.CDLL(spec.origin)
    if os.name == "nt" or not hasattr(library, "jpeg_read_coefficients"):
        return None
    pointer = ctypes.c_void_p
    library.jpeg_std_error.argtypes, library.jpeg_std_error.restype = [pointer], pointer
    library.jpeg_CreateDecompress.argtypes = [pointer, ctypes.c_int, ctypes.c_size_t]
    library.jpeg_mem_src.argtypes = [pointer, ctypes.c_char_p, ctypes.c_ulong]
    library.jpeg_destroy_decompress.argtypes = [pointer]
    return library


@lru_cache(maxsize=1)
def _jpeglib() -> Any:
    """The library of the package jpeglib, with declared functions.

    Raises:
        DependencyError: the package is missing, or has another version.
    """
    spec = importlib.util.find_spec("jpeglib")
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in sorted(Path(folder, "cjpeglib").glob(_JPEGLIB)) if path.suffix in (".so", ".pyd")]
    if not found:
        raise DependencyError(f"the libjpeg of this Pillow is not accessible, and the package jpeglib is missing; {_INSTALL_JPEGLIB}")
    _check_declarations(found[0].parent)
    library = ctypes.CDLL(str(found[0]))
    library.read_jpeg_markers.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    # File, four component buffers (null pointers are skipped), tables and their numbers (unused).
    library.read_jpeg_dct.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 6]
    return library


def _check_declarations(folder: Path) -> None:
    """Check that jpeglib's functions have the expected declarations.

    Raises:
        DependencyError: a declaration differs.
    """
    for name, declaration in _DECLARATIONS.items():
        try:
            source = (folder / name).read_text("utf-8", "replace")
        except OSError:
            source = ""
        if "".join(declaration.split()) not in "".join(source.split()):
            raise DependencyError(f"redecode does not work with this version of jpeglib; {_INSTALL_JPEGLIB}")


@contextmanager
def _decompressor(library: Any, padding: int) -> Iterator[tuple[_Decompressor, list[str]]]:
    """libjpeg's decompressor, which collects its warnings instead of printing them, and the list of these warnings."""
    errors, decompressor = _ErrorManager(), _Decompressor()
    warnings: list[str] = []

    def warn(_: int, level: int) -> None:
        if level < 0 and (warning := _damage(errors, padding)):
            warnings.append(warning)
        if len(warnings) == _MAX_WARNINGS:
            errors.emit_message = silent

    emit = _Emitter(warn)
    silent = _address(library.jpeg_quality_scaling)  # A function without side effects.
    decompressor.err = ctypes.cast(library.jpeg_std_error(ctypes.byref(errors)), ctypes.POINTER(_ErrorManager))
    errors.error_exit, errors.emit_message, errors.output_message = _address(_threads().pthread_exit), _address(emit), silent
    library.jpeg_CreateDecompress(ctypes.byref(decompressor), *_interface())
    try:
        yield decompressor, warnings
    finally:
        library.jpeg_destroy_decompress(ctypes.byref(decompressor))


@lru_cache(maxsize=1)
def _interface() -> tuple[int, int]:
    """Version of libjpeg's interface, and size of its jpeg_decompress_struct in bytes.

    Both depend on the build. jpeg_CreateDecompress reports the right values when called with wrong ones; in this case, the function for
    errors may return.

    Raises:
        DependencyError: this libjpeg is unknown.
    """
    library, errors, decompressor = _libjpeg(), _ErrorManager(), _Decompressor()
    expected: list[int] = []
    report = _Handler(lambda _: expected.append(errors.msg_parm[0]))
    decompressor.err = ctypes.cast(library.jpeg_std_error(ctypes.byref(errors)), ctypes.POINTER(_ErrorManager))
    errors.error_exit = _address(report)
    library.jpeg_CreateDecompress(ctypes.byref(decompressor), 0, 0)
    library.jpeg_destroy_decompress(ctypes.byref(decompressor))
    if len(expected) != 2 or not ctypes.sizeof(_Decompressor) > expected[1] > 0:
        raise DependencyError("the libjpeg of this Pillow is unknown; reinstall Pillow with: pip install --force-reinstall pillow")
    version, size = expected
    return version, size


def _damage(errors: _ErrorManager, padding: int) -> str | None:
    """libjpeg's current warning if it is about missing or corrupt blocks, else None."""
    message = (errors.jpeg_message_table[errors.msg_code] or b"").decode("ascii", "replace")
    if message.startswith("Inconsistent progression"):
        return None  # An unusual order of scans. The parser of markers checks whether they are complete.
    if "extraneous bytes before marker" in message:
        count, marker = errors.msg_parm[0], errors.msg_parm[1]
        if count <= padding + _MAX_LEFT_OVER and not 0xD0 <= marker <= 0xD7:
            return None
    return message


def _address(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


@lru_cache(maxsize=1)
def _threads() -> Any:
    """The C library's thread functions."""
    library = ctypes.CDLL(None)
    library.pthread_create.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    library.pthread_join.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]
    return library


def _on_thread(function: Callable[..., Any], decompressor: _Decompressor) -> int:
    """Call a function of libjpeg in a new thread and return its result.

    Raises:
        UnreadableError: the function failed with a fatal error.
        MemoryError: the thread could not be created.
    """
    # Unlike Python's threads, this one may exit at any time, as it has no Python code on its stack.
    thread, result = ctypes.c_void_p(), ctypes.c_void_p()
    argument = ctypes.addressof(decompressor)
    if _threads().pthread_create(ctypes.byref(thread), None, _address(function), argument):
        raise MemoryError
    _threads().pthread_join(thread, ctypes.byref(result))
    # libjpeg calls error_exit(decompressor), which is pthread_exit(decompressor): its argument becomes the thread's result.
    if result.value == argument:
        raise UnreadableError("the file is damaged: its picture data cannot be decoded")
    return result.value or 0


def _read_through_jpeglib(library: Any, stripped: bytes, blocks: list[tuple[int, int]]) -> list[NDArray[np.int16]]:
    """Like :func:`read_coefficients`, through the functions of jpeglib."""
    coefficients = [np.zeros((rows, columns, 8, 8), np.int16) for rows, columns in blocks]
    buffers = [c.ctypes.data for c in coefficients] + [None] * (4 - len(coefficients))
    with tempfile.TemporaryDirectory(prefix="redecode-") as folder:
        path = os.path.join(folder, "stripped.jpg")
        Path(path).write_bytes(stripped)
        name = os.fsencode(path)
        # Call read_jpeg_markers first: on a header that libjpeg refuses, read_jpeg_dct would close a file that it never opened.
        done = library.read_jpeg_markers(name, ctypes.create_string_buffer(1)) and library.read_jpeg_dct(name, *buffers, None, None)
    if not done:
        raise UnreadableError("the file is damaged: its picture data cannot be decoded")
    return coefficients
