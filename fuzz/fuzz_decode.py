"""Coverage-guided fuzzing with atheris (libFuzzer), from the bytes of a file to the bytes of the result.

    pip install atheris
    python fuzz/seeds.py /tmp/fuzz/corpus
    python fuzz/fuzz_decode.py /tmp/fuzz/corpus -max_total_time=1800 -rss_limit_mb=3000 -timeout=20 -max_len=20000

With FUZZ_FINDINGS=FOLDER a finding is written there, one of each kind, and the run goes on; without it the first one ends it. Crashes of
the interpreter and hangs end it in either case, and libFuzzer keeps the file.
"""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from pathlib import Path

import atheris

# Coverage of these packages' Python code guides the fuzzer; libjpeg and Pillow's decoders are not instrumented.
with atheris.instrument_imports(include=["redecode", "PIL"]):
    from harness import check

_FINDINGS = os.environ.get("FUZZ_FINDINGS")
_seen: set[str] = set()


def run(data: bytes) -> None:
    """Test an input."""
    try:
        check(data)
    except Exception as error:
        if _FINDINGS is None:
            raise
        _keep(data, error, Path(_FINDINGS))


def _keep(data: bytes, error: Exception, folder: Path) -> None:
    where = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    kind = hashlib.sha256(repr((type(error).__name__, where)).encode()).hexdigest()[:12]
    if kind not in _seen:
        _seen.add(kind)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / kind).write_bytes(data)
        (folder / f"{kind}.txt").write_text("".join(traceback.format_exception(error)))


if __name__ == "__main__":
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()
