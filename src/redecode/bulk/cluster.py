"""Restoring on a Ray cluster: Ray Data streams the files through an autoscaling pool of actors, each with its own decoder."""

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

# Maximum number of files in a block, which an actor takes at a time: large enough that Ray's overhead is small, small enough that a lost
# node costs little.
_BLOCK = 16
_BLOCKS_PER_WORKER = 8
# Limits of restarts: nodes may leave the cluster, but a file that always kills its actor must not stop the run.
_RESTARTS, _RETRIES = 20, 3
_CONNECT_SECONDS = 10.0


class ClusterError(RedecodeError):
    """The Ray cluster cannot be reached or started."""


class _Actor:
    def __init__(self, setup: Setup) -> None:
        self._restorer = Restorer(setup)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = [self._restorer(Task(**json.loads(text))).to_json() for text in batch["entry"]]
        return {"row": np.array(rows, dtype=object)}


def connect(address: str) -> None:
    """Connect to a Ray cluster, once per process; the address "local" starts a cluster on this machine.

    Raises:
        ClusterError: the cluster cannot be reached or started.
    """
    # Disable Ray's usage reports. An existing cluster keeps its own settings.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's messages go to its log files only; redecode prints the progress itself.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():
            # Ray itself waits for minutes on an address where nothing answers.
            socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many kinds of errors here.
        raise ClusterError(f"no Ray cluster at {address!r}: {files.reason(error)}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def cores() -> int:
    """Number of CPU cores that the cluster has at present."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]


def restore(setup: Setup, windows: Iterator[list[Task]], workers: int | None) -> Generator[Row, None, None]:
    """Restore files on the cluster and yield a row for each as it finishes.

    Files whose actors died are retried once, one by one. If they fail again, their row says so.

    Args:
        setup: settings of the actors.
        windows: lists of files; each list is streamed through a pipeline of its own.
        workers: maximum number of actors; None for as many as the cluster has, or can get, cores for.
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
    # Carry on when a block fails for good.
    context.max_errored_blocks = -1
    items = [{"entry": json.dumps(asdict(entry))} for entry in entries]
    number = -(-len(items) // block)
    # The pool starts with an actor for each core, grows with the cluster, and shrinks when work runs out.
    pool = ActorPoolStrategy(min_size=1, initial_size=min(workers or cores(), number), max_size=workers)
    blocks = ray.data.from_items(items, override_num_blocks=number)
    with warnings.catch_warnings():
        # Ray 2.64 deprecates these arguments; pyproject.toml requires an older release.
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
