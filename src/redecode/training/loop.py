"""The training loops of Edge-CNN and Texture-GAN, on Lightning Fabric.

A run writes into its output folder: `checkpoint.safetensors` (all that is needed to resume, on this machine or another),
`weights.safetensors` (the averaged weights with their record, to export or to start from), `curve.csv` and `curve.png` (the validation
curve). It ends when its steps or minutes are done, or early, with everything saved, on SIGTERM.

The learning rate warms up, stays, and decays (see :class:`redecode.training.recipe.Schedule`): a run is either the stable part, from
its beginning or from one of its checkpoints, or a decay that branches off from a stable checkpoint.
"""

from __future__ import annotations

import copy
import csv
import json
import math
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils.data import DataLoader

from ..errors import DependencyError
from ..evaluation.datasets import data_path
from . import cells, losses
from .data import Crops, Sample, calibration_samples, validation_set
from .dead import pruned, redraw_bias, shortened
from .networks import Discriminator, EdgeCNN, NetworkConfig, TextureGenerator, take_over
from .perceptual import LearnedDistance, Vgg, VggDistance, perceptual_distance
from .recipe import Recipe, TextureLoss, as_table
from .recipe import read as read_recipe
from .soap import Soap
from .symmetry import ORBIT, Symmetry

NetworkName = Literal["edge", "texture"]
Report = Callable[[float, str], None]

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
CHECKPOINT_SECONDS = 180
# What a checkpoint holds of a state beside its tensors.
COUNTERS = ("step", "images", "seconds", "branch", "curve")
# The curve's columns: mean gain over the plain decode in dB on held-out photographs; luma for gray files, RGB for colour.
VALIDATION = {"gray QF 10": (10, None), "colour QF 10": (10, "4:2:0"), "gray QF 5": (5, None), "gray QF 40": (40, None)}
VALIDATION_IMAGES = 24
VALIDATION_SIDE = 192


@dataclass
class State:
    """What changes in the course of a run, and what a checkpoint holds.

    Attributes:
        modules: "network", and "discriminator" for the GAN.
        optimizers: that of each module, under the same name; rates are set at each step.
        rate: of the network, as a share of that in the stable part.
        symmetry: of the network, where it is kept; with SOAP, its coordinates are what is optimized.
        ema: the moving average of the network's weights.
        step: optimizer steps done.
        images: crops seen.
        seconds: of training, without validation, on each kind of hardware.
        branch: step and seconds at which the decay branched off; None in the stable part.
        curve: rows of the validation curve, the whole lineage's.
    """

    modules: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    rate: float = 0.0
    symmetry: Symmetry | None = None
    ema: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    images: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    branch: tuple[int, float] | None = None
    curve: list[dict[str, float]] = field(default_factory=list)

    @property
    def total_seconds(self) -> float:
        """Of training, without validation."""
        return sum(self.seconds.values())


def _silent(fraction: float, message: str) -> None:
    pass


Step = Callable[[Fabric, State, Sample], dict[str, Tensor]]


