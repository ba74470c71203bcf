"""Moving committed pages from the write-ahead log into the database file, when nobody waits for it.

SQLite would do it inside a commit; here the writer does it after it has answered. A passive checkpoint
does as much as readers allow and holds nobody up. If readers keep it from finishing, so that the log
grows large, one that waits for them a moment empties the log.
"""

from __future__ import annotations

import apsw

from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.log_room import LogRoom
from perdure.storage.sqlite.patience import BUSY_LIMIT

#: Pages are 4 kB. The more of them at once, the more rewrites of the same page are saved.
_PASSIVE_PAGES = 1000
_TRUNCATE_PAGES = 64 * 1024 * 1024 // 4096
_TRUNCATE_PATIENCE = 0.1


class Checkpointer:
    """Watches the log's length on the writer's connection, and has room made in it.

    Attributes:
        due: the log is long, or has little room.
    """

    def __init__(self, db: Database) -> None:
        self._connection = connection = db.connection
        self._patience = db.patience
        self._log_room = LogRoom(db, _PASSIVE_PAGES)
        self._pages = 0
        self.due = False
        self._next = _PASSIVE_PAGES
        connection.set_wal_hook(self._committed)

    def _committed(self, connection: apsw.Connection, schema: str, pages: int) -> int:
        if pages < self._pages:  # the log began anew
            self._next = _PASSIVE_PAGES
        self._pages = pages
        self.due = self._log_room.committed(pages) or pages >= self._next
        return apsw.SQLITE_OK

    def run_if_due(self) -> None:
        """Checkpoint if the log is long, make room if it has little; raises apsw.Error if the disk fails."""
        if not self.due:
            return
        self.due = False
        if self._log_room.wanted:
            self._log_room.make()
        if self._pages < self._next:
            return
        # If readers hold this one up, the next isn't tried with every commit.
        self._next = self._pages + _PASSIVE_PAGES
        if self._pages >= _TRUNCATE_PAGES:
            self.truncate()
        else:
            self._run(apsw.SQLITE_CHECKPOINT_PASSIVE)

    def truncate(self) -> None:
        """Copy everything and empty the log, unless readers don't give way in a moment."""
        self._patience.limit = _TRUNCATE_PATIENCE
        try:
            self._run(apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._patience.limit = BUSY_LIMIT
            self._log_room.look_again()

    def _run(self, mode: int) -> None:
        try:
            self._connection.wal_checkpoint("main", mode)
        except (apsw.BusyError, apsw.FullError):
            pass  # another process is at it, or there is no room now: the log keeps everything
