"""SIGKILL at any time of a run over a folder: results are complete, no partial file looks like a result, and a new run continues."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from redecode import weights
from redecode.codec import jpeg
from redecode.errors import DependencyError

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="POSIX signals")]

# Fifty were run by hand (REDECODE_KILLS=50); they take a second each.
KILLS = int(os.environ.get("REDECODE_KILLS", "8"))
COUNT = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    try:
        weights.load("fast-edge", "int8")
    except DependencyError as error:
        pytest.skip(f"no weights: {error}")
    rng = np.random.default_rng(0)
    made = tmp_path / "in"
    (made / "sub").mkdir(parents=True)
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (16 + number, 24, 3), dtype=np.uint8)
        (made / ("sub" if number % 3 == 0 else ".") / f"{number}.jpg").write_bytes(jpeg.compress(pixels, 40))
    return made


def start(folder: Path, output: Path, *options: str) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "redecode", str(folder), "-o", f"{output}/", "--threads", "1", *options]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(count: int, run: subprocess.Popen[bytes], output: Path) -> None:
    while run.poll() is None and len(list(output.rglob("*.png"))) < count:
        time.sleep(0.001)


def results(output: Path) -> dict[Path, bytes]:
    return {path.relative_to(output): path.read_bytes() for path in output.rglob("*.png")}


def check_whole(output: Path) -> None:
    for path in output.rglob("*"):
        if path.is_dir():
            continue
        if path.suffix != ".png":
            # The file that a killed run was writing: hidden, and without a picture's suffix.
            assert path.name.startswith(".redecode-")
            assert path.suffix == ".part"
            continue
        with Image.open(path) as image:
            image.load()
            assert image.size == (24, 16 + int(path.stem))


def test_killed_at_random(folder: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run = start(folder, whole)
    run.communicate(timeout=120)
    assert run.returncode == 0
    expected = results(whole)
    assert len(expected) == COUNT
    drawn = random.Random(int(os.environ.get("REDECODE_KILL_SEED", "0")))
    moments = []
    for number in range(KILLS):
        output = tmp_path / f"out{number}"
        run = start(folder, output)
        # Loading takes most of the time, which varies: the times of the kills are drawn among the pictures.
        wait_for(drawn.randrange(COUNT), run, output)
        time.sleep(drawn.uniform(0, 0.05))
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
        before = results(output)
        moments.append(len(before))
        check_whole(output)
        assert before.items() <= expected.items()
        if number % 4 == 0:
            check_the_rest_follows(folder, output, before, expected)
    print(f"results at the moment of the kill, of {COUNT}: {sorted(moments)}")


def check_the_rest_follows(folder: Path, output: Path, before: dict[Path, bytes], expected: dict[Path, bytes]) -> None:
    """Run again: existing results are refused and stay unchanged, the others are written."""
    times = {path: (output / path).stat().st_mtime_ns for path in before}
    run = start(folder, output)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == (1 if before else 0)
    assert errors.count(b"exists already") == len(before)
    assert {path: (output / path).stat().st_mtime_ns for path in before} == times
    assert results(output) == expected
    check_whole(output)
