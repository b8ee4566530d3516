"""A run over an archive: list the files, skip those that are done, restore the rest with an engine, record each in the manifest."""

from __future__ import annotations

import posixpath
import random
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

from .. import files
from ..codec import formats
from ..errors import RedecodeError, UsageError
from . import listing, names, progress, stores
from .listing import Batch, Selection, Shard
from .lock import Lock
from .manifest import DONE, FAILED, UNREACHED, Manifest, Row
from .names import CORNER
from .progress import Meter
from .restorer import Setup, Task
from .stores import Disk, Entry, Store, StoreError

Engine = Callable[[Setup, Iterator[list[Task]]], Generator[Row, None, None]]

# Number of files that are held in memory and sorted by size at a time; meanwhile the next window is listed.
WINDOW = 20_000
# Number of consecutive files that a store fails to read or write before the run gives up: the store itself must be down.
_MAX_CONSECUTIVE_FAILURES = 50
_SAMPLE, _SAMPLE_SECONDS = 12, 20.0
_THREADS = 32
# Suffixes of pictures: files that differ only in these would get results of the same name.
_SUFFIXES = {change(suffix) for suffix in (*files.INPUT_SUFFIXES, *formats.OF_SUFFIX) for change in (str.lower, str.upper)}


@dataclass
class Window:
    """A part of the listing, sorted into files to restore and others.

    Attributes:
        entries: files to restore, the largest first, so that no large file is left over at the end while other workers idle.
        refused: rows of files that cannot be restored.
        skipped: number of files that have their results already.
        failed_before: number of files that failed in an earlier run and are not retried.
        last: whether this is the last window.
    """

    entries: list[Task] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)
    skipped: int = 0
    failed_before: int = 0
    last: bool = False


@dataclass(frozen=True)
class Plan:
    """Parameters of a run.

    Attributes:
        selection: the files to restore.
        setup: settings of the workers.
        shard: the part of the archive that this run restores.
        retry_failed: whether to retry files that failed in earlier runs.
        overwrite: whether to accept an output that holds files of other origin.
    """

    selection: Selection
    setup: Setup
    shard: Shard
    retry_failed: bool = False
    overwrite: bool = False


def run(plan: Plan, engine: Engine) -> Meter:
    """Restore the files whose results are missing or outdated.

    Args:
        plan: parameters of the run.
        engine: the function that restores files, see :mod:`redecode.bulk.local` and :mod:`redecode.bulk.cluster`.

    Returns:
        The counters of the run.

    Raises:
        UsageError: the run was not started, because the plan makes no sense.
        LockedError: another run works in the output; this run did not start, or has stopped.
        OSError, StoreError: the source or the output fails.
        KeyboardInterrupt: the run was interrupted, by Ctrl-C or SIGTERM; the manifest records what is finished.
    """
    refuse_nesting(plan.selection.root, plan.setup.output)
    output = stores.make(plan.setup.output, plan.setup.scratch)
    if not plan.overwrite:
        _refuse_foreign_output(output, plan.setup.output)
    meter = Meter()
    manifest = Manifest(output, plan.shard)
    with _terminable(), Lock(output, plan.shard) as lock:
        if isinstance(output, Disk):
            output.clear_scratch()
        manifest.load()
        manifest.open_segment()
        try:
            with progress.display(meter) as show:
                unreached = 0
                windows = _tasks(plan, manifest, meter)
                with closing(windows), closing(engine(plan.setup, windows)) as rows:
                    for row in rows:
                        lock.check()
                        manifest.append(row)
                        meter.advance(row)
                        show()
                        unreached = unreached + 1 if row.status == UNREACHED else 0
                        if unreached == _MAX_CONSECUTIVE_FAILURES:
                            raise StoreError(f"{unreached} files in a row could not be read or written, the last: {row.message}")
        finally:
            manifest.close()
            if isinstance(output, Disk):
                output.clear_scratch()
    return meter


