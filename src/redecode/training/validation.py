"""Validation during training: the gain over the plain decode on held-out photographs, and its curve."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import DependencyError
from . import losses
from .data import Sample, validation_set

# Columns of the curve: quality factor and subsampling of the files. Values are the mean gain in PSNR over the plain decode, in dB, on luma
# for gray files and on RGB for colour files.
COLUMNS = {"gray QF 10": (10, None), "colour QF 10": (10, "4:2:0"), "gray QF 5": (5, None), "gray QF 40": (40, None)}
IMAGES = 24
SIDE = 192

# Postprocessing of the restored planes before they are measured.
Finish = Callable[[Tensor, Sample], Tensor]


def read(photographs: Path) -> dict[str, list[Sample]]:
    """The held-out crops of each column.

    Raises:
        DependencyError: no held-out photograph is large enough.
    """
    sets = {name: validation_set(photographs, quality, sampling, IMAGES, SIDE) for name, (quality, sampling) in COLUMNS.items()}
    if not all(sets.values()):
        raise DependencyError("no held-out photograph is large enough to validate on; REDECODE_DATA/train needs more photographs")
    return {name: [{key: value[None] for key, value in sample.items()} for sample in samples] for name, samples in sets.items()}


@torch.no_grad()
def gains(network: nn.Module, crops: dict[str, list[Sample]], finish: Finish, device: torch.device) -> dict[str, float]:
    """Mean gain over the plain decode in dB, for each column.

    Args:
        network: the network, on the device and in evaluation mode.
        crops: held-out crops from :func:`read`.
        finish: postprocessing of the restored planes before they are measured.
        device: device to compute on.
    """
    found = {}
    for column, samples in crops.items():
        gray = column.startswith("gray")
        total = 0.0
        for sample in samples:
            sample = {key: value.to(device) for key, value in sample.items()}
            result = network(sample["degraded"], sample["tables"])
            restored = finish(result[0] if isinstance(result, tuple) else result, sample)
            total += _psnr(restored, sample["original"], gray) - _psnr(sample["degraded"], sample["original"], gray)
        found[column] = total / len(samples)
    return found


def _psnr(planes: Tensor, original: Tensor, gray: bool) -> float:
    if gray:
        error = (planes[:, :1] - original[:, :1]).square().mean()
    else:
        error = (losses.to_rgb(planes).clamp(0, 1) - losses.to_rgb(original)).square().mean()
    return -10 * math.log10(error.item())


def draw(path: Path, curve: list[dict[str, float]]) -> None:
    """Write a curve as a CSV file, and as a PNG file of the same name.

    Args:
        path: path of the CSV file. It is rewritten completely, so that steps which a resumed run repeats appear once.
        curve: rows with "step", "images", "minutes" and the columns of :data:`COLUMNS`.
    """
    from matplotlib.figure import Figure

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, curve[-1])
        writer.writeheader()
        writer.writerows({key: f"{value:.4f}" if key in COLUMNS else value for key, value in row.items()} for row in curve)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in COLUMNS:
        axes.plot([row["step"] for row in curve], [row[name] for row in curve], label=name)
    axes.set(xlabel="step", ylabel="gain over the plain decode, dB", title="held-out training photographs")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path.with_suffix(".png"), dpi=100)
