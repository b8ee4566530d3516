"""ONNX Runtime Web, which the static page contains: one version of the npm package, verified by its checksum."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import urllib.request
from pathlib import Path

from ..errors import DependencyError

VERSION = "1.30.0"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
# SHA-512 of this file, as published by npm.
_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
_SECONDS = 60
# Files of the package that the page needs, and their names in the page: not all servers know the media type of .mjs.
_FILES = {
    "package/dist/ort.wasm.min.mjs": "ort.js",
    "package/dist/ort-wasm-simd-threaded.mjs": "ort-wasm.js",
    "package/dist/ort-wasm-simd-threaded.wasm": "ort-wasm.wasm",
}
_LICENCE = f"""ONNX Runtime Web {VERSION}
{ADDRESS}

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"),
to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense,
and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS
IN THE SOFTWARE.
"""  # noqa: E501


def runtime_files(package: Path | None) -> dict[str, bytes]:
    """The files of ONNX Runtime Web that the page needs, and their licence, by their names in the page.

    Args:
        package: the npm package (ADDRESS) as a file; None to download it.

    Raises:
        DependencyError: the package is not the tested one, or cannot be downloaded.
        OSError: the file cannot be read.
    """
    data = _fetched() if package is None else package.read_bytes()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != _SHA512:
        raise DependencyError(f"{package or ADDRESS} is not the package onnxruntime-web {VERSION}; it is at {ADDRESS}")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {name: member.read() for path, name in _FILES.items() if (member := archive.extractfile(path))}
    return {**found, "LICENSE.txt": _LICENCE.encode()}


def _fetched() -> bytes:
    try:
        with urllib.request.urlopen(ADDRESS, timeout=_SECONDS) as answer:
            return bytes(answer.read())
    except OSError as error:
        raise DependencyError(f"{ADDRESS} cannot be fetched ({error}); fetch it elsewhere, and give it with --runtime") from None
