"""The command `redecode`.

Its default verb takes files: `redecode photo.jpg`. Beside it stand the subcommands of COMMANDS, chosen where the first argument is the
very name of one; a file of such a name is given as `./train`. These are two Typer apps and one `if` (in :func:`main`), so
that `redecode --help` shows the options of the verb that nearly everybody wants.

Exit codes: 0 all is well, 1 some of several files failed, 2 nothing was done (wrong usage, or the single file failed), 130 interrupted.

Nothing heavy is imported before there is work: `--help` and `--version` answer at once.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import files
from ..codec.formats import OF_SUFFIX, suffix_of
from ..errors import DependencyError, UsageError
from ..options import Options
from . import bulk, development, info, plan, serve
from .console import NOTHING_DONE, SOME_FAILED, complain, make_decoder, progress_bar, reported, say
from .parameters import ENGINE, with_options

if TYPE_CHECKING:
    from ..decoder import Decoder
    from ..recode import Restored
    from ..restoration.tiling import Progress

_HELP = (
    "Decode a JPEG again, better: artifacts gone, edges true, textures alive.\n\n"
    "redecode photo.jpg writes photo.redecoded.png beside it. Several files and whole folders (subfolders included) go "
    "beside their originals too, or into the folder given with -o. - is stdin, and -o - is stdout."
)
# \b keeps the lines of a paragraph as they are.
_EPILOG = (
    "\b\nCommands, each with its own --help (a file of such a name is given as ./train):\n"
    "  redecode info    tell what a file is\n"
    "  redecode serve   open the page on this machine\n"
    "  redecode bulk    restore archives: folders and object stores, on one machine or a cluster\n"
    "  redecode train   train a network by its recipe\n"
    "  redecode export  turn a checkpoint into the weights that the package ships\n"
    "  redecode bench   measure quality on sets of originals\n"
    "  redecode figure  draw details of restored pictures"
)

# Plain help: Typer's coloured one takes longer to import than everything else that --help needs.
restore_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
command_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
COMMANDS: dict[str, Callable[..., None]] = {
    "info": info.info,
    "serve": with_options(serve.serve, ENGINE, {"max_pixels": 64}),
    "bulk": with_options(bulk.bulk),
    "train": development.train,
    "export": development.export,
    "bench": development.bench,
    "figure": development.figure,
}
for _verb, _command in COMMANDS.items():
    command_app.command(_verb)(_command)


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


@command_app.callback()
def _commands() -> None:
    """Decode a JPEG again, better. (For restoring pictures see: redecode --help)"""


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        print(f"redecode {__version__}")
        raise typer.Exit


def restore(
    sources: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", show_default=False, help="Pictures, or folders of JPEGs.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE|FOLDER", help="Where to write: a .png, .webp, .avif, .tif or .jpg file, or a folder."),
    ] = None,
    *,
    options: Options,
    threads: Annotated[int | None, typer.Option(min=1, show_default="all cores", help="Threads to compute with.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say of each file what it was and what was done.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """The default verb."""
    with reported():
        folder = output is not None and output.endswith(("/", os.sep))
        target = None if output is None else Path(output)
        options = _with_format(options, None if folder else target)
        jobs, failures = plan.plan(sources, target, into_folder=folder, suffix=suffix_of(options.written_format))
        to_stdout = any(job.target == files.STANDARD for job in jobs)
        if as_json and to_stdout:
            raise UsageError("--json and the picture cannot both go to stdout; give -o a file")
        voice = _Voice(as_json, quiet or to_stdout, verbose)
        total = len(jobs) + len(failures)
        for failure in failures:
            voice.failed(failure)
        failures += _process_all(jobs, options, _Engine(options, threads), overwrite, voice)
    _conclude(failures, total)


# Here, not above: as a decorator it would hide the command's own parameters from the type checker.
restore_app.command(help=_HELP, epilog=_EPILOG, no_args_is_help=True)(
    with_options(restore, unset={"format": "by the suffix of -o, else png"})
)


def _with_format(options: Options, target: Path | None) -> Options:
    """The options with the format that the suffix of the output asks for, where they leave it open."""
    by_suffix = OF_SUFFIX.get(target.suffix.lower()) if target is not None and not target.is_dir() else None
    wanted = options if options.format or by_suffix is None else replace(options, format=by_suffix)
    if by_suffix not in (None, wanted.written_format):
        raise UsageError(f"{target}: the suffix and --format {options.format} contradict each other")
    return wanted


@dataclass
class _Engine:
    """Made when the first file needs it."""

    options: Options
    threads: int | None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def decoder(self) -> Decoder:
        with self._lock:
            return self._decoder

    @cached_property
    def _decoder(self) -> Decoder:
        return make_decoder(self.options, self.threads)


@dataclass(frozen=True)
class _Voice:
    """What is said of each file: on stdout the results, on stderr the rest."""

    as_json: bool
    quiet: bool
    verbose: bool

    def restored(self, job: plan.Job, restored: Restored) -> None:
        if self.as_json:
            self._record(job.source, output=_name(job.target), **restored.report())
            return
        if not self.quiet:
            for note in restored.notes:
                complain(f"{job.source}: warning: {note}")
            say(job.target)
        if self.verbose:
            complain(f"{job.source}: {_summary(restored.report())}")

    def failed(self, failure: plan.Failure) -> None:
        if self.as_json:
            self._record(failure.source, status="failed", reason=failure.reason)

    @staticmethod
    def _record(source: Path, **fields: Any) -> None:
        say(json.dumps({"input": _name(source), **fields}, ensure_ascii=False))


def _name(path: Path) -> str:
    # File names are bytes; what of them is no text becomes U+FFFD, so that the line is text.
    return os.fsencode(path).decode("utf-8", "replace")


def _summary(report: dict[str, Any]) -> str:
    parts = [f"{report['width']}×{report['height']}"]
    if report["quality"] is not None:
        parts.append(f"quality {report['quality']}")
    if report["consistency"] is not None:
        parts.append(f"{report['consistency']:.2%} of the blocks true to the file")
    return ", ".join([*parts, f"{report['status']} in {report['seconds']:.2f} s"])


def _process_all(jobs: list[plan.Job], options: Options, engine: _Engine, overwrite: bool, voice: _Voice) -> list[plan.Failure]:
    """Restore one after the other; a failure keeps nothing from being tried."""
    failures = []
    with _progress(len(jobs)) as advance:
        for job, outcome in zip(jobs, _outcomes(jobs, options, engine, overwrite), strict=True):
            if isinstance(outcome, plan.Failure):
                failures.append(outcome)
                voice.failed(outcome)
            else:
                voice.restored(job, outcome)
            advance(1)
    return failures


def _outcomes(jobs: list[plan.Job], options: Options, engine: _Engine, overwrite: bool) -> Iterator[Restored | plan.Failure]:
    """What becomes of each file, in order. While the networks are at one, the last is saved and the next one read."""
    left = threading.Event()

    def check(done: int, total: int) -> None:
        if left.is_set():
            raise KeyboardInterrupt

    def work(job: plan.Job) -> Restored | plan.Failure:
        try:
            return _process(job, options, engine, overwrite, check)
        except DependencyError:
            raise  # The same for every file: say it once.
        except Exception as error:  # One picture's trouble, of whatever kind, is no reason to leave out the others.
            return plan.Failure(job.source, files.reason(error, job.source))

    if len(jobs) == 1 or engine.threads == 1:
        return map(work, jobs)
    from ..pipelining import in_order

    return in_order(work, jobs, left)


def _process(job: plan.Job, options: Options, engine: _Engine, overwrite: bool, progress: Progress) -> Restored:
    if not overwrite:
        files.refuse_existing(job.target)
    from ..recode import restore as restore_bytes

    restored = restore_bytes(engine.decoder, files.read(job.source), options, progress)
    files.save(restored.data, job.target, overwrite=overwrite)
    return restored


def _conclude(failures: list[plan.Failure], total: int) -> None:
    for failure in failures:
        complain(f"{failure.source}: {failure.reason}")
    if failures and total > 1:
        complain(f"{len(failures)} of {total} failed")
    if failures:
        raise typer.Exit(SOME_FAILED if total > 1 else NOTHING_DONE)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar for more than one file."""
    if total < 2:
        yield lambda _: None
        return
    with progress_bar() as bar:
        task = bar.add_task("restoring", total=total)
        bar.refresh()
        yield lambda count: bar.update(task, advance=count, refresh=True)
