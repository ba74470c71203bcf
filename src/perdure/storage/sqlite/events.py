"""Writing many events by one statement: they are bound as one JSON text of places, and one blob."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.rows import as_json


def insert_events(db: Database, events: Iterable[tuple[int, int, bytes]]) -> None:
    """Write (run, seq, encoded event)s."""
    places: list[tuple[int, int, int, int]] = []
    blobs: list[bytes] = []
    offset = 1
    for run, seq, data in events:
        places.append((run, seq, offset, len(data)))
        blobs.append(data)
        offset += len(data)
    if places:
        db.run("insert_events", {"events": as_json(places), "data": b"".join(blobs)})
