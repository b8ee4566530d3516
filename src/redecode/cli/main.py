"""The command `redecode`.

The default command restores files: `redecode photo.jpg`. If the first argument is the name of a subcommand in COMMANDS, that subcommand
runs; a file of such a name is given as `./train`. These are two Typer apps and one `if` (in :func:`main`), so that `redecode --help`
shows the options of the default command, which nearly everybody uses.

Exit codes: 0 success, 1 some of several files failed, 2 nothing was done (wrong usage, or the single file failed), 130 interrupted.

Slow imports happen only when a command runs, so that `--help` and `--version` answer at once.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable

import typer

from . import bulk, development, info, portable, serve
from .console import with_debug
from .parameters import ENGINE, with_options
from .restore import restore

_HELP = (
    "Decode a JPEG again, better: artifacts gone, edges true, textures alive.\n\n"
    "redecode photo.jpg writes photo.redecoded.png next to it. Results of several files and of whole folders (subfolders included) go "
    "next to their originals too, or into the folder given with -o. - is stdin, and -o - is stdout."
)
# \b keeps the lines of a paragraph as they are.
_EPILOG = (
    "\b\nCommands, each with its own --help (a file named like a command is given as ./train):\n"
    "  redecode info    print facts about files\n"
    "  redecode serve   serve the web page and the HTTP API from this machine\n"
    "  redecode page    write the page as static files for any web host, without a server\n"
    "  redecode onnx    write the whole method as one ONNX file\n"
    "  redecode bulk    restore archives: folders and object stores, on one machine or a cluster\n"
    "  redecode train   train a network by a recipe\n"
    "  redecode export  turn a checkpoint into the weights that the package ships\n"
    "  redecode bench   measure quality on sets of originals\n"
    "  redecode figure  draw details of restored pictures"
)

# Plain help: Typer's coloured help takes longer to import than everything else that --help needs.
restore_app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
command_app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
COMMANDS: dict[str, Callable[..., None]] = {
    "info": info.info,
    "serve": with_options(serve.serve, ENGINE, {"max_pixels": 64}),
    "bulk": with_options(bulk.bulk),
    "page": portable.page,
    "onnx": portable.onnx,
    "train": development.train,
    "export": development.export,
    "bench": development.bench,
    "figure": development.figure,
}


def main() -> None:
    """Entry point of the command `redecode`."""
    arguments = sys.argv[1:]
    if os.name == "posix" and hasattr(sys.stdout, "reconfigure"):
        # File names are bytes: print those that are not valid text unchanged.
        sys.stdout.reconfigure(errors="surrogateescape")
    typed = _typed()
    first = (arguments or typed or [""])[0]
    # During completion, an incomplete first word can be the beginning of a command.
    partial = len(typed) == 1 and any(name.startswith(first) for name in COMMANDS) and not glob.glob(f"{glob.escape(first)}*")
    app = command_app if first in COMMANDS or partial else restore_app
    app(arguments, prog_name="redecode")


def _typed() -> list[str]:
    """The words after the program's name on the command line that a shell wants to complete."""
    if "_REDECODE_COMPLETE" not in os.environ:
        return []
    return (os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")).split()[1:]


@command_app.callback()
def _commands() -> None:
    """Decode a JPEG again, better. (For restoring pictures see: redecode --help)"""


# Not as decorators, which would hide the commands' own parameters from the type checker.
restore_app.command(help=_HELP, epilog=_EPILOG, no_args_is_help=True)(
    with_debug(with_options(restore, unset={"format": "by the suffix of -o, else png"}))
)
for _verb, _command in COMMANDS.items():
    command_app.command(_verb)(with_debug(_command))
