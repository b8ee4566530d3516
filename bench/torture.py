"""Stress tests of redecode: python bench/torture.py [--minutes 20] [SCENARIO...]; `make torture`.

Each scenario gets its share of the time, attacks the real command, server or reader, and returns figures. Violations of a promise are
counted under names that begin with "broken"; if there are any, the exit code is 1. The results go into results/torture.json, and
bench/tables.py writes them into docs/robustness.md. On a machine with other load there are fewer attacks, and they take longer.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import io
import json
import os
import platform
import random
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "fuzz"))

import coefficients  # noqa: E402
import harness  # noqa: E402
import seeds  # noqa: E402

from redecode.bulk import archive, manifest, stores  # noqa: E402
from redecode.codec.picture import read  # noqa: E402
from redecode.errors import UnreadableError  # noqa: E402

RESULT = ROOT / "results" / "torture.json"
CLIENTS = 16
# Seconds after which a request counts as hung.
PATIENCE = 1800
Figures = dict[str, Any]


def photograph(number: int, side: int = 48) -> bytes:
    """A small JPEG, different for each number."""
    rng = np.random.default_rng(number)
    shades = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize((side + number % 9, side), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    shades.save(buffer, "JPEG", quality=10 + 5 * (number % 12))
    return buffer.getvalue()


def claiming(seed: str, height: int, width: int) -> bytes:
    """A few hundred bytes that claim to be a large picture."""
    data = bytearray(seeds.jpegs()[seed])
    at = next(at for at in range(len(data)) if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC1, 0xC2, 0xC9, 0xCA))
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def arithmetic_bomb() -> bytes:
    """A few kilobytes of arithmetic-coded scans over 63 megapixels."""
    data = claiming("arithmetic-progressive", 7900, 8000)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 60 + data[-2:]


def bad(number: int) -> bytes:
    """Files that are not complete pictures."""
    whole = photograph(number)
    png = b"\x89PNG\r\n\x1a\n" + bytes(64)
    kinds = (
        b"",
        b"nothing at all",
        whole[: 20 + number % 400],
        whole[:2] + os.urandom(300),
        png,
        arithmetic_bomb(),
        claiming("420", 4000, 4000),
    )
    return kinds[number % len(kinds)]


def command(*arguments: object) -> list[str]:
    """The command as a user runs it."""
    return [sys.executable, "-m", "redecode", *map(str, arguments)]


def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command until it ends."""
    return subprocess.run(command(*arguments), capture_output=True, timeout=PATIENCE, check=False, **options)


# ---------------------------------------------------------------- the server


class Server:
    """`redecode serve` in a separate process."""

    def __init__(self, *arguments: object) -> None:
        self._process = subprocess.Popen(
            command("serve", "--port", 0, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline().strip().rstrip("/").rpartition(":")[2])

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and content of a response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A raw connection to the server."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def megabytes(self) -> float:
        """Proportional memory of the server and its processes: private memory, and shares of shared memory."""
        known, found = {self._process.pid}, 0.0
        for _ in range(3):
            known |= {int(child) for parent in known for child in _children(parent)}
        for process in known:
            with suppress(OSError):
                lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
                found += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e3
        return round(found, 1)

    def end(self) -> str:
        """Stop the server and return its log."""
        self._process.terminate()
        return self._process.communicate(timeout=PATIENCE)[1]


def _children(process: int) -> list[str]:
    with suppress(OSError):
        return [child for thread in Path(f"/proc/{process}/task").iterdir() for child in (thread / "children").read_text().split()]
    return []


@contextmanager
def serving(*arguments: object) -> Iterator[Server]:
    """Run a server, and check that it ends properly."""
    server = Server(*arguments)
    try:
        yield server
    finally:
        log = server.end()
        if "Traceback" in log:
            raise AssertionError(log)


@contextmanager
def watched(server: Server) -> Iterator[list[float]]:
    """Call the health check repeatedly, and record its seconds."""
    seconds: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            began = time.monotonic()
            assert server.ask("GET", "/healthz")[0] == 200
            seconds.append(time.monotonic() - began)

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield seconds
        finally:
            over.set()
            watching.result()


def load(seconds: float) -> Figures:
    """Many concurrent clients, with every tenth file invalid, and pictures opened and deleted: does each get the right response?"""
    good = [photograph(number) for number in range(8)]
    counts: Counter[str] = Counter()
    with serving("--workers", 2, "--queue", 8) as server:
        expected = [server.ask("POST", "/v1/decode", data)[1] for data in good]
        before, end = server.megabytes(), time.monotonic() + seconds

        def count(what: str, status: int, *fine: int) -> None:
            counts[what if status in fine else "busy" if status == 429 else f"broken: not {what} but {status}"] += 1

        def client(seed: int) -> None:
            drawn = random.Random(seed)
            while time.monotonic() < end:
                number = drawn.randrange(1000)
                if drawn.random() < 0.1:
                    count("refused", server.ask("POST", "/v1/decode", bad(number))[0], 413, 422)
                elif drawn.random() < 0.2:
                    status, content = server.ask("POST", "/v1/pictures", good[number % 8])
                    if status == 202:
                        server.ask("DELETE", f"/v1/pictures/{json.loads(content)['id']}")
                    count("opened and dropped", status, 202)
                else:
                    status, content = server.ask("POST", "/v1/decode", good[number % 8])
                    count("restored", status, 200)
                    counts["broken: wrong bytes"] += status == 200 and content != expected[number % 8]

        with watched(server) as waits, ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(client, seed) for seed in range(CLIENTS)]:
                done.result()
        after = server.megabytes()
    return {"clients": CLIENTS, **_told(counts), "slowest_health_check_s": round(max(waits), 2), "mb_before": before, "mb_after": after}


