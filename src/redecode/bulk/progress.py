"""Progress of a run: a live line on a terminal, one line a minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .manifest import DONE, Row

_LINE_SECONDS = 60.0


class Meter:
    """Counters of a run.

    Attributes:
        found: number of files to restore that have been listed so far.
        size: total bytes of these files.
        restored_size: bytes of the files that are finished or failed.
        listed: True once the listing is complete.
        skipped: number of files that earlier runs restored.
        failed_before: number of files that failed in earlier runs and are not retried.
        done: number of restored pictures.
        failed: number of files and archive members that failed.
        messages: the first 10 failures, for the summary.
    """

    def __init__(self) -> None:
        self.found = self.size = self.restored_size = self.skipped = self.failed_before = 0
        self.listed = False
        self.done = self.failed = 0
        self.messages: list[str] = []
        self._began = time.monotonic()
        self._rows = self._pixels = 0

    def advance(self, row: Row) -> None:
        """Count a file that was tried."""
        self._rows += 1
        self.restored_size += row.size
        self._pixels += row.pixels
        failures = {row.input: row.message} if row.status != DONE else {f"{row.input}: {name}": text for name, text in row.failures.items()}
        self.failed += len(failures)
        self.done += row.files - len(failures)
        self.messages += [f"{name}: {text}" for name, text in failures.items()][: max(0, 10 - len(self.messages))]

    def refuse(self, row: Row) -> None:
        """Count a file that was refused before it was tried."""
        self.failed += 1
        self.messages += [f"{row.input}: {row.message}"][: max(0, 10 - len(self.messages))]

    @property
    def seconds(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self._began

    def left(self) -> float | None:
        """Remaining seconds, estimated from the remaining bytes; None until the listing is complete and a file is finished."""
        if not self.listed or not self.restored_size:
            return None
        return self.seconds * max(0, self.size - self.restored_size) / self.restored_size

    def line(self) -> str:
        """Progress as a line of text."""
        total = f"{self.found}" if self.listed else f"more than {self.found}"
        left = self.left()
        parts = [f"{self._rows} of {total} files", f"{self._pixels / 1e6 / max(self.seconds, 1e-9):.2f} MP/s", f"{self.failed} failed"]
        return ", ".join(parts + ([f"{duration(left)} left"] if left is not None else []))

    def summary(self) -> str:
        """Final counts as a line of text."""
        rates = f"{self.done / max(self.seconds, 1e-9):.2f} files/s, {self._pixels / 1e6 / max(self.seconds, 1e-9):.2f} MP/s"
        before = f", {self.skipped} already restored" if self.skipped else ""
        before += f", {self.failed_before} failed before (--retry-failed retries them)" if self.failed_before else ""
        return f"{self.done} restored, {self.failed} failed{before}; {duration(self.seconds)}, {rates}"


def duration(seconds: float) -> str:
    """A duration as text, for example "3 h 20 min"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    days, hours = divmod(minutes // 60, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


@contextmanager
def display(meter: Meter) -> Iterator[Callable[[], None]]:
    """Display a meter: the context gives a function that updates the display, at most ten times a second, or once a minute in a log."""
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
