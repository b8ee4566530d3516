"""Storage of open pictures and of other temporary files, in a private folder of limited size."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..codec.formats import FormatName
from ..options import Options
from .jobs import Job
from .work import Figures

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LAYERS = ("original", "base", "texture", "mask", "thumbnail")
# Random bytes in an id: whoever knows the id has access to the picture.
_ID_BYTES = 18
# Maximum number of open pictures, failed ones included; beyond it, the least recently used ones are deleted.
_MOST_OPEN = 2000
# Maximum number of results kept of a picture, so that a result that is shown and then saved is encoded once.
_MOST_RESULTS = 3
_PREFIX = "redecode-server-"
_LOCK_NAME = "lock"


@dataclass
class Open:
    """An open picture. Only the thread that restores it changes it; all threads read it.

    Attributes:
        id: random id that cannot be guessed.
        folder: folder of the picture's files.
        options: options of the restoration.
        job: job of the restoration.
        state: "waiting", "working", "done" or "failed".
        stage: stage of the work: "reading", "restoring" or "finishing".
        facts: facts about the file; None until it has been read.
        size: width and height of the upright layers in pixels; None until the original is decoded.
        grid: column and row of the layers at which the first whole 8×8 block begins.
        source_format: format of the file; None if redecode cannot write it.
        figures: figures of the result with full texture.
        changed: False if there was nothing to restore.
        problem: reason of a failure, the body of a problem response.
        used: time of the last use.
        stored: size of the folder in bytes.
    """

    id: str
    folder: Path
    options: Options
    job: Job = field(default_factory=Job)
    state: str = "waiting"
    stage: str = "reading"
    facts: dict[str, Any] | None = None
    size: tuple[int, int] | None = None
    grid: tuple[int, int] = (0, 0)
    source_format: FormatName | None = None
    figures: Figures | None = None
    changed: bool = True
    problem: dict[str, Any] | None = None
    used: float = field(default_factory=time.monotonic)
    stored: int = 0

    @property
    def settled(self) -> bool:
        """Whether the restoration has ended."""
        return self.state in ("done", "failed")

    def update(self, name: str, value: Any) -> None:
        """Set a value that the task reports (see :func:`redecode.server.work.open_picture`)."""
        if name == "tiles":
            self.job.step(*value)
        else:
            setattr(self, name, value)

    def layer(self, name: str) -> Path:
        """Path of a layer, one of LAYERS; all layers of an unchanged picture are the original."""
        return self.folder / f"{name if self.changed or name in ('original', 'thumbnail') else 'original'}.png"

    def written_format(self, options: Options) -> FormatName:
        """Format of the result with these options."""
        return options.written_format(self.source_format)

    def result(self, options: Options) -> Path:
        """Path of the result with these options."""
        digest = sha256(repr(options).encode()).hexdigest()[:32]
        return self.folder / "results" / digest

    def measure(self) -> None:
        """Update `stored`, and delete all but the newest results."""
        with suppress(FileNotFoundError):
            results = sorted(self.folder.glob("results/*"), key=lambda path: path.stat().st_mtime)
            for old in results[:-_MOST_RESULTS]:
                old.unlink(missing_ok=True)
            self.stored = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class Held:
    """A temporary file of an upload or a response, which counts as stored until it is closed."""

    def __init__(self, path: Path, held: set[Held]) -> None:
        """
        Args:
            path: path of the file, which need not exist yet.
            held: the set of all held files, to which this one is added.
        """
        self.path = path
        self.size = 0
        self._held = held
        held.add(self)

    def measure(self) -> None:
        """Update the size."""
        with suppress(FileNotFoundError):
            self.size = self.path.stat().st_size

    def close(self) -> None:
        """Remove the file."""
        self._held.discard(self)
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Pictures:
    """All open pictures and held files. Only the event loop's thread uses this class."""

    def __init__(self, capacity: int, seconds: float) -> None:
        """
        Args:
            capacity: maximum size on disk in bytes; beyond it, the least recently used pictures are deleted.
            seconds: seconds after its last use when a picture expires.
        """
        self.capacity = capacity
        self._seconds = seconds
        self._open: dict[str, Open] = {}
        self._held: set[Held] = set()
        # Folders are deleted in a thread: deleting thousands of them would block the event loop.
        self._cleaner = ThreadPoolExecutor(1)
        remove_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _locked(self.folder)

    def __iter__(self) -> Iterator[Open]:
        return iter(self._open.values())

    def __len__(self) -> int:
        return len(self._open)

    @property
    def stored(self) -> int:
        """Size on disk in bytes of the settled pictures and the held files."""
        return sum(picture.stored for picture in self) + sum(held.size for held in self._held)

    @property
    def room(self) -> int:
        """Free space in bytes."""
        return max(0, self.capacity - self.stored)

    def add(self, options: Options, source: Held) -> Open:
        """Add a picture with a new folder, and move its file there.

        Raises:
            OSError: the folder for all pictures no longer exists.
        """
        name = secrets.token_urlsafe(_ID_BYTES)
        picture = Open(name, self.folder / name, options)
        picture.folder.mkdir()
        source.path.replace(picture.folder / "source")
        for old in self._idle()[: max(0, len(self) + 1 - _MOST_OPEN)]:
            self.forget(old)
        self._open[name] = picture
        return picture

    def hold(self) -> Held:
        """Create a held file with a new name; it does not exist yet."""
        return Held(self.folder / f"held-{secrets.token_hex(8)}", self._held)

    def get(self, name: str) -> Open | None:
        """The picture with this id, or None if it does not exist."""
        picture = self._open.get(name)
        if picture is not None:
            picture.used = time.monotonic()
        return picture

    def forget(self, picture: Open) -> None:
        """Cancel and delete a picture. If its job is running, the folder is deleted when the job ends (see :meth:`settle`)."""
        picture.job.cancel()
        self._open.pop(picture.id, None)
        if picture.settled:
            self._remove(picture.folder)

    def settle(self, picture: Open) -> bool:
        """Update the size of a picture whose job has ended, and make room for it; return whether there is enough space."""
        if picture.id not in self._open or picture.state == "failed":
            picture.stored = 0
            self._remove(picture.folder)
            return True
        picture.measure()
        return self.make_room(picture)

    def make_room(self, spared: Open | None = None) -> bool:
        """Delete the least recently used pictures, except `spared`, until the rest fits; return whether it fits."""
        excess = self.stored - self.capacity
        for old in self._idle():
            if excess <= 0:
                break
            if old is not spared:
                excess -= old.stored
                self.forget(old)
        return excess <= 0

    def expire(self) -> None:
        """Delete pictures that have not been used for a while."""
        oldest = time.monotonic() - self._seconds
        for picture in self._idle():
            if picture.used < oldest:
                self.forget(picture)

    def close(self) -> None:
        """Delete everything; no job may be running."""
        self._open.clear()
        self._cleaner.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def _idle(self) -> list[Open]:
        """The settled pictures, the least recently used first."""
        return sorted((picture for picture in self if picture.settled), key=lambda picture: picture.used)

    def _remove(self, folder: Path) -> None:
        self._cleaner.submit(shutil.rmtree, folder, ignore_errors=True)


def _locked(folder: Path) -> IO[bytes] | None:
    """Lock a folder while this process lives; None on systems without such locks."""
    if fcntl is None:
        return None
    # The lock file gets its name once it is locked: another server would delete a folder with an unlocked lock file.
    new = folder / "new"
    file = new.open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    new.replace(folder / _LOCK_NAME)
    return file


def remove_leftovers() -> None:
    """Delete folders of killed servers: those of this user that no process has locked."""
    if fcntl is None:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            continue
        with suppress(OSError), (folder / _LOCK_NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
