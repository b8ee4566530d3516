"""Console output of the commands: printing, exit codes, progress, and errors as one readable line."""

from __future__ import annotations

import functools
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .. import files
from ..errors import RedecodeError
from ..options import Options

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..decoder import Decoder

SOME_FAILED, NOTHING_DONE, INTERRUPTED = 1, 2, 130
# Control characters, line separators, and characters that set the direction of writing.
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    r"""Escape characters that control a terminal or the direction of writing as \uXXXX. JSON stays equivalent.

    File names come from anywhere, and a terminal executes the control characters in them.

    Examples:
        >>> printable("red\x1b[31m.jpg")
        'red\\u001b[31m.jpg'
    """
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def say(*lines: object) -> None:
    """Print lines on stdout; if the reader has closed its end of the pipe, go on without output."""
    try:
        for line in lines:
            print(printable(line), flush=True)
    except BrokenPipeError:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def complain(line: str) -> None:
    """Print a line on stderr."""
    print(f"redecode: {printable(line)}", file=sys.stderr)


def give_up(message: str, code: int = NOTHING_DONE) -> NoReturn:
    """Print a message on stderr and exit."""
    complain(message)
    raise typer.Exit(code)


def make_decoder(options: Options, threads: int | None = None) -> Decoder:
    """Create a decoder; imported here because the import is slow."""
    from ..decoder import Decoder

    return Decoder(options.preset, threads, options.device, options.precision)


# Errors caused by a file, a user or a machine, which are reported in a sentence. All other errors are bugs and show a traceback.
EXPECTED = (RedecodeError, OSError, MemoryError)
# Whether expected errors show their traceback too; set by --debug for all threads.
_debug = False


def with_debug(command: Callable[..., None]) -> Callable[..., None]:
    """Add the option --debug to a command."""
    signature = inspect.signature(command, eval_str=True)
    option = Annotated[bool, typer.Option("--debug", help="Show the traceback of every error.")]
    debug = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)

    @functools.wraps(command)
    def call(*, debug: bool, **values: Any) -> None:
        global _debug
        _debug = debug
        command(**values)

    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in signature.parameters.values()]
    call.__signature__ = inspect.Signature([*own, debug])  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, debug)}
    return call


@contextmanager
def reported() -> Iterator[None]:
    """Turn an expected error into one line and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except EXPECTED as error:
        show_traceback(error)
        give_up(files.reason(error))


def show_traceback(error: BaseException) -> None:
    """Print the traceback of a bug, and with --debug that of any error, on stderr."""
    if _debug or not isinstance(error, EXPECTED):
        for line in "".join(traceback.format_exception(error)).splitlines():
            print(printable(line), file=sys.stderr)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a missing library into a message that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or "a library"
        if missing.partition(".")[0] == "redecode":
            raise
        give_up(f"{missing} is not installed; this command needs: pip install 'redecode[{name}]'")


def progress_bar() -> Progress:
    """A progress bar of files on a terminal; elsewhere nothing is shown."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Refreshed on updates, without a thread. Text printed to the terminal meanwhile appears above the bar; a redirected stdout is not
    # touched.
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
