"""Commands for developers: train, export and measure the networks."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ..options import CHOICES, Options
from ..weights import DEFAULT_PRESET, Precision, Preset
from .console import complain, extra, make_decoder, printable, progress_bar, reported, say


class Network(str, Enum):
    """The networks to train."""

    EDGE = "edge"
    TEXTURE = "texture"


class Protocol(str, Enum):
    """Protocols of the benchmark."""

    GRAY = "gray"
    COLOUR = "colour"


def train(
    network: Annotated[Network, typer.Argument(help="Network to train.")],
    recipe: Annotated[Path, typer.Option(help="Recipe of the training, a TOML file such as recipes/fast-edge.toml.")],
    max_time: Annotated[float | None, typer.Option(metavar="MINUTES", min=0, help="Maximum training time, including resumed runs.")] = None,
    output: Annotated[Path | None, typer.Option(show_default="runs/<recipe>", help="Folder for checkpoints, weights and curve.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="CHECKPOINT", help="Resume from this checkpoint.")] = None,
    decay: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", help="Branch off from this checkpoint with a learning rate that falls to zero.")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Processes per machine, each with its own GPU if there are GPUs.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
    float32: Annotated[bool, typer.Option("--float32", help="Compute in 32 bits even where bfloat16 is faster.")] = False,
) -> None:
    """Train a network by a recipe (needs the extra `train`)."""
    with reported(), extra("train"):
        from ..training import trainer

        with _training_progress() as report:
            folder = output or Path("runs", f"{recipe.stem}-decay" if decay else recipe.stem)
            trainer.train(
                network.value,
                recipe,
                folder,
                max_minutes=max_time,
                resume=resume,
                decay=decay,
                report=report,
                devices=devices,
                nodes=nodes,
                float32=float32,
            )


def export(
    checkpoint: Annotated[Path, typer.Argument(help="The weights.safetensors of a training run.")],
    name: Annotated[str, typer.Argument(help="Name of the network: <preset>-edge or <preset>-texture.")],
) -> None:
    """Turn a checkpoint into the ONNX files and record that the package ships (needs the extra `train`)."""
    with reported(), extra("train"):
        from ..training import export as exporter

        say(exporter.export(checkpoint, name))


def bench(
    data: Annotated[
        list[Path] | None,
        typer.Option(show_default="LIVE1 and BSDS500_val in $REDECODE_DATA/eval", help="Folder of originals; may be repeated."),
    ] = None,
    qf: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality factor.")] = 10,
    protocol: Annotated[Protocol, typer.Option(help="Measure luma of gray files, or colour files with 4:2:0.")] = Protocol.GRAY,
    preset: Annotated[Preset, typer.Option(help=CHOICES["preset"].help)] = DEFAULT_PRESET,
    precision: Annotated[Precision | None, typer.Option(help=CHOICES["precision"].help, show_default=CHOICES["precision"].unset)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of pictures per set.")] = None,
    results: Annotated[Path, typer.Option(help="Folder for the results (JSON).")] = Path("results"),
) -> None:
    """Measure quality on sets of originals: write a JSON file per set, and print tables (needs the extra `eval`)."""
    with reported(), extra("eval"):
        from ..evaluation import SETS, benchmark, report
        from ..evaluation.datasets import data_path

        folders = data or [data_path("eval", name) for name in SETS]
        decoder = make_decoder(Options(preset=preset, precision=precision))
        measured = []
        for folder in folders:
            with _bench_progress(folder.name) as progress:
                result = benchmark.run(decoder, folder, folder.name, qf, protocol.value, limit, progress)
            measured.append(result)
            complain(f"wrote {benchmark.write(result, results)}")
        say(*report.render(measured).splitlines())


def figure(
    qf: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality factor.")] = 10,
    preset: Annotated[Preset, typer.Option(help=CHOICES["preset"].help)] = DEFAULT_PRESET,
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG file to write.")] = Path("details.png"),
) -> None:
    """Draw enlarged details: JPEG, both layers, mask, result and original (like the paper's Fig. 2)."""
    with reported():
        from ..evaluation import figure as figures

        figures.details(make_decoder(Options(preset=preset)), qf).save(output)
        say(output)


@contextmanager
def _bench_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    with progress_bar() as bar:
        task = bar.add_task(printable(name), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total, refresh=True)


# Seconds between lines of progress when training prints to a file.
_LOG_SECONDS = 20


@contextmanager
def _training_progress() -> Iterator[Callable[[float, str], None]]:
    """A progress bar on a terminal, a line every 20 s elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if os.environ.get("LOCAL_RANK", "0") != "0":
        yield lambda fraction, message: None  # Only the first process of several reports progress.
        return
    if not console.is_terminal:
        reported_at = -math.inf

        def report(fraction: float, message: str) -> None:
            nonlocal reported_at
            if fraction >= 1 or time.monotonic() - reported_at >= _LOG_SECONDS:
                reported_at = time.monotonic()
                print(f"{fraction:.1%} {message}", file=sys.stderr, flush=True)

        yield report
        return
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda fraction, message: bar.update(task, completed=fraction, description=message)