def train(
    network: NetworkName,
    recipe: Path,
    output: Path,
    max_minutes: float | None = None,
    resume: Path | None = None,
    decay: Path | None = None,
    report: Report = _silent,
    devices: int = 1,
    nodes: int = 1,
    float32: bool = False,
) -> None:
    """Train a network by its recipe.

    With several processes every one takes its share of each batch and the gradients are averaged, so that the recipe means the same on
    any number of them: neither batch nor learning rate are scaled.

    Args:
        network: "edge" or "texture".
        recipe: a TOML file, see :mod:`redecode.training.recipe`.
        output: folder for checkpoints, weights and the curve; made where missing.
        max_minutes: end after so many minutes of training where the steps are not done before: of the stable part all in all, resumed time
            included, or of the decay, whose rate then follows the time.
        resume: a checkpoint to go on from, of the stable part or of a decay.
        decay: a checkpoint of the stable part from which a decay branches off; the checkpoint stays as it is.
        report: called now and then with the share done and a line of text.
        devices: processes on each machine, each with a GPU of its own where there are any.
        nodes: machines.
        float32: compute in 32 bits even where bfloat16 is faster. Weights and their gradients' moments have 32 bits either way.

    Raises:
        DependencyError: data, weights or a checkpoint are missing.
        ValueError: the recipe is faulty, or its batches cannot be shared out evenly; or the checkpoint is of another network, or of
            a decay, which nothing can branch off from.
    """
    plan = read_recipe(recipe)
    if resume and decay:
        raise ValueError("a run either resumes or branches off a decay")
    if decay and decay.resolve() == (output / CHECKPOINT).resolve():
        raise ValueError(f"a decay needs an output folder of its own: it would replace {decay}")
    processes = devices * nodes
    if plan.data.batch % processes or plan.data.decay_batch % processes:
        raise ValueError(f"{recipe}: its batches cannot be shared out evenly among {processes} processes")
    strategy = "ddp" if processes > 1 else "auto"
    fabric = Fabric(accelerator="auto", strategy=strategy, devices=devices, num_nodes=nodes, precision=_precision(float32))
    fabric.launch()
    fabric.seed_everything(plan.seed, verbose=False)
    if not fabric.is_global_zero:
        report = _silent
    output.mkdir(parents=True, exist_ok=True)
    state, step = _prepare(fabric, network, plan, recipe.parent)
    if checkpoint := resume or decay:
        _load_checkpoint(checkpoint, network, plan, state)
    if decay:
        if state.branch:
            raise ValueError(f"{decay} belongs to a decay; only the stable part can be branched off from")
        state.branch = state.step, state.total_seconds
    photographs = data_path("train")
    report(_progress(plan, state, max_minutes), "reading the photographs")
    crops = Crops(photographs, plan.data, plan.seed, fabric.global_rank, fabric.world_size)
    crops.first = state.images
    if state.branch:
        crops.patch, crops.batch = plan.data.decay_patch or crops.patch, plan.data.decay_batch or crops.batch
    samples = _stream(fabric, crops)
    validation = {
        name: _collate(validation_set(photographs, quality, sampling, VALIDATION_IMAGES, VALIDATION_SIDE))
        for name, (quality, sampling) in VALIDATION.items()
    }
    saved = time.monotonic()
    hardware = _hardware()
    with _stop_signal() as stopped:
        # All processes go by one clock.
        while (progress := fabric.broadcast(1.0 if stopped.is_set() else _progress(plan, state, max_minutes))) < 1:
            began = time.monotonic()
            _set_rates(plan, state, progress)
            sample = next(samples)
            terms = step(fabric, state, sample)
            _update_ema(state, plan.schedule.ema)
            state.step += 1
            state.images += crops.batch
            state.seconds[hardware] = state.seconds.get(hardware, 0.0) + time.monotonic() - began
            if state.step % 20 == 0:
                report(progress, f"step {state.step}: " + ", ".join(f"{name} {value.item():.4g}" for name, value in terms.items()))
            if state.step % plan.schedule.validate_every == 0 and fabric.is_global_zero:
                _log(output, state, _validate(fabric, network, plan, state, validation))
            if time.monotonic() - saved > CHECKPOINT_SECONDS and fabric.is_global_zero:
                _save(output, network, plan, recipe, state)
                saved = time.monotonic()
    if fabric.is_global_zero:
        if not state.curve or state.curve[-1]["step"] != state.step:
            _log(output, state, _validate(fabric, network, plan, state, validation))
        _save(output, network, plan, recipe, state)
    fabric.barrier()
    report(1, f"{state.step} steps, {state.images} crops, {state.total_seconds / 60:.1f} minutes")


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that a run that is told to end saves what it has."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # only the main thread can handle signals
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def _prepare(fabric: Fabric, name: NetworkName, plan: Recipe, folder: Path) -> tuple[State, Step]:
    network = make_network(name, plan.network)
    fabric.to_device(network)
    symmetry = Symmetry(network) if plan.symmetric else None
    if symmetry:
        symmetry.begin()
    if plan.start:
        _start_from(folder / plan.start, network, plan.symmetric)
    if symmetry:
        symmetry.read()
    modules: dict[str, nn.Module] = {"network": network}
    step: Step
    if name == "edge":
        step = _edge_step(plan)
    else:
        modules["discriminator"] = Discriminator(plan.texture.discriminator_width)
        step = _texture_step(plan, *_feature_networks(fabric, plan.texture))
    optimizers: dict[str, Optimizer] = {}
    for key, module in modules.items():
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        modules[key] = fabric.setup(module)
        optimizer: Optimizer = Adam(module.parameters())
        if plan.schedule.soap and key == "network":
            optimizer = Soap(symmetry.coordinates if symmetry else module.parameters())
        optimizers[key] = fabric.setup_optimizers(optimizer)  # type: ignore[assignment]
    ema = {key: value.detach().clone() for key, value in network.state_dict().items()}
    return State(modules, optimizers, symmetry=symmetry, ema=ema), step


