"""A cluster: Ray Data streams the files through an autoscaling pool of actors with an engine each."""

from __future__ import annotations

import json
import logging
import os
import socket
import warnings
from collections.abc import Generator, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext

from .. import files
from ..errors import RedecodeError
from .manifest import Row
from .restorer import Restorer, Setup, Task, lost

# Files that an actor takes at a time, at most: enough to make Ray's own work on a block small, and a lost node cheap.
_BLOCK = 16
_BLOCKS_PER_WORKER = 8
# Nodes come and go; a file on which actors die again and again must not take the archive with it.
_RESTARTS, _RETRIES = 20, 3
_CONNECT_SECONDS = 10.0


class ClusterError(RedecodeError):
    """There is no cluster, or it does not start."""


class _Actor:
    def __init__(self, setup: Setup) -> None:
        self._restorer = Restorer(setup)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = [self._restorer(Task(**json.loads(text))).to_json() for text in batch["entry"]]
        return {"row": np.array(rows, dtype=object)}


def connect(address: str) -> None:
    """Join a cluster, once; "local" starts one on this machine.

    Raises:
        ClusterError: there is none at the address, or it does not start.
    """
    # Nothing is reported to Ray's makers; a cluster that is there already has its own settings.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's messages go to its log files; what becomes of pictures is reported here.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():
            # Ray itself would wait for ages.
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray has many errors for this.
        raise ClusterError(f"no Ray cluster at {address!r}: {files.reason(error)}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def cores() -> int:
    """Of the cluster, at present."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]


def restore(setup: Setup, windows: Iterator[list[Task]], workers: int | None) -> Generator[Row, None, None]:
    """Restore files on the cluster; rows come as files are finished, one for each.

    Whatever a window's pipeline does not bring back, because actors died on it, is tried once more file by file, and then given up.

    Args:
        setup: of the actors.
        windows: files; each window is a stream of its own.
        workers: actors at most; None is as many as the cluster has, or can be given, cores for.
    """
    for window in windows:
        left = {entry.path: entry for entry in window}
        for block in (max(1, min(_BLOCK, len(window) // (_BLOCKS_PER_WORKER * (workers or cores())))), 1):
            for row in _stream(setup, list(left.values()), workers, block):
                if left.pop(row.input, None):
                    yield row
            if not left:
                break
        for entry in left.values():
            yield lost(entry, setup)


def _stream(setup: Setup, entries: list[Task], workers: int | None, block: int) -> Generator[Row, None, None]:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    # A block that is lost for good is no reason to lose the others.
    context.max_errored_blocks = -1
    items = [{"entry": json.dumps(asdict(entry))} for entry in entries]
    number = -(-len(items) // block)
    # All that can be used now is there from the start; the pool grows with the cluster, and shrinks when work runs out.
    pool = ActorPoolStrategy(min_size=1, initial_size=min(workers or cores(), number), max_size=workers)
    blocks = ray.data.from_items(items, override_num_blocks=number)
    with warnings.catch_warnings():
        # Deprecated from Ray 2.64 on; pyproject.toml keeps to older releases.
        warnings.simplefilter("ignore", DeprecationWarning)
        rows = blocks.map_batches(
            _Actor,
            fn_constructor_args=(setup,),
            batch_size=block,
            compute=pool,
            num_cpus=setup.threads,
            max_restarts=_RESTARTS,
            max_task_retries=_RETRIES,
        )
    for item in rows.iter_rows():
        row = Row.from_json(item["row"])
        assert row is not None
        yield row
