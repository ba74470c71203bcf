"""Callbacks in a memory database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from perdure.core.events import Failure
from perdure.storage.callbacks import (
    CallbackAnswer,
    CallbackRow,
    CallbackState,
    CallbackVerdict,
    OpenCallback,
    ended,
    is_over,
    standing,
    timed_out,
)
from perdure.storage.records import Append


def open_callback(db: Any, append: Append, effect: OpenCallback) -> None:
    """The effect of an append. `db` is the MemoryDatabase."""
    row = CallbackRow(
        run=append.run,
        op=effect.op,
        opened_at=effect.opened_at,
        expires_at=effect.expires_at,
        heartbeat=effect.heartbeat,
        heard_at=effect.opened_at,
        state=CallbackState.OPEN.value,
        ended_at=None,
        run_id=db.runs[append.run].id,
    )
    known = db.callbacks.setdefault(effect.token_hash, row)
    if (
        known.state == "open" and db.runs[known.run].next == append.run
    ):  # a retry takes it over from its donor
        db.callbacks[effect.token_hash] = msgspec.structs.replace(known, run=append.run)


class MemoryCallbacks:
    """The verbs of CallbackStore.

    Args:
        database: gives the MemoryDatabase, while the store is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], Any], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def end(
        self,
        token_hash: bytes,
        *,
        result: bytes | None = None,
        failure: Failure | None = None,
        now: float,
    ) -> CallbackAnswer:
        row, verdict = self._look(token_hash, now)
        if row is not None and verdict is CallbackVerdict.DONE:
            state = CallbackState.COMPLETED if failure is None else CallbackState.FAILED
            self._close(row, state, ended(row, result, failure, now), now)
        return _answer(verdict, row)

    async def heartbeat(self, token_hash: bytes, *, now: float) -> CallbackAnswer:
        row, verdict = self._look(token_hash, now)
        if row is not None and verdict is CallbackVerdict.DONE:
            row.heard_at = max(row.heard_at, now)
        return _answer(verdict, row)

    async def time_out(self, token_hash: bytes, *, now: float) -> float | None:
        row, verdict = self._look(token_hash, now)
        return row.deadline if row is not None and verdict is CallbackVerdict.DONE else None

    def _look(self, token_hash: bytes, now: float) -> tuple[CallbackRow | None, CallbackVerdict]:
        """Where a callback stands; one whose deadline has come is ended."""
        db = self._database()
        row: CallbackRow | None = db.callbacks.get(token_hash)
        if row is None:
            return None, CallbackVerdict.UNKNOWN
        run = db.runs[row.run]
        row.run_status, row.run_ended = run.status, run.ended
        if standing(row) is CallbackVerdict.DONE and is_over(row, now):
            self._close(row, CallbackState.EXPIRED, timed_out(row, now), now)
        return row, standing(row)

    def _close(self, row: CallbackRow, state: CallbackState, event: bytes, now: float) -> None:
        db = self._database()
        row.state, row.ended_at = state.value, now
        db.deliver(db.runs[row.run], event, now)
        self._changed()


def _answer(verdict: CallbackVerdict, row: CallbackRow | None) -> CallbackAnswer:
    return CallbackAnswer(verdict, None if row is None else msgspec.structs.replace(row))
