"""Restoring one file from the source to the output: the work of each worker, process or Ray actor."""

from __future__ import annotations

import errno
import hashlib
import posixpath
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from .. import files, weights
from ..codec.formats import OF_SUFFIX, suffix_of
from ..decoder import Decoder
from ..errors import TooLargeError, UnreadableError
from ..options import Options
from ..recode import Restored, restore
from . import archive, stores
from .listing import is_picture, is_tar
from .manifest import DONE, FAILED, UNREACHED, Row
from .stores import Entry, StoreError

# Errors about a file's name, or about another file of that name in the output: trying again does not help.
_FINAL = {errno.ENAMETOOLONG, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL, errno.ELOOP}


@dataclass(frozen=True)
class Setup:
    """Settings that all workers of a run share.

    Attributes:
        source: folder or URL to read from.
        output: folder or URL to write to.
        options: options of the restoration, preset and device included.
        threads: number of threads of each decoder.
        scratch: name of the folder for unfinished files, see :class:`redecode.bulk.stores.Disk`.
    """

    source: str
    output: str
    options: Options
    threads: int
    scratch: str

    def suffix_for(self, path: str) -> str:
        """Suffix of a file's result; with the format "same" it follows from the suffix of the file."""
        named = "jpeg" if is_picture(path) else OF_SUFFIX.get(posixpath.splitext(path)[1].lower())
        return suffix_of(self.options.written_format(named))

    def model(self) -> dict[str, str]:
        """SHA-256 of each network by the network's name, for the manifest."""
        return {
            name: weights.record(name)["sha256"][self.options.precision or "int8"] for name in weights.PRESETS[self.options.preset].values()
        }

    def choices(self) -> dict[str, Any]:
        """All options by name, for the manifest."""
        return asdict(self.options)


@dataclass(frozen=True)
class Task(Entry):
    """A file to restore.

    Attributes:
        output: path of its result, relative to the output.
    """

    output: str


class Restorer:
    """Restores files from the source into the output, one after the other."""

    def __init__(self, setup: Setup) -> None:
        """
        Raises:
            DependencyError, StoreError: the source or the output cannot be reached.
        """
        self._setup = setup
        self._source = stores.source(setup.source)
        self._output = stores.make(setup.output, setup.scratch)
        self._decoder = Decoder(setup.options.preset, setup.threads, setup.options.device, setup.options.precision)
        self._model, self._choices = setup.model(), setup.choices()

    def __call__(self, task: Task) -> Row:
        """Restore a picture or a tar archive. The row records any error."""
        began = time.monotonic()
        row = Row(task.path, task.size, task.version, self._model, self._choices, FAILED)
        try:
            row = self._archive(task, row) if is_tar(task.path) else self._picture(task, row)
        except (OSError, StoreError) as error:
            final = isinstance(error, OSError) and error.errno in _FINAL
            row = replace(row, status=FAILED if final else UNREACHED, message=files.reason(error))
        except Exception as error:  # Any error fails this file only; the run goes on.
            row = replace(row, message=files.reason(error))
        return replace(row, seconds=round(time.monotonic() - began, 4))

    def _picture(self, task: Task, row: Row) -> Row:
        if task.size > files.MAX_BYTES:
            raise TooLargeError(f"the file is larger than {files.MAX_BYTES >> 20} MiB")
        data = self._source.read(task.path)
        row = replace(row, sha256=hashlib.sha256(data).hexdigest())
        restored = self._restored(data, task.output)
        self._output.put(task.output, restored.data)
        done = replace(row, status=DONE, message="; ".join(restored.notes), output=task.output, output_size=len(restored.data))
        return replace(done, pixels=archive.pixels(restored))

    def _archive(self, task: Task, row: Row) -> Row:
        """Restore a tar archive, for example a WebDataset shard: pictures are restored, other members copied, the order kept."""
        local = self._output.scratch()
        try:
            with self._source.local(task.path) as path, open(local, "xb") as file:
                outcome = archive.restore(path, file, self._restored, self._setup.suffix_for)
            size = local.stat().st_size
            self._output.put_file(task.output, local)
        finally:
            local.unlink(missing_ok=True)
        failures, notes = outcome.failures, outcome.notes
        message = f"{len(failures)} of {outcome.count} failed" if failures else ""
        done = replace(row, status=DONE, message=message, output=task.output, output_size=size, files=outcome.count)
        return replace(done, failures=failures, notes=notes, pixels=outcome.pixels)

    def _restored(self, data: bytes, output: str) -> Restored:
        # The result's name decides the format, whatever the content of the file is.
        options = replace(self._setup.options, format=OF_SUFFIX[posixpath.splitext(output)[1].lower()])
        with _errors_of_picture():
            return restore(self._decoder, data, options)


def lost(entry: Entry, setup: Setup) -> Row:
    """The row of a file whose worker process was killed again and again."""
    message = "the worker process was killed while it restored this file, perhaps for lack of memory"
    return Row(entry.path, entry.size, entry.version, setup.model(), setup.choices(), FAILED, message)


@contextmanager
def _errors_of_picture() -> Iterator[None]:
    """Convert an OSError raised by the decoder into UnreadableError: the picture is at fault, not the source or the output."""
    try:
        yield
    except OSError as error:
        raise UnreadableError(files.reason(error)) from error
