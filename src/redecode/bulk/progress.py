"""How far a run has come: a live line on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .manifest import DONE, Row

_LINE_SECONDS = 60.0


class Meter:
    """Counts what a run does.

    Attributes:
        found: files that are to be restored, as far as the listing has come.
        size: their bytes.
        restored_size: of these, the bytes that are dealt with.
        listed: whether the listing is complete.
        skipped: files that earlier runs have restored.
        failed_before: files that earlier runs have failed on, and that are not tried again.
        done: pictures restored.
        failed: files, and members of archives, that failed.
        messages: the first failures, for the summary.
    """

    def __init__(self) -> None:
        self.found = self.size = self.restored_size = self.skipped = self.failed_before = 0
        self.listed = False
        self.done = self.failed = 0
        self.messages: list[str] = []
        self._began = time.monotonic()
        self._rows = self._pixels = 0

    def advance(self, row: Row) -> None:
        """Count a row."""
        self._rows += 1
        self.restored_size += row.size
        self._pixels += row.pixels
        failures = {row.input: row.message} if row.status != DONE else {f"{row.input}: {name}": text for name, text in row.failures.items()}
        self.failed += len(failures)
        self.done += row.files - len(failures)
        self.messages += [f"{name}: {text}" for name, text in failures.items()][: max(0, 10 - len(self.messages))]

    def refuse(self, row: Row) -> None:
        """Count the row of a file that was not even tried."""
        self.failed += 1
        self.messages += [f"{row.input}: {row.message}"][: max(0, 10 - len(self.messages))]

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def left(self) -> float | None:
        """Seconds until the end, by the bytes that are left; None as long as that is anybody's guess."""
        if not self.listed or not self.restored_size:
            return None
        return self.seconds * max(0, self.size - self.restored_size) / self.restored_size

    def line(self) -> str:
        """All of it, for a person."""
        total = f"{self.found}" if self.listed else f"more than {self.found}"
        left = self.left()
        parts = [f"{self._rows} of {total} files", f"{self._pixels / 1e6 / max(self.seconds, 1e-9):.2f} MP/s", f"{self.failed} failed"]
        return ", ".join(parts + ([f"{duration(left)} left"] if left is not None else []))

    def summary(self) -> str:
        """What became of it, for a person."""
        rates = f"{self.done / max(self.seconds, 1e-9):.2f} files/s, {self._pixels / 1e6 / max(self.seconds, 1e-9):.2f} MP/s"
        before = f", {self.skipped} were there already" if self.skipped else ""
        before += f", {self.failed_before} failed before (--retry-failed tries them again)" if self.failed_before else ""
        return f"{self.done} restored, {self.failed} failed{before}; {duration(self.seconds)}, {rates}"


def duration(seconds: float) -> str:
    """Such as "3 h 20 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


@contextmanager
def display(meter: Meter) -> Iterator[Callable[[], None]]:
    """Shows a meter whenever the function that it gives is called, but not too often."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    every = 0.1 if console.is_terminal else _LINE_SECONDS
    shown = time.monotonic()
    columns = (BarColumn(), TextColumn("{task.description}", markup=False))
    bar = Progress(*columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal)
    task = bar.add_task("", total=None)

    def show() -> None:
        nonlocal shown
        if time.monotonic() - shown < every:
            return
        shown = time.monotonic()
        if console.is_terminal:
            total, completed = (meter.size, meter.restored_size) if meter.listed else (None, 0)
            bar.update(task, description=meter.line(), total=total, completed=completed, refresh=True)
        else:
            print(f"redecode: {meter.line()}", file=sys.stderr)

    with bar:
        yield show
