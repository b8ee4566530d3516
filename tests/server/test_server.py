from __future__ import annotations

import asyncio
import concurrent.futures
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import typer
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from PIL import Image

from redecode.cli import serve
from redecode.codec import jpeg
from redecode.codec.picture import Picture, read
from redecode.decoder import Decoder
from redecode.options import Options
from redecode.recode import restore
from redecode.restoration.projection import consistent_blocks
from redecode.restoration.render import to_pixels
from redecode.result import Decoded
from redecode.server.app import create_app
from redecode.server.jobs import Job
from redecode.server.service import Service, Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


class Stub(Decoder):
    """Replaces the networks: L_B is the file's own picture, L_T a lighter one; restoring waits for permission."""

    def __init__(self) -> None:
        super().__init__()
        self.leave = threading.Event()
        self.leave.set()
        self.begun = threading.Event()
        self.ended = threading.Event()

    def let_go(self, seconds: float) -> None:
        """Give permission, some seconds after a restoration has begun to wait for it."""

        def give() -> None:
            self.begun.wait(5)
            time.sleep(seconds)
            self.leave.set()

        threading.Thread(target=give).start()

    def decode(
        self,
        source: Any,
        texture: float = 1.0,
        project: bool = True,
        progress: Callable[[int, int], None] | None = None,
        layers: bool | Path = False,
        threshold: int = 3,
    ) -> Decoded:
        picture: Picture = source
        self.begun.set()
        try:
            assert self.leave.wait(5)
            for tile in range(4):
                if progress:
                    progress(tile + 1, 4)
        finally:
            self.ended.set()
        planes = picture.planes()
        if isinstance(layers, Path):
            np.save(layers / "base.npy", planes)
            np.save(layers / "texture.npy", planes + 20)
        mask = np.zeros(planes.shape[1:], bool)
        mask[:, ::2] = True
        changed = isinstance(picture, jpeg.JpegImage) or picture.trace is not None
        pixels = to_pixels(planes, picture, project)
        share = float(consistent_blocks(pixels, picture).mean()) if isinstance(picture, jpeg.JpegImage) else None
        return Decoded(pixels, mask, picture, planes, planes + 20, texture, project, share, changed=changed)


class Direct:
    """An engine without processes."""

    def __init__(self, stub: Decoder) -> None:
        self._stub = stub

    def run(self, job: Job, heard: Callable[[str, Any], object], task: Any, *args: Any, **named: Any) -> Any:
        class Here:
            decoder = staticmethod(lambda options: self._stub)
            tell = staticmethod(heard)

        return task(Here, *args, **named)

    def warm(self) -> None:
        pass

    rest = close = warm


@contextmanager
def serving(stub: Decoder | None = None, **settings: Any) -> Iterator[TestClient]:
    app = create_app(Settings(**settings), Direct(stub) if stub else None)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def service(client: TestClient) -> Service:
    found: Service = client.app.state.service  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(Stub()) as client:
        yield client


