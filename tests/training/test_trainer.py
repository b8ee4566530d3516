from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

import onnxruntime  # noqa: E402
from lightning_fabric import Fabric  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from redecode import weights  # noqa: E402
from redecode.codec import jpeg  # noqa: E402
from redecode.errors import DependencyError  # noqa: E402
from redecode.restoration.shrinkage import TABLE_SHAPE  # noqa: E402
from redecode.restoration.tiling import ALIGNMENT  # noqa: E402
from redecode.training import checkpoint, data, losses, perceptual, recipe, trainer  # noqa: E402
from redecode.training.export import export  # noqa: E402
from redecode.training.networks import EdgeCNN, NetworkConfig, make_network  # noqa: E402

NETWORK = "[network]\nchannels = 8\nhidden = [8]\n"
SHRINKAGE = "logarithmic = true\nshrinkage = true\n"
DATA = "[data]\npatch = 32\nbatch = 2\ndecay_patch = 48\ndecay_batch = 1\n"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def write_recipe(path: Path, steps: int, extra: str = "", losses: str = "") -> Path:
    schedule = f"[schedule]\nsteps = {steps}\nwarmup = 2\nvalidate_every = 4\nsoap = true\nema = 0.9\n"
    path.write_text(losses + schedule + NETWORK + DATA + extra)
    return path


