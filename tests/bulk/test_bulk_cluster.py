"""`redecode bulk` on Ray: a cluster of two nodes on this machine, one of which is removed."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from redecode.bulk import manifest, run, stores
from redecode.bulk.listing import Selection, Shard
from redecode.bulk.manifest import DONE, FAILED, Row
from redecode.bulk.names import CORNER
from redecode.bulk.restorer import Setup, Task
from redecode.cli import main as cli
from redecode.options import Options

# Ray triggers warnings about its own code.
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

COUNT = 120


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IN with tiny JPEGs, every 33rd truncated, and the results of the single command for them."""
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("archive") / "in"
    for number in range(COUNT):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)).save(buffer, "JPEG", quality=25)
        path = folder / f"{number % 4}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue()[: 100 if number % 33 == 1 else None])
    assert CliRunner().invoke(cli.restore_app, [str(folder), "-o", f"{folder.with_name('single')}/"]).exit_code == 1
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def check(archive: Path, out: Path) -> None:
    assert contents(out) == contents(archive.with_name("single"))
    rows = list(manifest.rows(stores.make(str(out))))
    assert Counter(row.input for row in rows) == Counter(path.relative_to(archive).as_posix() for path in archive.rglob("*.jpg"))
    assert Counter(row.status for row in rows) == {DONE: len(contents(out)), FAILED: COUNT - len(contents(out))}
    assert not list((out / CORNER).glob("lock-*"))


def test_a_node_goes_away(cluster: Any, archive: Path, tmp_path: Path) -> None:
    from redecode.bulk import cluster as engine

    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    engine.connect(cluster.address)
    assert engine.cores() == 2
    removed = []

    def restore(setup: Setup, windows: Iterator[list[Task]]) -> Iterator[Row]:
        for count, row in enumerate(engine.restore(setup, windows, None)):
            if count == COUNT // 4:
                busy = _nodes_with_actors()
                removed.append(next(node for node in nodes if node.node_id in busy))
                cluster.remove_node(removed[0], allow_graceful=False)
            yield row

    setup = Setup(str(archive), str(tmp_path / "out"), Options(), 1, Shard().name)
    meter = run.run(run.Plan(Selection(str(archive)), setup, Shard()), restore)
    assert meter.failed == 4
    assert len(removed) == 1
    check(archive, tmp_path / "out")


def _nodes_with_actors() -> set[str]:
    from ray._private.state import actors  # The public API needs the dashboard and its many dependencies.

    return {actor["Address"]["NodeID"] for actor in actors().values() if actor["State"] == "ALIVE"}


def test_same_results_as_the_single_command(cluster: Any, archive: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.command_app, ["bulk", str(archive), str(tmp_path / "out"), "--ray-address", cluster.address])
    assert result.exit_code == 1, result.output
    assert "116 restored, 4 failed" in result.output
    check(archive, tmp_path / "out")


def test_no_cluster_at_the_address(archive: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    result = CliRunner().invoke(cli.command_app, ["bulk", str(archive), str(tmp_path / "out"), "--ray-address", address])
    assert result.exit_code == 2
    assert result.output.startswith(f"redecode: no Ray cluster at '{address}': ")
    assert not (tmp_path / "out").exists()


def test_a_cluster_without_ray_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"")
    code = "import sys; sys.modules['ray'] = None; from redecode.cli.main import main; main()"
    arguments = ["bulk", str(tmp_path / "in"), str(tmp_path / "out"), "--ray-address", "auto"]
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stderr == "redecode: ray is not installed; this command needs: pip install 'redecode[bulk]'\n"
    assert not (tmp_path / "out").exists()
