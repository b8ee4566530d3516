"""Export of a training run's weights to the ONNX files and the record that the package ships."""

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

# Prefix of the preset whose int8 networks compute skips and output in 32 bits: a fifth more time for 0.01 dB at QF 10 and 0.05 dB at fine
# qualities (docs/lab-notes/int8.md).
EXACT = "best-"
# Number of photographs to measure the shrinkage table on.
SHRINKAGE_CROPS = 800
# Largest change of the result, in grey levels, that counts as none when the halo is measured.
HALO_TOLERANCE = 0.01
LICENCE = (
    "The weights are released under the project's licence. They were trained on photographs whose own licences differ (BSDS500 and "
    "ImageNet: research use; CID22: CC BY-SA 4.0; CLIC 2025: Unsplash licence; wallpapers: CC0, CC BY, CC BY-SA, GPL): whether that "
    "restricts the use of weights is a question of your jurisdiction."
)


class _Planes(nn.Module):
    """The network with the restored planes as its only output: the edge map is for training only."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, planes: Tensor, tables: Tensor) -> Tensor:
        result = self.network(planes, tables)
        restored: Tensor = result[0] if isinstance(result, tuple) else result
        return restored


@torch.no_grad()
def in_whole_groups(network: AnyNetwork) -> AnyNetwork:
    """Pad the maps of the edge branch and of the output with zero maps to whole groups of GROUP; the results are the same."""
    result = copy.deepcopy(network)
    if isinstance(result, EdgeCNN):
        result.edge = _padded(result.edge, result.edge.in_channels, _round_up(result.edge.out_channels))
        result.merge = _padded(result.merge, result.edge.in_channels + result.edge.out_channels, result.merge.out_channels)
    result.out = _padded(result.out, result.out.in_channels, _round_up(result.out.out_channels))
    return result


def _round_up(maps: int) -> int:
    return -(-maps // GROUP) * GROUP


def _padded(layer: Conv, inputs: int, outputs: int) -> Conv:
    padded = zeroed(Conv(fixed(inputs), fixed(outputs)))
    for name, value in layer.state_dict().items():
        padded.state_dict()[name][tuple(slice(side) for side in value.shape)] = value
    return padded


@torch.no_grad()
def halo(network: nn.Module, samples: Iterable[Sample], receptive_field: int) -> int:
    """Measure the halo: the width in pixels of the border around a tile that its result depends on.

    The outer part of the receptive field has next to no weight: pixels beyond the halo change the result by at most HALO_TOLERANCE.

    Args:
        network: network with planes and tables as inputs.
        samples: pictures to measure on.
        receptive_field: radius of the receptive field in pixels, an upper bound of the halo.

    Returns:
        The halo in pixels; the radius of the receptive field if the pictures are too small to measure it.
    """
    planes_of = _Planes(network).eval()
    needed = 0
    for sample in samples:
        planes, tables = sample["degraded"][None], sample["tables"][None]
        whole = planes_of(planes, tables)
        middle = planes.shape[-1] // (2 * ALIGNMENT) * ALIGNMENT
        # Restore the right half alone and compare: up to which distance from the cut does the result differ?
        difference = (planes_of(planes[..., middle:], tables) - whole[..., middle:]).abs().amax((0, 1, 2)) * 255
        needed = max(needed, *(difference > HALO_TOLERANCE).nonzero().flatten().add(1).tolist(), 0)
        if needed == len(difference):
            return receptive_field
    return min(needed, receptive_field)


def export(checkpoint: Path, name: str, folder: Path | None = None) -> Path:
    """Export a network: `<name>.onnx`, `<name>.int8.onnx`, for an Edge-CNN `<name>.shrinkage.npy`, and their record `<name>.json`.

    Args:
        checkpoint: a `weights.safetensors` of a training run.
        name: "<preset>-edge" or "<preset>-texture".
        folder: folder to write to; None for the package's own, redecode/weights.

    Returns:
        The path of the record.

    Raises:
        DependencyError: the checkpoint does not exist, or there are no photographs to calibrate int8 on.
        UsageError: the name does not fit the kind of the checkpoint's network.
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
    assert program is not None  # Only the older exporter, without dynamo, returns None.
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
        # Hidden maps of the residual blocks after pruning; "config" has those before.
        "hidden_maps": [block.first.out_channels for block in residual_blocks(network)],
        **run,
        "licence": LICENCE,
    }
    record["sha256"]["record"] = weights.fingerprint(json.loads(json.dumps(record)))
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def _shrinkage_of(model: onnx.ModelProto) -> bytes:
    """The shrinkage table as a .npy file with 16-bit values, measured on the int8 network, which most users run."""
    session = onnxruntime.InferenceSession(model.SerializeToString())

    def restore(image: JpegImage) -> NDArray[np.float32]:
        inputs = {"planes": to_network(image.planes())[None].numpy(), "tables": image.tables().astype(np.float32)[None]}
        restored: NDArray[np.float32] = session.run(None, inputs)[0][0, : len(image.components)] * 255 + 128
        return restored

    file = io.BytesIO()
    crops = islice(calibration_crops(data_path("train")), SHRINKAGE_CROPS)
    np.save(file, shrinkage_table(restore, crops).astype(np.float16))
    return file.getvalue()
