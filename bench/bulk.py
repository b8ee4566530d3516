"""Measure `redecode bulk`: python bench/bulk.py parity|kill|throughput|driver|memory|megapixel; each writes results/bulk-<name>.json.

The script generates the pictures. On a machine with other load only ratios are meaningful; the results include the load.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from redecode import __version__
from redecode.bulk import manifest, stores
from redecode.bulk.listing import Selection, Shard
from redecode.bulk.local import cores
from redecode.bulk.manifest import Row
from redecode.bulk.names import CORNER
from redecode.bulk.restorer import Setup, Task
from redecode.bulk.run import Plan, run
from redecode.decoder import Decoder
from redecode.options import Options
from redecode.recode import restore

RESULTS = Path(__file__).parent.parent / "results"


def make_archive(folder: Path, count: int, sides: tuple[int, int], broken_every: int = 0) -> int:
    """Write JPEGs with smooth shades and noise into 50 folders; return the number of truncated ones."""
    rng = np.random.default_rng(count)
    broken = 0
    for number in range(count):
        path = folder / f"{number % 50:02d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = rng.integers(sides[0], sides[1] + 1, 2).tolist()
        shades = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.clip(np.asarray(shades) + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=int(rng.integers(10, 60)))
        if broken_every and number % broken_every == 1:
            path.write_bytes(path.read_bytes()[: int(rng.integers(0, 150))])
            broken += 1
    return broken


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "redecode", *map(str, arguments)]


def timed(*arguments: object) -> float:
    began = time.monotonic()
    subprocess.run(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.monotonic() - began


def contents(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(f"{CORNER}/")}


def parity(folder: Path, count: int) -> dict[str, Any]:
    """Compare the results of the single command, of local processes and of Ray byte for byte, with 3 % damaged files."""
    broken = make_archive(folder / "in", count, (8, 32), broken_every=33)
    seconds = {
        "single command": timed(folder / "in", "-o", f"{folder / 'single'}{os.sep}"),
        "bulk": timed("bulk", folder / "in", folder / "bulk"),
        "bulk, Ray": timed("bulk", folder / "in", folder / "ray", "--ray-address", "local"),
    }
    single = contents(folder / "single")
    statuses = {name: Counter(row.status for row in manifest.rows(stores.make(str(folder / name)))) for name in ("bulk", "ray")}
    return {
        "files": count,
        "broken": broken,
        "restored by the single command": len(single),
        "bulk is the same": contents(folder / "bulk") == single,
        "Ray is the same": contents(folder / "ray") == single,
        "statuses": {name: dict(found) for name, found in statuses.items()},
        "seconds": seconds,
    }


def kill(folder: Path, count: int, kills: int = 20) -> dict[str, Any]:
    """Kill runs with SIGKILL at random times, and check the results of a final run."""
    make_archive(folder / "in", count, (8, 32))
    rng = random.Random(1)
    moments, rows = [], [0]
    for _ in range(kills):
        began = time.monotonic()
        process = subprocess.Popen(command("bulk", folder / "in", folder / "out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Wait for no progress or for some, then for a random time.
        progress = rng.choice([0, rng.uniform(1, 2 * count / kills)])
        while progress and process.poll() is None and _rows(folder / "out") < rows[-1] + progress:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1))
        process.kill()
        process.wait()
        moments.append(time.monotonic() - began)
        rows.append(_rows(folder / "out"))
    last = subprocess.run(command("bulk", folder / "in", folder / "out"), stdout=subprocess.DEVNULL, check=False)
    done = Counter(row.input for row in manifest.rows(stores.make(str(folder / "out"))) if row.status == manifest.DONE)
    whole = 0
    for path in (folder / "out").rglob("*.png"):
        with Image.open(path) as image:
            image.load()
            whole += 1
    return {
        "files": count,
        "killed after seconds": [round(moment, 2) for moment in moments],
        "rows after each kill": rows[1:],
        "exit code of the last run": last.returncode,
        "whole results": whole,
        "inputs with one done row": sum(number == 1 for number in done.values()),
        "inputs with more": sum(number > 1 for number in done.values()),
        "unfinished files left": len(list((folder / "out").rglob("*.part"))),
    }


def _rows(out: Path) -> int:
    return sum(segment.read_bytes().count(b"\n") for segment in out.rglob("*.jsonl")) if out.exists() else 0


def throughput(folder: Path, count: int) -> dict[str, Any]:
    """Compare bulk with a loop over the single command, with inference alone, and with one worker on one core."""
    make_archive(folder / "in", count, (160, 256))
    paths = sorted((folder / "in").rglob("*.jpg"))
    pixels = sum(width * height for width, height in (Image.open(path).size for path in paths))
    decoder, options = Decoder("fast", threads=1), Options()
    restore(decoder, paths[0].read_bytes(), options)
    inference = -decoder.inference_seconds()
    began, began_cpu = time.monotonic(), time.process_time()
    for path in paths:
        restore(decoder, path.read_bytes(), options)
    engine, engine_cpu = time.monotonic() - began, time.process_time() - began_cpu
    inference += decoder.inference_seconds()
    began_cpu = _cpu_of_children()
    loop = sum(timed(path, "-o", folder / "loop.png", "--overwrite") for path in paths[:6]) / 6 * count
    loop_cpu = (_cpu_of_children() - began_cpu) / 6 * count
    one = _bulk_seconds(folder, "one", ["--workers", 1], {0})
    two = _bulk_seconds(folder, "two", ["--workers", 2], {0, 1})

    def rates(seconds: float) -> dict[str, float]:
        return {"seconds": round(seconds, 2), "files/s": round(count / seconds, 3), "MP/s": round(pixels / 1e6 / seconds, 3)}

    return {
        "files": count,
        "megapixels": round(pixels / 1e6, 2),
        "inference alone, one thread": rates(inference),
        "engine alone, one thread": {**rates(engine), "CPU seconds": round(engine_cpu, 2)},
        "loop over the single command (from 6 files)": {**rates(loop), "CPU seconds": loop_cpu},
        "bulk, 1 worker on 1 core": {**rates(one["seconds"]), "without its start": rates(one["steady"]), "CPU seconds": one["cpu"]},
        "bulk, 2 workers on 2 cores": {**rates(two["seconds"]), "without its start": rates(two["steady"]), "CPU seconds": two["cpu"]},
        "scaling from 1 to 2 workers": round(one["steady"] / two["steady"], 3),
        "bulk against the loop": round(loop / two["seconds"], 2),
        "1 worker against the engine alone": round(engine / one["steady"], 3),
    }


def _bulk_seconds(folder: Path, name: str, arguments: list[object], allowed: set[int]) -> dict[str, float]:
    """Seconds of a run on some cores: in total, from the first row on (scaled to all files, `steady`), and of CPU time."""
    out, began, cpu = folder / name, time.monotonic(), _cpu_of_children()
    process = subprocess.Popen(
        command("bulk", folder / "in", out, *arguments),
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )
    first = None
    while process.poll() is None:
        if first is None and (seen := _rows(out)):
            first = time.monotonic(), seen
        time.sleep(0.01)
    ended = time.monotonic()
    count = len(contents(out))
    assert first is not None
    return {"seconds": ended - began, "steady": (ended - first[0]) * count / (count - first[1]), "cpu": _cpu_of_children() - cpu}


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def driver(folder: Path, count: int) -> dict[str, Any]:
    """Measure the cost of the driver: CPU time to list, filter and record a file, and memory of the index."""
    for number in range(count):
        path = folder / "in" / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    setup = Setup(str(folder / "in"), str(folder / "out"), Options(), 1, Shard().name)
    plan = Plan(Selection(setup.source), setup, Shard())

    def nothing(setup: Setup, windows: Iterator[list[Task]]) -> Iterator[Row]:
        model, choices = setup.model(), setup.choices()
        for entry in chain.from_iterable(windows):
            yield Row(entry.path, entry.size, entry.version, model, choices, manifest.DONE, output=entry.output)

    seconds = []
    for _ in range(2):  # The second time, all files are in the manifest and all results exist.
        began = time.process_time()
        run(plan, nothing)
        seconds.append(time.process_time() - began)
        for number in range(count):
            path = folder / "out" / f"{number // 1000:03d}" / f"{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    tracemalloc.start()
    index = manifest.Manifest(stores.make(setup.output), Shard())
    index.load()
    held, _ = tracemalloc.get_traced_memory()
    segments = (folder / "out").rglob("*.jsonl")
    return {
        "files": count,
        "CPU microseconds to list, sift and note a file": round(seconds[0] / count * 1e6, 1),
        "CPU microseconds to load a row, list its file and sift it": round(seconds[1] / count * 1e6, 1),
        "bytes of memory for a row of the index": round(held / count),
        "bytes of a row in the manifest": round(sum(segment.stat().st_size for segment in segments) / count),
    }


def memory(folder: Path, count: int) -> dict[str, Any]:
    """Measure the resident memory of the driver and of its workers, about once a second."""
    make_archive(folder / "in", count, (16, 16))
    began = time.monotonic()
    process = subprocess.Popen(command("bulk", folder / "in", folder / "out"), stdout=subprocess.DEVNULL)
    curve = []
    while process.poll() is None:
        sizes = [_rss(process.pid), *sorted(map(_rss, _children(process.pid)), reverse=True)]
        curve.append([round(time.monotonic() - began, 1), _rows(folder / "out"), *sizes[:3]])
        time.sleep(max(1.0, len(curve) / 100))
    return {
        "files": count,
        "seconds": round(time.monotonic() - began, 1),
        "columns": ["seconds", "files", "driver, MB", "worker, MB", "worker, MB"],
        "curve": curve,
    }


def _rss(process: int) -> float:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _children(process: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))
    except FileNotFoundError:
        return []


def megapixel(folder: Path, count: int) -> dict[str, Any]:
    """Measure mean CPU seconds of one thread for a file of 1 MP, with both layers and with L_B alone, for docs/archives.md."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (125, 125, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    path = folder / "1mp.jpg"
    Image.fromarray(picture).save(path, quality=30)
    decoder = Decoder("fast", threads=1)
    measured = {}
    for name, options in (("both layers", Options()), ("L_B alone", Options(texture=0))):
        restore(decoder, path.read_bytes(), options)
        inference, began = -decoder.inference_seconds(), time.process_time()
        for _ in range(count):
            restore(decoder, path.read_bytes(), options)
        whole = (time.process_time() - began) / count
        inference += decoder.inference_seconds()
        measured[name] = {"CPU seconds": round(whole, 2), "of which inference, seconds": round(inference / count, 2)}
    return measured


MEASUREMENTS: dict[str, tuple[Callable[[Path, int], dict[str, Any]], int]] = {
    "parity": (parity, 2000),
    "kill": (kill, 600),
    "throughput": (throughput, 40),
    "driver": (driver, 20_000),
    "memory": (memory, 20_000),
    "megapixel": (megapixel, 2),
}


def main() -> None:
    """Run a measurement and write its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--files", type=int, help="number of files, if not the default")
    chosen = parser.parse_args()
    measure, count = MEASUREMENTS[chosen.what]
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), chosen.files or count)
    about = {"redecode": __version__, "cores": cores(), "machine": platform.machine(), "load before": load, "load after": os.getloadavg()}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"bulk-{chosen.what}.json"
    path.write_text(json.dumps({**about, **measured}, indent=1) + "\n", encoding="utf-8")
    print(path.read_text(encoding="utf-8") if chosen.what != "memory" else path)


if __name__ == "__main__":
    main()