def make_network(name: NetworkName, config: NetworkConfig) -> EdgeCNN | TextureGenerator:
    """A network with fresh weights."""
    return EdgeCNN(config) if name == "edge" else TextureGenerator(config)


def _start_from(path: Path, network: EdgeCNN | TextureGenerator, symmetric: bool) -> None:
    together = maps_together(load_record(path))
    if symmetric and together == 1:
        raise ValueError(f"a symmetric network cannot start from {path}, whose network is not")
    name, config, state = load_weights(path)
    trained = make_network(name, config)
    trained.load_state_dict(state)
    if isinstance(network, TextureGenerator) and isinstance(trained, EdgeCNN):
        edge_cnn, trained = trained, TextureGenerator(config)
        trained.start_from(edge_cnn)
    samples = calibration_samples(data_path("train"))
    # What is dead would stay dead: it makes room for maps that can learn.
    fresh = copy.deepcopy(network)
    take_over(network, shortened(pruned(trained, samples, together), samples, len(network.config.hidden)))
    if network.config.conditioned:
        redraw_bias(network, fresh, samples)


def _feature_networks(fabric: Fabric, texture: TextureLoss) -> tuple[Vgg, VggDistance | LearnedDistance]:
    def path(name: str) -> Path | None:
        return data_path(*Path(name).parts) if name else None

    matching = Vgg(texture.matching_network, path(texture.matching_weights), texture.matching_layers)
    perceptual = perceptual_distance(texture.perceptual_network, path(texture.perceptual_weights))
    matching.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    fabric.to_device(matching)
    fabric.to_device(perceptual)
    return matching, perceptual


def _edge_step(plan: Recipe) -> Step:
    def fidelity(restored: Tensor, original: Tensor, rate: float) -> Tensor:
        high, low = losses.LOG_FLOORS
        return losses.log_mse(restored, original, low + rate * (high - low)) if plan.logarithmic else losses.mse(restored, original)

    def step(fabric: Fabric, state: State, sample: Sample) -> dict[str, Tensor]:
        original = losses.to_rgb(sample["original"])
        planes, edge = state.modules["network"](sample["degraded"], sample["tables"])
        if plan.through_cells:
            planes = cells.estimate(planes, sample)
        fidelity_loss = fidelity(losses.to_rgb(planes), original, state.rate)
        edge_loss = losses.edge_fidelity(edge, losses.edge_map(original))
        _descend(fabric, plan, state, "network", losses.base(fidelity_loss, edge_loss, plan.edge_weight))
        return {"fidelity": fidelity_loss.detach(), "edge": edge_loss.detach()}

    return step


