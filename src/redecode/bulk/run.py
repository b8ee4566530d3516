"""A run: what is to be done is listed, sifted by what was done, restored by an engine, and noted."""

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

# Files that are sorted by size, and held in memory, at a time; the next so many are listed meanwhile.
WINDOW = 20_000
# So many failures of stores in a row are no accident.
_PATIENCE = 50
_SAMPLE, _SAMPLE_SECONDS = 12, 20.0
_THREADS = 32
# Of files that could have the same result as another.
_SUFFIXES = {change(suffix) for suffix in (*files.INPUT_SUFFIXES, *formats.OF_SUFFIX) for change in (str.lower, str.upper)}


@dataclass
class Window:
    """A part of the listing, sifted.

    Attributes:
        entries: to be restored, the largest first: so no large one keeps everybody waiting at the end.
        refused: rows of what cannot be.
        skipped: how many are there already.
        failed_before: how many failed in an earlier run and are not tried again.
        last: nothing comes after it.
    """

    entries: list[Task] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)
    skipped: int = 0
    failed_before: int = 0
    last: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run is asked to do.

    Attributes:
        selection: of the files.
        setup: for the workers.
        shard: the part of the archive that is this run's.
        retry_failed: try again what earlier runs failed on.
        overwrite: go to work in an output that holds other things.
    """

    selection: Selection
    setup: Setup
    shard: Shard
    retry_failed: bool = False
    overwrite: bool = False


def run(plan: Plan, engine: Engine) -> Meter:
    """Restore what is missing, changed or failed.

    Args:
        plan: what to do.
        engine: does the restoring, see :mod:`redecode.bulk.local` and :mod:`redecode.bulk.cluster`.

    Raises:
        UsageError: nothing was begun, as it makes no sense.
        LockedError: nothing was begun, or nothing more is done, as another run is at work.
        OSError, StoreError: a place fails.
        KeyboardInterrupt: also for SIGTERM; what is done is noted.
    """
    refuse_nesting(plan.selection.root, plan.setup.output)
    output = stores.make(plan.setup.output, plan.setup.scratch)
    if not plan.overwrite:
        _refuse_foreign(output, plan.setup.output)
    meter = Meter()
    manifest = Manifest(output, plan.shard)
    with _terminable(), Lock(output, plan.shard) as lock:
        if isinstance(output, Disk):
            output.clear_scratch()
        manifest.load()
        manifest.begin()
        try:
            with progress.display(meter) as show:
                unreached = 0
                windows = _feed(plan, manifest, meter)
                with closing(windows), closing(engine(plan.setup, windows)) as rows:
                    for row in rows:
                        lock.check()
                        manifest.append(row)
                        meter.advance(row)
                        show()
                        unreached = unreached + 1 if row.status == UNREACHED else 0
                        if unreached == _PATIENCE:
                            raise StoreError(f"{unreached} files in a row could not be read or written, the last: {row.message}")
        finally:
            manifest.close()
            if isinstance(output, Disk):
                output.clear_scratch()
    return meter


def estimate(plan: Plan, workers: int) -> str:
    """What a run would do, in numbers, by the listing and a few files restored here; nothing is written.

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
    for entries in _feed(plan, manifest, meter, note=False):
        for entry in entries:
            count += 1
            # Every file has the same chance, however many come.
            if len(sample) < _SAMPLE:
                sample.append(entry)
            elif (place := rng.randrange(count)) < _SAMPLE:
                sample[place] = entry
    text = f"{meter.found} files to restore, {meter.size / 1e6:.1f} MB; {meter.skipped} are there, {meter.failed_before} failed before"
    seconds, size = _try(plan.setup, sample)
    if not size:
        return text
    left = seconds / size * meter.size / workers
    return f"{text}; about {progress.duration(left)} with {workers} workers"


def refuse_nesting(source: str, output: str) -> None:
    """
    Raises:
        UsageError: one of the places lies within the other, so that results could replace, or be taken for, what is to be restored.
    """
    if stores.nested(source, output):
        raise UsageError(f"{output}: the output must lie apart from {source}")


def _refuse_foreign(output: Store, name: str) -> None:
    try:
        folders, found = output.children("")
    except FileNotFoundError:
        return
    if (folders or found) and CORNER not in folders:
        raise UsageError(f"{name} holds other things already; choose an empty place, or give --overwrite")


def _feed(plan: Plan, manifest: Manifest, meter: Meter, *, note: bool = True) -> Generator[list[Task], None, None]:
    """The windows' entries, while the meter and, if asked for, the manifest learn of the rest."""
    with closing(_sifted(plan, manifest)) as sifted, closing(_ahead(sifted)) as windows:
        for window in windows:
            meter.found += len(window.entries)
            meter.size += sum(entry.size for entry in window.entries)
            meter.skipped += window.skipped
            meter.failed_before += window.failed_before
            meter.listed = window.last
            for row in window.refused:
                meter.refuse(row)
                if note:
                    manifest.append(row)
            if window.entries:
                yield window.entries


