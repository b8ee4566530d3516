"""Pipelining: process the next item while the previous one is still in progress."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Number of items in progress at the same time: one in the networks, one before or after them.
WORKERS = 2


def in_order(work: Callable[[Item], Result], items: Iterable[Item], left: Event | None = None) -> Iterator[Result]:
    """Process items in two threads, and yield the results in the order of the items.

    At most one finished result waits to be taken, so that memory is bounded. An error of `work` is raised in place of its result, and the
    remaining items are dropped, as when the iterator is closed. In both cases the iterator ends after the running calls.

    Args:
        work: function from an item to its result.
        items: the items.
        left: event that is set when the remaining items are dropped, so that running calls of `work` can stop.
    """
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > WORKERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            if left is not None:
                left.set()
            for future in ahead:
                future.cancel()
