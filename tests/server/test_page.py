"""The page in a real browser, on a real server with the real networks."""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from PIL import Image
from playwright import sync_api as playwright

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("needs a browser: apt-get install chromium", allow_module_level=True)

PARROTS = Path(__file__).parents[2] / "examples" / "parrots-q10.jpg"
# Folder for the screenshots of docs/web.md; see there.
SCREENSHOTS = os.environ.get("REDECODE_SCREENSHOTS")
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
PATIENCE_MS = 120_000
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"

WATCH_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.shifts.push(...entry.sources.map(({ node }) => node?.outerHTML?.slice(0, 100) ?? "?"));
}).observe({ type: "layout-shift", buffered: true });
"""
DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
  const options = { dataTransfer, bubbles: true, cancelable: true };
  for (const kind of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(kind, options));
}"""
PIXELS = """() => {
  const canvas = document.getElementById("canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let text = "";
  for (let i = 0; i < data.length; i += 32768) text += String.fromCharCode(...data.subarray(i, i + 32768));
  return [canvas.width, canvas.height, btoa(text)];
}"""


@contextmanager
def serving(*arguments: str) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-m", "redecode", "serve", "--port", "0", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page in a new profile; it may have no errors, and may contact only its server."""
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(WATCH_SHIFTS)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    strangers: list[str] = []
    server = address.partition("#")[0]
    page.on("request", lambda request: None if request.url.startswith((server, "blob:", "data:")) else strangers.append(request.url))
    page.goto(address)
    yield page
    context.close()
    assert faults == []
    assert strangers == []


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with visiting(browser, address) as page:
        ready(page)
        yield page


def ready(page: Any) -> None:
    page.wait_for_selector("html[data-ready]", state="attached")


def restored(page: Any) -> None:
    page.wait_for_selector("#save:enabled")
    page.wait_for_selector("#divider:visible")


