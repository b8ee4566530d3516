"""The command `redecode`.

Its default verb takes files: `redecode photo.jpg`. Beside it stand the subcommands of COMMANDS, chosen where the first argument is the
very name of one; a file of such a name is given as `./train`. These are two Typer apps and one `if` (in :func:`main`), so
that `redecode --help` shows the options of the verb that nearly everybody wants.

Exit codes: 0 all is well, 1 some of several files failed, 2 nothing was done (wrong usage, or the single file failed), 130 interrupted.

Nothing heavy is imported before there is work: `--help` and `--version` answer at once.
"""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from .. import weights
from ..errors import DependencyError, RedecodeError
from . import files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.progress import Progress

    from ..decoder import Decoded, Decoder

SOME_FAILED, NOTHING_DONE, INTERRUPTED = 1, 2, 130

_HELP = (
    "Decode a JPEG again, better: artifacts gone, edges true, textures alive.\n\n"
    "redecode photo.jpg writes photo.redecoded.png beside it. Several files and whole folders (subfolders included) go "
    "beside their originals too, or into the folder given with -o."
)
# \b keeps the lines of a paragraph as they are.
_EPILOG = (
    "\b\nCommands, each with its own --help (a file of such a name is given as ./train):\n"
    "  redecode train   train a network by its recipe\n"
    "  redecode export  turn a checkpoint into the weights that the package ships\n"
    "  redecode bench   measure quality on sets of originals\n"
    "  redecode figure  draw details of restored pictures"
)

# Plain help: Typer's coloured one takes longer to import than everything else that --help needs.
restore_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
command_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
COMMANDS = ("train", "export", "bench", "figure")


class Layer(str, Enum):
    """What of a result to write."""

    FUSED = "fused"
    BASE = "base"
    TEXTURE = "texture"
    MASK = "mask"


class Network(str, Enum):
    """Which network to train."""

    EDGE = "edge"
    TEXTURE = "texture"


class Protocol(str, Enum):
    """How pictures are encoded and compared."""

    GRAY = "gray"
    COLOUR = "colour"


def main() -> None:
    """The entry point."""
    arguments = sys.argv[1:]
    if os.name == "posix" and hasattr(sys.stdout, "reconfigure"):
        # File names are bytes; those that are no text are printed as the bytes they are.
        sys.stdout.reconfigure(errors="surrogateescape")
    if arguments and arguments[0] in COMMANDS:
        command_app(arguments, prog_name="redecode")
    else:
        restore_app(arguments, prog_name="redecode")


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        print(f"redecode {__version__}")
        raise typer.Exit


def _preset(name: str) -> str:
    if name not in weights.PRESETS:
        raise typer.BadParameter(f"must be one of {', '.join(weights.PRESETS)}")
    return name


Preset = Annotated[str, typer.Option(callback=_preset, help=f"Which networks: {', '.join(weights.PRESETS)}.")]


