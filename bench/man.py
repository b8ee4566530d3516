"""Write the manual page of `redecode` from the help of its commands.

python bench/man.py > redecode.1; man ./redecode.1
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from redecode import __version__
from redecode.cli import main as cli


def roff(text: str) -> str:
    """Escape text for troff."""
    lines = text.replace("\\", "\\e").replace("-", "\\-").splitlines()
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in lines)


def described(command: Any, context: Any) -> Iterator[str]:
    """Description, arguments and options of a command."""
    help_text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    yield roff(help_text)
    for parameter in command.params:
        entry = parameter.get_help_record(context)
        if entry is not None:
            name, told = entry
            yield f".TP\n\\fB{roff(name)}\\fR\n{roff(told)}"


def page() -> Iterator[str]:
    """The manual page, part by part."""
    restore, group = get_command(cli.restore_app), get_command(cli.command_app)
    context = restore.make_context("redecode", ["x"], resilient_parsing=True)
    yield f'.TH REDECODE 1 "" "redecode {__version__}" "User Commands"'
    yield ".SH NAME\nredecode \\- decode a JPEG again, better"
    yield f".SH SYNOPSIS\n\\fBredecode\\fR {roff(' '.join(restore.collect_usage_pieces(context)))}"
    for name in cli.COMMANDS:
        command = group.commands[name]  # type: ignore[attr-defined]
        yield f".br\n\\fBredecode {name}\\fR {roff(' '.join(command.collect_usage_pieces(context)))}"
    yield ".SH DESCRIPTION"
    yield from described(restore, context)
    for name in cli.COMMANDS:
        yield f".SH REDECODE {name.upper()}"
        yield from described(group.commands[name], context)  # type: ignore[attr-defined]
    yield ".SH EXIT STATUS\n0 all is well, 1 some of several files failed, 2 nothing was done, 130 interrupted."


if __name__ == "__main__":
    print("\n".join(page()))
