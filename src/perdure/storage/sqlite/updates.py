"""Updates in a SQLite file. See storage/updates.py for what is promised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from perdure.core.bounds import INBOX_MAX
from perdure.storage.effects import SetUpdate, UpdateState
from perdure.storage.records import Append, Delivery
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.lifecycle import deliver
from perdure.storage.sqlite.rows import as_json
from perdure.storage.updates import UpdateRow, renewable


class Threads(Protocol):
    """The store's way to its threads."""

    async def _write(self, verb: Any, *args: Any) -> Any: ...
    async def _read(self, verb: Any, *args: Any) -> Any: ...


class SqliteUpdates:
    """The verbs, handed to the store's threads."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def request(self, run_id: str, update: str, data: bytes, *, call: bytes, now: float) -> Delivery:
        answer: Delivery = await self._threads._write(_request, run_id, update, data, call, now)
        return answer

    async def look(self, keys: Sequence[tuple[str, str]]) -> list[UpdateRow | None]:
        found: list[UpdateRow | None] = await self._threads._read(_look, keys)
        return found


def _request(db: Database, run_id: str, update: str, data: bytes, call: bytes, now: float) -> Delivery:
    answered = False
    for state, ended in db.rows("update_row", {"run_id": run_id, "id": update}):
        if not renewable(UpdateState(state), bool(ended)):
            return Delivery.REPEATED
        answered = UpdateState(state).answered
    for run, *_ in db.rows("key_of", {"id": run_id}):
        if not deliver(db, run, data, now, patient=True, most=INBOX_MAX):
            if not db.value("has_ended", {"run": run}):
                return Delivery.INBOX_FULL
            return Delivery.REPEATED if answered else Delivery.RUN_ENDED
        db.run("request_update", {"run_id": run_id, "id": update, "run": run, "call": call})
        return Delivery.DELIVERED
    return Delivery.UNKNOWN_RUN


def _look(db: Database, keys: Sequence[tuple[str, str]]) -> list[UpdateRow | None]:
    rows = db.rows("update_rows", {"keys": as_json(keys)})
    found = {
        (run_id, update): UpdateRow(run_id, update, UpdateState(state), answer, bool(ended), call)
        for run_id, update, state, answer, ended, call in rows
    }
    return [found.get((run_id, update)) for run_id, update in keys]


def set_update(db: Database, append: Append, effect: SetUpdate) -> None:
    """Bring an update on, with an append of its run."""
    db.run(
        "set_update",
        {"run": append.run, "id": effect.update, "state": effect.state.value, "answer": effect.answer},
    )
