"""Inference of the networks with ONNX Runtime."""

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

# Disable telemetry in case the program loaded ONNX Runtime before redecode (see redecode/__init__.py).
onnxruntime.disable_telemetry_events()

Float32 = NDArray[np.float32]

# Execution provider of ONNX Runtime for each device, and the package to install if it is missing.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime (on macOS)"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml (on Windows)"),
}
DEVICES = tuple(_PROVIDERS)


# Only one network runs at a time, with all its threads; other threads of the program do the remaining work meanwhile.
_INFERENCE_LOCK = threading.Lock()


class Network:
    """A loaded network.

    Attributes:
        halo: width in pixels of the border around a tile that its result depends on.
        shrinkage: factors for :func:`redecode.restoration.shrinkage.shrink`; None for a texture network.
        seconds: total time of inference so far.
    """

    def __init__(self, name: str, device: str, precision: Precision, threads: int | None) -> None:
        """
        Args:
            name: name of the network, see :class:`redecode.weights.Weights`.
            device: one of DEVICES.
            precision: one of redecode.weights.PRECISIONS.
            threads: number of threads on the CPU; None for one per core.

        Raises:
            ValueError: the device is unknown.
            DependencyError: the weights or the device's execution provider are missing.
        """
        if device not in _PROVIDERS:
            raise ValueError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
        provider, package = _PROVIDERS[device]
        if provider not in onnxruntime.get_available_providers():
            raise DependencyError(f"this ONNX Runtime cannot use the device {device}; replace it with: pip install {package}")
        network = weights.load(name, precision)
        options = onnxruntime.SessionOptions()
        # All networks share a memory arena: allocating memory for each tile costs a fifth of the time, separate arenas double the memory.
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        # Threads that busy-wait for work slow down the other threads of the program; on small pictures they double their time.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # Memory patterns need inputs of equal shape, but tiles at the borders differ.
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self.halo = network.halo
        self.shrinkage = None if network.shrinkage is None else np.load(io.BytesIO(network.shrinkage)).astype(np.float32)
        self.seconds = 0.0
        self._session = onnxruntime.InferenceSession(network.onnx, options, providers=[provider])

    def __call__(self, planes: Float32, tables: NDArray[np.uint16], origin: tuple[int, int] = (0, 0)) -> Float32:
        """Restore planes with a single call of the network.

        Args:
            planes: float32 [1 or 3, H, W], 0 … 255.
            tables: quantization steps of luma and chroma, uint16 [2, 8, 8].
            origin: rows and columns missing above and left to begin with a whole block.

        Returns:
            The restored planes, float32 [1 or 3, H, W], about 0 … 255.
        """
        count, height, width = planes.shape
        top, left = origin
        # Input of the network, padded to whole multiples of the alignment; a gray picture has zero chroma.
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
        with _INFERENCE_LOCK:
            began = time.perf_counter()
            restored: Float32 = self._session.run(None, {"planes": scaled, "tables": np.ascontiguousarray(steps)})[0]
            self.seconds += time.perf_counter() - began
        return restored


@cache
def _share_arena() -> None:
    cpu = onnxruntime.OrtMemoryInfo("Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT)
    # Strategy 1: extend the arena by the requested size only.
    onnxruntime.create_and_register_allocator(cpu, onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1}))


def _repeat_borders(planes: Float32, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Fill the padding around rows and columns with the nearest pixels, in place."""
    (top, bottom), (left, right) = rows, columns
    planes[:, top:bottom, :left] = planes[:, top:bottom, left : left + 1]
    planes[:, top:bottom, right:] = planes[:, top:bottom, right - 1 : right]
    planes[:, :top] = planes[:, top : top + 1]
    planes[:, bottom:] = planes[:, bottom - 1 : bottom]
