"""A run: what is to be done is listed, sifted by what was done, restored by an engine, and noted."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

from ..errors import RedecodeError, UsageError
from . import listing, progress, stores
from .listing import Batch, Selection, Shard
from .lock import Lock
from .manifest import DONE, FAILED, UNREACHED, Manifest, Row
from .progress import Meter
from .restorer import Setup
from .stores import CORNER, Disk, Entry, Store, StoreError

Engine = Callable[[Setup, Iterator[list[Entry]]], Generator[Row, None, None]]

# Files that are sorted by size, and held in memory, at a time; the next so many are listed meanwhile.
WINDOW = 20_000
# So many failures of stores in a row are no accident.
_PATIENCE = 50
_SAMPLE, _SAMPLE_SECONDS = 12, 20.0
_THREADS = 32


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

    entries: list[Entry] = field(default_factory=list)
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
    sample: list[Entry] = []
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
    if stores.is_url(source) or stores.is_url(output):
        one, other = f"{source.rstrip('/')}/", f"{output.rstrip('/')}/"
    else:
        one, other = (os.path.join(os.path.normcase(os.path.realpath(place)), "") for place in (source, output))
    if one.startswith(other) or other.startswith(one):
        raise UsageError(f"{output}: the output must lie apart from {source}")


def _refuse_foreign(output: Store, name: str) -> None:
    try:
        folders, found = output.children("")
    except FileNotFoundError:
        return
    if (folders or found) and CORNER not in folders:
        raise UsageError(f"{name} holds other things already; choose an empty place, or give --overwrite")


def _feed(plan: Plan, manifest: Manifest, meter: Meter, *, note: bool = True) -> Generator[list[Entry], None, None]:
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
        UsageError: two files of the first window have one result (later ones are refused one by one), or there are no files.
    """
    source, output = stores.make(plan.selection.root), stores.make(plan.setup.output)
    sieve = _Sieve(plan, manifest, output)
    window, first = Window(), True
    for batch in listing.batches(source, plan.selection):
        if len(window.entries) >= WINDOW:
            yield _ordered(window)
            window, first = Window(), False
        sieve.pass_on(batch, window, strict=first)
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
        self._targets: dict[str, str] = {}
        self.seen_any = False

    def pass_on(self, batch: Batch, window: Window, *, strict: bool) -> None:
        if batch.folder is not None:
            # Results of one name come from one folder; of a list, nothing is known about the order.
            self._targets.clear()
        self.seen_any |= bool(batch.entries or batch.unreadable)
        there: list[Entry] = []
        for entry in batch.entries:
            if not self._plan.shard.holds(entry.path) or self._comes_late(entry, window, strict):
                continue
            past = self._manifest.past(entry, self._model, self._choices)
            if past == DONE:
                there.append(entry)
            elif past == FAILED and not self._plan.retry_failed:
                window.failed_before += 1
            else:
                window.entries.append(entry)
        window.refused += [self._row(Entry(path, 0, ""), UNREACHED, why) for path, why in batch.unreadable if self._plan.shard.holds(path)]
        missing = self._missing(batch.folder, there)
        window.entries += missing
        window.skipped += len(there) - len(missing)

    def _comes_late(self, entry: Entry, window: Window, strict: bool) -> bool:
        """Whether the result is another file's already, or the same file's, as a list may name it twice."""
        target = self._target(entry)
        other = self._targets.get(target)
        if other is None:
            self._targets[target] = entry.path
            return False
        if other != entry.path:
            message = f"{entry.path} and {other} would both be written to {target}"
            if strict:
                raise UsageError(message)
            window.refused.append(self._row(entry, FAILED, message))
        return True

    def _missing(self, folder: str | None, entries: list[Entry]) -> list[Entry]:
        """Those whose results have been taken away since."""
        if not entries:
            return []
        if folder is not None:
            try:
                there = {e.path for e in self._output.children(folder)[1]}
            except FileNotFoundError:
                there = set()
        else:
            with ThreadPoolExecutor(_THREADS) as pool:
                there = {target for target in pool.map(self._present, map(self._target, entries)) if target}
        return [e for e in entries if self._target(e) not in there]

    def _present(self, path: str) -> str | None:
        try:
            return self._output.info(path).path
        except FileNotFoundError:
            return None

    def _target(self, entry: Entry) -> str:
        return listing.target(entry.path, self._plan.setup.suffix)

    def _row(self, entry: Entry, status: str, message: str) -> Row:
        return Row(entry.path, entry.size, entry.version, self._model, self._choices, status, message)


def _try(setup: Setup, entries: list[Entry]) -> tuple[float, int]:
    """Seconds that some files take, as far as there is patience, and their bytes; those that fail cost their time too."""
    from ..decoder import Decoder
    from ..recode import restore

    store, decoder = stores.make(setup.source), Decoder(setup.options.preset, 1, setup.options.device, setup.options.precision)
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