@restore_app.command(help=_HELP, epilog=_EPILOG, no_args_is_help=True)
def restore(
    sources: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", show_default=False, help="JPEG files, or folders of them.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE|FOLDER", help="Where to write: a .png, .webp, .tif or .jpg file, or a folder."),
    ] = None,
    texture: Annotated[float, typer.Option(min=0, max=1, help="How much texture: 0 is the fidelity layer alone.")] = 1.0,
    preset: Preset = weights.PRESETS[0],
    layer: Annotated[Layer, typer.Option(help="Write this layer; the mask is white where texture may enter.")] = Layer.FUSED,
    projection: Annotated[bool, typer.Option("--projection/--no-projection", help="Keep the result true to the file's data.")] = True,
    threads: Annotated[int | None, typer.Option(min=1, show_default="all cores", help="Threads to compute with.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """The default verb."""
    with _reported():
        folder = output is not None and output.endswith(("/", os.sep))
        jobs, failures = files.plan(sources, None if output is None else Path(output), into_folder=folder)
        total = len(jobs) + len(failures)

        def process(decoder: Decoder, job: files.Job) -> None:
            restored = _decode(decoder, job.source, texture, layer, projection)
            _write(restored, job.target, layer, overwrite)

        failures += _process_all(jobs, preset, threads, overwrite, process)
    _conclude(failures, total)


def _process_all(
    jobs: list[files.Job], preset: str, threads: int | None, overwrite: bool, process: Callable[[Decoder, files.Job], None]
) -> list[files.Failure]:
    """Restore one after the other; a failure keeps nothing from being tried."""
    failures = []
    decoder: Decoder | None = None
    with _progress(len(jobs)) as advance:
        for job in jobs:
            try:
                if not overwrite:
                    files.refuse_existing(job.target)
                if decoder is None:
                    decoder = _make_decoder(preset, threads)
                process(decoder, job)
                _say(job.target)
            except DependencyError:
                raise  # The same for every file: say it once.
            except Exception as error:  # One picture's trouble, of whatever kind, is no reason to leave out the others.
                failures.append(files.Failure(job.source, files.reason(error, job.source)))
            advance(1)
    return failures


def _make_decoder(preset: str, threads: int | None) -> Decoder:
    from ..decoder import Decoder

    return Decoder(preset, threads)


def _decode(decoder: Decoder, source: Path, texture: float, layer: Layer, projection: bool) -> Decoded:
    from .. import jpeg

    with warnings.catch_warnings():
        # Pillow warns of odd EXIF data, which is handed on as it is.
        warnings.simplefilter("ignore", UserWarning)
        image = jpeg.read(files.read(source))
    if image.damaged:
        _complain(f"{source}: warning: parts of the picture data are missing or corrupt; what is there was restored")
    # Only two of the layers depend on the texture network, and only one of them on the dial.
    amount = {Layer.FUSED: texture, Layer.TEXTURE: 1.0}.get(layer, 0.0)
    return decoder.decode(image, amount, projection)


def _write(restored: Decoded, target: Path, layer: Layer, overwrite: bool) -> None:
    from dataclasses import replace

    metadata = restored.jpeg.metadata
    if layer is Layer.MASK:
        metadata = replace(metadata, icc_profile=None)  # A mask has no colours, and a colour profile does not fit a gray file.
    files.save(_pixels(restored, layer), target, metadata, overwrite=overwrite)


def _pixels(restored: Decoded, layer: Layer) -> NDArray[np.uint8]:
    if layer is Layer.MASK:
        mask: NDArray[np.uint8] = restored.mask.astype("uint8") * 255
        return mask
    if layer is Layer.TEXTURE:
        assert restored.texture is not None  # It was asked for with the full amount.
        return restored.texture
    return restored.base if layer is Layer.BASE else restored.image


def _conclude(failures: list[files.Failure], total: int) -> None:
    for failure in failures:
        _complain(f"{failure.source}: {failure.reason}")
    if failures and total > 1:
        _complain(f"{len(failures)} of {total} failed")
    if failures:
        raise typer.Exit(SOME_FAILED if total > 1 else NOTHING_DONE)


@command_app.callback()
def _commands() -> None:
    """Decode a JPEG again, better. (For restoring pictures see: redecode --help)"""


@command_app.command()
def train(
    network: Annotated[Network, typer.Argument(help="Which network.")],
    recipe: Annotated[Path, typer.Option(help="The TOML file that describes the training, such as recipes/fast-edge.toml.")],
    max_time: Annotated[float | None, typer.Option(metavar="MINUTES", min=0, help="Stop after so many minutes in all.")] = None,
    output: Annotated[Path | None, typer.Option(show_default="runs/<recipe>", help="Folder for checkpoints, weights and curve.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the output folder.")] = False,
) -> None:
    """Train a network by its recipe (needs the extra `train`)."""
    with _reported(), _extra("train"):
        from ..training import loop

        with _training_progress() as report:
            loop.train(network.value, recipe, output or Path("runs", recipe.stem), max_time, resume, report)


@command_app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="The weights.safetensors of a training run.")],
    name: Annotated[str, typer.Argument(help="What to call it: <preset>-edge or <preset>-texture.")],
) -> None:
    """Turn a checkpoint into the ONNX file and record that the package ships (needs the extra `train`)."""
    with _reported(), _extra("train"):
        from ..training import export as exporter

        _say(exporter.export(checkpoint, name))


@command_app.command()
def bench(
    data: Annotated[
        list[Path] | None,
        typer.Option(show_default="LIVE1 and BSDS500_val in $REDECODE_DATA/eval", help="A folder of originals; may be repeated."),
    ] = None,
    qf: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality factor.")] = 10,
    protocol: Annotated[Protocol, typer.Option(help="Luma as gray files, or colour files with 4:2:0.")] = Protocol.GRAY,
    preset: Preset = weights.PRESETS[0],
    limit: Annotated[int | None, typer.Option(min=1, help="Measure only the first so many pictures of a set.")] = None,
    results: Annotated[Path, typer.Option(help="Folder for the measurements (JSON).")] = Path("results"),
) -> None:
    """Measure quality on sets of originals, and draw the README's table anew (needs the extra `eval`)."""
    with _reported(), _extra("eval"):
        from ..datasets import data_path
        from ..evaluation import SETS, benchmark, report

        folders = data or [data_path("eval", name) for name in SETS]
        decoder = _make_decoder(preset, None)
        measured = []
        for folder in folders:
            with _bench_progress(folder.name) as progress:
                result = benchmark.run(decoder, folder, folder.name, qf, protocol.value, limit, progress)
            measured.append(result)
            _complain(f"wrote {benchmark.write(result, results)}")
        _say(report.render(measured))
        readme = Path("README.md")
        if readme.is_file() and report.BEGIN in readme.read_text(encoding="utf-8") and report.update_readme(readme, results):
            _complain("updated README.md")


@command_app.command()
def figure(
    qf: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality factor.")] = 10,
    preset: Preset = weights.PRESETS[0],
    output: Annotated[Path, typer.Option("--output", "-o", help="The PNG file to write.")] = Path("docs/details.png"),
) -> None:
    """Draw textured details, enlarged: JPEG, both layers, mask, result and original (as the paper's Fig. 2)."""
    with _reported():
        from ..evaluation import figure as figures

        figures.details(_make_decoder(preset, None), qf).save(output)
        _say(output)


def _say(text: object) -> None:
    """Print on stdout; nobody listening any more is no reason to stop the work."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _complain(line: str) -> None:
    print(f"redecode: {line}", file=sys.stderr)


def _give_up(message: str, code: int = NOTHING_DONE) -> NoReturn:
    _complain(message)
    raise typer.Exit(code)


@contextmanager
def _reported() -> Iterator[None]:
    """Turn what a user can cause into one line and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except (RedecodeError, OSError, ValueError) as error:
        _give_up(str(error) if isinstance(error, ValueError) else files.reason(error))


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Name the extra of the package where one of its libraries is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or "a library"
        if missing.partition(".")[0] == "redecode":
            raise
        _give_up(f"{missing} is not installed; this command needs: pip install 'redecode[{name}]'")


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Refreshed when there is news, not by a thread: the JPEG reader borrows stderr for moments. What is printed to a terminal meanwhile
    # goes above the bar; a stdout that leads elsewhere is left alone.
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),
    )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar for more than one file."""
    if total < 2:
        yield lambda _: None
        return
    with _bar() as bar:
        task = bar.add_task("restoring", total=total)
        bar.refresh()
        yield lambda count: bar.update(task, advance=count, refresh=True)


@contextmanager
def _bench_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    with _bar() as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total, refresh=True)


# Between lines of a training whose progress goes into a file.
_LOG_SECONDS = 60


@contextmanager
def _training_progress() -> Iterator[Callable[[float, str], None]]:
    """A progress bar on a terminal, a line a minute elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        said = -math.inf

        def report(fraction: float, message: str) -> None:
            nonlocal said
            if fraction >= 1 or time.monotonic() - said >= _LOG_SECONDS:
                said = time.monotonic()
                print(f"{fraction:.1%} {message}", file=sys.stderr, flush=True)

        yield report
        return
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda fraction, message: bar.update(task, completed=fraction, description=message)
