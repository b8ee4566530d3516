"""The pictures that people have open, and every other file that the server keeps for a while, in a private folder of limited size."""

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
# Of randomness in an id, which is all that its owner needs to know.
_ID_BYTES = 18
# Pictures open at a time, refused ones included; beyond them, the ones go that were not asked for the longest.
_MOST_OPEN = 2000
# Results kept of a picture, so that to look at a size, to save and to save again is to encode once.
_MOST_RESULTS = 3
_PREFIX = "redecode-server-"
_LOCK_NAME = "lock"


@dataclass
class Open:
    """A picture that somebody has open. It is written to by the one thread that restores it, and read by all.

    Attributes:
        id: names it, unguessably.
        folder: its own, for its layers.
        options: how it is restored.
        job: the restoring.
        state: "waiting", "working", "done" or "failed".
        stage: of the work: "reading", "restoring" or "finishing".
        facts: about the file, once it has been read.
        size: width and height of the layers, which stand upright, once the original is there.
        grid: where the first column and row of whole 8×8 blocks begin in them.
        source_format: that the file came in; None for one that is not written.
        figures: of the result with all texture.
        changed: False where there was nothing to restore.
        problem: why it failed.
        used: when it was last asked for.
        stored: bytes in its folder.
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
        """Whether nothing more will happen to it."""
        return self.state in ("done", "failed")

    def hear(self, name: str, value: Any) -> None:
        """Take note of what the work tells (see :func:`redecode.server.work.open_picture`)."""
        if name == "tiles":
            self.job.step(*value)
        else:
            setattr(self, name, value)

    def layer(self, name: str) -> Path:
        """The file of a layer, one of LAYERS; of a picture that was not changed, the original is all there is."""
        return self.folder / f"{name if self.changed or name in ('original', 'thumbnail') else 'original'}.png"

    def written_format(self, options: Options) -> FormatName:
        """The format of the result of these options."""
        return options.written_format(self.source_format)

    def result(self, options: Options) -> Path:
        """Where the result of these options is kept."""
        digest = sha256(repr(options).encode()).hexdigest()[:32]
        return self.folder / "results" / digest

    def measure(self) -> None:
        """Count what is stored; of its results, keep the newest."""
        with suppress(FileNotFoundError):
            results = sorted(self.folder.glob("results/*"), key=lambda path: path.stat().st_mtime)
            for old in results[:-_MOST_RESULTS]:
                old.unlink(missing_ok=True)
            self.stored = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class Held:
    """A file on its way in or out, which counts as stored until it is closed."""

    def __init__(self, path: Path, held: set[Held]) -> None:
        """
        Args:
            path: of the file, which need not exist yet.
            held: all there are.
        """
        self.path = path
        self.size = 0
        self._held = held
        held.add(self)

    def measure(self) -> None:
        """Count what is stored."""
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
    """All open pictures, and what else is stored. They are counted by the event loop's thread alone."""

    def __init__(self, capacity: int, seconds: float) -> None:
        """
        Args:
            capacity: bytes on disk; beyond them, the pictures go that were not asked for the longest.
            seconds: that a picture is kept after it was last asked for.
        """
        self.capacity = capacity
        self._seconds = seconds
        self._open: dict[str, Open] = {}
        self._held: set[Held] = set()
        # Thousands of folders take a while to remove, and the event loop has others to serve.
        self._broom = ThreadPoolExecutor(1)
        remove_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _locked(self.folder)

    def __iter__(self) -> Iterator[Open]:
        return iter(self._open.values())

    def __len__(self) -> int:
        return len(self._open)

    @property
    def stored(self) -> int:
        """Bytes on disk, of the pictures that are settled and of the files on their way."""
        return sum(picture.stored for picture in self) + sum(held.size for held in self._held)

    @property
    def room(self) -> int:
        """Bytes that there is room for."""
        return max(0, self.capacity - self.stored)

    def add(self, options: Options, source: Held) -> Open:
        """A new picture, with a folder of its own and the file that it is made from.

        Raises:
            OSError: the folder for all pictures is not there any more.
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
        """A file that does not exist yet."""
        return Held(self.folder / f"held-{secrets.token_hex(8)}", self._held)

    def get(self, name: str) -> Open | None:
        """The picture of that id, if it is still there."""
        picture = self._open.get(name)
        if picture is not None:
            picture.used = time.monotonic()
        return picture

    def forget(self, picture: Open) -> None:
        """Cancel and drop it; what is at work on it ends, and its folder goes then (see :meth:`settle`)."""
        picture.job.cancel()
        self._open.pop(picture.id, None)
        if picture.settled:
            self._remove(picture.folder)

    def settle(self, picture: Open) -> bool:
        """Count what a picture's job, which has ended, has stored, and make room for it; returns whether there is enough."""
        if picture.id not in self._open or picture.state == "failed":
            picture.stored = 0
            self._remove(picture.folder)
            return True
        picture.measure()
        return self.make_room(picture)

    def make_room(self, spared: Open | None = None) -> bool:
        """Drop the pictures that were not asked for the longest, all but one, until the rest has room; returns whether it has."""
        too_much = self.stored - self.capacity
        for old in self._idle():
            if too_much <= 0:
                break
            if old is not spared:
                too_much -= old.stored
                self.forget(old)
        return too_much <= 0

    def expire(self) -> None:
        """Drop what has not been asked for in a long time."""
        oldest = time.monotonic() - self._seconds
        for picture in self._idle():
            if picture.used < oldest:
                self.forget(picture)

    def close(self) -> None:
        """Drop everything; no job may be at work any more."""
        self._open.clear()
        self._broom.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def _idle(self) -> list[Open]:
        """Those that are settled, from the one that was not asked for the longest."""
        return sorted((picture for picture in self if picture.settled), key=lambda picture: picture.used)

    def _remove(self, folder: Path) -> None:
        self._broom.submit(shutil.rmtree, folder, ignore_errors=True)


def _locked(folder: Path) -> IO[bytes] | None:
    """Lock a folder for as long as this process lives; None where there are no such locks."""
    if fcntl is None:
        return None
    # Under another name until it is locked: who finds an unlocked one removes the folder.
    new = folder / "new"
    file = new.open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    new.replace(folder / _LOCK_NAME)
    return file


def remove_leftovers() -> None:
    """Remove the folders of servers that were killed: those of this user that nobody has locked any more."""
    if fcntl is None:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            continue
        with suppress(OSError), (folder / _LOCK_NAME).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
