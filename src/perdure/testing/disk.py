"""A disk that writes down all that SQLite does to it, so that a loss of power can be replayed.

Everything really happens, on the operating system's files; what is kept besides is a log of operations: writes,
truncations, syncs, names that come and go. Between them stand marks, set by whoever wants to know later what was
promised when ("this append was acknowledged"). `perdure.testing.powerloss` makes crash images of such a log.

SQLite's shared memory (`-shm`) doesn't go through a disk's writes, and is rebuilt after a crash; it isn't recorded.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, cast

import apsw

_numbers = itertools.count(1)

#: A new one of these has its directory synced when it is synced first (SQLite does that, on Unix).
_JOURNALS: Final = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL


class Existed(NamedTuple):
    """A file that was there, safely, before the recording began."""

    name: str
    file: int
    data: bytes


class Created(NamedTuple):
    """A name now means a new, empty file. Files have numbers; a name that is made anew is another file."""

    name: str
    file: int


class Deleted(NamedTuple):
    """A name is gone.

    Attributes:
        synced: its directory was synced then.
    """

    name: str
    file: int
    synced: bool


class Written(NamedTuple):
    """Bytes were written into a file; not safe before it is synced."""

    file: int
    offset: int
    data: bytes


class Cut(NamedTuple):
    """A file was truncated."""

    file: int
    size: int


class Synced(NamedTuple):
    """Everything written into a file before is safe.

    Attributes:
        directory: its directory was synced, too.
    """

    file: int
    directory: bool


class Failed(NamedTuple):
    """A sync failed: of what was written before, only chance knows what is safe, and no later sync makes up for it.

    That is how Linux does it: after the error the pages count as written.
    """

    file: int


class Mark(NamedTuple):
    """Something that happened elsewhere, at this moment."""

    value: Any


Operation: TypeAlias = Existed | Created | Deleted | Written | Cut | Synced | Failed | Mark


class RecordingDisk(apsw.VFS):
    """A SQLite VFS that records.

    Args:
        folder: files in it are recorded, others just pass through. What is there already counts as safe; nobody may
            have it open.
        fails: asked before each sync whether it is to fail.

    Attributes:
        name: by which a store opens files on it.
        log: what happened so far. Only read it while nobody writes.
    """

    def __init__(self, folder: Path, fails: Callable[[], bool] = lambda: False) -> None:
        self.name: Final = f"recording-{next(_numbers)}"
        self.log: Final[list[Operation]] = []
        self._fails = fails
        self._folder = os.path.realpath(folder)
        self._files: dict[str, int] = {}  #: by name, those that are there
        self._fresh: set[int] = set()  #: journals whose directory wasn't synced yet
        self._file_numbers = itertools.count(1)
        self._lock = threading.RLock()
        for path in sorted(folder.iterdir()):
            self._files[path.name] = file = next(self._file_numbers)
            self.log.append(Existed(path.name, file, path.read_bytes()))
        super().__init__(self.name, "")

    def mark(self, value: Any) -> None:
        """Keep what happened now; whatever SQLite was told to be safe before this is safe in each image after it."""
        with self._lock:
            self.log.append(Mark(value))

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        path = os.fspath(name.filename() if isinstance(name, apsw.URIFilename) else name) if name else None
        if path is None or os.path.dirname(os.path.realpath(path)) != self._folder:
            return apsw.VFSFile("", name, flags)
        with self._lock:
            asked = flags[0]
            opened = _File(self, name, flags)
            opened.number, new = self._number(os.path.basename(path))
            if new and asked & _JOURNALS:
                self._fresh.add(opened.number)
            return opened

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        with self._lock:
            super().xDelete(filename, syncdir)
            name = os.path.basename(filename)
            file = self._files.pop(name, None)
            if file is not None:
                self.log.append(Deleted(name, file, bool(syncdir)))

    def _number(self, name: str) -> tuple[int, bool]:
        """The number of the file with this name, and whether it has just been made."""
        file = self._files.get(name)
        if file is not None:
            return file, False
        file = self._files[name] = next(self._file_numbers)
        self.log.append(Created(name, file))
        return file, True

    def wrote(self, file: int, offset: int, data: bytes) -> None:
        with self._lock:
            self.log.append(Written(file, offset, data))

    def cut(self, file: int, size: int) -> None:
        with self._lock:
            self.log.append(Cut(file, size))

    def may_sync(self, file: int) -> None:
        """Called before a sync: raises if that is to fail."""
        with self._lock:
            if self._fails():
                self.log.append(Failed(file))
                raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)

    def synced(self, file: int) -> None:
        with self._lock:
            self.log.append(Synced(file, file in self._fresh))
            self._fresh.discard(file)


class _File(apsw.VFSFile):
    """One open file of the disk."""

    number: int

    def __init__(self, disk: RecordingDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        cast(Any, super()).xWrite(data, offset)
        self._disk.wrote(self.number, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._disk.cut(self.number, newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.may_sync(self.number)
        super().xSync(flags)
        self._disk.synced(self.number)


def marks(log: Sequence[Operation]) -> Iterator[Any]:
    """All that was marked, in order."""
    return (operation.value for operation in log if isinstance(operation, Mark))
