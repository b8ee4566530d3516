"""README and docs/results.md: their commands run as printed, their tables match results/, their links exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import types
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(#[\w-]+)?\)")
PAGES = [README, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")), *sorted((ROOT / "docs").rglob("*.md"))]
MAX_LINES = 130


def blocks(language: str) -> list[str]:
    return [content for name, content in BLOCK.findall(README.read_text(encoding="utf-8")) if name == language]


def commands() -> list[list[str]]:
    """Every line of README's shell blocks, without its comment."""
    return [words for block in blocks("sh") for line in block.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.fixture
def tables() -> types.ModuleType:
    """bench/tables.py."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "bench" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that README's commands need: photo.jpg, and album/ with pictures in a subfolder."""
    example = ROOT / "examples" / "parrots-q10.jpg"
    shutil.copy(example, tmp_path / "photo.jpg")
    (tmp_path / "album" / "summer").mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "buildings-q5.jpg", tmp_path / "album" / "summer" / "a.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check_server(command: list[str]) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            with urllib.request.urlopen(server.stdout.readline().strip(), timeout=60) as page:
                assert page.status == 200
            server.terminate()
            assert server.wait(60) == 0
        finally:
            server.kill()


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_tables_are_those_of_the_results(tables: types.ModuleType) -> None:
    for page in tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert tables.PLACE.search(text)
        assert tables.fill(text) == text, f"{page.name} is not up to date: run python bench/tables.py"


def test_readme_has_one_table_of_six_rows(tables: types.ModuleType) -> None:
    lines = [line for line in README.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert lines == tables.summary().splitlines()
    assert len(lines) == 2 + 6


@pytest.mark.slow
def test_commands_run_one_after_the_other_as_printed(folder: Path) -> None:
    ours = [words[1:] for words in commands() if words[0] == "redecode"]
    assert len(ours) >= 3
    for arguments in ours:
        command = [sys.executable, "-m", "redecode", *arguments]
        if arguments[0] == "serve":
            check_server([*command, "--port", "0"])
        else:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (arguments, done.stderr)
    assert (folder / "photo.redecoded.png").is_file()
    assert (folder / "restored" / "summer" / "a.png").is_file()


@pytest.mark.slow
def test_python_runs_as_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks("python")
    exec(compile(block, "README.md", "exec"), {})
    assert (folder / "photo.png").is_file()
    assert "% of the blocks" in capsys.readouterr().out


def test_other_commands_are_known() -> None:
    """Commands that are not run here: installation, and targets of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for words in commands():
        if words[0] == "make":
            assert words[1] in targets
        else:
            assert words[0] in ("redecode", "pip"), words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in LINK.findall(text):
        if "://" in target:
            continue
        path = page.parent / target
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor[1:] in slugs, target + anchor
