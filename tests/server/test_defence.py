"""Robustness of the server: clients without a token, misbehaving and very many clients, endless work, and being killed."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import typer
import uvicorn
from fastapi.testclient import TestClient
from test_server import EXAMPLES, Direct, Stub, encoded, folders, memory, posix, problem, real_server, service, serving, settled, soon

from redecode.cli import serve
from redecode.errors import UnreadableError
from redecode.options import Options
from redecode.server import connections, http, pictures
from redecode.server.app import create_app
from redecode.server.engine import Context, CrashError, DiedError, Processes
from redecode.server.jobs import CancelledError, Job, OverdueError
from redecode.server.pictures import Pictures
from redecode.server.service import Settings


@pytest.fixture(scope="module")
def photo() -> bytes:
    y, x = np.mgrid[:40, :56]
    return encoded(np.stack([x * 4, y * 6, 255 - x * 2], -1).astype(np.uint8), quality=20)


# ---------------------------------------------------------------- the token


def asked(app: Any, method: str, path: str, headers: dict[str, str], receive: Callable[[], Any]) -> int:
    """The status of a response, through ASGI directly."""
    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "scheme": "http"}
    scope |= {"http_version": "1.1", "server": ("localhost", 80), "client": ("203.0.113.7", 5)}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in {"host": "localhost", **headers}.items()]
    asyncio.run(app(scope, receive, send))
    return statuses[0]


def test_without_the_token_nothing_is_read() -> None:
    async def receive() -> Any:
        raise AssertionError("the body was read")

    with serving(Stub(), token="sesame") as client:
        paths = client.get("/v1/openapi.json", headers={"Authorization": "Bearer sesame"}).json()["paths"]
        for path, methods in paths.items():
            for method in methods:
                status = asked(client.app, method.upper(), path, {"content-type": "application/json"}, receive)
                assert status == (200 if path == "/healthz" else 401), (method, path)
        for path in ("/v1/openapi.json", "/nowhere", "/metrics"):
            assert client.get(path).status_code == 401


def test_wrong_tokens_are_logged_and_slowed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(http.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
    with serving(Stub(), token="sesame") as client:
        problem(client.get("/v1/presets", headers={"Authorization": "Bearer open"}), 401, "token")
        assert http._PENALTY_SECONDS in waits
        assert "wrong token from testclient" in caplog.text
        monkeypatch.setattr(http, "_MOST_PENALTIES", 0)
        problem(client.get("/v1/presets", headers={"Authorization": "Bearer open"}), 429, "busy")
        assert client.get("/v1/presets", headers={"Authorization": "Bearer sesame"}).status_code == 200


@pytest.mark.parametrize("token", ["sésame", "open\nsesame", "open sesame", "", "\x7f"])
def test_a_token_that_nobody_could_send(token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text(token + "\n", "utf-8")
    for chosen in ({"token": token}, {"token_file": tmp_path / "token"}):
        with pytest.raises(typer.Exit):
            serve.serve(options=Options(), **chosen)  # type: ignore[arg-type]
        assert "token" in capsys.readouterr().err


def test_a_token_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame\r\n")
    assert serve._checked_token(None, tmp_path / "token") == "sesame"
    with pytest.raises(ValueError, match="not both"):
        serve._checked_token("a", tmp_path / "token")
    with pytest.raises(FileNotFoundError):
        serve._checked_token(None, tmp_path / "none")


# ---------------------------------------------------------------- requests


def test_what_is_asked_for_in_json_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Stub()) as client:
        json = {"Content-Type": "application/json"}
        problem(client.post("/v1/archives", content=b"[" * (1 << 21), headers=json), 413, "body-too-large")
        problem(client.post("/v1/archives", content=iter([b"[" * (1 << 20), b"["]), headers=json), 413, "body-too-large")
        problem(client.post("/v1/archives", content=b"[" * (1 << 20), headers=json), 422, "invalid")
        problem(client.post("/v1/archives", content=b"{}", headers={"Content-Type": "text/plain"}), 415, "media-type")
        problem(client.post("/v1/archives", content=b"{}", headers=json), 422, "invalid")


def test_odd_origins_are_refused(photo: bytes) -> None:
    with serving(Stub()) as client:
        for origin in ("http://[", "http://[::1", "//", "\x00", "http://localhost:x"):
            problem(client.post("/v1/decode", content=photo, headers={"Origin": origin}), 403, "origin")


def test_head_is_get_without_the_body(photo: bytes) -> None:
    with serving(Stub()) as client:
        name = client.post("/v1/pictures", content=photo).json()["id"]
        settled(client, name)
        for path in ("/", "/healthz", "/v1/presets", f"/v1/pictures/{name}/result", f"/v1/pictures/{name}/layers/base"):
            head, get = client.head(path), client.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))


def test_a_form_with_a_file(photo: bytes) -> None:
    with serving(Stub()) as client:
        plain = client.post("/v1/decode", content=photo).content
        answer = client.post("/v1/decode", data={"note": "x" * 1000}, files={"file": ("a.jpg", photo)})
        assert (answer.status_code, answer.content) == (200, plain)
        problem(client.post("/v1/decode", files={"note": (None, "no file")}), 422, "invalid")
        for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
            assert client.post("/v1/decode", content=photo, headers={"Content-Type": kind}).status_code in (400, 422)
    with serving(Stub(), max_body=len(photo)) as client:
        assert client.post("/v1/decode", files={"file": ("a.jpg", photo)}).status_code == 200
        problem(client.post("/v1/decode", files={"file": ("a.jpg", photo + b"x")}), 413, "body-too-large")
        assert list(service(client).pictures._held) == []


def test_long_names_in_archives(photo: bytes) -> None:
    with serving(Stub()) as client:
        name = client.post("/v1/pictures", content=photo).json()["id"]
        settled(client, name)
        wanted = [{"id": name, "name": "ß" * 199 + end} for end in ("a", "a", "b")]
        answer = client.post("/v1/archives", json={"pictures": wanted})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = archive.namelist()
        assert all(entry.date_time[0] >= 2024 for entry in archive.infolist())
    assert len(set(names)) == 3
    assert all(len(one.encode()) <= 255 and one.endswith(".redecoded.png") for one in names)


# ---------------------------------------------------------------- connections


@contextmanager
def running(app: Any) -> Iterator[tuple[uvicorn.Server, int]]:
    """A server in a thread, on a socket of `redecode serve`."""
    with serve._listening("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", **connections.SERVER_OPTIONS))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert soon(lambda: server.started)
            yield server, listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def test_small_answers_are_not_delayed() -> None:
    with running(create_app(Settings(), Direct(Stub()))) as (server, port), socket.create_connection(("127.0.0.1", port)):
        assert soon(lambda: len(server.server_state.connections) == 1)
        (connection,) = server.server_state.connections
        assert connection.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_half_a_request_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with running(create_app(Settings(), Direct(Stub()))) as (server, port), ExitStack() as opened:
        silent = [opened.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(4)]
        silent[1].sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        silent[2].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        silent[3].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost:")
        for number, one in enumerate(silent):
            one.settimeout(5)
            received = b""
            with suppress(ConnectionResetError):
                while chunk := one.recv(4096):
                    received += chunk
            assert (b"200 OK" in received) == (number > 1)
        assert soon(lambda: not server.server_state.connections)


def test_many_connections_shut_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST", 10)
    with running(create_app(Settings(), Direct(Stub()))) as (server, port), ExitStack() as opened:
        for _ in range(40):
            opened.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(b"GET")
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        assert len(server.server_state.connections) <= 10


def test_an_answer_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch, photo: bytes) -> None:
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.3)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    server = uvicorn.Config(app, lifespan="off", **connections.SERVER_OPTIONS)
    with serve._listening("127.0.0.1", 0) as listener:
        running = uvicorn.Server(server)
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert soon(lambda: len(running.server_state.connections) == 1)
            assert soon(lambda: not running.server_state.connections)
        running.should_exit = True
        thread.join()


# ---------------------------------------------------------------- work


def endless(_: Context) -> None:
    time.sleep(60)


def failing(_: Context, error: Exception) -> None:
    raise error


def dying(_: Context) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def telling(context: Context, *things: Any) -> int:
    for thing in things:
        context.tell("thing", thing)
    return os.getpid()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    engine = Processes(1, tmp_path_factory.mktemp("work"))
    yield engine
    engine.close()
    assert not list(engine._folder.iterdir())


def test_work_is_ended_wherever_it_is(engine: Processes) -> None:
    late = Job()
    late.begin(1)
    with pytest.raises(OverdueError):
        engine.run(late, lambda *_: None, endless)
    unwanted = Job()
    threading.Timer(0.5, unwanted.cancel).start()
    with pytest.raises(CancelledError):
        engine.run(unwanted, lambda *_: None, endless)


@pytest.mark.slow
def test_a_worker_tells_and_stays(engine: Processes) -> None:
    heard: list[Any] = []
    first = engine.run(Job(), lambda name, value: heard.append((name, value)), telling, 1, "two")
    assert heard == [("thing", 1), ("thing", "two")]
    with pytest.raises(UnreadableError, match="bad"):
        engine.run(Job(), lambda *_: None, failing, UnreadableError("bad"))
    with pytest.raises(CrashError, match="ZeroDivisionError: oh"):
        engine.run(Job(), lambda *_: None, failing, ZeroDivisionError("oh"))
    assert engine.run(Job(), lambda *_: None, telling) == first


@posix
def test_a_worker_that_dies_takes_nobody_along(engine: Processes, photo: bytes) -> None:
    with pytest.raises(DiedError):
        engine.run(Job(), lambda *_: None, dying)
    assert engine.run(Job(), lambda *_: None, telling) != os.getpid()


@pytest.mark.slow
def test_idle_workers_end(engine: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    first = engine.run(Job(), lambda *_: None, telling)
    engine.rest()
    assert engine.run(Job(), lambda *_: None, telling) == first
    monkeypatch.setattr("redecode.server.engine._IDLE_SECONDS", 0)
    engine.rest()
    assert engine.run(Job(), lambda *_: None, telling) != first


@pytest.mark.slow
def test_time_is_up_for_a_large_picture() -> None:
    big = encoded(np.kron(np.random.default_rng(1).integers(0, 255, (250, 250), np.uint8), np.ones((8, 8), np.uint8)), quality=50)
    with real_server("--max-time", "1") as (_, address), httpx.Client(base_url=address, timeout=60) as client:
        began = time.monotonic()
        problem(client.post("/v1/decode", content=big), 503, "overdue")
        assert time.monotonic() - began < 20
        assert client.get("/healthz").status_code == 200


# ---------------------------------------------------------------- memory and disk


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_answers_that_nobody_reads_cost_no_memory() -> None:
    noise = encoded(np.random.default_rng(1).integers(0, 255, (512, 512, 3), np.uint8), quality=30)
    with real_server() as (_, address), httpx.Client(base_url=address, timeout=120) as client, ExitStack() as opened:
        name = client.post("/v1/pictures", content=noise).json()["id"]
        assert soon(lambda: client.get(f"/v1/pictures/{name}").json()["state"] == "done", 60)
        path = f"/v1/pictures/{name}/result?format=tiff"
        size = len(client.get(path).content)
        before = memory(client)
        for _ in range(60):
            one = opened.enter_context(socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))))
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        time.sleep(2)
        assert memory(client) - before < 60 * size / 4


def test_what_is_on_its_way_counts_as_stored(photo: bytes) -> None:
    with serving(Stub()) as client:
        kept = service(client).pictures
        name = client.post("/v1/pictures", content=photo).json()["id"]
        settled(client, name)
        sizes: list[int] = []

        def count(message: Any) -> None:
            sizes.append(sum(held.size for held in kept._held))

        watched = Watched(client.app, count)
        inner = TestClient(watched, base_url="http://localhost")
        for path, content in (("archives", {"json": {"pictures": [{"id": name}]}}), ("decode", {"content": photo})):
            answer = inner.post(f"/v1/{path}", **content)
            assert answer.status_code == 200
            assert max(sizes) == len(answer.content)
            assert kept._held == set()
            sizes.clear()


class Watched:
    """An application whose responses are observed."""

    def __init__(self, app: Any, look: Callable[[Any], None]) -> None:
        self._app, self._look = app, look

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def looked_at(message: Any) -> None:
            self._look(message)
            await send(message)

        await self._app(scope, receive, looked_at)


def test_an_archive_without_room_is_refused(photo: bytes) -> None:
    with serving(Stub()) as client:
        name = client.post("/v1/pictures", content=photo).json()["id"]
        settled(client, name)
        service(client).pictures.capacity = service(client).pictures.stored + 1000
        problem(client.post("/v1/archives", json={"pictures": [{"id": name}]}), 507, "storage")
        assert service(client).pictures._held == set()


def test_refused_uploads_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_MOST_OPEN", 10)
    with serving(Stub()) as client:
        kept = service(client).pictures
        for _ in range(30):
            assert client.post("/v1/pictures", content=b"no picture").status_code == 202
        assert soon(lambda: all(picture.settled for picture in kept))
        assert len(kept) <= 10
        assert kept.stored == 0
        assert soon(lambda: folders(kept.folder) == [])


def test_of_a_picture_without_traces_one_layer_is_kept() -> None:
    with serving(Stub()) as client:
        status = settled(client, client.post("/v1/pictures", content=encoded(np.zeros((99, 77, 3), np.uint8), format="PNG")).json()["id"])
        assert not status["changed"]
        (picture,) = service(client).pictures
        assert sorted(path.name for path in picture.folder.iterdir()) == ["original.png", "source", "thumbnail.png"]
        layers = {client.get(f"/v1/pictures/{picture.id}/layers/{layer}").content for layer in ("original", "base", "texture")}
        assert len(layers) == 1


def test_results_are_made_once_and_few_are_kept(photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Stub()) as client:
        name = client.post("/v1/pictures", content=photo).json()["id"]
        settled(client, name)
        first = client.get(f"/v1/pictures/{name}/result").content
        monkeypatch.setattr("redecode.server.work.result", None)
        assert client.get(f"/v1/pictures/{name}/result").content == first
        monkeypatch.undo()
        for texture in range(6):
            client.get(f"/v1/pictures/{name}/result?texture={texture / 10}")
        (picture,) = service(client).pictures
        assert len(list(picture.folder.glob("results/*"))) <= 3


def test_without_its_folder_the_server_says_so(photo: bytes) -> None:
    import shutil

    with serving(Stub()) as client:
        assert client.get("/healthz").status_code == 200
        name = client.post("/v1/pictures", content=photo).json()["id"]
        settled(client, name)
        shutil.rmtree(service(client).pictures.folder)
        problem(client.get("/healthz"), 503, "broken")
        problem(client.post("/v1/decode", content=photo), 503, "broken")
        problem(client.post("/v1/pictures", content=photo), 503, "broken")
        problem(client.get(f"/v1/pictures/{name}/layers/base"), 503, "broken")


def test_without_weights_the_server_says_so(photo: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(Stub()) as client:
        monkeypatch.setattr("redecode.weights.files", lambda _: tmp_path)
        problem(client.get("/healthz"), 503, "broken")


@pytest.mark.slow
@posix
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_behind(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with real_server() as (process, address):
        httpx.post(f"{address}/v1/pictures", content=(EXAMPLES / "parrots-q10.jpg").read_bytes())
        process.send_signal(number)
        assert process.wait(120) == (0 if number == signal.SIGHUP else -number)
    if number == signal.SIGKILL:
        assert len(list(tmp_path.glob(f"{pictures._PREFIX}*"))) == 1
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        running = Pictures(1, 1)
        pictures.remove_leftovers()
        assert list(tmp_path.glob(f"{pictures._PREFIX}*")) == [running.folder]
        running.close()
    assert soon(lambda: not list(tmp_path.glob("redecode*")))
