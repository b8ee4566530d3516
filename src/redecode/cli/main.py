"""The command `redecode`.

Its default verb takes files: `redecode photo.jpg`. Beside it stand the subcommands of COMMANDS, chosen where the first argument is the
very name of one; a file of such a name is given as `./train`. These are two Typer apps and one `if` (in :func:`main`), so
that `redecode --help` shows the options of the verb that nearly everybody wants.

Exit codes: 0 all is well, 1 some of several files failed, 2 nothing was done (wrong usage, or the single file failed), 130 interrupted.

Nothing heavy is imported before there is work: `--help` and `--version` answer at once.
"""

from __future__ import annotations

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
    "redecode photo.jpg writes photo.redecoded.png beside it. Several files and whole folders (subfolders included) go "
    "beside their originals too, or into the folder given with -o. - is stdin, and -o - is stdout."
)
# \b keeps the lines of a paragraph as they are.
_EPILOG = (
    "\b\nCommands, each with its own --help (a file of such a name is given as ./train):\n"
    "  redecode info    tell what a file is\n"
    "  redecode serve   open the page on this machine\n"
    "  redecode onnx    write the whole method as one ONNX file\n"
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
    "onnx": portable.onnx,
    "train": development.train,
    "export": development.export,
    "bench": development.bench,
    "figure": development.figure,
}


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


# Not decorators: they would hide the commands' own parameters from the type checker.
restore_app.command(help=_HELP, epilog=_EPILOG, no_args_is_help=True)(
    with_debug(with_options(restore, unset={"format": "by the suffix of -o, else png"}))
)
for _verb, _command in COMMANDS.items():
    command_app.command(_verb)(with_debug(_command))
