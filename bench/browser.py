"""Measure the page without a server in Chromium: python bench/browser.py ORT.tgz [--megapixels 0.4 2 12].

Everything goes into results/browser.json: what is downloaded; seconds to restore a picture and to save it, on the clock and of processors,
beside the processor seconds of the engine on one thread, in turns and on the same machine, for seconds of one machine tell little about
another; and the peak memory of the tab.
Headless Chromium has no GPU to try WebGPU with, and ONNX Runtime Web comes with SIMD only: threads are what is compared.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image
from playwright import sync_api as playwright

from redecode import __version__
from redecode.codec import jpeg
from redecode.decoder import Decoder
from redecode.portable import static
from redecode.portable.runtime import VERSION

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "browser.json"
EXAMPLE = ROOT / "examples" / "lighthouse3-q15.jpg"
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
PATIENCE_MS = 3_600_000


class Quiet(SimpleHTTPRequestHandler):
    """Says nothing of what it serves."""

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()


def picture(megapixels: float) -> bytes:
    """The example, enlarged by repetition to this size, as 4:2:0 of quality 30."""
    with Image.open(EXAMPLE) as example:
        width = round((megapixels * 1e6 * 1.5) ** 0.5)
        whole = Image.new("RGB", (width, round(width / 1.5)))
        for top in range(0, whole.height, example.height):
            for left in range(0, whole.width, example.width):
                whole.paste(example, (left, top))
    buffer = io.BytesIO()
    whole.save(buffer, "JPEG", quality=30)
    return buffer.getvalue()


def sizes(folder: Path) -> dict[str, dict[str, int]]:
    """Bytes of what a first visit downloads, as they are and as hosts send them."""
    found: dict[str, dict[str, int]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("LICENSE.txt", "best-layers.onnx"):
            kind = {".wasm": "ONNX Runtime", ".onnx": "graphs"}.get(
                path.suffix, "ONNX Runtime" if path.parent.name == "ort" else "the page"
            )
            own, data = found.setdefault(kind, {"bytes": 0, "gzip": 0}), path.read_bytes()
            own["bytes"] += len(data)
            own["gzip"] += len(gzip.compress(data, 6))
    return found


def ours(process: Path) -> bool:
    """Whether a process descends from this one."""
    while process.name not in ("0", "1"):
        if process.name == str(os.getpid()):
            return True
        process = process.with_name((process / "stat").read_text().rpartition(")")[2].split()[1])
    return False


def tab() -> tuple[float, int]:
    """Of Chromium's renderers, of which one shows the page: processor seconds so far, and the peak memory of the largest in bytes."""
    seconds, peaks = 0.0, [0]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"--type=renderer" in (process / "cmdline").read_bytes() and ours(process):
                peaks += [int(line.split()[1]) * 1024 for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM")]
                seconds += sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
    return seconds, max(peaks)


def in_tab(address: str, data: bytes, threads: bool) -> dict[str, float]:
    """Restore and save in a browser of its own."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS.split())
        context = browser.new_context()
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(address)
        if threads:
            page.wait_for_selector("html[data-ready]", state="attached")
            page.evaluate("navigator.serviceWorker.ready")
            page.reload()
        page.wait_for_selector("html[data-ready]", state="attached")
        assert page.evaluate("crossOriginIsolated") == threads
        # The graphs are loaded by the first picture.
        small = picture(0.01)
        page.set_input_files("#files", {"name": "small.jpg", "mimeType": "image/jpeg", "buffer": small})
        page.wait_for_selector("#save:enabled")
        page.wait_for_timeout(3000)  # Its size is found out.
        began, (before, _) = time.perf_counter(), tab()
        page.set_input_files("#files", {"name": "large.jpg", "mimeType": "image/jpeg", "buffer": data})
        page.locator(".thumb").nth(1).click()
        page.wait_for_selector(".thumb.pending", state="detached")
        restored, (between, _) = time.perf_counter(), tab()
        page.wait_for_selector("#save:enabled")
        with page.expect_download() as download:
            page.click("#save")
        download.value.path()
        saved, (after, peak) = time.perf_counter(), tab()
        browser.close()
    return {
        "restoring_s": round(restored - began, 2),
        "restoring_cpu_s": round(between - before, 2),
        "saving_s": round(saved - restored, 2),
        "saving_cpu_s": round(after - between, 2),
        "peak_mb": round(peak / 1e6),
    }


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.4, 2, 12])
    arguments = parser.parse_args()
    engine = Decoder(threads=1)
    engine.decode(jpeg.read(picture(0.01)))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "page"
        static.write(folder, arguments.package)
        measured = []
        with serving(folder) as address:
            for megapixels in arguments.megapixels:
                data = picture(megapixels)
                image = jpeg.read(data)
                turns: dict[str, Any] = {"megapixels": round(image.width * image.height / 1e6, 2)}
                for name, threads in (("one thread", False), ("threads", True)):
                    began = time.process_time()
                    engine.decode(image, layers=True)
                    native = time.process_time() - began
                    own = in_tab(address, data, threads)
                    turns[name] = {**own, "engine_cpu_s": round(native, 2), "ratio": round(own["restoring_cpu_s"] / native, 2)}
                    print(megapixels, name, turns[name], flush=True)
                measured.append(turns)
        result = {
            "redecode": __version__,
            "onnxruntime_web": VERSION,
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "downloads": sizes(folder),
            "measured": measured,
        }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
