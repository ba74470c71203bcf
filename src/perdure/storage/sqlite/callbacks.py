"""Callbacks in SQLite: the verbs, and what they do inside a transaction of the writer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

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
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.lifecycle import deliver


class SqliteCallbacks:
    """The verbs of CallbackStore.

    Args:
        write: hands work to the writer.
    """

    def __init__(self, write: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self._write = write

    async def end(
        self,
        token_hash: bytes,
        *,
        result: bytes | None = None,
        failure: Failure | None = None,
        now: float,
    ) -> CallbackAnswer:
        answer: CallbackAnswer = await self._write(_end, token_hash, result, failure, now)
        return answer

    async def heartbeat(self, token_hash: bytes, *, now: float) -> CallbackAnswer:
        answer: CallbackAnswer = await self._write(_heartbeat, token_hash, now)
        return answer

    async def time_out(self, token_hash: bytes, *, now: float) -> float | None:
        deadline: float | None = await self._write(_time_out, token_hash, now)
        return deadline


def open_callback(db: Database, append: Append, effect: OpenCallback) -> None:
    """The effect of an append."""
    db.run(
        "open_callback",
        {
            "token_hash": effect.token_hash,
            "run": append.run,
            "op": effect.op,
            "opened_at": effect.opened_at,
            "expires_at": effect.expires_at,
            "heartbeat": effect.heartbeat,
        },
    )


def _end(
    db: Database, token_hash: bytes, result: bytes | None, failure: Failure | None, now: float
) -> CallbackAnswer:
    row, verdict = _look(db, token_hash, now)
    if row is not None and verdict is CallbackVerdict.DONE:
        state = CallbackState.COMPLETED if failure is None else CallbackState.FAILED
        _close(db, token_hash, row, state, ended(row, result, failure, now), now)
    return CallbackAnswer(verdict, row)


def _heartbeat(db: Database, token_hash: bytes, now: float) -> CallbackAnswer:
    row, verdict = _look(db, token_hash, now)
    if row is not None and verdict is CallbackVerdict.DONE:
        db.run("hear_callback", {"token_hash": token_hash, "now": now})
        row.heard_at = max(row.heard_at, now)
    return CallbackAnswer(verdict, row)


def _time_out(db: Database, token_hash: bytes, now: float) -> float | None:
    row, verdict = _look(db, token_hash, now)
    return row.deadline if row is not None and verdict is CallbackVerdict.DONE else None


def _look(db: Database, token_hash: bytes, now: float) -> tuple[CallbackRow | None, CallbackVerdict]:
    """Where a callback stands; one whose deadline has come is ended."""
    for found in db.rows("callback", {"token_hash": token_hash}):
        row = CallbackRow(*found)
        row.run_ended = bool(row.run_ended)
        if standing(row) is CallbackVerdict.DONE and is_over(row, now):
            _close(db, token_hash, row, CallbackState.EXPIRED, timed_out(row, now), now)
        return row, standing(row)
    return None, CallbackVerdict.UNKNOWN


def _close(
    db: Database, token_hash: bytes, row: CallbackRow, state: CallbackState, event: bytes, now: float
) -> None:
    db.run("close_callback", {"token_hash": token_hash, "state": state.value, "now": now})
    row.state, row.ended_at = state.value, now
    deliver(db, row.run, event, now)