def dropped(seconds: float) -> Figures:
    """Uploads that break off, and files that are refused, thousands of them: does the server stay awake and clean?"""
    counts: Counter[str] = Counter()
    body = photograph(1)
    head = f"POST /v1/pictures HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with serving() as server:
        before, end = server.megabytes(), time.monotonic() + seconds

        def client(seed: int) -> None:
            drawn = random.Random(seed)
            while time.monotonic() < end:
                if drawn.random() < 0.5:
                    status, _ = server.ask("POST", "/v1/pictures", b"no picture")
                    counts["refused uploads" if status in (202, 429) else f"broken: answered {status}"] += 1
                else:
                    with server.connect() as connection:
                        connection.sendall(head + body[: drawn.randrange(len(body))])
                    counts["dropped uploads"] += 1

        with watched(server) as waits, ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(client, seed) for seed in range(CLIENTS)]:
                done.result()
        _, metrics = server.ask("GET", "/metrics")
        stored = float(next(line.split()[1] for line in metrics.decode().splitlines() if line.startswith("redecode_pictures_bytes")))
        counts["broken: bytes left behind"] += int(stored)
        after = server.megabytes()
    return {**_told(counts), "slowest_health_check_s": round(max(waits), 2), "mb_before": before, "mb_after": after}


def silent(seconds: float) -> Figures:
    """Connections that send nothing or half a request, or never read the response: can other clients still connect?"""
    most = min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
    waits: list[float] = []
    opened = 0
    with serving() as server, ExitStack() as stack:
        before, end = server.megabytes(), time.monotonic() + seconds
        while time.monotonic() < end and opened < most:
            connection = stack.enter_context(server.connect())
            with suppress(OSError):
                connection.sendall((b"", b"GET / HTTP/1.1\r\nHost:", b"GET /page/main.js HTTP/1.1\r\nHost: localhost\r\n\r\n")[opened % 3])
            opened += 1
            if opened % 100 == 0:
                began = time.monotonic()
                assert server.ask("GET", "/healthz")[0] == 200
                waits.append(time.monotonic() - began)
        after = server.megabytes()
    return {"silent connections": opened, "slowest_health_check_s": round(max(waits, default=0), 2), "mb_before": before, "mb_after": after}


def limits(_: float) -> Figures:
    """Requests at and beyond each limit of the server and the reader."""
    found: Figures = {}

    def timed(name: str, work: Callable[[], object]) -> None:
        began = time.monotonic()
        held = work()
        found[name if held else f"broken: {name}"] = round(time.monotonic() - began, 2)

    buffer = io.BytesIO()
    Image.new("RGB", (9000, 6667), (200, 180, 40)).save(buffer, "PNG")
    blank = buffer.getvalue()
    rng = np.random.default_rng(1)
    big = io.BytesIO()
    Image.fromarray(np.kron(rng.integers(0, 255, (250, 375), np.uint8), np.ones((8, 8), np.uint8))).save(big, "JPEG", quality=50)
    with serving("--max-time", 1) as server:
        timed("6 MP with --max-time 1, s", lambda: server.ask("POST", "/v1/decode", big.getvalue())[0] == 503)
    with serving() as server:
        for name, data in (("16", claiming("420", 4000, 4000)), ("63", arithmetic_bomb())):
            timed(f"{len(data)} bytes that claim {name} MP, s", lambda data=data: server.ask("POST", "/v1/decode", data)[0] in (413, 422))
        found["blank 60 MP PNG, bytes"] = len(blank)
        peak, disk = _peak(server, blank, found, "blank 60 MP PNG")
        found["blank 60 MP PNG, peak MB"], found["blank 60 MP PNG, MB on disk"] = peak, disk
    return found


