"""Training of Edge-CNN and Texture-GAN, on Lightning Fabric.

A run writes into its output folder: `checkpoint.safetensors` (the complete state, to resume on this machine or another),
`weights.safetensors` (the averaged weights with their record, for an export or a warm start), `curve.csv` and `curve.png` (the validation
curve). It ends after its steps or minutes, or on SIGTERM, and saves its state in each case.

The learning rate warms up, stays stable, and decays (see :class:`redecode.training.recipe.Schedule`): a run is either the stable part,
new or resumed from a checkpoint, or a decay that branches off from a checkpoint of the stable part.
"""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.utils.data import DataLoader, IterableDataset

from ..errors import UsageError
from ..evaluation.datasets import data_path
from . import checkpoint, shrinkage, validation
from .checkpoint import State, unwrapped
from .data import Crops, Draws, Sample
from .device_data import DevicePhotographs
from .equivariance import InvariantBasis
from .networks import Discriminator, NetworkName, make_network
from .objectives import Step, edge_step, texture_step
from .recipe import EdgeRecipe, TextureRecipe, read
from .soap import Soap
from .warm_start import warm_start_from

Report = Callable[[float, str], None]

CHECKPOINT = "checkpoint.safetensors"
WEIGHTS = "weights.safetensors"
CURVE = "curve.csv"
CHECKPOINT_SECONDS = 180


def _silent(fraction: float, message: str) -> None:
    pass


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
    """Train a network by a recipe.

    Several processes divide each batch between them and average the gradients, so that a recipe gives the same training on any number of
    processes: neither batch nor learning rate is scaled.

    Args:
        network: "edge" or "texture".
        recipe: a TOML file, see :mod:`redecode.training.recipe`.
        output: folder for checkpoints, weights and the curve; created if it does not exist.
        max_minutes: maximum training time in minutes, if the steps take longer. It limits the whole stable part, resumed time included, or
            the decay, whose learning rate then follows the time.
        resume: checkpoint to resume from, of the stable part or of a decay.
        decay: checkpoint of the stable part from which a decay branches off; the file is not changed.
        report: function that is called regularly with the progress, 0 … 1, and a line of text.
        devices: number of processes per machine, each with its own GPU if there are GPUs.
        nodes: number of machines.
        float32: whether to compute in 32 bits even where bfloat16 is faster. Weights and the optimizer's moments always have 32 bits.

    Raises:
        DependencyError: data, weights or a checkpoint are missing.
        UsageError: the recipe is invalid, or the processes cannot divide its batches evenly; or the checkpoint belongs to another network,
            or, with `decay`, to a decay.
    """
    plan = read(recipe, EdgeRecipe) if network == "edge" else read(recipe, TextureRecipe)
    if resume and decay:
        raise UsageError("give either a checkpoint to resume from or a checkpoint to branch a decay off from, not both")
    if decay and decay.resolve() == (output / CHECKPOINT).resolve():
        raise UsageError(f"a decay needs its own output folder: in this one it would replace {decay}")
    processes = devices * nodes
    if plan.data.batch % processes or plan.data.decay_batch % processes:
        raise UsageError(f"{recipe}: batch sizes must be multiples of the number of processes, {processes}")
    strategy = "ddp" if processes > 1 else "auto"
    fabric = Fabric(accelerator="auto", strategy=strategy, devices=devices, num_nodes=nodes, precision=_precision(float32))
    fabric.launch()
    fabric.seed_everything(plan.seed, verbose=False)
    output.mkdir(parents=True, exist_ok=True)
    state, step = _prepare(fabric, network, plan, recipe.parent)
    _load(state, network, plan, resume, decay)
    _Run(fabric, network, plan, recipe, output, state, step, report if fabric.is_global_zero else _silent).go(max_minutes)


def _load(state: State, name: NetworkName, plan: EdgeRecipe | TextureRecipe, resume: Path | None, decay: Path | None) -> None:
    """Load the checkpoint to resume from, or from which a decay branches off; without either, the state stays new.

    Raises:
        DependencyError, UsageError: as :func:`train`.
    """
    if found := resume or decay:
        checkpoint.load(found, name, plan.network, state)
    if decay:
        if state.branch:
            raise UsageError(f"{decay} is a checkpoint of a decay; a decay can branch off from the stable part only")
        state.branch = state.step, state.total_seconds