def _texture_step(plan: Recipe, matching: Vgg, perceptual: VggDistance | LearnedDistance) -> Step:
    weights = plan.texture
    # A patch is 16×16 pixels; each pooling before a layer halves it on that layer's grid.
    patches = [16 >> (int(name[4]) - 1) for name in weights.matching_layers]

    def step(fabric: Fabric, state: State, sample: Sample) -> dict[str, Tensor]:
        discriminator = state.modules["discriminator"]
        original = losses.to_rgb(sample["original"])
        restored = losses.to_rgb(state.modules["network"](sample["degraded"], sample["tables"]))
        mse = losses.mse(restored, original)
        percep = perceptual(restored, original)
        adversarial_weight = weights.adversarial if state.step >= weights.discriminator_warmup else 0.0
        # The discriminator past the wrapper that averages gradients: this pass is for the generator's alone.
        with fabric.autocast():
            with torch.no_grad():
                matching_original = [features.float() for features in matching(original)]
            matching_restored = [features.float() for features in matching(restored)]
            adv = losses.adversarial(_frozen(discriminator, restored))
        tm = losses.texture_matching(matching_restored, matching_original, patches, weights.matching_layer_weights)
        total = losses.texture(mse, percep, tm, adv, (weights.perceptual, weights.texture_matching, adversarial_weight))
        total = total + weights.blocking * losses.blocking(restored, original)
        _descend(fabric, plan, state, "network", total)
        logits = discriminator(torch.cat([original, restored.detach()]))
        d = losses.discriminator(*logits.chunk(2))
        _descend(fabric, plan, state, "discriminator", d)
        return {"mse": mse.detach(), "percep": percep.detach(), "tm": tm.detach(), "adv": adv.detach(), "D": d.detach()}

    return step


def _frozen(wrapped: nn.Module, inputs: Tensor) -> Tensor:
    """A pass through a module's plain self that gives gradients to its inputs only."""
    module = _plain(wrapped)
    module.requires_grad_(False)
    outputs: Tensor = module(inputs)
    module.requires_grad_(True)
    return outputs


def _descend(fabric: Fabric, plan: Recipe, state: State, name: str, loss: Tensor) -> None:
    module, optimizer = state.modules[name], state.optimizers[name]
    symmetry = state.symmetry if name == "network" else None
    module.zero_grad()
    fabric.backward(loss)
    trained = list(module.parameters())
    if symmetry and plan.schedule.soap:
        symmetry.read_gradients()
        trained = symmetry.coordinates
    elif symmetry:
        # To Adam, which scales each weight's step by itself, coordinates are not the same as weights.
        symmetry.average_gradients()
    if name == "network":
        nn.utils.clip_grad_norm_(trained, plan.schedule.clip)
    optimizer.step()
    if symmetry and plan.schedule.soap:
        symmetry.write()


def _progress(plan: Recipe, state: State, max_minutes: float | None) -> float:
    """The share done of the stable part, or of the decay."""
    begun, seconds = state.branch or (0, 0.0)
    share = plan.schedule.decay
    total = begun * share / (1 - share) if state.branch else plan.schedule.steps
    steps = (state.step - begun) / max(1, round(total))
    return max(steps, (state.total_seconds - seconds) / 60 / max_minutes) if max_minutes else steps


def _set_rates(plan: Recipe, state: State, progress: float) -> None:
    warm = min(1.0, (state.step + 1) / max(1, plan.schedule.warmup))
    share = state.rate = warm * (1 - progress if state.branch else 1)
    for name, optimizer in state.optimizers.items():
        stable = plan.schedule.learning_rate if name == "network" else plan.texture.discriminator_learning_rate
        for group in optimizer.param_groups:
            group["lr"] = stable * share


@torch.no_grad()
def _update_ema(state: State, decay: float) -> None:
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for name, value in _plain(state.modules["network"]).state_dict().items():
        state.ema[name].lerp_(value, 1 - decay)


def _plain(module: nn.Module) -> nn.Module:
    """The module behind Fabric's wrapper, so that the names in checkpoints are the networks' own."""
    return module.module if hasattr(module, "module") else module  # type: ignore[return-value]