def memory(megapixels: int, size: tuple[int, int], _: float) -> Figures:
    """Memory and time of the server for one picture: opened, looked at, saved, left alone; this takes minutes, so it runs only if named."""
    found: Figures = {}
    rng = np.random.default_rng(megapixels)
    small = Image.fromarray(rng.integers(0, 256, (size[1] // 16, size[0] // 16, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=40)
    with serving("--max-time", 7200, "--workers", 1) as server:
        found["peak MB"], found["MB on disk"] = _peak(server, buffer.getvalue(), found, f"{megapixels} MP")
        time.sleep(100)
        found["idle MB"] = server.megabytes()
    return found


def _peak(server: Server, data: bytes, found: Figures, name: str) -> tuple[float, float]:
    """Peak memory of the server in MB while a picture is opened, viewed and saved, and the picture's size on disk in MB."""
    most = [server.megabytes()]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.3):
            most[0] = max(most[0], server.megabytes())

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            began = time.monotonic()
            picture = json.loads(server.ask("POST", "/v1/pictures", data)[1])["id"]
            state = "waiting"
            while state in ("waiting", "working"):
                time.sleep(0.2)
                state = json.loads(server.ask("GET", f"/v1/pictures/{picture}")[1])["state"]
            found[f"{name}, until open, s"] = round(time.monotonic() - began, 1)
            if state != "done":
                found[f"broken: {name} {state}"] = 1
            for path in ("result?texture=0.5", "result?format=jpeg", "figures?texture=0.5", "layers/base"):
                server.ask("GET", f"/v1/pictures/{picture}/{path}")
            _, metrics = server.ask("GET", "/metrics")
            disk = float(next(line.split()[1] for line in metrics.decode().splitlines() if line.startswith("redecode_pictures_bytes")))
        finally:
            over.set()
            watching.result()
    return round(most[0]), round(disk / 1e6)


# ---------------------------------------------------------------- archives and disks


def fill(folder: Path, count: int) -> None:
    """Write JPEGs, every eighth truncated, and a tar archive."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:03d}.jpg").write_bytes(photograph(number)[: 60 if number % 8 == 1 else None])
    with tarfile.open(folder / "shard.tar", "w") as packed:
        for number in range(4):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size = len(photograph(number))
            packed.addfile(info, io.BytesIO(photograph(number)))


def contents(folder: Path) -> dict[str, str]:
    """Checksums of the results by path."""
    found = (path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items() if not name.startswith("_redecode/")}


def kills(seconds: float) -> Figures:
    """Kill a run over an archive with SIGKILL at random times, again and again until it completes: are the results the same?"""
    counts: Counter[str] = Counter()
    drawn = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        source, whole = Path(name, "in"), Path(name, "whole")
        fill(source, 24)
        began = time.monotonic()
        run("bulk", source, whole, "--workers", 2)
        took = time.monotonic() - began
        expected, end = contents(whole), time.monotonic() + seconds
        while time.monotonic() < end:
            output = Path(name, f"out{counts['runs']}")
            for _ in range(drawn.randrange(1, 4)):
                process = subprocess.Popen(
                    command("bulk", source, output, "--workers", 2),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                with suppress(subprocess.TimeoutExpired):
                    process.wait(drawn.uniform(0.2, 1.1) * took)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                counts["kills"] += 1
                half = {path for path in contents(output) if contents(output)[path] != expected.get(path)} if output.exists() else set()
                counts["broken: half-written results"] += len(half)
            finished = run("bulk", source, output, "--workers", 2)
            counts["runs"] += 1
            counts["broken: other bytes after all"] += contents(output) != expected
            counts["broken: tracebacks"] += b"Traceback" in finished.stderr
            rows = Counter(row.input for row in manifest.rows(stores.make(str(output))) if row.status == manifest.DONE)
            counts["results"] += sum(1 for _ in rows)
    return _told(counts)


def full_disk(seconds: float) -> Figures:
    """A disk that becomes full at a random byte, and then has space again: is a file incomplete, lost, or not reported?"""
    counts: Counter[str] = Counter()
    drawn = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        source, whole = Path(name, "in"), Path(name, "whole")
        fill(source, 6)
        run("bulk", source, whole, "--workers", 1)
        expected, end = contents(whole), time.monotonic() + seconds
        sizes = [path.stat().st_size for path in whole.rglob("*.*") if path.is_file()]
        while time.monotonic() < end:
            most = drawn.randrange(1, max(sizes))
            output = Path(name, f"out{counts['runs']}")

            def bound(most: int = most) -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

            full = run("bulk", source, output, "--workers", 1, preexec_fn=bound)
            counts["runs"] += 1
            counts["failed files"] += len(expected) - len(contents(output))
            counts["broken: half-written results"] += sum(expected.get(path) != data for path, data in contents(output).items())
            counts["broken: silent"] += full.returncode == 0 and contents(output) != expected
            counts["broken: tracebacks"] += b"Traceback" in full.stderr
            run("bulk", source, output, "--workers", 1)
            counts["broken: other bytes after all"] += contents(output) != expected
            picture = Path(name, "single.png")
            alone = run(source / "000.jpg", "-o", picture, "--overwrite", preexec_fn=bound)
            counts["broken: single command"] += (alone.returncode == 0) != picture.exists() or b"Traceback" in alone.stderr
            picture.unlink(missing_ok=True)
            counts["broken: files left behind"] += len(list(Path(name).glob(".redecode-*")))
    return _told(counts)


def odd_archives(seconds: float) -> Figures:
    """tar and zip archives with flipped bits, truncation, links and unsafe names: is a picture lost silently, or written outside?"""
    end = time.monotonic() + seconds
    counts: Counter[str] = Counter()
    drawn = random.Random(0)
    names = ["a.jpg", "b/c.jpg", "../up.jpg", "/abs.jpg", "..\\e.jpg", "con.jpg", "x" * 90 + ".jpg", "f.txt", "ü.jpg"]

    def restored(data: bytes, _: str) -> Any:
        if not data.startswith(b"\xff\xd8"):
            raise UnreadableError("this is no picture")
        return SimpleNamespace(data=data, notes=(), decoded=SimpleNamespace(picture=SimpleNamespace(width=1, height=1)))

    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            chosen = drawn.sample(names, drawn.randrange(2, 7))
            whole, packed = io.BytesIO(), Path(folder, "x.zip")
            with tarfile.open(
                fileobj=whole, mode="w", format=drawn.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
            ) as tar:
                for name in chosen:
                    info = tarfile.TarInfo(name)
                    info.size = 700
                    tar.addfile(info, io.BytesIO(b"\xff\xd8" + name.encode()[:1] * 698))
            data = bytearray(whole.getvalue())
            at = drawn.randrange(len(data))
            kind = drawn.choice(("flipped bits", "cuts", "whole"))
            if kind == "flipped bits":
                data[at] ^= 1 << drawn.randrange(8)
            elif kind == "cuts":
                del data[at:]
            Path(folder, "x.tar").write_bytes(data)
            result = io.BytesIO()
            counts["tar archives"] += 1
            try:
                outcome = archive.restore(Path(folder, "x.tar"), result, restored, lambda _: ".png")
            except UnreadableError:
                counts["refused as a whole"] += 1
                continue
            result.seek(0)
            with tarfile.open(fileobj=result) as made:
                kept = made.getnames()
            counts["members named as failed"] += len(outcome.failures)
            counts["members kept"] += len(kept)
            counts["broken: names that lead out"] += sum(name.startswith("/") or ".." in re.split(r"[/\\]", name) for name in kept)
            counts["broken: lost in silence"] += len(kept) < len(chosen) and not outcome.failures
            with zipfile.ZipFile(packed, "w") as zipped:
                for name in chosen:
                    zipped.writestr(name, photograph(1))
            torn = bytearray(packed.read_bytes())
            torn[drawn.randrange(len(torn))] ^= 1 << drawn.randrange(8)
            packed.write_bytes(torn)
            counts["zip archives"] += 1
            with suppress(UnreadableError):
                store = stores.source(f"zip://::{packed}")
                for entry in store.children("")[1]:
                    with suppress(UnreadableError):
                        store.read(entry.path)
    return _told(counts)


# ---------------------------------------------------------------- the reader


def forks(seconds: float) -> Figures:
    """Forks while other threads read pictures: can every child read pictures at once?"""
    end = time.monotonic() + seconds
    over = threading.Event()
    counts: Counter[str] = Counter()
    data = photograph(3, 200)

    def reader() -> None:
        while not over.is_set():
            read(data)

    with ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(reader) for _ in range(4)]
        try:
            while time.monotonic() < end:
                child = os.fork()
                if not child:
                    code = 1
                    with suppress(BaseException):
                        code = 0 if read(data).width > 0 else 1
                    os._exit(code)
                ended = os.pidfd_open(child)
                if not select.select([ended], [], [], 60)[0]:
                    counts["broken: children that hang"] += 1
                    os.kill(child, signal.SIGKILL)
                os.close(ended)
                counts["broken: children that fail"] += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
                counts["children"] += 1
        finally:
            over.set()
            for thread in threads:
                thread.result()
    return _told(counts)


def fuzz(seconds: float) -> Figures:
    """Files of every kind with changed frames, scans, tables and bytes: a result or a refusal, no output, and no files left?"""
    end = time.monotonic() + seconds
    counts: Counter[str] = Counter()
    jpegs = list(seeds.jpegs().values())
    others = list(seeds.rasters().values())
    slowest = 0.0
    number = 0
    while time.monotonic() < end:
        draw = np.random.default_rng((77, number))
        if number % 4 == 3:
            content = bytearray(others[number // 4 % len(others)])
            for _ in range(draw.integers(1, 6)):
                content[int(draw.integers(len(content)))] = int(draw.integers(256))
            data = bytes(content)
        else:
            data = coefficients.mutated(jpegs[number % len(jpegs)], draw)
        number += 1
        began = time.process_time()
        try:
            counts["refused" if harness.check(data) else "restored"] += 1
        except Exception as error:
            counts[f"broken: {type(error).__name__}: {error}"] += 1
        slowest = max(slowest, time.process_time() - began)
    return {**_told(counts), "slowest_cpu_s": round(slowest, 2)}


def services(_: float) -> Figures:
    """The tests of Ray with dying nodes, and of an object store with errors, lost files and delays."""
    tests = [ROOT / "tests" / "bulk" / name for name in ("test_bulk_stores.py", "test_bulk_cluster.py")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], cwd=ROOT, capture_output=True, text=True
    )
    return {"tests": done.stdout.strip().splitlines()[-1], **({"broken: tests fail": 1} if done.returncode else {})}


def _told(counts: Counter[str]) -> Figures:
    return {name: count for name, count in counts.items() if count or not name.startswith("broken")}


# Scenarios, each with its share of the time.
SCENARIOS: dict[str, tuple[Callable[[float], Figures], float]] = {
    "load": (load, 4),
    "dropped": (dropped, 2),
    "silent": (silent, 1),
    "limits": (limits, 0),
    "kills": (kills, 4),
    "full_disk": (full_disk, 2),
    "odd_archives": (odd_archives, 1),
    "forks": (forks, 1),
    "fuzz": (fuzz, 3),
}
# Minutes each, whatever the time: only by name.
BY_NAME: dict[str, Callable[[float], Figures]] = {
    "memory_12": partial(memory, 12, (4000, 3000)),
    "memory_60": partial(memory, 60, (9000, 6667)),
    "services": services,
}


def main() -> int:
    """Run scenarios and write their figures; figures of other scenarios are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"{', '.join([*SCENARIOS, *BY_NAME])}; all but the last three")
    parser.add_argument("--minutes", type=float, default=20, help="for all scenarios together")
    arguments = parser.parse_args()
    # Servers and runs that it has started end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    names = arguments.scenarios or list(SCENARIOS)
    whole = sum(SCENARIOS[name][1] for name in names if name in SCENARIOS)
    broken = 0
    for name in names:
        scenario, share = SCENARIOS.get(name) or (BY_NAME[name], 0)
        began = time.monotonic()
        try:
            figures = scenario(arguments.minutes * 60 * share / whole if whole else 0)
        except Exception as error:
            figures = {f"broken: {type(error).__name__}: {error}": 1}
        figures = {"minutes": round((time.monotonic() - began) / 60, 2), **figures}
        print(f"{name}: {json.dumps(figures)}", flush=True)
        broken += sum(figure.startswith("broken") for figure in figures)
        record: Figures = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
        record[name] = figures
        record["machine"] = {"python": platform.python_version(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
        RESULT.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
