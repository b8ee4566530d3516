"""docs/python.md and docs/redecode.ipynb: their examples run as printed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_python_examples_run_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "examples" / "parrots-q10.jpg", tmp_path / "photo.jpg")
    (tmp_path / "album").mkdir()
    shutil.copy(ROOT / "examples" / "buildings-q5.jpg", tmp_path / "album" / "a.jpg")
    monkeypatch.chdir(tmp_path)
    for block in BLOCK.findall((ROOT / "docs" / "python.md").read_text(encoding="utf-8")):
        exec(compile(block, "python.md", "exec"), {})
    told = capsys.readouterr().out
    assert "<Decoded 768×512 RGB, quality 10, texture 1>" in told
    assert "this is not a picture that redecode reads" in told
    assert (tmp_path / "album" / "a.restored.png").is_file()


@pytest.mark.slow
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "docs")
    cells = json.loads((ROOT / "docs" / "redecode.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        assert not cell.get("outputs")  # Outputs of cells are not stored, so that they cannot be outdated.
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "redecode.ipynb", "exec"), names)
    assert names["decoded"]
