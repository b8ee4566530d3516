"""From a checkpoint to the ONNX file and the record that the package ships."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from .. import weights
from ..tiling import ALIGNMENT
from .loop import load_record, load_weights, make_network

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


def export(checkpoint: Path, name: str, folder: Path | None = None) -> Path:
    """Write `<name>.onnx` and its record `<name>.json`.

    Args:
        checkpoint: a `weights.safetensors` of a training run.
        name: "<preset>-edge" or "<preset>-texture".
        folder: where to write; None is the package's own redecode/weights.

    Returns:
        The path of the ONNX file.

    Raises:
        DependencyError: there is no such checkpoint.
        ValueError: the name does not fit the checkpoint's network.
    """
    kind, config, state = load_weights(checkpoint)
    if name.rpartition("-")[2] != kind:
        raise ValueError(f"the checkpoint holds the {kind} network: its name must end in -{kind}")
    network = make_network(kind, config)
    network.load_state_dict(state)
    sizes = {2: ALIGNMENT * Dim("rows", min=1), 3: ALIGNMENT * Dim("columns", min=1)}
    program = torch.onnx.export(
        _Planes(network).eval(),
        (torch.zeros(1, 3, 64, 80), torch.ones(1, 2, 8, 8)),
        input_names=["planes", "tables"],
        output_names=["restored"],
        dynamic_shapes={"planes": sizes, "tables": {}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # None comes from the exporter that is not asked for here
    onnx = program.model_proto.SerializeToString()
    folder = folder or Path(weights.__file__).parent
    path = folder / f"{name}.onnx"
    path.write_bytes(onnx)
    record = {
        "name": name,
        "sha256": hashlib.sha256(onnx).hexdigest(),
        "halo": config.halo,
        "parameters": sum(p.numel() for p in network.parameters()),
        **load_record(checkpoint),
        "licence": LICENCE,
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path
