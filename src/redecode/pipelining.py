"""Work on the next thing while the last is still at it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# At work at the same time: one with the networks, one before or behind them.
WORKERS = 2


def in_order(work: Callable[[Item], Result], items: Iterable[Item], left: Event | None = None) -> Iterator[Result]:
    """The results of some items, in their order, from two threads.

    At most one finished result waits for being taken, so that memory stays bounded. What `work` raises is raised in its turn; the items
    after it are left, as they are where the iterator is closed. Either way it ends when the threads are done with what they had begun.

    Args:
        work: called with each item.
        items: in order.
        left: set when the rest is left, for `work` to see that it is in vain.
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
