from __future__ import annotations

import threading
import time

import pytest

from redecode.pipelining import in_order


def test_order_is_kept_and_work_overlaps() -> None:
    at_work = most = 0
    lock = threading.Lock()

    def work(number: int) -> int:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.02 if number % 2 else 0.001)
        with lock:
            at_work -= 1
        return number * number

    assert list(in_order(work, range(20))) == [number * number for number in range(20)]
    assert most == 2


def test_it_runs_ahead_of_its_reader_by_little() -> None:
    begun: list[int] = []
    results = in_order(begun.append, range(100))
    for _ in range(3):
        next(results)
    time.sleep(0.05)
    assert len(begun) <= 6
    results.close()
    assert len(begun) <= 6


def test_a_failure_comes_in_its_turn_and_ends_it() -> None:
    left = threading.Event()
    seen: list[int] = []

    def work(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    with pytest.raises(ValueError, match="two"):
        seen.extend(in_order(work, range(50), left))
    assert seen == [0, 1]
    assert left.is_set()
