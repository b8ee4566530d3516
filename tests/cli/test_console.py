"""What is an error of the user's, and what is a bug of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer

from redecode.cli import console, info, restore
from redecode.cli import main as cli
from redecode.errors import DependencyError, RedecodeError, UnreadableError, UsageError


@pytest.fixture(autouse=True)
def no_debug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_debug", False)


def outcome(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["redecode", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UnreadableError("this is no picture"), "this is no picture"),
        (UsageError("that makes no sense"), "that makes no sense"),
        (DependencyError("torch is missing"), "torch is missing"),
        (FileNotFoundError(2, "No such file or directory", "a.jpg"), "no such file or directory: a.jpg"),
        (MemoryError(), "there is not enough memory for this picture"),
    ],
)
def test_an_expected_error_is_one_line(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as raised, console.reported():
        raise error
    assert raised.value.exit_code == console.NOTHING_DONE
    assert capsys.readouterr().err == f"redecode: {line}\n"


@pytest.mark.parametrize("bug", [ValueError("shapes"), TypeError("int"), AssertionError(), KeyError("x"), IndexError()])
def test_a_bug_is_raised(bug: Exception) -> None:
    with pytest.raises(type(bug)), console.reported():
        raise bug


@pytest.mark.parametrize("debug", [False, True])
def test_debug_shows_the_traceback_of_an_expected_error(debug: bool, tmp_path: Path, monkeypatch, capsys) -> None:
    missing = tmp_path / "missing.jpg"
    assert outcome(monkeypatch, missing, *(["--debug"] if debug else [])) == console.NOTHING_DONE
    err = capsys.readouterr().err
    assert ("Traceback (most recent call last)" in err) == debug
    assert err.endswith(f"redecode: {missing}: no such file or directory\n")


def test_a_bug_in_one_file_shows_its_traceback_and_the_others_are_restored(tmp_path: Path, monkeypatch, capsys) -> None:
    def process(job, *_: object):
        if job.source.name == "bad.jpg":
            raise ValueError("operands could not be broadcast together")
        raise RedecodeError("expected")

    monkeypatch.setattr(restore, "_process", process)
    assert outcome(monkeypatch, tmp_path / "bad.jpg", tmp_path / "good.jpg") == console.NOTHING_DONE
    err = capsys.readouterr().err
    assert err.count("Traceback") == 1
    assert "in process" in err
    assert "bad.jpg: ValueError: operands could not be broadcast together\n" in err
    assert "good.jpg: expected\n" in err


@pytest.mark.parametrize("command", [*cli.COMMANDS, None])
def test_every_command_has_debug(command: str | None, monkeypatch, capsys) -> None:
    assert outcome(monkeypatch, *([command] if command else []), "--help") == 0
    assert "--debug" in capsys.readouterr().out


def test_debug_of_a_subcommand(tmp_path: Path, monkeypatch, capsys) -> None:
    assert info.info in cli.COMMANDS.values()
    assert outcome(monkeypatch, "info", tmp_path / "missing.jpg", "--debug") == console.NOTHING_DONE
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--token", ""], "an empty token protects nothing"),
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached from other machines: give --token-file, --token or REDECODE_TOKEN, or --insecure"),
        (["--host", "a..b", "--insecure"], "a..b is no name of a host"),
    ],
)
def test_what_serve_refuses(arguments: list[str], line: str, monkeypatch, capsys) -> None:
    monkeypatch.delenv("REDECODE_TOKEN", raising=False)
    assert outcome(monkeypatch, "serve", *arguments) == console.NOTHING_DONE
    assert capsys.readouterr().err == f"redecode: {line}\n"
