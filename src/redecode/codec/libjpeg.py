"""Quantized coefficients by libjpeg, and its own warnings about damaged data.

The library is the one with which Pillow decodes: Pillow's extension module is linked to it, on every platform but Windows, and its
functions are found through that module. So nothing has to be compiled or installed for it. They are called through ctypes. A fatal error is
reported through a function that must not return. C code leaves it with longjmp, which Python cannot; here each call runs on a thread of its
own, and `pthread_exit` is that function: the thread ends, and joining it tells so. Two pictures share nothing: there is no lock, no
temporary file, and nothing that a fork could find half done.

On Windows Pillow keeps its libjpeg to itself. There :func:`read_coefficients` calls the functions of the package jpeglib, whose warnings
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

# Of jpeglib's libraries the one with libjpeg-turbo, because that is the one that is fuzzed and maintained.
_JPEGLIB = "cjpeglib_turbo210.*"
# How the functions of jpeglib that are called here are declared in its source, which comes along: a library in C does not tell.
_DECLARATIONS = {
    "cjpeglib_common_markers.cpp": "int read_jpeg_markers(const char *srcfile, unsigned char *markers)",
    "cjpeglib_dct.cpp": "int read_jpeg_dct(const char *srcfile, short *Y, short *Cb, short *Cr, short *K, "
    "unsigned short *qt, short *quant_tbl_no)",
}
_INSTALL_JPEGLIB = "install it with: pip install 'jpeglib==1.0.2'"
# Bytes for jpeg_decompress_struct, whose size depends on the build: it was 656 in the largest one seen.
_MAX_STRUCT = 4096
# Warnings that are worth a look: a file with this many is damaged, whatever they are about.
_MAX_WARNINGS = 100
# Bytes that may be left over behind the last block of a scan without being a sign that blocks went missing before.
_MAX_LEFT_OVER = 4

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Emitter = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)
_AccessBlocks = ctypes.CFUNCTYPE(
    ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_int
)


class _ErrorManager(ctypes.Structure):
    """jpeg_error_mgr of jpeglib.h."""

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
    """The beginning of jpeg_memory_mgr of jpeglib.h."""

    _fields_ = (("others", ctypes.c_void_p * 8), ("access_virt_barray", _AccessBlocks))


class _Decompressor(ctypes.Structure):
    """jpeg_decompress_struct of jpeglib.h; what is not used here is `rest`."""

    _fields_ = (
        ("err", ctypes.POINTER(_ErrorManager)),
        ("mem", ctypes.POINTER(_MemoryManager)),
        ("rest", ctypes.c_byte * (_MAX_STRUCT - 2 * ctypes.sizeof(ctypes.c_void_p))),
    )


def read_coefficients(stripped: bytes, blocks: list[tuple[int, int]], padding: int = 0) -> tuple[list[NDArray[np.int16]], list[str]]:
    """Decode the quantized coefficients of a file.

    Args:
        stripped: a JPEG file whose segments were checked by :mod:`redecode.codec.markers`.
        blocks: rows and columns of 8×8 blocks of each component.
        padding: how many bytes at the end of a scan may be padding.

    Returns:
        int16 [rows, columns, 8, 8] of each component, and the decoder's warnings that tell of missing or corrupt blocks, one sentence each.
        Blocks that are missing have coefficients of 0.

    Raises:
        UnreadableError: libjpeg cannot decode the file at all.
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
    """The libjpeg to which Pillow is linked, its functions declared; None where its functions are hidden."""
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
    """The library of the package jpeglib, its functions declared.

    Raises:
        DependencyError: it is missing, or another version.
    """
    spec = importlib.util.find_spec("jpeglib")
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in sorted(Path(folder, "cjpeglib").glob(_JPEGLIB)) if path.suffix in (".so", ".pyd")]
    if not found:
        raise DependencyError(f"this Pillow hides its libjpeg, and the package jpeglib is not there; {_INSTALL_JPEGLIB}")
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
            raise DependencyError(f"this jpeglib is not the one that redecode works with; {_INSTALL_JPEGLIB}")