def estimate(plan: Plan, workers: int) -> str:
    """Estimate a run's number of files, bytes and time from the listing and a sample of files restored here. Nothing is written.

    Returns:
        The estimate as a line of text.

    Raises:
        UsageError, OSError, StoreError: as in :func:`run`.
    """
    refuse_nesting(plan.selection.root, plan.setup.output)
    manifest = Manifest(stores.make(plan.setup.output), plan.shard)
    manifest.load()
    meter = Meter()
    sample: list[Task] = []
    rng = random.Random(0)
    count = 0
    for entries in _tasks(plan, manifest, meter, record=False):
        for entry in entries:
            count += 1
            # Reservoir sampling: every file is in the sample with equal probability.
            if len(sample) < _SAMPLE:
                sample.append(entry)
            elif (place := rng.randrange(count)) < _SAMPLE:
                sample[place] = entry
    text = (
        f"{meter.found} files to restore, {meter.size / 1e6:.1f} MB; {meter.skipped} already restored, {meter.failed_before} failed before"
    )
    seconds, size = _time_sample(plan.setup, sample)
    if not size:
        return text
    left = seconds / size * meter.size / workers
    return f"{text}; about {progress.duration(left)} with {workers} workers"


def refuse_nesting(source: str, output: str) -> None:
    """
    Raises:
        UsageError: source or output lies within the other: results could replace input files, or be restored themselves.
    """
    if stores.nested(source, output):
        raise UsageError(f"{output}: the output must lie outside of {source}, and must not contain it")


def _refuse_foreign_output(output: Store, name: str) -> None:
    try:
        folders, found = output.children("")
    except FileNotFoundError:
        return
    if (folders or found) and CORNER not in folders:
        raise UsageError(f"{name} is not empty and not an output of redecode; choose an empty folder, or give --overwrite")


def _tasks(plan: Plan, manifest: Manifest, meter: Meter, *, record: bool = True) -> Generator[list[Task], None, None]:
    """Yield the files to restore, window by window; count all files in the meter, and record refused files in the manifest."""
    with closing(_filtered_windows(plan, manifest)) as filtered, closing(_prefetched(filtered)) as windows:
        for window in windows:
            meter.found += len(window.entries)
            meter.size += sum(entry.size for entry in window.entries)
            meter.skipped += window.skipped
            meter.failed_before += window.failed_before
            meter.listed = window.last
            for row in window.refused:
                meter.refuse(row)
                if record:
                    manifest.append(row)
            if window.entries:
                yield window.entries


