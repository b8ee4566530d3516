"""The page without a server, in a real browser."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import os
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright import sync_api as playwright

import redecode
from redecode import codec
from redecode.codec.picture import read
from redecode.errors import DependencyError, OutputExistsError
from redecode.portable import graph, runtime, static

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs a browser: apt-get install chromium", allow_module_level=True)
PACKAGE = os.environ.get("REDECODE_ORT_WEB")
if PACKAGE is None:
    pytest.skip(f"needs ONNX Runtime Web: fetch {runtime.ADDRESS}, and set REDECODE_ORT_WEB to it", allow_module_level=True)

EXAMPLES = Path(__file__).parents[2] / "examples"
# Where to leave screenshots to look at.
SCREENSHOTS = os.environ.get("REDECODE_SCREENSHOTS")
PATIENCE_MS = 180_000
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
# Between one rounding of the int8 networks and another lies a level or two, and a pixel on the mask's threshold may fall to the other side.
ALIKE = 0.99


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "site"
    static.write(folder, Path(str(PACKAGE)))
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serving(folder) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page in a profile of its own; nothing may go wrong in it, and it asks nobody but where it came from."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    faults: list[str] = []
    strangers: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    context.on("request", lambda request: None if request.url.startswith((address, "blob:", "data:")) else strangers.append(request.url))
    page.goto(address)
    ready(page)
    yield page
    context.close()
    assert faults == []
    assert strangers == []


@pytest.fixture(scope="module")
def page(browser: Any, address: str) -> Iterator[Any]:
    with visiting(browser, address) as page:
        yield page


def ready(page: Any) -> None:
    page.wait_for_selector("html[data-ready]", state="attached")


def opened(page: Any, name: str, data: bytes) -> None:
    """Open a file in place of what is open, and wait until it is restored."""
    page.reload()
    ready(page)
    page.set_input_files("#files", {"name": name, "mimeType": "image/jpeg", "buffer": data})
    page.wait_for_selector("#save:enabled")


def saved(page: Any, button: str = "#save") -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def jpeg_of(mode: str, box: tuple[int, int, int, int], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with Image.open(EXAMPLES / "parrots-q10.jpg") as image:
        image.convert(mode).crop(box).save(buffer, "JPEG", **{"quality": 20, **options})
    return buffer.getvalue()


def alike(found: np.ndarray, data: bytes, texture: float) -> None:
    wanted = redecode.decode(read(data, as_is=True), texture=texture).image
    assert found.shape == wanted.shape
    difference = np.abs(found.astype(int) - wanted)
    assert (difference <= 1).mean() > ALIKE, f"differences: {np.bincount(difference.ravel())}"
    assert difference.mean() < 0.1


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(jpeg_of("RGB", (480, 220, 656, 341), subsampling="4:2:0"), id="4:2:0"),
        pytest.param(jpeg_of("RGB", (200, 100, 297, 180), subsampling="4:4:4", progressive=True), id="4:4:4-progressive"),
        pytest.param(jpeg_of("L", (480, 220, 600, 301)), id="gray"),
    ],
)
def test_pixels_are_the_engines(page: Any, data: bytes) -> None:
    opened(page, "parrot.jpg", data)
    assert page.inner_text("#consistency") == f"{redecode.decode(read(data, as_is=True)).consistency:.2%}".replace("%", " %")
    name, png = saved(page)
    assert name == "parrot.redecoded.png"
    alike(pixels(png), data, 1)
    page.fill("#texture", "30")
    alike(pixels(saved(page)[1]), data, 0.3)


@pytest.mark.slow
def test_best(page: Any) -> None:
    data = jpeg_of("RGB", (480, 220, 560, 268))
    opened(page, "small.jpg", data)
    page.click("#presets >> text=Best")
    playwright.expect(page.locator(".thumb.pending")).to_have_count(0, timeout=PATIENCE_MS)
    wanted = redecode.Decoder("best").decode(read(data, as_is=True)).image
    assert (np.abs(pixels(saved(page)[1]).astype(int) - wanted) <= 1).mean() > ALIKE
    page.evaluate("localStorage.clear()")


@pytest.mark.slow
def test_several_tiles(page: Any) -> None:
    data = jpeg_of("RGB", (30, 20, 638, 180), subsampling="4:2:0")
    opened(page, "wide.jpg", data)
    alike(pixels(saved(page)[1]), data, 1)


def test_the_dial_turned_while_sizes_are_found_out(page: Any) -> None:
    """What is saved is that of the last turn, also where it was on its way before."""
    data = jpeg_of("RGB", (480, 220, 656, 341))
    opened(page, "parrot.jpg", data)
    for percent in (80, 20, 80, 20, 60):
        page.fill("#texture", str(percent))
        page.wait_for_timeout(750)
    alike(pixels(saved(page)[1]), data, 0.6)
    page.fill("#texture", "0")
    playwright.expect(page.locator("#size")).to_contain_text(";", timeout=PATIENCE_MS)
    page.wait_for_selector("#consistency:not(.stale)")


def test_metadata_and_orientation(page: Any) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    profile = codec.__doc__.encode() * 9 if codec.__doc__ else b"profile"
    opened(page, "turned.jpg", jpeg_of("RGB", (480, 220, 560, 268), exif=exif, icc_profile=profile, dpi=(300, 300)))
    assert page.evaluate("document.querySelector('#facts').textContent").count("EXIF")
    for form, suffix in (("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")):
        page.select_option("#format", form)
        name, data = saved(page)
        assert name == f"turned.redecoded{suffix}"
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert image.size == (80, 48)
            assert (image.getexif()[0x0112], image.getexif()[0x010E]) == (6, "a description")
            assert image.info["icc_profile"] == profile
            if form == "png":
                assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    page.select_option("#format", "png")


def test_what_is_shown_stands_upright(page: Any) -> None:
    """The layers of a turned picture lie on each other and on the browser's own view of the file."""
    for orientation in (3, 5, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        opened(page, "turned.jpg", jpeg_of("RGB", (480, 220, 560, 268), exif=exif, quality=75))
        page.wait_for_selector("#divider:visible")
        page.wait_for_timeout(1000)
        views = []
        for key in ("Home", "End"):
            page.focus("#divider")
            page.keyboard.press(key)
            page.wait_for_timeout(200)
            content = page.evaluate("document.getElementById('canvas').toDataURL()")
            views.append(pixels(base64.b64decode(content.partition(",")[2]))[..., :3].astype(float))
        assert np.abs(views[0] - views[1]).mean() < 2


def test_without_a_network(browser: Any, folder: Path) -> None:
    with serving(folder) as address:
        context = browser.new_context()
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(address)
        ready(page)
        page.evaluate("navigator.serviceWorker.ready")
    # The server is gone.
    page.reload()
    ready(page)
    assert page.evaluate("crossOriginIsolated")
    page.click("[data-sample] >> nth=0")
    page.click("#cancel")
    opened(page, "small.jpg", jpeg_of("RGB", (480, 220, 528, 252)))
    assert saved(page)[0] == "small.redecoded.png"
    context.close()


def test_refused_cancelled_and_several(page: Any) -> None:
    page.reload()
    ready(page)
    page.set_input_files("#files", {"name": "letter.jpg", "mimeType": "image/jpeg", "buffer": b"Dear Sir or Madam"})
    page.wait_for_selector("#refused:visible")
    assert "not a JPEG" in page.inner_text("#refused-text")
    page.click("#dismiss")
    page.set_input_files("#files", EXAMPLES / "parrots-q10.jpg")
    page.click("#cancel")
    page.wait_for_selector("#welcome:visible")
    page.reload()
    ready(page)
    files = [{"name": f"{n}.jpg", "mimeType": "image/jpeg", "buffer": jpeg_of("RGB", (480, 220, 528 + 8 * n, 252))} for n in range(3)]
    page.set_input_files("#files", files)
    playwright.expect(page.locator(".thumb:not(.pending):not(.failed)")).to_have_count(3, timeout=PATIENCE_MS)
    name, data = saved(page, "#save-all")
    assert name == "redecode.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{n}.redecoded.png" for n in range(3)]
        for n, file in enumerate(files):
            # The first one's coefficients have given way to those of the others.
            alike(pixels(archive.read(f"{n}.redecoded.png")), file["buffer"], 1)


