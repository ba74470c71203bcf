"""Making room in the write-ahead log before commits need it.

A commit that makes the log longer has the file system write down the file's new length, too: on ext4 its sync takes
twice as long (190 microseconds instead of 100) as that of one which overwrites. Once a checkpoint has let the log begin
anew, commits overwrite; but each process that opens a database alone begins with an empty log, so a short one never
comes that far. Therefore the writer puts zeros behind the log's end, so many at once that it costs little: until the
first checkpoint, one step after the other takes 0.7 of the time.

SQLite reads its log up to the first page that doesn't belong there, as in a log that began anew, so zeros mean nothing
to it. Nobody may write pages there meanwhile: it is done under the lock that each commit takes.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

import apsw

from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.sqlite_file import SqliteFile

#: Pages that room is made for at once, 1 MB: under a millisecond on a quick disk, so what 10 commits save.
_STEP: Final = 256
#: Room is made when less is left than this.
_NEAR: Final = 16
#: Processes that commit less than this, as a command does that looks at a run, don't need it.
_WORTH_IT: Final = 16
#: A commit of more pages is busy with writing them, not with the file's length.
_LARGE: Final = 32
_ZEROS: Final = ctypes.create_string_buffer(64 * 1024)  #: SQLite writes less than 128 kB at once
_HEADER: Final = 32  #: bytes before the first page of the log
_PAGE_HEADER: Final = 24  #: bytes before each page in it


class LogRoom:
    """Knows how long the log is, and makes it longer.

    Args:
        limit: pages after which a checkpoint lets the log begin anew; more room isn't needed.

    Attributes:
        wanted: the next small commits would make the file longer.
    """

    def __init__(self, db: Database, limit: int) -> None:
        self._db = db
        self._limit = limit
        self._page = _PAGE_HEADER + int(db.pragma("page_size"))
        self._pages = 0  # in use
        self._room = 0  # pages that the file has room for, as far as known
        self._small = 0  # commits in a row that wrote few pages
        self.wanted = False

    def committed(self, pages: int) -> bool:
        """A commit has left the log with so many pages in use. Returns whether room is wanted."""
        self._small = self._small + 1 if pages - self._pages <= _LARGE else 0
        self._pages = pages
        if pages + _NEAR <= self._room or self._room >= self._limit:
            self.wanted = False
        else:
            self._room = max(self._room, pages)
            self.wanted = self._small >= _WORTH_IT and self._room < self._limit
        return self.wanted

    def look_again(self) -> None:
        """The file may be shorter than it was."""
        self._room = 0

    def make(self) -> None:
        """Make the file longer, if nobody else is writing.

        Raises:
            apsw.Error: the disk fails. That it is full is no failure: then there is no room.
        """
        self.wanted = False
        self._small = 0  # if somebody is writing, it is tried again after so many commits
        patience = self._db.patience
        before, patience.limit = patience.limit, 0.0
        try:
            self._db.begin()
        except apsw.BusyError:
            return
        finally:
            patience.limit = before
        try:
            self._room = self._extend()
        finally:
            self._db.roll_back()

    def _extend(self) -> int:
        """The pages that the file has room for now."""
        log = SqliteFile.of(self._db.connection, apsw.SQLITE_FCNTL_JOURNAL_POINTER)
        size = log.size
        there = (size - _HEADER) // self._page
        wanted = min(self._pages + _STEP, self._limit)
        if there >= wanted:
            return there
        end = _HEADER + wanted * self._page
        try:
            for at in range(size, end, len(_ZEROS)):
                log.do("xWrite", _ZEROS, min(len(_ZEROS), end - at), at)
            log.do("xSync", apsw.SQLITE_SYNC_NORMAL)
        except apsw.FullError:
            with contextlib.suppress(apsw.Error):
                log.do("xTruncate", size)  # somebody may need what is left
            return self._limit
        return wanted
