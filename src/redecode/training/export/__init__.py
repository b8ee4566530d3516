"""Export: from a training run's weights to the ONNX files and the record that the package ships."""

from __future__ import annotations

import copy
import hashlib
import io
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim

from ... import weights
from ...codec.jpeg import JpegImage
from ...errors import UsageError
from ...evaluation.datasets import data_path
from ...restoration.tiling import ALIGNMENT
from ..checkpoint import load_record, load_weights, orbit
from ..data import Sample, calibration_crops, calibration_samples, to_network
from ..equivariance import Conv, fixed
from ..networks import EdgeCNN, make_network, residual_blocks, zeroed
from ..pruning import GROUP, AnyNetwork, pruned
from .quantize import bare, halved, quantized
from .shrinkage_table import shrinkage_table

# Who chooses this preset has the time for exact skips and an exact output: a fifth more for 0.01 dB at QF 10 and 0.05 at fine qualities
# (docs/lab-notes/int8.md).
EXACT = "best-"
# Photographs to measure shrinkage on.
SHRINKAGE_CROPS = 800
# In grey levels.
HALO_TOLERANCE = 0.01
LICENCE = (
    "The weights are released under the project's licence. They were trained on photographs whose own licences differ (BSDS500 and "
    "ImageNet: research use; CID22: CC BY-SA 4.0; CLIC 2025: Unsplash licence; wallpapers: CC0, CC BY, CC BY-SA, GPL): whether that "
    "restricts the use of weights is a question of your jurisdiction."
)


class _Planes(nn.Module):
    """The restored planes alone: the edge map serves training only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, planes: Tensor, tables: Tensor) -> Tensor:
        result = self.network(planes, tables)
        restored: Tensor = result[0] if isinstance(result, tuple) else result
        return restored


@torch.no_grad()
def in_whole_groups(network: AnyNetwork) -> AnyNetwork:
    """The same network with as many zero maps beside those of the edge branch and of the output as make whole groups of GROUP."""
    result = copy.deepcopy(network)
    if isinstance(result, EdgeCNN):
        result.edge = _filled_up(result.edge, result.edge.in_channels, _whole(result.edge.out_channels))
        result.merge = _filled_up(result.merge, result.edge.in_channels + result.edge.out_channels, result.merge.out_channels)
    result.out = _filled_up(result.out, result.out.in_channels, _whole(result.out.out_channels))
    return result


def _whole(maps: int) -> int:
    return -(-maps // GROUP) * GROUP


def _filled_up(layer: Conv, inputs: int, outputs: int) -> Conv:
    filled = zeroed(Conv(fixed(inputs), fixed(outputs)))
    for name, value in layer.state_dict().items():
        filled.state_dict()[name][tuple(slice(side) for side in value.shape)] = value
    return filled


@torch.no_grad()
def halo(network: nn.Module, samples: Iterable[Sample], receptive_field: int) -> int:
    """The pixels around a tile that its result really depends on.

    The receptive field's outer parts have next to no weight: beyond some distance, no pixel changes the result by more than HALO_TOLERANCE.

    Args:
        network: takes planes and tables.
        samples: pictures to find that distance on; where they are too small to find it, the answer is the receptive field.
        receptive_field: its radius, which is the answer at most.
    """
    planes_of = _Planes(network).eval()
    needed = 0
    for sample in samples:
        planes, tables = sample["degraded"][None], sample["tables"][None]
        whole = planes_of(planes, tables)
        middle = planes.shape[-1] // (2 * ALIGNMENT) * ALIGNMENT
        # What lies right of the middle, from a picture that begins in the middle: how far in does it differ?
        difference = (planes_of(planes[..., middle:], tables) - whole[..., middle:]).abs().amax((0, 1, 2)) * 255
        needed = max(needed, *(difference > HALO_TOLERANCE).nonzero().flatten().add(1).tolist(), 0)
        if needed == len(difference):
            return receptive_field
    return min(needed, receptive_field)


def export(checkpoint: Path, name: str, folder: Path | None = None) -> Path:
    """Write `<name>.onnx`, its int8 form `<name>.int8.onnx`, for an Edge-CNN `<name>.shrinkage.npy`, and the record of all, `<name>.json`.

    Args:
        checkpoint: a `weights.safetensors` of a training run.
        name: "<preset>-edge" or "<preset>-texture".
        folder: where to write; None is the package's own redecode/weights.

    Returns:
        The path of the record.

    Raises:
        DependencyError: there is no such checkpoint, or no photographs to find the ranges of int8 with.
        UsageError: the name does not fit the checkpoint's network.
    """
    kind, config, state = load_weights(checkpoint)
    if name.rpartition("-")[2] != kind:
        raise UsageError(f"the checkpoint holds the {kind} network: its name must end in -{kind}")
    trained = make_network(kind, config)
    trained.load_state_dict(state)
    samples = calibration_samples(data_path("train"))
    run = load_record(checkpoint)
    network = pruned(trained, samples, orbit(run))
    sizes = {2: ALIGNMENT * Dim("rows", min=1), 3: ALIGNMENT * Dim("columns", min=1)}
    program = torch.onnx.export(
        _Planes(in_whole_groups(network)).eval(),
        (torch.zeros(1, 3, 64, 80), torch.ones(1, 2, 8, 8)),
        input_names=["planes", "tables"],
        output_names=["restored"],
        dynamic_shapes={"planes": sizes, "tables": {}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # None comes from the exporter that is not asked for here
    model = bare(program.model_proto)
    models: dict[weights.Precision, onnx.ModelProto] = {
        "float32": halved(model),
        "int8": quantized(model, samples, name.startswith(EXACT)),
    }
    folder = folder or Path(weights.__file__).parent
    written: dict[str, tuple[str, bytes]] = {
        precision: (weights.file_name(name, precision), form.SerializeToString()) for precision, form in models.items()
    }
    if kind == "edge":
        written["shrinkage"] = weights.shrinkage_file(name), _shrinkage_of(models["int8"])
    for file, data in written.values():
        (folder / file).write_bytes(data)
    record: dict[str, Any] = {
        "name": name,
        "sha256": {form: hashlib.sha256(data).hexdigest() for form, (_, data) in written.items()},
        "halo": halo(network, samples, config.receptive_field),
        "parameters": sum(p.numel() for p in network.parameters()),
        # What is left of the residual blocks; config has what was trained.
        "hidden_maps": [block.first.out_channels for block in residual_blocks(network)],
        **run,
        "licence": LICENCE,
    }
    record["sha256"]["record"] = weights.fingerprint(json.loads(json.dumps(record)))
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def _shrinkage_of(model: onnx.ModelProto) -> bytes:
    """The shrinkage table of a network, as a .npy file, in 16 bits; of its form in 8 bits, which is what most run."""
    session = onnxruntime.InferenceSession(model.SerializeToString())

    def restore(image: JpegImage) -> NDArray[np.float32]:
        inputs = {"planes": to_network(image.planes())[None].numpy(), "tables": image.tables().astype(np.float32)[None]}
        restored: NDArray[np.float32] = session.run(None, inputs)[0][0, : len(image.components)] * 255 + 128
        return restored

    file = io.BytesIO()
    crops = islice(calibration_crops(data_path("train")), SHRINKAGE_CROPS)
    np.save(file, shrinkage_table(restore, crops).astype(np.float16))
    return file.getvalue()