@dataclass(frozen=True)
class _Run:
    """A run from the state that was loaded to its end."""

    fabric: Fabric
    name: NetworkName
    plan: EdgeRecipe | TextureRecipe
    recipe: Path
    output: Path
    state: State
    step: Step
    report: Report

    def go(self, max_minutes: float | None) -> None:
        """Train until the steps or the minutes are over, or SIGTERM comes; validate and save now and then, and at the end."""
        fabric, state = self.fabric, self.state
        photographs = data_path("train")
        self.report(_progress(self.plan, state, max_minutes), "reading the photographs")
        crops = self._crops(photographs)
        samples = stream(fabric, crops, on_device=fabric.device.type == "cuda")
        held_out = validation.read(photographs)
        hardware = _hardware()
        saved = begun = time.monotonic()
        images = state.images
        with _stop_signal() as stopped:
            # The first process decides for all when to stop, so that none waits for another.
            while (progress := fabric.broadcast(1.0 if stopped.is_set() else _progress(self.plan, state, max_minutes))) < 1:
                began = time.monotonic()
                terms = self._advance(next(samples), progress)
                state.images += crops.batch
                state.seconds[hardware] = state.seconds.get(hardware, 0.0) + time.monotonic() - began
                if state.step % 20 == 0:
                    pace = (state.images - images) / (time.monotonic() - begun)
                    values = ", ".join(f"{name} {value.item():.4g}" for name, value in terms.items())
                    self.report(progress, f"step {state.step}: {values}, {pace:.3g} crops/s")
                if state.step % self.plan.schedule.validate_every == 0:
                    self._validate(held_out)
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self._save()
                    saved = time.monotonic()
        if not state.curve or state.curve[-1]["step"] != state.step:
            self._validate(held_out)
        self._save()
        fabric.barrier()
        self.report(1, f"{state.step} steps, {state.images} crops, {state.total_seconds / 60:.1f} minutes")

    def _crops(self, photographs: Path) -> Crops:
        """The samples that come next in the run."""
        data = self.plan.data
        crops = Crops(photographs, data, self.plan.seed, self.fabric.global_rank, self.fabric.world_size)
        crops.first = self.state.images
        if self.state.branch:
            crops.patch, crops.batch = data.decay_patch or crops.patch, data.decay_batch or crops.batch
        return crops

    def _advance(self, sample: Sample, progress: float) -> dict[str, Tensor]:
        """Take one step; returns the terms of the loss."""
        _set_rates(self.plan, self.state, progress)
        terms = self.step(self.fabric, self.state, sample)
        _update_ema(self.state, self.plan.schedule.ema)
        self.state.step += 1
        return terms

    def _validate(self, held_out: dict[str, list[Sample]]) -> None:
        """Validate the averaged weights, in the first process, and add the gains to the curve."""
        if not self.fabric.is_global_zero:
            return
        state, plan = self.state, self.plan
        network = make_network(self.name, plan.network)
        network.load_state_dict(state.ema)
        self.fabric.to_device(network.eval())

        def finish(planes: Tensor, sample: Sample) -> Tensor:
            return shrinkage.shrink(planes, sample) if isinstance(plan, EdgeRecipe) and plan.shrinkage else planes

        gains = validation.gains(network, held_out, finish, self.fabric.device)
        state.curve.append({"step": state.step, "images": state.images, "minutes": round(state.total_seconds / 60, 2)} | gains)

    def _save(self) -> None:
        """Write the checkpoint, the curve, and the averaged weights with their record, in the first process."""
        if not self.fabric.is_global_zero:
            return
        state, plan = self.state, self.plan
        checkpoint.save(self.output / CHECKPOINT, self.name, plan.network, state)
        if state.curve:
            validation.draw(self.output / CURVE, state.curve)
        record: dict[str, Any] = {
            "network": self.name,
            "config": msgspec.to_builtins(plan.network),
            "recipe": {"file": self.recipe.name, **msgspec.to_builtins(plan)},
            "training": {
                "steps": state.step,
                "images_seen": state.images,
                "decay_steps": state.step - state.branch[0] if state.branch else 0,
                "hours": round(state.total_seconds / 3600, 3),
                "hardware": {name: round(seconds / 3600, 3) for name, seconds in state.seconds.items()},
            },
        }
        if plan.start:
            # After a warm start, the record includes the record of the starting weights.
            record["start"] = checkpoint.load_record(self.recipe.parent / plan.start)
        checkpoint.save_weights(self.output / WEIGHTS, state, record)


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that a terminated run saves its state first."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # only the main thread can handle signals
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)


