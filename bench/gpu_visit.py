"""Train on a GPU machine that is available for minutes only, in three commands.

    python bench/gpu_visit.py pack photographs.zip                 # at home: all photographs in one file
    python bench/gpu_visit.py stable photographs.zip OUT --recipe recipes/best-edge.toml --seconds 540
    python bench/gpu_visit.py decay photographs.zip OUT2 --recipe recipes/best-edge.toml --seconds 150 --resume OUT

`stable` starts the recipe's stable part, or resumes it with --resume, and stops in time to save everything. With --trial RECIPE, which may
be repeated, it first compares recipes: each is trained for --trial-seconds, including a decay, and the best one continues from its stable
checkpoint. `decay` branches off from the stable checkpoint. The files in OUT have at most 15 MiB each: a checkpoint in parts, weights in
parts (after the decay), and the curve.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from PIL import Image

from redecode.evaluation.datasets import data_path
from redecode.training.data import list_images
from redecode.training.trainer import CHECKPOINT, CURVE, WEIGHTS

PART = 15 * 2**20
# Seconds that a run needs to validate and save everything after SIGTERM.
MARGIN = 40


def pack(output: Path, quality: int) -> None:
    """Pack all photographs into a ZIP file, as AVIF without chroma subsampling."""
    folder = data_path("train")
    paths = sorted(list_images(folder, validation=False) + list_images(folder, validation=True))
    with zipfile.ZipFile(output, "w") as archive:
        for path in paths:
            buffer = io.BytesIO()
            with Image.open(path) as image:
                image.convert("RGB").save(buffer, "AVIF", quality=quality, subsampling="4:4:4")
            archive.writestr(str(path.relative_to(folder).with_suffix(".avif")), buffer.getvalue())
    print(f"{len(paths)} photographs, {output.stat().st_size / 2**20:.1f} MiB")


def split(file: Path, folder: Path) -> None:
    """Split a file into parts: name.00, name.01 and so on."""
    with file.open("rb") as source:
        for number, part in enumerate(iter(lambda: source.read(PART), b"")):
            (folder / f"{file.name}.{number:02}").write_bytes(part)


def joined(folder: Path, name: str, target: Path) -> Path:
    """Join the parts of a file."""
    parts = sorted(folder.glob(f"{name}.[0-9][0-9]"))
    if not parts:
        raise SystemExit(f"{folder} has no parts of {name}")
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


def train(recipe: Path, output: Path, seconds: float, *options: object) -> None:
    """Train until the end, or for some seconds, after which SIGTERM makes the run save its state and stop."""
    command = [sys.executable, "-m", "redecode", "train", "edge", "--recipe", recipe, "--output", output, *options]
    print("$", *map(str, command[2:]), flush=True)
    process = subprocess.Popen([str(part) for part in command])
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        code = process.wait(MARGIN)
    if code:
        raise SystemExit(f"training ended with exit code {code}")


def gain(run: Path) -> float:
    """The last gain of a run at QF 10 in dB: the mean of gray and colour."""
    with (run / CURVE).open(encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    return (float(last["gray QF 10"]) + float(last["colour QF 10"])) / 2


def tournament(trials: list[Path], seconds: float, work: Path) -> Path:
    """Train each recipe for this time, a fifth of it in a decay, and return the recipe with the best result."""
    gains = {}
    for recipe in trials:
        stable, decay = (work / f"{recipe.stem}-{part}" for part in ("stable", "decay"))
        train(recipe, stable, 5 * seconds, "--max-time", 0.8 * seconds / 60)
        train(recipe, decay, 5 * seconds, "--decay", stable / CHECKPOINT, "--max-time", 0.2 * seconds / 60)
        gains[recipe] = gain(decay)
        print(f"{recipe.stem}: {gains[recipe]:.4f} dB", flush=True)
    return max(gains, key=lambda recipe: gains[recipe])


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pack", "stable", "decay"])
    parser.add_argument("photographs", type=Path, help="file that pack writes")
    parser.add_argument("output", type=Path, nargs="?", help="folder for the results")
    parser.add_argument("--quality", type=int, default=88, help="quality of the AVIF files")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/best-edge.toml"))
    parser.add_argument("--seconds", type=float, default=540, help="maximum time of the command")
    parser.add_argument("--resume", type=Path, help="folder with the results of an earlier call")
    parser.add_argument("--trial", type=Path, action="append", default=[], help="recipe to compare; may be repeated")
    parser.add_argument("--trial-seconds", type=float, default=40)
    arguments = parser.parse_args()
    began = time.monotonic()
    if arguments.what == "pack":
        pack(arguments.photographs, arguments.quality)
        return
    if arguments.output is None or (arguments.what == "decay" and arguments.resume is None):
        parser.error("stable needs an output folder, and decay --resume as well")
    arguments.output.mkdir(parents=True, exist_ok=True)
    watch = ["nvidia-smi", "-l", "20", "--query-gpu=utilization.gpu,power.draw,memory.used", "--format=csv"]
    watcher = subprocess.Popen(watch) if shutil.which("nvidia-smi") else None
    try:
        with tempfile.TemporaryDirectory() as folder:
            visit(arguments, Path(folder), began)
    finally:
        if watcher:
            watcher.terminate()


def visit(arguments: argparse.Namespace, work: Path, began: float) -> None:
    """Train, and write the results into the output folder."""
    with zipfile.ZipFile(arguments.photographs) as archive:
        archive.extractall(work / "data" / "train")
    os.environ["REDECODE_DATA"] = str(work / "data")
    run, recipe = work / "run", arguments.recipe
    options: list[object] = []
    if arguments.resume:
        checkpoint = joined(arguments.resume, CHECKPOINT, work / CHECKPOINT)
        options = ["--decay" if arguments.what == "decay" else "--resume", checkpoint]
    elif arguments.trial:
        recipe = tournament(arguments.trial, arguments.trial_seconds, work)
        options = ["--resume", work / f"{recipe.stem}-stable" / CHECKPOINT]
        print(f"{recipe} goes on", flush=True)
    left = arguments.seconds - (time.monotonic() - began) - MARGIN
    if arguments.what == "decay":
        # The learning rate must reach zero in time: reading photographs and compiling take time too.
        options += ["--max-time", max(0.1, left - MARGIN) / 60]
    train(recipe, run, left, *options)
    for name in (CHECKPOINT, WEIGHTS) if arguments.what == "decay" else (CHECKPOINT,):
        split(run / name, arguments.output)
    shutil.copy(run / CURVE, arguments.output)
    print(f"{gain(run):.4f} dB at QF 10; {time.monotonic() - began:.0f} s in all")


if __name__ == "__main__":
    main()