@contextmanager
def _decompressor(library: Any, padding: int) -> Iterator[tuple[_Decompressor, list[str]]]:
    """libjpeg's object, which counts its warnings instead of printing them, and these warnings."""
    errors, decompressor = _ErrorManager(), _Decompressor()
    warnings: list[str] = []

    def warn(_: int, level: int) -> None:
        if level < 0 and (warning := _damage(errors, padding)):
            warnings.append(warning)
        if len(warnings) == _MAX_WARNINGS:
            errors.emit_message = silent

    emit = _Emitter(warn)
    silent = _address(library.jpeg_quality_scaling)  # Does nothing but calculate.
    decompressor.err = ctypes.cast(library.jpeg_std_error(ctypes.byref(errors)), ctypes.POINTER(_ErrorManager))
    errors.error_exit, errors.emit_message, errors.output_message = _address(_threads().pthread_exit), _address(emit), silent
    library.jpeg_CreateDecompress(ctypes.byref(decompressor), *_interface())
    try:
        yield decompressor, warnings
    finally:
        library.jpeg_destroy_decompress(ctypes.byref(decompressor))


@lru_cache(maxsize=1)
def _interface() -> tuple[int, int]:
    """Version of libjpeg's interface, and bytes of its jpeg_decompress_struct.

    They depend on the build. jpeg_CreateDecompress reports them when it is called with others; unlike later reports, this one may return.

    Raises:
        DependencyError: this is no libjpeg that can be called.
    """
    library, errors, decompressor = _libjpeg(), _ErrorManager(), _Decompressor()
    told: list[int] = []
    report = _Handler(lambda _: told.append(errors.msg_parm[0]))
    decompressor.err = ctypes.cast(library.jpeg_std_error(ctypes.byref(errors)), ctypes.POINTER(_ErrorManager))
    errors.error_exit = _address(report)
    library.jpeg_CreateDecompress(ctypes.byref(decompressor), 0, 0)
    library.jpeg_destroy_decompress(ctypes.byref(decompressor))
    if len(told) != 2 or not ctypes.sizeof(_Decompressor) > told[1] > 0:
        raise DependencyError(
            "the libjpeg of this Pillow is of an unknown kind; install Pillow anew with: pip install --force-reinstall pillow"
        )
    version, size = told
    return version, size


def _damage(errors: _ErrorManager, padding: int) -> str | None:
    """The warning that libjpeg has just given, if it tells of missing or corrupt blocks."""
    message = (errors.jpeg_message_table[errors.msg_code] or b"").decode("ascii", "replace")
    if message.startswith("Inconsistent progression"):
        return None  # An unusual order of scans. Whether they are complete, the marker walk knows.
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
    """Call a function of libjpeg on a thread of its own; returns its result.

    Raises:
        UnreadableError: it ended in a fatal error.
        MemoryError: there is no room for another thread.
    """
    # Other than Python's own threads, this one may end itself: no Python code is on its stack.
    thread, result = ctypes.c_void_p(), ctypes.c_void_p()
    argument = ctypes.addressof(decompressor)
    if _threads().pthread_create(ctypes.byref(thread), None, _address(function), argument):
        raise MemoryError
    _threads().pthread_join(thread, ctypes.byref(result))
    # error_exit(decompressor) is pthread_exit(decompressor), whose argument is the thread's result.
    if result.value == argument:
        raise UnreadableError("the file is damaged: its picture data cannot be decoded")
    return result.value or 0


def _read_through_jpeglib(library: Any, stripped: bytes, blocks: list[tuple[int, int]]) -> list[NDArray[np.int16]]:
    """As :func:`read_coefficients`, where the library exports no functions but jpeglib's."""
    coefficients = [np.zeros((rows, columns, 8, 8), np.int16) for rows, columns in blocks]
    buffers = [c.ctypes.data for c in coefficients] + [None] * (4 - len(coefficients))
    with tempfile.TemporaryDirectory(prefix="redecode-") as folder:
        path = os.path.join(folder, "stripped.jpg")
        Path(path).write_bytes(stripped)
        name = os.fsencode(path)
        # read_jpeg_dct must not meet a header that libjpeg refuses (it would close a file that it never opened); the other one may.
        done = library.read_jpeg_markers(name, ctypes.create_string_buffer(1)) and library.read_jpeg_dct(name, *buffers, None, None)
    if not done:
        raise UnreadableError("the file is damaged: its picture data cannot be decoded")
    return coefficients