def test_the_example_in_the_documentation(browser: Any, folder: Path, tmp_path: Path) -> None:
    text = (EXAMPLES.parent / "docs" / "browser.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```js\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    shutil.copytree(folder / "page", tmp_path / "page")
    data = jpeg_of("RGB", (480, 220, 560, 268))
    (tmp_path / "photo.jpg").write_bytes(data)
    (tmp_path / "redecode.onnx").write_bytes(graph.build("whole").SerializeToString())
    (tmp_path / "example.js").write_text(example)
    (tmp_path / "index.html").write_text('<!doctype html><link rel="icon" href="data:,"><script type="module" src="example.js"></script>')
    with serving(tmp_path) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_function("window.pixels", timeout=PATIENCE_MS)
        alike(np.array(page.evaluate("[...window.pixels]"), np.uint8).reshape(48, 80, 3), data, 1)
        page.close()


def test_on_a_phone(browser: Any, address: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    with visiting(browser, address, **phone) as page:
        page.set_input_files("#files", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": jpeg_of("RGB", (480, 220, 560, 268))})
        page.wait_for_selector("#save:enabled")
        page.wait_for_selector("#divider:visible")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        found = Axe().run(page).response["violations"]
        assert [violation["id"] for violation in found if violation["impact"] in ("serious", "critical")] == []
        if SCREENSHOTS:
            page.wait_for_timeout(1000)
            page.screenshot(path=Path(SCREENSHOTS) / "browser-phone.png")


def test_the_folder(folder: Path, tmp_path: Path) -> None:
    index = (folder / "index.html").read_text()
    assert "unsafe-inline" not in index
    assert "'unsafe-eval'" not in index
    assert "<!--" not in index
    with pytest.raises(OutputExistsError):
        static.write(folder, Path(str(PACKAGE)))
    other = tmp_path / "other.tgz"
    other.write_bytes(b"something else")
    with pytest.raises(DependencyError, match="is not the package"):
        static.write(tmp_path / "site", other)
    assert not (tmp_path / "site").exists()