def _prefetched(windows: Iterator[Window]) -> Generator[Window, None, None]:
    """The same windows; a thread prepares the next one while the current one is used."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, windows, None)
        while (window := following.result()) is not None:
            following = pool.submit(next, windows, None)
            yield window


def _filtered_windows(plan: Plan, manifest: Manifest) -> Generator[Window, None, None]:
    """List the source in windows, without the files that need no restoring.

    Raises:
        UsageError: there are no files to restore.
    """
    source, output = stores.source(plan.selection.root), stores.make(plan.setup.output)
    file_filter = _Filter(plan, manifest, output)
    window = Window()
    for batch in listing.batches(source, plan.selection):
        if len(window.entries) >= WINDOW:
            yield _by_size(window)
            window = Window()
        file_filter.add(batch, window)
    if not file_filter.found_any:
        raise UsageError(f"{plan.selection.root}: there are no files to restore")
    window.last = True
    yield _by_size(window)


def _by_size(window: Window) -> Window:
    window.entries.sort(key=lambda entry: -entry.size)
    return window


class _Filter:
    """Filters the listing: files that are done, failed before, belong to another shard, or cannot be restored."""

    def __init__(self, plan: Plan, manifest: Manifest, output: Store) -> None:
        self._plan, self._manifest, self._output = plan, manifest, output
        self._model, self._choices = plan.setup.model(), plan.setup.choices()
        # For lists of files only: input path by result path, for all results named so far.
        self._owners: dict[str, str] = {}
        self.found_any = False

    def add(self, batch: Batch, window: Window) -> None:
        """Add the files of a batch to a window: to restore, refused, or counted as skipped."""
        self.found_any |= bool(batch.entries or batch.unreadable)
        done: list[Task] = []
        for task in self._with_outputs(batch):
            if not self._plan.shard.holds(task.path):
                continue
            past = self._manifest.past(task, self._model, self._choices)
            if past == DONE and self._manifest.wrote(task.path, task.output):
                done.append(task)
            elif past == FAILED and not self._plan.retry_failed:
                window.failed_before += 1
            else:
                self._add_or_refuse(task, window)
        window.refused += [self._row(Entry(path, 0, ""), UNREACHED, why) for path, why in batch.unreadable if self._plan.shard.holds(path)]
        missing = self._without_result(batch.folder, done)
        window.entries += missing
        window.skipped += len(done) - len(missing)

    def _add_or_refuse(self, task: Task, window: Window) -> None:
        try:
            names.refuse_result(task.output)
        except names.UnsafeNameError as error:
            window.refused.append(self._row(task, FAILED, str(error)))
        else:
            window.entries.append(task)

    def _with_outputs(self, batch: Batch) -> list[Task]:
        """The files with the paths of their results; without files that a list names twice."""
        pictures = [entry.path for entry in batch.entries if not listing.is_tar(entry.path)]
        outputs = self._outputs({*pictures, *batch.pictures})
        tasks = {entry.path: Task(entry.path, entry.size, entry.version, outputs.get(entry.path, entry.path)) for entry in batch.entries}
        if batch.folder is not None:
            # Only files of the same folder can get results of the same name. A list names files in any order, so it remembers all.
            return list(tasks.values())
        new = [task for task in tasks.values() if self._owners.get(task.output) != task.path]
        self._owners.update((task.output, task.path) for task in new)
        return new

    def _outputs(self, paths: set[str]) -> dict[str, str]:
        """Result path of each picture: the same as in earlier runs, else a path that no other file's result has."""
        suffix_for = self._plan.setup.suffix_for
        stems = {path: posixpath.splitext(path)[0] for path in paths}
        candidates = {path: (stem + suffix_for(path), path + suffix_for(path)) for path, stem in stems.items()}
        kept: dict[str, str] = {}
        taken: set[str] = set()
        for path in sorted(paths):
            output = next((output for output in candidates[path] if output not in taken and self._owns(path, output)), None)
            if output is not None:
                kept[path] = output
                taken.add(output)
        new = paths - kept.keys()
        for path in new:
            siblings = [stems[path] + suffix for suffix in _SUFFIXES if stems[path] + suffix not in paths]
            taken |= self._manifest.written(siblings, candidates[path])
            taken |= {output for output in candidates[path] if self._owners.get(output, path) != path}
        return kept | names.distinct_names(new, suffix_for, taken)

    def _owns(self, path: str, output: str) -> bool:
        return self._owners.get(output) == path or self._manifest.wrote(path, output)

    def _without_result(self, folder: str | None, tasks: list[Task]) -> list[Task]:
        """The tasks whose results no longer exist in the output."""
        if not tasks:
            return []
        if folder is not None:
            try:
                existing = {e.path for e in self._output.children(folder)[1]}
            except FileNotFoundError:
                existing = set()
        else:
            with ThreadPoolExecutor(_THREADS) as pool:
                existing = {path for path in pool.map(self._if_exists, [task.output for task in tasks]) if path}
        return [task for task in tasks if task.output not in existing]

    def _if_exists(self, path: str) -> str | None:
        try:
            return self._output.info(path).path
        except FileNotFoundError:
            return None

    def _row(self, entry: Entry, status: str, message: str) -> Row:
        return Row(entry.path, entry.size, entry.version, self._model, self._choices, status, message)


def _time_sample(setup: Setup, entries: list[Task]) -> tuple[float, int]:
    """Restore pictures of a sample for about 20 s; return the seconds and the bytes. Files that fail count too; archives are skipped."""
    from ..decoder import Decoder
    from ..recode import restore

    store, decoder = stores.source(setup.source), Decoder(setup.options.preset, 1, setup.options.device, setup.options.precision)
    began, size = time.monotonic(), 0
    for entry in entries:
        if listing.is_tar(entry.path):
            continue
        with suppress(RedecodeError, OSError):
            restore(decoder, store.read(entry.path), setup.options)
        size += entry.size
        if time.monotonic() - began > _SAMPLE_SECONDS:
            break
    return time.monotonic() - began, size


@contextmanager
def _terminable() -> Iterator[None]:
    """Make SIGTERM, which job schedulers send at the time limit, act like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
