"""A complete run of bench/gpu_visit.py at a tiny size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from redecode.training import checkpoint, trainer  # noqa: E402

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu_visit.py"
RECIPE = """
equivariant = true
logarithmic = true
shrinkage = true
[schedule]
steps = 8
warmup = 2
validate_every = 4
soap = true
[network]
channels = 8
hidden = [8]
[data]
patch = 32
batch = 2
"""
LEVELS = "[[network.coarser]]\nchannels = 8\nhidden = [8]\n[data]"


@pytest.mark.slow
def test_a_whole_visit(photographs: Path, tmp_path: Path) -> None:
    flat, levels, photos = tmp_path / "flat.toml", tmp_path / "levels.toml", tmp_path / "photographs.zip"
    flat.write_text(RECIPE)
    levels.write_text(RECIPE.replace("[data]", LEVELS))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def visit(*arguments: object) -> str:
        command = [sys.executable, SCRIPT, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "4 photographs" in visit("pack", photos)
    environment["REDECODE_DATA"] = str(tmp_path / "nowhere")
    output = visit("stable", photos, tmp_path / "out", "--trial", flat, "--trial", levels, "--trial-seconds", 600, "--seconds", 900)
    winner = levels if f"{levels} goes on" in output else flat
    assert f"{winner} goes on" in output
    longer = tmp_path / "longer.toml"
    longer.write_text(winner.read_text().replace("steps = 8", "steps = 12"))
    visit("stable", photos, tmp_path / "more", "--recipe", longer, "--resume", tmp_path / "out", "--seconds", 900)
    visit("decay", photos, tmp_path / "end", "--recipe", longer, "--resume", tmp_path / "more", "--seconds", 900)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes((tmp_path / "end" / f"{trainer.WEIGHTS}.00").read_bytes())
    record = checkpoint.load_record(weights)
    assert (record["training"]["steps"], record["training"]["decay_steps"]) == (15, 3)
    assert len((tmp_path / "end" / trainer.CURVE).read_text().splitlines()) == 5