@pytest.mark.slow
def test_edge_trains_through_the_shrinkage_resumes_and_exports(photographs: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    said: list[str] = []
    short = write_recipe(tmp_path / "short.toml", 6, losses=SHRINKAGE)
    trainer.train("edge", short, output, report=lambda fraction, text: said.append(text))
    assert "6 steps" in said[-1]
    trainer.train("edge", write_recipe(tmp_path / "long.toml", 9, losses=SHRINKAGE), output, resume=output / trainer.CHECKPOINT)
    with (output / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [4, 6, 8, 9]
    assert [int(row["images"]) for row in rows] == [8, 12, 16, 18]
    assert (output / "curve.png").stat().st_size > 0

    record = checkpoint.load_record(output / trainer.WEIGHTS)
    assert record["training"]["steps"] == 9
    assert record["recipe"]["schedule"]["soap"] is True
    exported = json.loads(export(output / trainer.WEIGHTS, "tiny-edge", tmp_path).read_text())
    assert 0 <= exported["halo"] <= NetworkConfig(channels=8, hidden=(8,)).receptive_field
    name, config, state = checkpoint.load_weights(output / trainer.WEIGHTS)
    assert name == "edge"
    network = EdgeCNN(config)
    network.load_state_dict(state)
    # The weights of the float32 network are stored in 16 bits.
    for precision, tolerance in (("float32", 1e-4), ("int8", 1e-2)):
        file = tmp_path / weights.file_name("tiny-edge", precision)
        assert hashlib.sha256(file.read_bytes()).hexdigest() == exported["sha256"][precision]
        assert b'.py"' not in file.read_bytes(), "the exporter's notes on source files make equal networks unequal"
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        for height, width in ((16, 16), (48, 80)):
            planes, tables = torch.rand(1, 3, height, width) - 0.5, torch.full((1, 2, 8, 8), 33.0)
            (ours,) = session.run(None, {"planes": planes.numpy(), "tables": tables.numpy()})
            with torch.no_grad():
                np.testing.assert_allclose(ours, network(planes, tables)[0], atol=tolerance)
    table = tmp_path / weights.shrinkage_file("tiny-edge")
    assert hashlib.sha256(table.read_bytes()).hexdigest() == exported["sha256"]["shrinkage"]
    assert np.load(table).shape == TABLE_SHAPE
    with pytest.raises(ValueError, match="-edge"):
        export(output / trainer.WEIGHTS, "tiny-texture", tmp_path)


def trained(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint."""
    return load_file(path / trainer.CHECKPOINT)


@pytest.mark.slow
@pytest.mark.parametrize("equivariant", [True, False])
def test_an_interrupted_run_is_the_uninterrupted_one(photographs: Path, tmp_path: Path, equivariant: bool) -> None:
    head = f"equivariant = {str(equivariant).lower()}\n" + SHRINKAGE
    whole, first, second = (tmp_path / name for name in ("whole", "first", "second"))
    trainer.train("edge", write_recipe(tmp_path / "7.toml", 7, losses=head), whole)
    trainer.train("edge", write_recipe(tmp_path / "3.toml", 3, losses=head), first)
    # As on another machine: a new folder, and nothing but the checkpoint.
    trainer.train("edge", tmp_path / "7.toml", second, resume=first / trainer.CHECKPOINT)
    expected = trained(whole)
    for name, value in trained(second).items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-5)
    with (second / "curve.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [3, 4, 7]


@pytest.mark.slow
def test_a_decay_branches_off_and_leaves_the_stable_part_alone(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    set_rates = trainer._set_rates

    def watched(plan: recipe.Recipe, state: checkpoint.State, progress: float) -> None:
        set_rates(plan, state, progress)
        rates.append(state.optimizers["network"].param_groups[0]["lr"])

    monkeypatch.setattr(trainer, "_set_rates", watched)
    stable, decay = tmp_path / "stable", tmp_path / "decay"
    path = write_recipe(tmp_path / "r.toml", 12, losses=SHRINKAGE)
    trainer.train("edge", path, stable)
    assert rates == pytest.approx([0.5e-3] + [1e-3] * 11)
    rates.clear()
    before = (stable / trainer.CHECKPOINT).read_bytes()
    trainer.train("edge", path, decay, decay=stable / trainer.CHECKPOINT)
    # A fifth of all 15 steps.
    assert rates == pytest.approx([1e-3, 2e-3 / 3, 1e-3 / 3])
    assert (stable / trainer.CHECKPOINT).read_bytes() == before
    assert checkpoint.load_record(decay / trainer.WEIGHTS)["training"]["steps"] == 15
    assert checkpoint.load_record(decay / trainer.WEIGHTS)["training"]["decay_steps"] == 3
    assert checkpoint.load_record(stable / trainer.WEIGHTS)["training"]["decay_steps"] == 0
    with (decay / "curve.csv").open() as file:
        # The curve includes the stable part; the decay sees one crop per step.
        assert [(int(row["step"]), int(row["images"])) for row in csv.DictReader(file)] == [(4, 8), (8, 16), (12, 24), (15, 27)]
    with pytest.raises(ValueError, match="decay"):
        trainer.train("edge", path, tmp_path / "again", decay=decay / trainer.CHECKPOINT)
    with pytest.raises(ValueError, match="its own output folder"):
        trainer.train("edge", path, stable, decay=stable / trainer.CHECKPOINT)
    other = write_recipe(tmp_path / "other.toml", 20)
    other.write_text(other.read_text().replace("hidden = [8]", "hidden = [16]"))
    with pytest.raises(ValueError, match="another network"):
        trainer.train("edge", other, tmp_path / "other", resume=stable / trainer.CHECKPOINT)


@pytest.mark.slow
def test_an_interrupted_decay_goes_on_to_its_end(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_recipe(tmp_path / "r.toml", 12, losses=SHRINKAGE)
    trainer.train("edge", path, tmp_path / "stable")
    progress = trainer._progress
    monkeypatch.setattr(trainer, "_progress", lambda plan, state, minutes: 1.0 if state.step == 14 else progress(plan, state, minutes))
    trainer.train("edge", path, tmp_path / "decay", decay=tmp_path / "stable" / trainer.CHECKPOINT)
    assert checkpoint.load_record(tmp_path / "decay" / trainer.WEIGHTS)["training"]["steps"] == 14
    monkeypatch.undo()
    monkeypatch.setenv("REDECODE_DATA", str(photographs))
    trainer.train("edge", path, tmp_path / "decay", resume=tmp_path / "decay" / trainer.CHECKPOINT)
    assert checkpoint.load_record(tmp_path / "decay" / trainer.WEIGHTS)["training"]["steps"] == 15


@pytest.mark.slow
def test_sigterm_saves_and_ends(photographs: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "r.toml", 100_000, losses=SHRINKAGE)
    command = [sys.executable, "-m", "redecode", "train", "edge", "--recipe", path, "--output", tmp_path / "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("step" in line for line in process.stderr)
        process.terminate()
        process.stderr.read()
        assert process.wait(60) == 0
    assert checkpoint.load_record(tmp_path / "run" / trainer.WEIGHTS)["training"]["steps"] >= 20


@pytest.mark.slow
def test_an_equivariant_network_stays_so(photographs: Path, tmp_path: Path) -> None:
    plan = write_recipe(tmp_path / "plan.toml", 5)
    plan.write_text("equivariant = true\n" + plan.read_text())
    trainer.train("edge", plan, tmp_path / "run")
    assert checkpoint.orbit(checkpoint.load_record(tmp_path / "run" / trainer.WEIGHTS)) == 8
    more = write_recipe(tmp_path / "more.toml", 2)
    more.write_text('equivariant = true\nstart = "run/weights.safetensors"\n' + more.read_text().replace("[8]", "[16, 8]"))
    trainer.train("edge", more, tmp_path / "more")
    name, config, state = checkpoint.load_weights(tmp_path / "more" / trainer.WEIGHTS)
    network = make_network(name, config)
    network.load_state_dict(state)
    planes, tables = torch.rand(1, 3, 32, 32) - 0.5, torch.rand(1, 2, 8, 8) * 40 + 1
    with torch.no_grad():
        result, turned = network(planes, tables)[0], network(planes.transpose(2, 3).contiguous(), tables.transpose(2, 3))[0]
    assert (result - planes).abs().max() > 1e-4, "it has learnt nothing"
    torch.testing.assert_close(turned.transpose(2, 3), result, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_an_equivariant_network_starts_from_one_that_is(photographs: Path, tmp_path: Path) -> None:
    trainer.train("edge", write_recipe(tmp_path / "plan.toml", 1), tmp_path / "run")
    more = write_recipe(tmp_path / "more.toml", 1)
    more.write_text('equivariant = true\nstart = "run/weights.safetensors"\n' + more.read_text())
    with pytest.raises(ValueError, match="equivariant"):
        trainer.train("edge", more, tmp_path / "more")


@pytest.mark.slow
def test_texture_trains_with_all_four_terms(photographs: Path, tmp_path: Path) -> None:
    save_vgg(photographs / "vgg19.safetensors", "vgg19", 10)
    save_vgg(photographs / "vgg16.safetensors", "vgg16", 21)
    trainer.train("edge", write_recipe(tmp_path / "edge.toml", 1), tmp_path / "edge")
    texture = (
        '[texture]\nmatching_weights = "vgg19.safetensors"\nperceptual_network = "vgg16"\nperceptual_weights = "vgg16.safetensors"\n'
        "discriminator_width = 2\n"
    )
    path = write_recipe(tmp_path / "texture.toml", 20, texture)
    path.write_text('start = "edge/weights.safetensors"\n' + path.read_text())
    said: list[str] = []
    trainer.train("texture", path, tmp_path / "texture", report=lambda fraction, text: said.append(text))
    assert all(term in said[-2] for term in ("mse", "percep", "tm", "adv", "D"))
    name, _, state = checkpoint.load_weights(tmp_path / "texture" / trainer.WEIGHTS)
    assert name == "texture"
    assert all(value.isfinite().all() for value in state.values())
    assert checkpoint.load_record(tmp_path / "texture" / trainer.WEIGHTS)["start"]["training"]["steps"] == 1
    start = load_file(tmp_path / "edge" / trainer.WEIGHTS)
    assert not torch.equal(start["trunk.stem.weight"], state["trunk.stem.weight"])


@pytest.mark.slow
def test_texture_trains_with_lpips(photographs: Path, tmp_path: Path) -> None:
    save_vgg(photographs / "vgg19.safetensors", "vgg19", 10)
    texture = (
        '[texture]\nmatching_weights = "vgg19.safetensors"\nperceptual_network = "lpips"\nperceptual_weights = "alexnet.safetensors"\n'
        "discriminator_width = 2\n"
    )
    path = write_recipe(tmp_path / "texture.toml", 2, texture)
    with pytest.raises(DependencyError, match=r"alexnet\.safetensors"):
        trainer.train("texture", path, tmp_path / "texture")
    save_alexnet(photographs / "alexnet.safetensors")
    trainer.train("texture", path, tmp_path / "texture")
    _, _, state = checkpoint.load_weights(tmp_path / "texture" / trainer.WEIGHTS)
    assert all(value.isfinite().all() for value in state.values())


def save_alexnet(path: Path) -> None:
    """LPIPS with random weights."""
    state = {}
    shapes = [(0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3)]
    for layer, (index, inputs, outputs, side) in enumerate(shapes):
        state[f"features.{index}.weight"] = torch.randn(outputs, inputs, side, side).half() / (side * inputs**0.5)
        state[f"features.{index}.bias"] = torch.zeros(outputs).half()
        state[f"lin{layer}.weight"] = torch.rand(1, outputs, 1, 1).half()
    save_file(state, path)


def save_vgg(path: Path, architecture: str, last: int) -> None:
    """A VGG with random weights, cut after features.<last>."""
    widths = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256)}
    widths |= {12: (256, 256), 14: (256, 256), 17: (256, 512), 19: (512, 512), 21: (512, 512)} if architecture == "vgg16" else {}
    state = {}
    for index, (inputs, outputs) in widths.items():
        if index <= last:
            state[f"features.{index}.weight"] = torch.randn(outputs, inputs, 3, 3).half() / (3 * inputs**0.5)
            state[f"features.{index}.bias"] = torch.zeros(outputs).half()
    save_file(state, path)


def test_vgg_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match=r"missing\.safetensors"):
        perceptual.Vgg("vgg19", tmp_path / "missing.safetensors", ["relu1_1"])
    save_vgg(tmp_path / "short.safetensors", "vgg19", 5)
    with pytest.raises(DependencyError, match=r"features\.7"):
        perceptual.Vgg("vgg19", tmp_path / "short.safetensors", ["relu3_1"])


def test_resuming_needs_a_checkpoint(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(DependencyError, match="checkpoint"):
        trainer.train("edge", write_recipe(tmp_path / "r.toml", 1), tmp_path / "run", resume=tmp_path / "empty" / trainer.CHECKPOINT)


@pytest.mark.slow
def test_a_batch_can_be_overfitted(photograph: np.ndarray) -> None:
    torch.manual_seed(0)
    sample = data.make_sample(np.ascontiguousarray(photograph[:64, :64]), 10, "4:2:0")
    planes, original, tables = (sample[k][None] for k in ("degraded", "original", "tables"))
    network = EdgeCNN(NetworkConfig(channels=16, hidden=(16, 16)))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    start = losses.mse(planes, original).item()
    for _ in range(60):
        loss = losses.mse(network(planes, tables)[0], original)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.8 * start


def test_crops_are_reproducible_and_keep_the_block_grid(photographs: Path) -> None:
    config = data.DataConfig(patch=32, batch=1, gray=0.5)
    first, second = (iter(data.Crops(photographs / "train", config, seed=5)) for _ in range(2))
    for _ in range(12):
        a, b = next(first), next(second)
        assert all(torch.equal(a[key], b[key]) for key in a)
        assert a["degraded"].shape == a["original"].shape == (3, 32, 32)
        # Every block of the crop is one block of the file: its luma has no energy beyond the quantized frequencies.
        steps = a["tables"][0].numpy()
        luma = a["degraded"][0].numpy() * 255
        coefficients = jpeg.dct.forward(jpeg.dct.to_blocks(luma)) / steps
        np.testing.assert_allclose(coefficients, np.rint(coefficients), atol=1e-2)


def test_crops_do_not_depend_on_how_they_are_shared_out(photographs: Path) -> None:
    config = data.DataConfig(patch=32, batch=4)
    alone = iter(data.Crops(photographs / "train", config, seed=5))
    pair = [iter(data.Crops(photographs / "train", config, seed=5, rank=rank, processes=2)) for rank in range(2)]
    later = data.Crops(photographs / "train", config, seed=5)
    later.first = 4
    resumed = iter(later)
    for step in range(2):
        whole = [next(alone)["degraded"] for _ in range(4)]
        shared = [next(pair[rank])["degraded"] for rank in (0, 0, 1, 1)]
        assert all(torch.equal(a, b) for a, b in zip(whole, shared, strict=True))
        if step == 1:
            assert torch.equal(whole[0], next(resumed)["degraded"])


@pytest.mark.slow
@pytest.mark.parametrize(("network", "soap"), [("edge", False), ("texture", False), ("edge", True)])
def test_two_processes_train_like_one(photographs: Path, tmp_path: Path, network: str, soap: bool) -> None:
    save_vgg(photographs / "vgg19.safetensors", "vgg19", 10)
    save_vgg(photographs / "vgg16.safetensors", "vgg16", 21)
    path = tmp_path / "r.toml"
    yes = str(soap).lower()
    texture = (
        '[texture]\nmatching_weights = "vgg19.safetensors"\nperceptual_network = "vgg16"\nperceptual_weights = "vgg16.safetensors"\n'
        "discriminator_width = 2\n"
    )
    path.write_text(
        f"equivariant = {yes}\n[schedule]\nsteps = 20\nwarmup = 2\nsoap = {yes}\n{NETWORK}[data]\npatch = 32\nbatch = 2\n"
        + (texture if network == "texture" else "")
    )
    curves, weights = [], []
    for devices in (1, 2):
        output = tmp_path / str(devices)
        run = ["train", network, "--recipe", path, "--output", output, "--devices", str(devices), "--float32"]
        command = [sys.executable, "-m", "redecode", *run]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr.decode()
        with (output / "curve.csv").open() as file:
            curves.append([float(row["gray QF 10"]) for row in csv.DictReader(file)])
        weights.append(load_file(output / trainer.WEIGHTS))
    np.testing.assert_allclose(curves[0], curves[1], atol=1e-4)
    for name, value in weights[0].items():
        # SOAP also takes full steps along directions with tiny gradients, where rounding errors show, most of all in features
        # computed from tables, of which forty crops have only a few.
        apart = (5e-3 if name.startswith("trunk.bias.") else 1e-3) if soap else 1e-4
        torch.testing.assert_close(value, weights[1][name], atol=apart, rtol=0)


def test_batches_must_be_shared_out_evenly(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiples of the number of processes, 2"):
        trainer.train("edge", write_recipe(tmp_path / "r.toml", 1), tmp_path / "run", devices=2)


def test_validation_images_are_never_trained_on(tmp_path: Path) -> None:
    for i in range(60):
        (tmp_path / f"{i:02}.png").touch()
    train, held_out = (set(data.list_images(tmp_path, validation=v)) for v in (False, True))
    assert not train & held_out
    assert len(train | held_out) == 60
    assert len(held_out) == 3
    with pytest.raises(DependencyError, match="no photographs"):
        data.list_images(tmp_path / "nowhere", validation=False)


def test_recipes_in_the_project_are_sound() -> None:
    folder = Path(__file__).parents[2] / "recipes"
    for path in folder.glob("*.toml"):
        plan = recipe.read(path, recipe.TextureRecipe if "texture" in path.name else recipe.EdgeRecipe)
        assert plan.data.patch % ALIGNMENT == 0, path.name
        assert plan.data.decay_patch % ALIGNMENT == 0, path.name


def test_stable_checkpoints_in_the_project_can_be_resumed() -> None:
    root = Path(__file__).parents[2]
    paths = sorted((root / "checkpoints" / "stable").glob("*.safetensors"))
    assert paths
    for path in paths:
        assert path.stat().st_size < 16 * 2**20
        plan = recipe.read(root / "recipes" / f"{path.stem}.toml", recipe.EdgeRecipe)
        state, _ = trainer._prepare(Fabric(accelerator="cpu"), "edge", plan, root / "recipes")
        checkpoint.load(path, "edge", plan.network, state)
        assert state.branch is None
        assert state.step > 0
        assert state.optimizers["network"].state_dict()["state"], "without its moments a run would begin anew"
        with (root / "docs" / "curves" / f"{path.stem}.csv").open() as file:
            rows = [int(row["step"]) for row in csv.DictReader(file)]
        assert rows == [row["step"] for row in state.curve]


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("steps = ", "recipe"),
        ("[schedule]\nsteps = 1\nspeed = 2", "schedule: object contains unknown field speed"),
        ("[schedule]\nwarmup = 1", "schedule: object missing required field steps"),
        ("seed = 1", "object missing required field schedule"),
        ('[schedule]\nsteps = "many"', "schedule.steps: expected int, got str"),
        ("[schedule]\nsteps = 1.5", "schedule.steps: expected int, got float"),
        ("[schedule]\nsteps = 1\n[network]\nhidden = [8, true]", r"network.hidden\[1\]: expected int, got bool"),
        ("[schedule]\nsteps = 1\n[[network.coarser]]\nchannels = 8", r"network.coarser\[0\]: object missing required field hidden"),
        ("[schedule]\nsteps = 1\n[texture]\nadversarial = 1", "unknown field texture"),
    ],
)
def test_faulty_recipes(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        recipe.read(path, recipe.EdgeRecipe)


@pytest.mark.slow
def test_the_command_refuses_a_faulty_recipe_in_one_sentence(photographs: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[schedule]\nsteps = "many"\n')
    command = [sys.executable, "-m", "redecode", "train", "edge", "--recipe", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert f"{path}: schedule.steps: expected int, got str" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert set(tmp_path.iterdir()) == {photographs, path}
