"""One file from one place to the other: what every worker does, be it a process or an actor."""

from __future__ import annotations

import hashlib
import io
import posixpath
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO

from .. import files, weights
from ..codec.formats import suffix_of
from ..decoder import Decoder
from ..errors import UnreadableError
from ..options import Options
from ..recode import Restored, restore
from . import stores
from .listing import is_tar, target
from .manifest import DONE, FAILED, UNREACHED, Row
from .stores import Entry, StoreError


@dataclass(frozen=True)
class Setup:
    """What the workers of a run have in common.

    Attributes:
        source: folder or URL to read from.
        output: folder or URL to write to.
        options: for the pictures, preset and device included.
        threads: of one engine.
        scratch: see :class:`redecode.bulk.stores.Disk`.
    """

    source: str
    output: str
    options: Options
    threads: int
    scratch: str

    @property
    def suffix(self) -> str:
        """Of the results' names."""
        return suffix_of(self.options.written_format())

    def model(self) -> dict[str, str]:
        """Of each network its sha256, as the manifest notes it."""
        return {
            name: weights.record(name)["sha256"][self.options.precision or "int8"] for name in weights.PRESETS[self.options.preset].values()
        }

    def choices(self) -> dict[str, Any]:
        """All that the user chose, as the manifest notes it."""
        return asdict(self.options)


class Restorer:
    """Restores files of one place into another, one after the other."""

    def __init__(self, setup: Setup) -> None:
        """
        Raises:
            DependencyError, StoreError: a place cannot be reached.
        """
        self._setup = setup
        self._source = stores.make(setup.source)
        self._output = stores.make(setup.output, setup.scratch)
        self._decoder = Decoder(setup.options.preset, setup.threads, setup.options.device, setup.options.precision)
        self._model, self._choices = setup.model(), setup.choices()

    def __call__(self, entry: Entry) -> Row:
        """Restore a file or an archive of files; whatever goes wrong with it is in the row."""
        began = time.monotonic()
        row = Row(entry.path, entry.size, entry.version, self._model, self._choices, FAILED)
        try:
            row = self._archive(entry, row) if is_tar(entry.path) else self._picture(entry, row)
        except (OSError, StoreError) as error:
            row = replace(row, status=UNREACHED, message=files.reason(error))
        except Exception as error:  # A failure keeps nothing from being tried, be it one that nobody has thought of.
            row = replace(row, message=files.reason(error))
        return replace(row, seconds=round(time.monotonic() - began, 4))

    def _picture(self, entry: Entry, row: Row) -> Row:
        data = self._source.read(entry.path)
        row = replace(row, sha256=hashlib.sha256(data).hexdigest())
        with _no_fault_of_stores():
            restored = restore(self._decoder, data, self._setup.options)
        output = target(entry.path, self._setup.suffix)
        self._output.put(output, restored.data)
        done = replace(row, status=DONE, message="; ".join(restored.notes), output=output, output_size=len(restored.data))
        return replace(done, pixels=_pixels(restored))

    def _archive(self, entry: Entry, row: Row) -> Row:
        """A webdataset shard: its pictures are restored, the members that belong to them are kept, all in their order."""
        failures: dict[str, str] = {}
        count = pixels = 0
        local = self._output.scratch()
        try:
            with self._source.open(entry.path) as stream, open(local, "xb") as file:
                for member, outcome in self._members(stream, file):
                    count += 1
                    if isinstance(outcome, Restored):
                        pixels += _pixels(outcome)
                    else:
                        failures[member] = outcome
            size = local.stat().st_size
            self._output.put_file(entry.path, local)
        finally:
            local.unlink(missing_ok=True)
        message = f"{len(failures)} of {count} failed" if failures else ""
        done = replace(row, status=DONE, message=message, output=entry.path, output_size=size, files=count, failures=failures)
        return replace(done, pixels=pixels)

    def _members(self, stream: BinaryIO, file: BinaryIO) -> Iterator[tuple[str, Restored | str]]:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as source, tarfile.open(fileobj=file, mode="w|") as output:
                for member in source:
                    content = source.extractfile(member)
                    if content is None or posixpath.splitext(member.name)[1].lower() not in files.INPUT_SUFFIXES:
                        output.addfile(member, content)
                        continue
                    data = content.read()
                    try:
                        with _no_fault_of_stores():
                            restored = restore(self._decoder, data, self._setup.options)
                    except Exception as error:  # As for a file of its own.
                        yield member.name, files.reason(error)
                        continue
                    result = tarfile.TarInfo(target(member.name, self._setup.suffix))
                    result.size, result.mtime, result.mode = len(restored.data), member.mtime, member.mode
                    output.addfile(result, io.BytesIO(restored.data))
                    yield member.name, restored
        except tarfile.TarError as error:
            raise UnreadableError(f"this is no whole tar archive: {error}") from None


def lost(entry: Entry, setup: Setup) -> Row:
    """The row of a file on which the workers die."""
    message = "the process that restored it was killed, perhaps for lack of memory"
    return Row(entry.path, entry.size, entry.version, setup.model(), setup.choices(), FAILED, message)


def _pixels(restored: Restored) -> int:
    return restored.decoded.picture.width * restored.decoded.picture.height


@contextmanager
def _no_fault_of_stores() -> Iterator[None]:
    """An OSError from within the engine is about the picture, not about a place."""
    try:
        yield
    except OSError as error:
        raise UnreadableError(files.reason(error)) from error
