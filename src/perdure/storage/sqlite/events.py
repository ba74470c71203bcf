"""Writing events. Many go by one statement: they are bound as one JSON text of places, and one blob."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.storage.chain import link
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.rows import as_json


def insert_events(db: Database, events: Iterable[tuple[int, int, int, bytes]]) -> None:
    """Write (run, seq, link, encoded event)s."""
    places: list[tuple[int, int, int, int, int]] = []
    blobs: list[bytes] = []
    offset = 1
    for run, seq, its_link, data in events:
        places.append((run, seq, its_link, offset, len(data)))
        blobs.append(data)
        offset += len(data)
    if places:
        db.run("insert_events", {"events": as_json(places), "data": b"".join(blobs)})


def append_by_itself(db: Database, run: int, seq: int, chain: int, event: bytes) -> None:
    """Write an event that no driver appends: the store ends a run, say. What a damaged history has there goes.

    Args:
        seq: that of the event.
        chain: the run's before it.
    """
    chain = link(chain, event)
    db.run("replace_event", (run, seq, chain, event))
    db.run("set_chain", {"run": run, "chain": chain})