def _stream(fabric: Fabric, crops: Crops) -> Iterator[Sample]:
    workers = max(1, min(14, (os.cpu_count() or 1) - 1))
    share = crops.batch // crops.processes
    loader = DataLoader(crops, batch_size=share, num_workers=workers, prefetch_factor=4, pin_memory=torch.cuda.is_available())
    sample: Sample
    # Crops shares itself out among the processes.
    for sample in fabric.setup_dataloaders(loader, use_distributed_sampler=False):  # type: ignore[assignment]
        sample["degraded"] = sample["degraded"].contiguous(memory_format=torch.channels_last)
        yield sample


def _collate(samples: list[Sample]) -> Sample:
    if not samples:
        raise DependencyError("no held-out photograph is large enough to validate on; REDECODE_DATA/train needs more photographs")
    return {key: torch.stack([s[key] for s in samples]) for key in samples[0]}


@torch.no_grad()
def _validate(
    fabric: Fabric, name: NetworkName, plan: Recipe, state: State, validation: dict[str, Sample]
) -> dict[str, float]:
    network = make_network(name, plan.network)
    network.load_state_dict(state.ema)
    fabric.to_device(network.eval())
    gains = {}
    for column, samples in validation.items():
        total = 0.0
        count = len(samples["degraded"])
        for i in range(count):
            sample = fabric.to_device({key: value[i : i + 1] for key, value in samples.items()})
            result = network(sample["degraded"], sample["tables"])
            restored = result[0] if isinstance(result, tuple) else result
            if plan.through_cells:
                restored = cells.estimate(restored, sample)
            gray = column.startswith("gray")
            total += _psnr(restored, sample["original"], gray) - _psnr(sample["degraded"], sample["original"], gray)
        gains[column] = total / count
    return gains


def _psnr(planes: Tensor, original: Tensor, gray: bool) -> float:
    if gray:
        error = (planes[:, :1] - original[:, :1]).square().mean()
    else:
        error = (losses.to_rgb(planes).clamp(0, 1) - losses.to_rgb(original)).square().mean()
    return -10 * math.log10(error.item())


def _log(output: Path, state: State, gains: dict[str, float]) -> None:
    state.curve.append({"step": state.step, "images": state.images, "minutes": round(state.total_seconds / 60, 2)} | gains)
    path = output / "curve.csv"
    # The whole curve anew: what a resumed run repeats is not in it twice.
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, state.curve[-1])
        writer.writeheader()
        writer.writerows({key: f"{value:.4f}" if key in gains else value for key, value in row.items()} for row in state.curve)
    _plot(path)


def _plot(curve: Path) -> None:
    from matplotlib.figure import Figure

    with curve.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in VALIDATION:
        axes.plot([int(r["step"]) for r in rows], [float(r[name]) for r in rows], label=name)
    axes.set(xlabel="step", ylabel="gain over the plain decode, dB", title="held-out training photographs")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(curve.with_suffix(".png"), dpi=100)


def _save(output: Path, name: NetworkName, plan: Recipe, recipe: Path, state: State) -> None:
    tensors: dict[str, Tensor] = {}
    for key, module in state.modules.items():
        weights = {"module": _plain(module).state_dict()} | ({"ema": state.ema} if key == "network" else {})
        for kind, values in weights.items():
            if state.symmetry and key == "network":
                # An eighth as much to keep; and for the weights being trained exactly what the optimizer sees.
                coordinates = state.symmetry.of(list(values.values())) if kind == "ema" else state.symmetry.coordinates
                values = {str(index): value for index, value in enumerate(coordinates)}
            tensors |= {f"{kind}.{key}.{entry}": value for entry, value in values.items()}
        for index, moments in state.optimizers[key].state_dict()["state"].items():
            tensors |= {f"optimizer.{key}.{index}.{entry}": value for entry, value in moments.items()}
    counters = {key: getattr(state, key) for key in COUNTERS}
    owner = {"network": name, "config": as_table(plan)["network"]}
    _write(output / CHECKPOINT, tensors, {"counters": json.dumps(counters), "owner": json.dumps(owner)})
    record = {
        "network": name,
        "config": as_table(plan)["network"],
        "recipe": {"file": recipe.name, **as_table(plan)},
        "training": {
            "steps": state.step,
            "images_seen": state.images,
            "decay_steps": state.step - state.branch[0] if state.branch else 0,
            "hours": round(state.total_seconds / 3600, 3),
            "hardware": {name: round(seconds / 3600, 3) for name, seconds in state.seconds.items()},
        },
    }
    if plan.start:
        # A network trained in stages carries the record of every stage.
        record["start"] = load_record(recipe.parent / plan.start)
    _write(output / WEIGHTS, state.ema, {"record": json.dumps(record)})


