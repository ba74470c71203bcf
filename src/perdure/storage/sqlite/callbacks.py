"""Callbacks in SQLite: the verbs, and what they do inside a transaction of the writer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.core.events import Failure
from perdure.storage.callbacks import (
    Answerer,
    CallbackAnswer,
    CallbackRow,
    CallbackState,
    CallbackVerdict,
    OpenCallback,
    QuestionFilter,
    Takeover,
    WithdrawCallback,
    ended,
    is_over,
    standing,
    takeover,
    timed_out,
)
from perdure.storage.records import Append
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.lifecycle import deliver
from perdure.storage.sqlite.updates import Threads


class SqliteCallbacks:
    """The verbs of CallbackStore.

    Args:
        threads: the store's.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def end(
        self,
        token_hash: bytes,
        *,
        result: bytes | None = None,
        failure: Failure | None = None,
        answerer: Answerer | None = None,
        now: float,
    ) -> CallbackAnswer:
        answer: CallbackAnswer
        answer = await self._threads._write(_end, token_hash, result, failure, answerer, now)
        return answer

    async def heartbeat(self, token_hash: bytes, *, now: float) -> CallbackAnswer:
        answer: CallbackAnswer = await self._threads._write(_heartbeat, token_hash, now)
        return answer

    async def time_out(self, token_hash: bytes, *, now: float) -> float | None:
        deadline: float | None = await self._threads._write(_time_out, token_hash, now)
        return deadline

    async def get(self, token_hash: bytes) -> CallbackRow | None:
        row: CallbackRow | None = await self._threads._read(_find, token_hash)
        return row

    async def questions(self, filter: QuestionFilter) -> list[tuple[bytes, CallbackRow]]:
        found: list[tuple[bytes, CallbackRow]] = await self._threads._read(_questions, filter)
        return found


def open_callback(db: Database, append: Append, effect: OpenCallback) -> None:
    """The effect of an append."""
    given: dict[str, Value] = {
        "token_hash": effect.token_hash,
        "run": append.run,
        "op": effect.op,
        "opened_at": effect.opened_at,
        "expires_at": effect.expires_at,
        "heartbeat": effect.heartbeat,
        "question": effect.question,
    }
    if db.rows("open_callback", given):
        return
    row = _find(db, effect.token_hash)
    if row is None or not db.value("is_of_run", {"id": row.run_id, "run": append.run}):
        return
    way = takeover(row, effect.question)
    if way is Takeover.REOPEN:
        db.run("reopen_callback", given)
        return
    db.run("move_callback", {"token_hash": effect.token_hash, "run": append.run})
    if way is Takeover.DELIVER:
        assert row.answer is not None
        deliver(db, append.run, row.answer, append.now)


def withdraw_callback(db: Database, append: Append, effect: WithdrawCallback) -> None:
    """The effect of an append."""
    db.run("withdraw_callback", {"token_hash": effect.token_hash, "run": append.run, "now": append.now})


def _end(
    db: Database,
    token_hash: bytes,
    result: bytes | None,
    failure: Failure | None,
    answerer: Answerer | None,
    now: float,
) -> CallbackAnswer:
    row, verdict = _look(db, token_hash, now)
    if row is not None and verdict is CallbackVerdict.DONE:
        state = CallbackState.COMPLETED if failure is None else CallbackState.FAILED
        event = ended(row, result, failure, answerer, now)
        row.answer = None if answerer is None else event
        _close(db, token_hash, row, state, event, now)
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
    row = _find(db, token_hash)
    if row is None:
        return None, CallbackVerdict.UNKNOWN
    if standing(row) is CallbackVerdict.DONE and is_over(row, now):
        _close(db, token_hash, row, CallbackState.EXPIRED, timed_out(row, now), now)
    return row, standing(row)


def _find(db: Database, token_hash: bytes) -> CallbackRow | None:
    for found in db.rows("callback", {"token_hash": token_hash}):
        return _row(found)
    return None


def _row(found: Sequence[Any]) -> CallbackRow:
    row = CallbackRow(*found)
    row.run_ended = bool(row.run_ended)
    return row


def _questions(db: Database, filter: QuestionFilter) -> list[tuple[bytes, CallbackRow]]:
    at, behind = filter.after
    given: dict[str, Value] = {
        "now": filter.now,
        "since": filter.since,
        "within": filter.within,
        "after_at": at,
        "after_hash": behind,
        "limit": filter.limit,
    }
    query = "open_questions" if filter.open else "questions"
    if filter.run_id is not None:
        query = "questions_of_run"
        given |= {"id": filter.run_id, "open": filter.open}
    return [(token_hash, _row(rest)) for token_hash, *rest in db.rows(query, given)]


def _close(
    db: Database, token_hash: bytes, row: CallbackRow, state: CallbackState, event: bytes, now: float
) -> None:
    db.run(
        "close_callback", {"token_hash": token_hash, "state": state.value, "answer": row.answer, "now": now}
    )
    row.state, row.ended_at = state.value, now
    deliver(db, row.run, event, now)
