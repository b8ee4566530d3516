"""The networks at work, on ONNX Runtime."""

from __future__ import annotations

import io
import threading
import time
from functools import cache

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from .. import weights
from ..errors import DependencyError
from ..weights import Precision
from . import tiling

# Where the program had loaded ONNX Runtime before redecode could switch its reports off (see redecode/__init__.py).
onnxruntime.disable_telemetry_events()

Float32 = NDArray[np.float32]

# ONNX Runtime's name of a device's execution provider, and what to install where this ONNX Runtime is built without it.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime (on macOS)"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml (on Windows)"),
}
DEVICES = tuple(_PROVIDERS)


# One network computes at a time, with all the threads there are; what other threads of the program do meanwhile overlaps with it.
_TURN = threading.Lock()


class Network:
    """One network, loaded.

    Attributes:
        halo: radius of its receptive field in pixels.
        shrinkage: its factors, as :func:`redecode.restoration.shrinkage.shrink` takes them; None for a network that paints texture.
        seconds: that it has computed so far.
    """

    def __init__(self, name: str, device: str, precision: Precision, threads: int | None) -> None:
        """
        Args:
            name: see :class:`redecode.weights.Weights`.
            device: one of DEVICES.
            precision: one of redecode.weights.PRECISIONS.
            threads: on the CPU; None is one for each core.

        Raises:
            ValueError: unknown device.
            DependencyError: the weights or the device's execution provider are missing.
        """
        if device not in _PROVIDERS:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
        provider, package = _PROVIDERS[device]
        if provider not in onnxruntime.get_available_providers():
            raise DependencyError(f"this ONNX Runtime cannot use the device {device}; replace it with: pip install {package}")
        network = weights.load(name, precision)
        options = onnxruntime.SessionOptions()
        # All networks share one arena: fresh memory for every tile would cost a fifth of the time, an arena for each twice the memory.
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Threads that wait busily for work take time from what overlaps with the networks; on small pictures that is half of it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # Tiles at the borders come in several shapes.
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self.halo = network.halo
        self.shrinkage = None if network.shrinkage is None else np.load(io.BytesIO(network.shrinkage)).astype(np.float32)
        self.seconds = 0.0
        self._session = onnxruntime.InferenceSession(network.onnx, options, providers=[provider])

    def __call__(self, planes: Float32, tables: NDArray[np.uint16], origin: tuple[int, int] = (0, 0)) -> Float32:
        """Restore planes in one piece.

        Args:
            planes: float32 [1 or 3, H, W], 0 … 255.
            tables: uint16 [2, 8, 8], quantization steps of luma and chroma.
            origin: rows and columns missing above and left to begin with a whole block.

        Returns:
            float32, like the planes.
        """
        count, height, width = planes.shape
        top, left = origin
        # One buffer, of the shape that the network takes: a gray picture has zero chroma.
        rows, columns = (-(-side // tiling.ALIGNMENT) * tiling.ALIGNMENT for side in (top + height, left + width))
        scaled = np.zeros((1, 3, rows, columns), np.float32)
        inside = scaled[0, :count, top : top + height, left : left + width]
        np.subtract(planes, np.float32(128), out=inside)
        inside *= np.float32(1 / 255)
        _repeat_borders(scaled[0, :count], (top, top + height), (left, left + width))
        steps = tables.astype(np.float32)[None]
        restored = self._run(scaled, steps)
        result = restored[0, :count, top : top + height, left : left + width]
        result *= np.float32(255)
        result += np.float32(128)
        return result

    def _run(self, scaled: Float32, steps: Float32) -> Float32:
        with _TURN:
            began = time.perf_counter()
            restored: Float32 = self._session.run(None, {"planes": scaled, "tables": np.ascontiguousarray(steps)})[0]
            self.seconds += time.perf_counter() - began
        return restored


@cache
def _share_arena() -> None:
    cpu = onnxruntime.OrtMemoryInfo("Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT)
    # Grow by what is asked for (1), without any other bound.
    onnxruntime.create_and_register_allocator(cpu, onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1}))


def _repeat_borders(planes: Float32, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Fill what lies around rows and columns with the nearest pixels, in place."""
    (top, bottom), (left, right) = rows, columns
    planes[:, top:bottom, :left] = planes[:, top:bottom, left : left + 1]
    planes[:, top:bottom, right:] = planes[:, top:bottom, right - 1 : right]
    planes[:, :top] = planes[:, top : top + 1]
    planes[:, bottom:] = planes[:, bottom - 1 : bottom]
