"""No interface, and no worker process, connects to other machines or leaves files in the user's home."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "parrots-q10.jpg"

# A separate network namespace has only a loopback device, which must be enabled.
ALONE = """
import fcntl, os, socket, struct, sys
with socket.socket() as s:
    name = struct.pack("16sh14x", b"lo", 0)
    flags = struct.unpack("16sh14x", fcntl.ioctl(s, 0x8913, name))[1]
    fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", flags | 1))
os.execvp(sys.argv[1], sys.argv[1:])
"""
SERVE = """
import subprocess, sys, time, urllib.request
server = subprocess.Popen([sys.executable, "-m", "redecode", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True)
try:
    address = server.stdout.readline().strip()
    data = open(sys.argv[1], "rb").read()
    urllib.request.urlopen(urllib.request.Request(address + "v1/decode", data=data)).read()
finally:
    server.terminate()
assert server.wait(60) == 0
"""
CLUSTER = """
import sys
from redecode.bulk import cluster
cluster.connect("local")
"""
ADDRESS = re.compile(r'sin6?_port=htons\(\d+\).*?"([0-9a-fA-F.:]+)"')


pytestmark = pytest.mark.slow


def _unshare() -> list[str] | None:
    if shutil.which("unshare") is None or shutil.which("strace") is None:
        return None
    command = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    tried = subprocess.run([*command, sys.executable, "-c", ALONE, "strace", "-f", "true"], capture_output=True)
    return command if tried.returncode == 0 else None


@pytest.fixture(scope="module")
def unshare() -> list[str]:
    command = _unshare() if sys.platform == "linux" else None
    if command is None:
        pytest.skip("needs Linux with unshare, strace and leave to use them")
    return command


@pytest.fixture
def small(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "in"
    folder.mkdir()
    with Image.open(EXAMPLE) as image:
        for number in range(3):
            image.crop((0, 0, 64, 64 + 8 * number)).save(folder / f"{number}.jpg", quality=20)
    return folder


def silent(
    unshare: list[str], tmp_path: Path, *arguments: str | Path, asked: frozenset[str] = frozenset(), kept: frozenset[str] = frozenset()
) -> None:
    """Run Python; it may connect only to the addresses `asked`, and create only the files `kept` in the home."""
    home, log = tmp_path / "home", tmp_path / "log"
    home.mkdir()
    env = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH")}
    trace = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(log)]
    command = [*unshare, sys.executable, "-c", ALONE, *trace, sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env={**env, "HOME": str(home)}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    called = set(ADDRESS.findall(log.read_text(errors="replace"))) - {"::1"}
    assert {address for address in called if not address.removeprefix("::ffff:").startswith("127.")} <= asked
    assert {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()} <= kept


def test_the_command(unshare: list[str], small: Path, tmp_path: Path) -> None:
    silent(unshare, tmp_path, "-m", "redecode", small / "0.jpg", "-o", tmp_path / "out.png")


def test_the_library_before_and_after_onnxruntime(unshare: list[str], small: Path, tmp_path: Path) -> None:
    silent(unshare, tmp_path, "-c", "import redecode, onnxruntime, sys; redecode.decode(sys.argv[1])", small / "0.jpg")


def test_the_server(unshare: list[str], small: Path, tmp_path: Path) -> None:
    silent(unshare, tmp_path, "-c", SERVE, small / "0.jpg")


def test_workers_of_bulk(unshare: list[str], small: Path, tmp_path: Path) -> None:
    silent(unshare, tmp_path, "-m", "redecode", "bulk", small, tmp_path / "out", "--workers", "2")


@pytest.mark.cluster
def test_a_cluster(unshare: list[str], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    # With any settings, Ray asks the metadata service whether the machine is in a cloud, and a name server for Google's.
    servers = re.findall(r"^nameserver (\S+)", Path("/etc/resolv.conf").read_text(), re.MULTILINE)
    asked = frozenset({"169.254.169.254", *servers})
    # The token by which the processes of a cluster authenticate each other.
    silent(unshare, tmp_path, "-c", CLUSTER, asked=asked, kept=frozenset({".ray/auth_token"}))
