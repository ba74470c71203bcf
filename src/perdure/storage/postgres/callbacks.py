"""Callbacks in PostgreSQL. See storage/callbacks.py for what is promised."""

from __future__ import annotations

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
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.lifecycle import deliver
from perdure.storage.postgres.ways import Ways
from perdure.storage.records import Append


class PostgresCallbacks:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def end(
        self,
        token_hash: bytes,
        *,
        result: bytes | None = None,
        failure: Failure | None = None,
        answerer: Answerer | None = None,
        now: float,
    ) -> CallbackAnswer:
        return await self._ways.write(_end, token_hash, result, failure, answerer, now)

    async def heartbeat(self, token_hash: bytes, *, now: float) -> CallbackAnswer:
        return await self._ways.write(_heartbeat, token_hash, now)

    async def time_out(self, token_hash: bytes, *, now: float) -> float | None:
        return await self._ways.write(_time_out, token_hash, now)

    async def get(self, token_hash: bytes) -> CallbackRow | None:
        return await self._ways.read(_find, token_hash, "callback_as_it_stands")

    async def questions(self, filter: QuestionFilter) -> list[tuple[bytes, CallbackRow]]:
        return await self._ways.read(_questions, filter)


async def open_callback(db: Database, append: Append, effect: OpenCallback) -> None:
    """The effect of an append."""
    given = {
        "token_hash": effect.token_hash,
        "run": append.run,
        "op": effect.op,
        "opened_at": effect.opened_at,
        "expires_at": effect.expires_at,
        "heartbeat": effect.heartbeat,
        "question": effect.question,
    }
    if await db.run("open_callback", **given):
        return
    row = await _find(db, effect.token_hash)
    if row is None or not await db.value("is_of_run", id=row.run_id, run=append.run):
        return
    way = takeover(row, effect.question)
    if way is Takeover.REOPEN:
        await db.run("reopen_callback", **given)
        return
    await db.run("move_callback", token_hash=effect.token_hash, run=append.run)
    if way is Takeover.DELIVER:
        assert row.answer is not None
        await deliver(db, append.run, row.answer, append.now)


async def withdraw_callback(db: Database, append: Append, effect: WithdrawCallback) -> None:
    """The effect of an append."""
    await db.run("withdraw_callback", token_hash=effect.token_hash, run=append.run, now=float(append.now))


async def _end(
    db: Database,
    token_hash: bytes,
    result: bytes | None,
    failure: Failure | None,
    answerer: Answerer | None,
    now: float,
) -> CallbackAnswer:
    row, verdict = await _look(db, token_hash, now)
    if row is not None and verdict is CallbackVerdict.DONE:
        state = CallbackState.COMPLETED if failure is None else CallbackState.FAILED
        event = ended(row, result, failure, answerer, now)
        row.answer = None if answerer is None else event
        await _close(db, token_hash, row, state, event, now)
    return CallbackAnswer(verdict, row)


async def _heartbeat(db: Database, token_hash: bytes, now: float) -> CallbackAnswer:
    row, verdict = await _look(db, token_hash, now)
    if row is not None and verdict is CallbackVerdict.DONE:
        await db.run("hear_callback", token_hash=token_hash, now=now)
        row.heard_at = max(row.heard_at, now)
    return CallbackAnswer(verdict, row)


async def _time_out(db: Database, token_hash: bytes, now: float) -> float | None:
    row, verdict = await _look(db, token_hash, now)
    return row.deadline if row is not None and verdict is CallbackVerdict.DONE else None


async def _look(db: Database, token_hash: bytes, now: float) -> tuple[CallbackRow | None, CallbackVerdict]:
    """Where a callback stands; one whose deadline has come is ended."""
    row = await _find(db, token_hash)
    if row is None:
        return None, CallbackVerdict.UNKNOWN
    if standing(row) is CallbackVerdict.DONE and is_over(row, now):
        await _close(db, token_hash, row, CallbackState.EXPIRED, timed_out(row, now), now)
    return row, standing(row)


async def _find(db: Database, token_hash: bytes, query: str = "callback") -> CallbackRow | None:
    for found in await db.rows(query, token_hash=token_hash):
        return CallbackRow(*found)
    return None


async def _questions(db: Database, filter: QuestionFilter) -> list[tuple[bytes, CallbackRow]]:
    at, behind = filter.after
    given: dict[str, float | bytes | str | None] = {"since": float(filter.since), "after_at": float(at)}
    given |= {"after_hash": behind, "limit": filter.limit}
    now = float(filter.now)
    if filter.run_id is None:
        given["within"] = filter.within
    if filter.run_id is not None:
        of = {"id": filter.run_id, "open": filter.open}
        found = await db.rows("questions_of_run", now=now, **of, **given)
    elif filter.open:
        found = await db.rows("open_questions", now=now, **given)
    else:
        found = await db.rows("questions", **given)
    return [(token_hash, CallbackRow(*rest)) for token_hash, *rest in found]


async def _close(
    db: Database, token_hash: bytes, row: CallbackRow, state: CallbackState, event: bytes, now: float
) -> None:
    await db.run("close_callback", token_hash=token_hash, state=state.value, answer=row.answer, now=now)
    row.state, row.ended_at = state.value, now
    await deliver(db, row.run, event, now)
