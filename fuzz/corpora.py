"""Restore all picture files in some folders, without the networks, and count the outcomes.

    pip download --no-deps --no-binary pillow pillow
    python fuzz/corpora.py pillow-*/Tests/images > report.txt

Pillow's source package, for one, holds hundreds of odd files.
"""

from __future__ import annotations

import collections
import os
import sys
import time
import traceback
from pathlib import Path

from harness import check

from redecode import files
from redecode.options import Options

# Larger pictures take minutes and show nothing new.
_OPTIONS = Options(max_pixels=4, force_quality=30)


def main() -> None:
    """Print a line for each file that was not restored, and the counts."""
    outcomes: collections.Counter[str] = collections.Counter()
    slowest = (0.0, "")
    for folder in sys.argv[1:]:
        for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            began = time.process_time()
            outcome = _outcome(path)
            slowest = max(slowest, (time.process_time() - began, str(path)))
            outcomes[f"{_kind(path)}: {outcome.partition(':')[0]}"] += 1
            if outcome != "restored":
                print(f"{path.relative_to(folder)}: {outcome}")
    print()
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6} {outcome}")
    print(f"slowest: {slowest[0]:.1f} s of CPU time, {slowest[1]}")
    sys.exit(any("BROKEN" in outcome for outcome in outcomes))


def _kind(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(4)
    return "JPEG" if start[:2] == b"\xff\xd8" else {b"\x89PNG": "PNG", b"RIFF": "RIFF", b"GIF8": "GIF"}.get(start, "other")


def _outcome(path: Path) -> str:
    try:
        refusal = check(files.read(Path(os.path.realpath(path))), _OPTIONS)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"BROKEN {type(error).__name__}: {error} ({where.filename}, {where.lineno})"
    return "restored" if refusal is None else f"{type(refusal).__name__}: {refusal}"


if __name__ == "__main__":
    main()
