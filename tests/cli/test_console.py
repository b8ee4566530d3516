"""Errors of the user, and bugs of redecode."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import typer

from redecode.cli import console, info, restore, serve
from redecode.cli import main as cli
from redecode.errors import DependencyError, RedecodeError, UnreadableError, UsageError

ROOT = Path(__file__).parent.parent.parent


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
        (["--host", "a..b", "--insecure"], "a..b is not a valid host name"),
    ],
)
def test_what_serve_refuses(arguments: list[str], line: str, monkeypatch, capsys) -> None:
    monkeypatch.delenv("REDECODE_TOKEN", raising=False)
    assert outcome(monkeypatch, "serve", *arguments) == console.NOTHING_DONE
    assert capsys.readouterr().err == f"redecode: {line}\n"


def test_a_port_in_use_is_told_with_the_way_out(monkeypatch, capsys) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert outcome(monkeypatch, "serve", "--port", port) == console.NOTHING_DONE
    line = f"redecode: port {port} is in use already: choose another with --port, or give --port 0 for any free one\n"
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("asked", [False, True])
def test_serve_opens_the_page_where_asked(asked: bool, monkeypatch, capsys) -> None:
    uvicorn = pytest.importorskip("uvicorn")
    opened = threading.Event()
    addresses: list[str] = []
    monkeypatch.setattr(serve.webbrowser, "open", lambda address: (addresses.append(address), opened.set()))
    monkeypatch.setattr("redecode.server.app.create_app", lambda _: None)
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: opened.wait(5 if asked else 0))
    monkeypatch.setattr(serve.signal, "signal", lambda *_: None)
    assert outcome(monkeypatch, "serve", "--port", 0, *(["--open"] if asked else [])) == 0
    assert addresses == (capsys.readouterr().out.split() if asked else [])


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("redecode --textu", ["--texture"]),
        ("redecode photo.jpg --skip", ["--skip-existing"]),
        ("redecode --preset f", ["fast"]),
        ("redecode serve --op", ["--open"]),
        ("redecode inf", ["info"]),
        ("redecode se", []),
        ("redecode pho", []),
    ],
)
def test_completion(typed: str, offered: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    # If a file name begins like a command, the shell completes files.
    (tmp_path / "sea.jpg").touch()
    monkeypatch.setenv("_REDECODE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    monkeypatch.delenv("_TYPER_COMPLETE_ARGS", raising=False)
    assert outcome(monkeypatch) == 0
    assert capsys.readouterr().out.split() == offered


@pytest.mark.slow
def test_the_manual_page(tmp_path: Path) -> None:
    made = subprocess.run([sys.executable, ROOT / "bench" / "man.py"], capture_output=True, timeout=60)
    assert (made.returncode, made.stderr) == (0, b"")
    for command in cli.COMMANDS:
        assert f".SH REDECODE {command.upper()}".encode() in made.stdout
    groff = shutil.which("groff")
    if groff:
        shown = subprocess.run([groff, "-man", "-ww", "-Tascii", "-P-cbou"], input=made.stdout, capture_output=True, timeout=60)
        assert (shown.returncode, shown.stderr) == (0, b"")
        assert b"--same-size" in shown.stdout