def _precision(float32: bool) -> Literal["bf16-mixed", "32-true"]:
    # On processors without instructions for it bfloat16 is slower; on those with them a step takes half the time.
    # Earlier releases of torch do not tell.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = torch.cuda.is_available() or capabilities.get("avx512_bf16", False)
    return "bf16-mixed" if fast and not float32 else "32-true"


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} {platform.machine()} CPU cores, {torch.backends.cpu.get_cpu_capability()}"


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    # Replaced whole: a run that is killed while it writes leaves the previous checkpoint.
    temporary = path.with_suffix(".partial")
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, temporary, metadata)
    os.replace(temporary, path)


def _load_checkpoint(path: Path, name: NetworkName, plan: Recipe, state: State) -> None:
    if not path.exists():
        raise DependencyError(f"there is no checkpoint {path} to resume from")
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        if "owner" not in metadata:
            raise DependencyError(f"{path} is no checkpoint of a training run")
        # Through JSON, as what was written.
        if json.loads(metadata["owner"]) != json.loads(json.dumps({"network": name, "config": as_table(plan)["network"]})):
            raise ValueError(f"{path} is a checkpoint of another network than the recipe's")
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)

    def under(prefix: str) -> dict[str, Tensor]:
        return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}

    def load(kind: str, key: str, into: dict[str, Tensor]) -> None:
        values = under(f"{kind}.{key}.")
        if state.symmetry and key == "network":
            coordinates = [values[str(index)].to(like.device) for index, like in enumerate(state.symmetry.coordinates)]
            state.symmetry.spread(coordinates, list(into.values()))
            if kind == "module":
                torch._foreach_copy_([each.data for each in state.symmetry.coordinates], coordinates)
        else:
            torch._foreach_copy_(list(into.values()), [values[entry].to(value.device) for entry, value in into.items()])

    load("ema", "network", state.ema)
    for key, module in state.modules.items():
        load("module", key, _plain(module).state_dict())
        optimizer = state.optimizers[key]
        moments: dict[int, dict[str, Tensor]] = {}
        for entry, value in under(f"optimizer.{key}.").items():
            index, _, moment = entry.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    for key, value in json.loads(metadata["counters"]).items():
        setattr(state, key, value)


def load_record(path: Path) -> dict[str, Any]:
    """The record of a `weights.safetensors`: network, config, recipe and what was really run.

    Raises:
        DependencyError: the file is missing or was not written by a training run.
    """
    if not path.exists():
        raise DependencyError(f"there are no weights at {path}")
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if "record" not in metadata:
        raise DependencyError(f"{path} was not written by redecode train")
    return dict(json.loads(metadata["record"]))


def maps_together(record: dict[str, Any]) -> int:
    """How many maps of a recorded network belong together: those of an orbit, if it is symmetric."""
    return ORBIT if record["recipe"].get("symmetric") else 1


def load_weights(path: Path) -> tuple[NetworkName, NetworkConfig, dict[str, Tensor]]:
    """Name, config and averaged weights of a `weights.safetensors`; raises as :func:`load_record`."""
    record = load_record(path)
    with safe_open(path, "pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (safe_open is no mapping)
    config = record["config"]
    return record["network"], NetworkConfig(**config | {"hidden": tuple(config["hidden"])}), state