def _prepare(fabric: Fabric, name: NetworkName, plan: EdgeRecipe | TextureRecipe, folder: Path) -> tuple[State, Step]:
    # All batches have the same shape, so cuDNN's benchmark pays off.
    torch.backends.cudnn.benchmark = True
    network = make_network(name, plan.network)
    fabric.to_device(network)
    basis = InvariantBasis(network) if plan.equivariant else None
    if basis:
        basis.begin()
    if plan.start:
        warm_start_from(folder / plan.start, network, plan.equivariant)
    if basis:
        basis.read()
    modules: dict[str, nn.Module] = {"network": network}
    if isinstance(plan, EdgeRecipe):
        step = edge_step(plan)
    else:
        modules["discriminator"] = Discriminator(plan.texture.discriminator_width)
        step = texture_step(fabric, plan)
    optimizers: dict[str, Optimizer] = {}
    for key, module in modules.items():
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if fabric.device.type == "cuda":
            module.compile()
        modules[key] = fabric.setup(module)
        optimizer: Optimizer = Adam(module.parameters())
        if plan.schedule.soap and key == "network":
            optimizer = Soap(basis.coordinates if basis else module.parameters())
        optimizers[key] = fabric.setup_optimizers(optimizer)  # type: ignore[assignment]
    ema = {key: value.detach().clone() for key, value in network.state_dict().items()}
    return State(modules, optimizers, basis=basis, ema=ema), step


def _progress(plan: EdgeRecipe | TextureRecipe, state: State, max_minutes: float | None) -> float:
    """Progress of the stable part, or of the decay, 0 … 1."""
    begun, seconds = state.branch or (0, 0.0)
    share = plan.schedule.decay
    total = begun * share / (1 - share) if state.branch else plan.schedule.steps
    steps = (state.step - begun) / max(1, round(total))
    return max(steps, (state.total_seconds - seconds) / 60 / max_minutes) if max_minutes else steps


def _set_rates(plan: EdgeRecipe | TextureRecipe, state: State, progress: float) -> None:
    warm = min(1.0, (state.step + 1) / max(1, plan.schedule.warmup))
    share = state.rate = warm * (1 - progress if state.branch else 1)
    rates = {"network": plan.schedule.learning_rate}
    if isinstance(plan, TextureRecipe):
        rates["discriminator"] = plan.texture.discriminator_learning_rate
    for name, optimizer in state.optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = rates[name] * share


@torch.no_grad()
def _update_ema(state: State, decay: float) -> None:
    decay = min(decay, (1 + state.step) / (10 + state.step))
    for name, value in unwrapped(state.modules["network"]).state_dict().items():
        state.ema[name].lerp_(value, 1 - decay)


def stream(fabric: Fabric, crops: Crops, on_device: bool) -> Iterator[Sample]:
    """An endless stream of batches on the training device.

    Args:
        fabric: gives the device and the processes.
        crops: the samples; each process gets its share of a batch.
        on_device: whether to compute samples on the device, from photographs in its memory; otherwise worker processes compute them.
    """
    workers = max(1, min(14, (os.cpu_count() or 1) - 1))
    source: IterableDataset[Any] = Draws(crops) if on_device else crops
    share = crops.batch // crops.processes
    loader = DataLoader(source, batch_size=share, num_workers=workers, prefetch_factor=4, pin_memory=torch.cuda.is_available())
    photographs = DevicePhotographs(crops.images, crops.shrunk, fabric.device) if on_device else None
    batch: Any
    for batch in fabric.setup_dataloaders(loader, use_distributed_sampler=False):
        sample: Sample = photographs.samples(batch, crops.patch) if photographs else batch
        sample["degraded"] = sample["degraded"].contiguous(memory_format=torch.channels_last)
        yield sample


def _precision(float32: bool) -> Literal["bf16-mixed", "32-true"]:
    # bfloat16 halves the time of a step on processors with instructions for it, and is slower on others. Older releases of torch do not
    # tell which instructions there are.
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    fast = torch.cuda.is_available() or capabilities.get("avx512_bf16", False)
    return "bf16-mixed" if fast and not float32 else "32-true"


def _hardware() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} {platform.machine()} CPU cores, {torch.backends.cpu.get_cpu_capability()}"