def _ahead(windows: Iterator[Window]) -> Generator[Window, None, None]:
    """The same, with the next one made while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, windows, None)
        while (window := coming.result()) is not None:
            coming = pool.submit(next, windows, None)
            yield window


def _sifted(plan: Plan, manifest: Manifest) -> Generator[Window, None, None]:
    """
    Raises:
        UsageError: there are no files.
    """
    source, output = stores.source(plan.selection.root), stores.make(plan.setup.output)
    sieve = _Sieve(plan, manifest, output)
    window = Window()
    for batch in listing.batches(source, plan.selection):
        if len(window.entries) >= WINDOW:
            yield _ordered(window)
            window = Window()
        sieve.pass_on(batch, window)
    if not sieve.seen_any:
        raise UsageError(f"{plan.selection.root}: there are no files to restore")
    window.last = True
    yield _ordered(window)


def _ordered(window: Window) -> Window:
    window.entries.sort(key=lambda entry: -entry.size)
    return window


class _Sieve:
    """Sorts out what need not, or cannot, be restored."""

    def __init__(self, plan: Plan, manifest: Manifest, output: Store) -> None:
        self._plan, self._manifest, self._output = plan, manifest, output
        self._model, self._choices = plan.setup.model(), plan.setup.choices()
        # Of a list: what each result that has been given away belongs to.
        self._owners: dict[str, str] = {}
        self.seen_any = False

    def pass_on(self, batch: Batch, window: Window) -> None:
        self.seen_any |= bool(batch.entries or batch.unreadable)
        there: list[Task] = []
        for task in self._named(batch):
            if not self._plan.shard.holds(task.path):
                continue
            past = self._manifest.past(task, self._model, self._choices)
            if past == DONE and self._manifest.wrote(task.path, task.output):
                there.append(task)
            elif past == FAILED and not self._plan.retry_failed:
                window.failed_before += 1
            else:
                self._admit(task, window)
        window.refused += [self._row(Entry(path, 0, ""), UNREACHED, why) for path, why in batch.unreadable if self._plan.shard.holds(path)]
        missing = self._missing(batch.folder, there)
        window.entries += missing
        window.skipped += len(there) - len(missing)

    def _admit(self, task: Task, window: Window) -> None:
        try:
            names.refuse_result(task.output)
        except names.UnsafeNameError as error:
            window.refused.append(self._row(task, FAILED, str(error)))
        else:
            window.entries.append(task)

    def _named(self, batch: Batch) -> list[Task]:
        """The files with the names of their results; of a list, without those that it has named before."""
        pictures = [entry.path for entry in batch.entries if not listing.is_tar(entry.path)]
        outputs = self._outputs({*pictures, *batch.pictures})
        tasks = {entry.path: Task(entry.path, entry.size, entry.version, outputs.get(entry.path, entry.path)) for entry in batch.entries}
        if batch.folder is not None:
            # Results of one name come from one folder; of a list, nothing is known about the order.
            return list(tasks.values())
        new = [task for task in tasks.values() if self._owners.get(task.output) != task.path]
        self._owners.update((task.output, task.path) for task in new)
        return new

    def _outputs(self, paths: set[str]) -> dict[str, str]:
        """Where the result of each picture goes: where it went before, else where no other file's result is."""
        suffix_for = self._plan.setup.suffix_for
        stems = {path: posixpath.splitext(path)[0] for path in paths}
        candidates = {path: (stem + suffix_for(path), path + suffix_for(path)) for path, stem in stems.items()}
        kept: dict[str, str] = {}
        taken: set[str] = set()
        for path in sorted(paths):
            output = next((output for output in candidates[path] if output not in taken and self._is_of(path, output)), None)
            if output is not None:
                kept[path] = output
                taken.add(output)
        new = paths - kept.keys()
        for path in new:
            siblings = [stems[path] + suffix for suffix in _SUFFIXES if stems[path] + suffix not in paths]
            taken |= self._manifest.written(siblings, candidates[path])
            taken |= {output for output in candidates[path] if self._owners.get(output, path) != path}
        return kept | names.distinct_names(new, suffix_for, taken)

    def _is_of(self, path: str, output: str) -> bool:
        return self._owners.get(output) == path or self._manifest.wrote(path, output)

    def _missing(self, folder: str | None, tasks: list[Task]) -> list[Task]:
        """Those whose results have been taken away since."""
        if not tasks:
            return []
        if folder is not None:
            try:
                there = {e.path for e in self._output.children(folder)[1]}
            except FileNotFoundError:
                there = set()
        else:
            with ThreadPoolExecutor(_THREADS) as pool:
                there = {path for path in pool.map(self._present, [task.output for task in tasks]) if path}
        return [task for task in tasks if task.output not in there]

    def _present(self, path: str) -> str | None:
        try:
            return self._output.info(path).path
        except FileNotFoundError:
            return None

    def _row(self, entry: Entry, status: str, message: str) -> Row:
        return Row(entry.path, entry.size, entry.version, self._model, self._choices, status, message)


def _try(setup: Setup, entries: list[Task]) -> tuple[float, int]:
    """Seconds that some files take, as far as there is patience, and their bytes; those that fail cost their time too."""
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
    """SIGTERM, with which schedulers end what has had its time, does as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