def detail(width: int, height: int, quality: int = 10) -> bytes:
    with Image.open(PARROTS) as image:
        buffer = io.BytesIO()
        image.crop((480, 220, 480 + width, 220 + height)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "parrot.jpg"
    path.write_bytes(detail(176, 120))
    return path


def command(source: Path, target: Path, *arguments: str) -> bytes:
    subprocess.run([sys.executable, "-m", "redecode", source, "-o", target, "--quiet", *arguments], check=True)
    return target.read_bytes()


def canvas(page: Any) -> NDArray[np.uint8]:
    """Pixels of the large view, [H, W, 3]."""
    width, height, content = page.evaluate(PIXELS)
    pixels = np.frombuffer(base64.b64decode(content), np.uint8).reshape(height, width, 4)
    return pixels[..., :3]


def shown(page: Any, address: str, layer: str) -> NDArray[np.uint8]:
    """A layer on the server."""
    (one,) = page.evaluate("JSON.parse(sessionStorage.getItem('pictures'))")
    version = one["versions"][one["chosen"]]
    data = page.request.get(f"{address}v1/pictures/{version['id']}/layers/{layer}").body()
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def saved(page: Any, button: str) -> tuple[str, bytes]:
    with page.expect_download() as download:
        page.click(button)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def test_drop_compare_turn_and_save(page: Any, address: str, photo: Path, tmp_path: Path) -> None:
    page.evaluate(DROP, [photo.name, base64.b64encode(photo.read_bytes()).decode()])
    restored(page)
    page.wait_for_timeout(1000)  # The divider is drawn across.

    # The view shows the exact pixels, at 100 % and enlarged to squares.
    page.fill("#texture", "0")
    page.click("#zoom-actual")
    page.wait_for_timeout(200)
    view, original, base = canvas(page), shown(page, address, "original"), shown(page, address, "base")
    height, width = original.shape[:2]
    top, left, middle = round((view.shape[0] - height) / 2), round((view.shape[1] - width) / 2), round(view.shape[1] / 2)
    np.testing.assert_array_equal(view[top : top + height, left:middle], original[:, : middle - left])
    np.testing.assert_array_equal(view[top : top + height, middle : left + width], base[:, middle - left :])
    page.click("#zoom-in")
    page.wait_for_timeout(200)
    larger = canvas(page)
    top, left = round(larger.shape[0] / 2 - height), round(larger.shape[1] / 2 - width)
    enlarged = original.repeat(2, 0).repeat(2, 1)[:, : middle - left]
    np.testing.assert_array_equal(larger[top : top + 2 * height, left:middle], enlarged)

    # The divider and the view obey the keyboard.
    page.focus("#divider")
    page.keyboard.press("End")
    page.wait_for_selector("#divider[aria-valuenow='100']")  # The value is set when the next frame is painted.
    page.keyboard.press("Home")
    page.focus("#canvas")
    page.keyboard.press("0")
    page.keyboard.press("g")
    page.wait_for_selector("[data-overlay=grid][aria-pressed=true]")

    # The dial blends at once; the server's figures follow later.
    plain = canvas(page)
    page.fill("#texture", "50")
    page.wait_for_timeout(200)
    assert (canvas(page) != plain).any()
    page.wait_for_selector("#consistency:not(.stale)")
    assert page.inner_text("#consistency").endswith(" %")
    page.click("summary")
    assert page.inner_text("#projection").endswith(" dB")
    page.click("summary")

    assert saved(page, "#save") == ("parrot.redecoded.png", command(photo, tmp_path / "a.png", "--texture", "0.5"))
    page.select_option("#format", "webp")
    assert saved(page, "#save") == ("parrot.redecoded.webp", command(photo, tmp_path / "a.webp", "--texture", "0.5"))
    assert page.evaluate("window.shifts") == []


def test_a_refused_file(page: Any, tmp_path: Path) -> None:
    (tmp_path / "letter.jpg").write_bytes(b"Dear Sir or Madam")
    page.set_input_files("#files", tmp_path / "letter.jpg")
    page.wait_for_selector("#refused:visible")
    assert page.inner_text("#refused-title") == "letter.jpg was refused"
    assert "not a picture" in page.inner_text("#refused-text")
    assert page.is_disabled("#save")
    page.click("#dismiss")
    page.wait_for_selector("#welcome:visible")


def test_ten_at_once_and_an_archive(page: Any) -> None:
    contents = [detail(40 + 8 * n, 40, 10 + n) for n in range(9)]
    files = [{"name": f"{n}.jpg", "mimeType": "image/jpeg", "buffer": content} for n, content in enumerate(contents)]
    page.set_input_files("#files", [*files, {"name": "bad.jpg", "mimeType": "image/jpeg", "buffer": b"bad"}])
    page.wait_for_selector(".thumb.failed")
    playwright.expect(page.locator(".thumb:not(.pending):not(.failed)")).to_have_count(9, timeout=PATIENCE_MS)
    for n in range(9):
        page.locator(".thumb").nth(n).click()
        restored(page)
        assert page.title() == f"{n}.jpg – redecode"
    name, data = saved(page, "#save-all")
    assert name == "redecode.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == [f"{n}.redecoded.png" for n in range(9)]
        assert archive.testzip() is None
    assert page.evaluate("window.shifts") == []


def test_reload_in_the_midst(page: Any, photo: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(detail(288, 288))
    page.set_input_files("#files", [large, photo])
    page.wait_for_selector("#working:visible")
    playwright.expect(page.locator(".thumb")).to_have_count(2)
    for _ in range(100):
        if len(page.evaluate("JSON.parse(sessionStorage.getItem('pictures') ?? '[]')")) == 2:
            break
        page.wait_for_timeout(50)
    page.reload()
    ready(page)
    restored(page)
    assert page.locator(".thumb .name").all_inner_texts() == ["large.jpg", "parrot.jpg"]
    page.fill("#texture", "30")
    page.wait_for_selector("#consistency:not(.stale)")
    page.reload()
    ready(page)
    restored(page)
    assert page.input_value("#texture") == "30"
    assert saved(page, "#save")[1] == command(large, tmp_path / "a.png", "--texture", "0.3")


def test_a_picture_that_was_compressed_twice(page: Any, tmp_path: Path) -> None:
    twice = tmp_path / "twice.jpg"
    with Image.open(io.BytesIO(detail(176, 120))) as image:
        image.save(twice, quality=90)
    page.set_input_files("#files", twice)
    restored(page)
    assert "10" in page.locator("#facts div", has_text="Compressed before").inner_text()
    first = saved(page, "#save")[1]
    page.check("#as-is")
    page.wait_for_selector("#working:visible")
    page.wait_for_selector("#working", state="hidden")
    assert page.is_checked("#as-is")
    last = saved(page, "#save")[1]
    assert (first, last) == (command(twice, tmp_path / "a.png"), command(twice, tmp_path / "b.png", "--as-is"))
    assert first != last
    page.reload()
    ready(page)
    restored(page)
    assert page.is_checked("#as-is")


def test_the_strength_by_hand(page: Any, tmp_path: Path) -> None:
    again = tmp_path / "again.jpg"
    with Image.open(io.BytesIO(detail(176, 120))) as image:
        image.resize((150, 100)).save(again, quality=95)
    page.set_input_files("#files", again)
    restored(page)
    assert page.is_checked("#automatic")
    assert page.is_disabled("#strength")
    assert page.inner_text("#strength-value") == "automatic"
    first = saved(page, "#save")[1]
    page.uncheck("#automatic")
    page.fill("#strength", "20")
    page.dispatch_event("#strength", "change")
    page.wait_for_selector("#working:visible")
    page.wait_for_selector("#working", state="hidden")
    assert page.inner_text("#strength-value") == "20"
    assert saved(page, "#save")[1] == command(again, tmp_path / "a.png", "--force-quality", "20") != first
    page.reload()
    ready(page)
    restored(page)
    assert (page.is_checked("#automatic"), page.input_value("#strength")) == (False, "20")
    page.check("#automatic")
    assert saved(page, "#save")[1] == first


def test_cancel(page: Any) -> None:
    page.set_input_files("#files", PARROTS)
    page.click("#cancel")
    page.wait_for_selector("#welcome:visible")
    assert page.evaluate("sessionStorage.getItem('pictures')") == "[]"


def chosen(page: Any) -> str:
    (preset,) = page.locator("#presets button[aria-pressed=true]").all_inner_texts()
    return str(preset)


def test_presets_belong_to_the_picture(page: Any, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"
    other.write_bytes(detail(96, 96))
    page.set_input_files("#files", [photo, other])
    restored(page)
    page.locator(".thumb").nth(1).click()
    restored(page)
    page.wait_for_timeout(1000)  # The divider is drawn across.
    fast = canvas(page)
    page.click("#presets >> text=Best")
    # The old result is shown and can be saved until the new one is done.
    assert page.is_enabled("#save")
    playwright.expect(page.locator(".thumb.pending")).to_have_count(0, timeout=PATIENCE_MS)
    page.wait_for_timeout(500)
    assert chosen(page) == "Best"
    best = canvas(page)
    assert (fast != best).any()
    assert saved(page, "#save")[1] == command(other, tmp_path / "best.png", "--preset", "best")
    page.locator(".thumb").nth(0).click()
    assert chosen(page) == "Fast"
    # The other result is kept: switching between them needs no new request.
    page.locator(".thumb").nth(1).click()
    assert chosen(page) == "Best"
    page.on("request", lambda request: pytest.fail(request.url) if request.url.endswith("/again") else None)
    page.click("#presets >> text=Fast")
    page.wait_for_timeout(500)
    assert page.locator(".thumb.pending").count() == 0
    np.testing.assert_array_equal(canvas(page), fast)
    page.click("#presets >> text=Best")
    page.reload()
    ready(page)
    page.locator(".thumb").nth(1).click()
    restored(page)
    assert chosen(page) == "Best"
    page.locator(".thumb").nth(0).click()
    restored(page)
    assert chosen(page) == "Fast"
    page.evaluate("localStorage.clear()")


def test_cancel_of_another_preset_keeps_the_result(page: Any, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(detail(288, 288))
    page.set_input_files("#files", large)
    restored(page)
    page.click("#presets >> text=Best")
    page.click("#cancel")
    page.wait_for_selector("#working", state="hidden")
    assert chosen(page) == "Fast"
    assert saved(page, "#save")[1] == command(large, tmp_path / "a.png")
    page.evaluate("localStorage.clear()")


def test_a_server_that_goes_and_comes_back(browser: Any, photo: Path) -> None:
    with serving() as address:
        port = address.rstrip("/").rpartition(":")[2]
        context = browser.new_context()
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(address)
        ready(page)
        page.set_input_files("#files", photo)
        restored(page)
    page.wait_for_selector("#silence:visible", timeout=20_000)
    with serving("--port", port):
        page.wait_for_selector("#silence", state="hidden")
        # The new server does not have the file: it is sent again.
        page.fill("#texture", "40")
        page.wait_for_selector("#consistency:not(.stale)")
        restored(page)
        assert saved(page, "#save")[0] == "parrot.redecoded.png"
        context.close()


def test_the_size_is_told_before_saving(page: Any, photo: Path) -> None:
    page.set_input_files("#files", photo)
    restored(page)
    sizes = []
    for name, quality in (("png", None), ("jpeg", "80"), ("webp", "65")):
        page.select_option("#format", name)
        if quality:
            page.select_option("#quality", quality)
        playwright.expect(page.locator("#size")).to_contain_text(";", timeout=PATIENCE_MS)
        data = saved(page, "#save")[1]
        assert page.inner_text("#size").startswith(f"{len(data) / 1000:.1f} kB; the file has ")
        sizes.append(len(data))
    assert sizes[0] > sizes[1] > sizes[2]
    page.reload()
    ready(page)
    assert (page.input_value("#format"), page.input_value("#quality")) == ("webp", "65")
    page.evaluate("localStorage.clear()")


def test_hold_step_remove_and_undo(page: Any, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"
    other.write_bytes(detail(96, 96))
    page.set_input_files("#files", [photo, other])
    restored(page)
    page.wait_for_timeout(1000)
    split = canvas(page)
    box = page.locator("#peek").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.wait_for_timeout(200)
    held = canvas(page)
    page.mouse.up()
    page.wait_for_timeout(200)
    assert (held != split).any()
    np.testing.assert_array_equal(canvas(page), split)
    page.keyboard.press("+")
    page.wait_for_timeout(200)
    assert (canvas(page) != split).any()
    page.locator(".thumb").nth(0).focus()
    page.keyboard.press("ArrowRight")
    assert page.title() == "other.jpg – redecode"
    restored(page)
    page.keyboard.press("Delete")
    assert page.locator(".thumb").count() == 1
    page.click("#undo")
    assert page.locator(".thumb .name").all_inner_texts() == ["parrot.jpg", "other.jpg"]
    restored(page)
    page.check("#texture-all")
    page.fill("#texture", "20")
    page.locator(".thumb").nth(0).click()
    assert page.input_value("#texture") == "20"


def test_a_sample(page: Any) -> None:
    page.click("[data-sample] >> nth=0")
    restored(page)


def test_on_a_phone(browser: Any, address: str, photo: Path, tmp_path: Path) -> None:
    with visiting(browser, address, viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2, color_scheme="dark") as page:
        ready(page)
        page.set_input_files("#files", photo)
        restored(page)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert page.locator("#save").bounding_box()["y"] < PHONE["height"]
        for box in (page.locator(f"#{name}").bounding_box() for name in ("save", "zoom-in", "add", "format")):
            assert box["height"] >= 44
            assert box["x"] + box["width"] <= PHONE["width"]
        accessible(page)


def accessible(page: Any) -> None:
    """axe finds nothing serious."""
    found = Axe().run(page).response["violations"]
    assert [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in ("serious", "critical")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way(browser: Any, address: str, photo: Path, tmp_path: Path, scheme: str) -> None:
    (tmp_path / "letter.jpg").write_bytes(b"Dear Sir or Madam")
    with visiting(browser, address, color_scheme=scheme, reduced_motion="reduce") as page:
        ready(page)
        accessible(page)
        page.set_input_files("#files", [photo, tmp_path / "letter.jpg"])
        accessible(page)
        restored(page)
        page.click("[data-overlay=mask]")
        page.click("summary")
        accessible(page)
        page.locator(".thumb").nth(1).click()
        page.wait_for_selector("#refused:visible")
        accessible(page)


def test_with_a_token(browser: Any, photo: Path) -> None:
    with serving("--token", "open-sesame") as address:
        with visiting(browser, f"{address}#token=open-sesame") as page:
            ready(page)
            assert "token" not in page.url
            page.set_input_files("#files", photo)
            restored(page)
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        page.fill("#token", "open-sesame")
        page.keyboard.press("Enter")
        ready(page)
        context.close()


@pytest.mark.skipif(SCREENSHOTS is None, reason="draws the pictures of docs/web.md where REDECODE_SCREENSHOTS says")
def test_screenshots(browser: Any, address: str) -> None:
    folder = Path(SCREENSHOTS or "")
    with visiting(browser, address) as page:
        ready(page)
        page.set_input_files("#files", sorted(PARROTS.parent.glob("*.jpg"), reverse=True))
        restored(page)
        playwright.expect(page.locator(".thumb.pending")).to_have_count(0, timeout=PATIENCE_MS)
        page.mouse.move(5, 5)
        page.wait_for_timeout(1000)
        page.screenshot(path=folder / "web-compare.png")
    with visiting(browser, address, color_scheme="dark") as page:
        ready(page)
        page.set_input_files("#files", PARROTS)
        restored(page)
        page.wait_for_timeout(1000)
        page.fill("#texture", "70")
        page.click("#zoom-actual")
        page.click("#zoom-in")
        page.click("[data-overlay=mask]")
        page.click("[data-overlay=grid]")
        page.wait_for_selector("#consistency:not(.stale)")
        page.mouse.move(5, 5)
        page.wait_for_timeout(300)
        page.screenshot(path=folder / "web-overlays.png")