def encoded(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, options.pop("format", "JPEG"), **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def small() -> NDArray[np.uint8]:
    y, x = np.mgrid[:40, :56]
    return np.stack([x * 4, y * 6, 255 - x * 2], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def photo(small: NDArray[np.uint8]) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    return encoded(small, quality=20, exif=exif, dpi=(300, 300))


def opened(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def soon(true: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether a condition becomes true within some time."""
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return true()


def folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def settled(client: TestClient, name: str, state: str = "done") -> dict[str, Any]:
    for _ in range(500):
        status: dict[str, Any] = client.get(f"/v1/pictures/{name}").json()
        if status["state"] in ("done", "failed"):
            assert status["state"] == state, status
            return status
        time.sleep(0.01)
    raise AssertionError(f"not settled: {status}")


def problem(answer: Any, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (told["status"], told["code"]) == (status, code)
    assert set(told) == {"type", "title", "status", "code", "detail"}
    return str(told["detail"])


# ---------------------------------------------------------------- one file in, one picture out


def test_decode_gives_the_bytes_of_the_command(photo: bytes) -> None:
    expected = restore(Decoder(), photo, Options(texture=0.5)).data
    with serving() as client:
        answer = client.post("/v1/decode?texture=0.5", content=photo)
        assert answer.content == expected
        name = client.post("/v1/pictures", content=photo).json()["id"]
        status = settled(client, name)
        assert (status["tiles_done"], status["tiles_total"]) == (1, 1)
        assert client.get(f"/v1/pictures/{name}/result?texture=0.5").content == expected
        unprojected = restore(Decoder(), photo, Options(projection=False, layer="base", format="webp", quality=50)).data
        query = "projection=false&layer=base&format=webp&quality=50"
        assert client.get(f"/v1/pictures/{name}/result?{query}").content == unprojected
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["redecode-status"] == "restored"
    assert answer.headers["redecode-quality"] == "20"
    assert 0.9 < float(answer.headers["redecode-consistency"]) <= 1


@pytest.mark.parametrize("name", ["png", "webp", "avif", "tiff", "jpeg"])
def test_formats(client: TestClient, photo: bytes, name: str) -> None:
    answer = client.post(f"/v1/decode?format={name}&layer=base", content=photo)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"image/{name}"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format or "").lower() == name
        assert image.getexif()[0x010E] == "a description"


@pytest.mark.parametrize(
    "query", ["texture=2", "texture=nan", "format=exe", "preset=none", "quality=0", "surprise=1", "depth=12", "layer=../../etc"]
)
def test_nonsense_is_refused(client: TestClient, photo: bytes, query: str) -> None:
    problem(client.post(f"/v1/decode?{query}", content=photo), 422, "invalid")


def test_files_that_are_refused(client: TestClient, photo: bytes, small: NDArray[np.uint8]) -> None:
    problem(client.post("/v1/decode", content=b""), 422, "unreadable")
    assert "not a picture" in problem(client.post("/v1/decode", content=b"%PDF-1.7 ..."), 422, "unreadable")
    with_alpha = encoded(np.dstack([opened(photo), np.full((40, 56), 9, np.uint8)]), format="PNG")
    problem(client.post("/v1/decode?format=jpeg", content=with_alpha), 422, "unsupported")
    with serving(Stub(), engine=Options(max_pixels=0.001)) as strict:
        problem(strict.post("/v1/decode", content=photo), 413, "too-many-pixels")
        name = strict.post("/v1/pictures", content=photo).json()["id"]
        told = settled(strict, name, "failed")["problem"]
        assert told["code"] == "too-many-pixels"
        problem(strict.get(f"/v1/pictures/{name}/result"), 409, "not-done")


def test_too_many_bytes(photo: bytes) -> None:
    with serving(Stub(), max_body=len(photo)) as client:
        assert client.post("/v1/decode", content=photo).status_code == 200
        problem(client.post("/v1/decode", content=photo + b"x"), 413, "body-too-large")
        # Without a Content-Length, the received bytes are counted.
        problem(client.post("/v1/decode", content=iter([photo, b"x"])), 413, "body-too-large")
        assert service(client).restoring.taken == 0


def test_info_presets_health(client: TestClient, photo: bytes) -> None:
    facts = client.post("/v1/info", content=photo).json()
    assert (facts["width"], facts["height"], facts["quality"]) == (56, 40, 20)
    assert np.shape(facts["luma_table"]) == (8, 8)
    problem(client.post("/v1/info", content=b"no"), 422, "unreadable")
    presets = client.get("/v1/presets").json()["presets"]
    assert [p["name"] for p in presets if p["default"]] == ["fast"]
    assert client.get("/healthz").json()["status"] == "ok"


def test_metrics(photo: bytes) -> None:
    with serving(Stub()) as client:
        client.post("/v1/decode", content=photo)
        client.post("/v1/decode", content=b"no")
        text = client.get("/metrics").text
    assert 'redecode_answers_total{route="/v1/decode",status="200"} 1.0' in text
    assert 'redecode_jobs_total{outcome="restored"} 1.0' in text
    assert 'redecode_jobs_total{outcome="unreadable"} 1.0' in text
    assert "redecode_restoring_seconds_count 1.0" in text
    assert 'redecode_places_taken{lane="restoring"} 0.0' in text


# ---------------------------------------------------------------- open pictures


def test_a_picture_and_its_layers(client: TestClient, photo: bytes) -> None:
    status = client.post("/v1/pictures", content=photo).json()
    assert status["state"] in ("waiting", "working")
    status = settled(client, status["id"])
    assert (status["width"], status["height"], status["grid"]) == (56, 40, [0, 0])
    assert (status["tiles_done"], status["tiles_total"]) == (4, 4)
    assert status["facts"]["quality"] == 20
    assert status["figures"]["texture"] == 1
    layers = {
        name: client.get(f"/v1/pictures/{status['id']}/layers/{name}") for name in ("original", "base", "texture", "mask", "thumbnail")
    }
    assert {answer.headers["content-type"] for answer in layers.values()} == {"image/png"}
    source = read(photo)
    assert isinstance(source, jpeg.JpegImage)
    np.testing.assert_array_equal(opened(layers["original"].content), to_pixels(source.planes(), source, project=False))
    np.testing.assert_array_equal(opened(layers["base"].content), to_pixels(source.planes(), source, project=True))
    with Image.open(io.BytesIO(layers["mask"].content)) as mask:
        alpha = np.asarray(mask.convert("RGBA"))[..., 3]
    assert (alpha[:, ::2] == 255).all()
    assert (alpha[:, 1::2] == 0).all()
    figures = client.get(f"/v1/pictures/{status['id']}/figures?texture=0.25").json()
    assert figures["texture"] == 0.25
    assert 0 <= figures["consistency"] <= 1
    assert 0 <= figures["raw_consistency"] <= 1
    several = client.get("/v1/pictures", params={"id": [status["id"], "unknown"]}).json()["pictures"]
    assert [one["id"] for one in several] == [status["id"]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_layers_stand_upright(client: TestClient, small: NDArray[np.uint8], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    odd = small[:35, :50]
    photo = encoded(odd, quality=30, exif=exif)
    status = settled(client, client.post("/v1/pictures", content=photo).json()["id"])
    shown = opened(client.get(f"/v1/pictures/{status['id']}/layers/original").content)
    width, height = (50, 35) if orientation < 5 else (35, 50)
    assert shown.shape[:2] == (height, width) == (status["height"], status["width"])
    # The grid, drawn in a separate picture and turned by Pillow.
    from PIL import ImageOps

    marked = np.zeros((35, 50), np.uint8)
    marked[::8] |= 1
    marked[:, ::8] |= 2
    marked[7::8] |= 4
    marked[:, 7::8] |= 8
    image = Image.fromarray(marked)
    image.getexif()[0x0112] = orientation
    turned = np.asarray(ImageOps.exif_transpose(image))
    x, y = status["grid"]
    assert {int(v) & 0b0011 or int(v) & 0b1100 for v in turned[y, [x, x + 8]]}  # On lines, seen from either side.
    across, down = (turned[:, x], turned[y]) if x or y else (turned[:, 0], turned[0])
    assert any((across & bit).all() for bit in (1, 2, 4, 8))
    assert any((down & bit).all() for bit in (1, 2, 4, 8))


def test_without_traces_nothing_changes_until_it_is_forced(client: TestClient, small: NDArray[np.uint8]) -> None:
    status = settled(client, client.post("/v1/pictures", content=encoded(small, format="PNG")).json()["id"])
    assert not status["changed"]
    np.testing.assert_array_equal(opened(client.get(f"/v1/pictures/{status['id']}/result").content), small)
    np.testing.assert_array_equal(opened(client.get(f"/v1/pictures/{status['id']}/layers/base").content), small)
    forced = client.post(f"/v1/pictures/{status['id']}/again?force_quality=30")
    assert forced.status_code == 202
    assert settled(client, forced.json()["id"])["changed"]


def test_archive_has_plain_and_single_names(client: TestClient, photo: bytes) -> None:
    name = client.post("/v1/pictures", content=photo).json()["id"]
    settled(client, name)
    names = ["../../etc/a.jpg", "A.jpg", "C:\\b\\..\\..\\.jpg", "tab\there.png", "..", ""]
    wanted = [{"id": name, "name": n, "texture": 0} for n in names]
    answer = client.post("/v1/archives", json={"pictures": wanted, "format": "webp"})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == [
            "a.redecoded.webp",
            "A (2).redecoded.webp",
            "jpg.redecoded.webp",
            "tabhere.redecoded.webp",
            "picture.redecoded.webp",
            "picture (2).redecoded.webp",
        ]
        assert archive.read("a.redecoded.webp") == client.get(f"/v1/pictures/{name}/result?texture=0&format=webp").content
    problem(client.post("/v1/archives", json={"pictures": [{"id": "unknown"}]}), 404, "gone")
    problem(client.post("/v1/archives", json={"pictures": []}), 422, "invalid")


def test_pictures_go_when_told_when_old_and_when_there_is_no_room(photo: bytes) -> None:
    with serving(Stub(), storage=200_000) as client:
        pictures = service(client).pictures
        names = []
        for _ in range(5):
            names.append(client.post("/v1/pictures", content=photo).json()["id"])
            settled(client, names[-1])
            assert pictures.stored <= 200_000
        problem(client.get(f"/v1/pictures/{names[0]}"), 404, "gone")
        assert 2 <= len(pictures) < 5
        folder = pictures.folder
        assert client.delete(f"/v1/pictures/{names[-1]}").status_code == 204
        problem(client.get(f"/v1/pictures/{names[-1]}/result"), 404, "gone")
        assert soon(lambda: len(folders(folder)) == len(pictures))
        for picture in pictures:
            picture.used -= 4000
        pictures.expire()
        assert len(pictures) == 0
        assert soon(lambda: folders(folder) == [])
        assert folder.stat().st_mode & 0o777 == 0o700 or os.name != "posix"
    assert not folder.exists()
    with serving(Stub(), storage=10_000) as client:
        told = settled(client, client.post("/v1/pictures", content=photo).json()["id"], "failed")
        assert told["problem"]["code"] == "storage"


# ---------------------------------------------------------------- too much, too long, given up


def test_a_full_house_says_when_to_come_back(photo: bytes) -> None:
    stub = Stub()
    stub.leave.clear()
    with serving(stub, workers=1, queue=1) as client:
        names = [client.post("/v1/pictures", content=photo).json()["id"] for _ in range(2)]
        for path in ("/v1/pictures", "/v1/decode"):
            answer = client.post(path, content=photo)
            problem(answer, 429, "busy")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        # Finished results are still available.
        assert client.post("/v1/info", content=photo).status_code == 200
        stub.leave.set()
        for name in names:
            settled(client, name)
        assert client.post("/v1/decode", content=photo).status_code == 200


def test_a_job_that_takes_too_long(photo: bytes) -> None:
    stub = Stub()
    stub.leave.clear()
    stub.let_go(0.1)
    with serving(stub, job_seconds=0.05) as client:
        problem(client.post("/v1/decode", content=photo), 503, "overdue")


def test_cancelling_ends_the_work(photo: bytes) -> None:
    stub = Stub()
    stub.leave.clear()
    with serving(stub) as client:
        name = client.post("/v1/pictures", content=photo).json()["id"]
        assert stub.begun.wait(5)
        problem(client.get(f"/v1/pictures/{name}/layers/base"), 409, "not-done")
        assert client.delete(f"/v1/pictures/{name}").status_code == 204
        stub.leave.set()
        assert stub.ended.wait(5)
        for _ in range(200):
            if service(client).restoring.taken == 0:
                break
            time.sleep(0.01)
        assert service(client).restoring.taken == 0
        assert 'outcome="cancelled"' in client.get("/metrics").text


def test_work_ends_when_the_client_goes_away(photo: bytes) -> None:
    stub = Stub()
    stub.leave.clear()
    app = create_app(Settings(), Direct(stub))
    sent: list[Any] = []

    async def converse() -> None:
        messages: list[dict[str, Any]] = [{"type": "http.request", "body": photo, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop(0)
            await asyncio.to_thread(stub.begun.wait, 5)
            stub.let_go(0.1)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/decode", "raw_path": b"/v1/decode", "query_string": b""}
        scope |= {"headers": [(b"host", b"localhost")], "scheme": "http", "http_version": "1.1", "server": ("localhost", 80)}  # type: ignore[dict-item]
        await app(scope, receive, send)

    asyncio.run(converse())
    app.state.service.pictures.close()
    assert stub.ended.is_set()
    assert sent[0]["status"] == 409
    assert app.state.service.restoring.taken == 0


# ---------------------------------------------------------------- who may ask


def test_every_answer_is_guarded(client: TestClient) -> None:
    for path in ("/", "/page/main.js", "/v1/presets", "/nowhere", "/healthz"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_only_ours_is_served(client: TestClient) -> None:
    assert client.get("/page/index.html").status_code == 200
    for path in ("/page/..%2fweb.py", "/page/%2e%2e/web.py", "/page/web.py", "/web.py", "/page/"):
        problem(client.get(path), 404, "not-found")
    problem(client.put("/v1/decode"), 405, "method")


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("localhost", True),
        ("localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("192.168.1.5", True),
        ("Our.Name:80", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("[bad", False),
        ("", False),
    ],
)
def test_foreign_hosts_are_refused(host: str, good: bool) -> None:
    with serving(Stub(), hosts=frozenset({"our.name"})) as client:
        answer = client.get("/healthz", headers={"Host": host})
    if good:
        assert answer.status_code == 200
    else:
        problem(answer, 421, "host")


def test_pages_of_other_sites_are_refused(client: TestClient, photo: bytes) -> None:
    problem(client.post("/v1/decode", content=photo, headers={"Origin": "https://evil.example"}), 403, "origin")
    problem(client.post("/v1/decode", content=photo, headers={"Origin": "null"}), 403, "origin")
    assert client.post("/v1/decode", content=photo, headers={"Origin": "http://localhost"}).status_code == 200


def test_token(photo: bytes) -> None:
    with serving(Stub(), token="sésame") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": b"Basic s\xc3\xa9same"}):
            answer = client.post("/v1/decode", content=photo, headers=headers)  # type: ignore[arg-type]
            problem(answer, 401, "token")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/metrics").status_code == 401
        assert client.get("/").status_code == 200
        assert client.get("/healthz").status_code == 200
    with serving(Stub(), token="sesame") as client:
        assert client.post("/v1/decode", content=photo, headers={"Authorization": "bearer sesame"}).status_code == 200


def test_failures_keep_their_inside_to_themselves(photo: bytes, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Stub):
        def decode(self, *_: Any, **__: Any) -> Decoded:
            raise RuntimeError("secret /home/user/weights.onnx")

    with serving(Broken()) as client:
        answer = client.post("/v1/decode", content=photo)
        assert "secret" not in answer.text
        problem(answer, 500, "failure")
        name = client.post("/v1/pictures", content=photo).json()["id"]
        assert "secret" not in json.dumps(settled(client, name, "failed"))
    assert "secret" in caplog.text


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org"])
def test_public_addresses_need_a_token(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        serve.serve(host=host, options=Options())
    assert "--token" in capsys.readouterr().err


@pytest.mark.slow
def test_openapi_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance  # A schema cannot tell whether bytes are a picture.

    monkeypatch.setattr("redecode.server.http._PENALTY_SECONDS", 0)
    bounded = settings(max_examples=10, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    checked = []
    with serving(Stub(), hosts=frozenset({"testserver"}), token="sesame") as client:
        assert client.get("/v1/openapi.json").status_code == 401
        schema = schemathesis.openapi.from_dict(client.get("/v1/openapi.json", headers={"Authorization": "Bearer sesame"}).json())
        schema.app = client.app
        for result in schema.get_all_operations():
            operation = result.ok()

            @bounded
            @given(case=operation.as_strategy())
            def check(case: Any) -> None:
                case.call_and_validate(headers={"Authorization": "Bearer sesame"}, excluded_checks=[positive_data_acceptance])

            check()
            checked.append(operation.label)
    assert len(checked) >= 12


# ---------------------------------------------------------------- a real server


@contextmanager
def real_server(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "redecode", "serve", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip().rstrip("/")
        assert address.startswith("http://127.0.0.1:")
        yield process, address
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def memory(client: Any) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("process_resident_memory_bytes")))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_load(small: NDArray[np.uint8], record_property: Callable[[str, object], None]) -> None:
    photos = [encoded(small[: 24 + n, : 32 + n], quality=10 + 5 * n) for n in range(8)]
    expected = [restore(Decoder(), photo, Options()).data for photo in photos]
    with real_server("--workers", "2", "--queue", "8") as (_, address), httpx.Client(base_url=address, timeout=60) as plain:
        for photo in photos:
            plain.post("/v1/decode", content=photo)
        before = memory(plain)

        def one(n: int) -> tuple[str, float]:
            bad = n % 10 == 0
            body = photos[n % 8][: 40 + n % 7] if bad else photos[n % 8]
            began = time.monotonic()
            with httpx.Client(base_url=address, timeout=60) as client:
                answer = client.post("/v1/decode", content=body)
            took = time.monotonic() - began
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1
                return "busy", took
            if bad:
                problem(answer, 422, "unreadable")
                return "refused", took
            assert answer.status_code == 200
            assert answer.content == expected[n % 8]
            return "restored", took

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(one, range(200)))
        after = memory(plain)
    kinds = {kind: [took for k, took in answers if k == kind] for kind in ("restored", "refused", "busy")}
    assert sum(map(len, kinds.values())) == 200
    assert len(kinds["restored"]) >= 20
    p95 = statistics.quantiles(kinds["restored"], n=20)[-1]
    record_property("p95_seconds", round(p95, 3))
    print(f"\n{ {k: len(v) for k, v in kinds.items()} }, p95 {p95:.3f} s, memory {before / 2**20:.0f} → {after / 2**20:.0f} MiB")
    assert after < 1.2 * before


@pytest.mark.slow
@posix
def test_sigterm_lets_work_finish() -> None:
    with real_server() as (process, address):
        body = (EXAMPLES / "parrots-q10.jpg").read_bytes()
        with Image.open(io.BytesIO(body)) as image:
            body = encoded(np.asarray(image.crop((0, 0, 256, 192))), quality=10)
        with concurrent.futures.ThreadPoolExecutor(1) as pool, httpx.Client(base_url=address, timeout=60) as client:
            answer = pool.submit(httpx.post, f"{address}/v1/decode", content=body, timeout=60)
            while 'redecode_places_taken{lane="restoring"} 0.0' in client.get("/metrics").text:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert answer.result().status_code == 200
        assert process.wait(30) == 0
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{address}/healthz")
