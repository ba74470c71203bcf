"""A SQLite VFS that counts syncs and fails on demand: the disk, for tests.

Operations have names: read, write, sync, truncate, delete.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import apsw

_PAGE = 4096  # of a database
_numbers = itertools.count(1)


class FaultyDisk(apsw.VFS):
    """A disk whose n-th write or sync can be made to fail.

    Attributes:
        name: by which a store opens files on it.
        log_syncs: how often a write-ahead log was synced.
        log_pages: how many pages were written to one.
        faults: how many operations failed.
    """

    def __init__(self) -> None:
        self.name = f"faulty-{next(_numbers)}"
        self.log_syncs = 0
        self.log_pages = 0
        self.faults = 0
        self.read_only = False
        self._plan: Callable[[str, str], bool] = lambda operation, filename: False
        self._error = apsw.SQLITE_IOERR
        self._do_it_first = False
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: Any) -> apsw.VFSFile:
        return _File(self, name, flags)

    @contextmanager
    def failing(
        self,
        operation: str,
        error: int,
        *,
        nth: int = 1,
        times: int = 1_000_000,
        only: str = "",
        do_it_first: bool = False,
    ) -> Iterator[None]:
        """Within the block, fail the n-th and following `operation`s on files ending in `only`."""
        seen = itertools.count(1)

        def plan(done: str, filename: str) -> bool:
            return done == operation and filename.endswith(only) and nth <= next(seen) < nth + times

        self._plan, self._error, self._do_it_first = plan, error, do_it_first
        try:
            yield
        finally:
            self.heal()

    def heal(self) -> None:
        """Let nothing fail any more."""
        self._plan = lambda operation, filename: False

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.do("delete", filename, lambda: apsw.VFS.xDelete(self, filename, syncdir))

    def do(self, operation: str, filename: str, work: Callable[[], Any]) -> Any:
        """Carry an operation out, or fail as planned."""
        if not self._plan(operation, filename):
            return work()
        self.faults += 1
        if self._do_it_first:
            work()
        raise apsw.exception_for(self._error)


class _File(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._name = str(name.filename() if isinstance(name, apsw.URIFilename) else name)
        if disk.read_only:
            flags[0] = flags[0] & ~(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
            flags[0] |= apsw.SQLITE_OPEN_READONLY
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        read: bytes = self._disk.do("read", self._name, lambda: apsw.VFSFile.xRead(self, amount, offset))
        return read

    def xTruncate(self, newsize: int) -> None:
        self._disk.do("truncate", self._name, lambda: apsw.VFSFile.xTruncate(self, newsize))

    def xWrite(self, data: Any, offset: int) -> None:
        if self._name.endswith("-wal") and len(data) == _PAGE:
            self._disk.log_pages += 1
        self._disk.do("write", self._name, lambda: apsw.VFSFile.xWrite(self, data, offset))

    def xSync(self, flags: int) -> None:
        if self._name.endswith("-wal"):
            self._disk.log_syncs += 1
        self._disk.do("sync", self._name, lambda: apsw.VFSFile.xSync(self, flags))
