"""Callbacks in PostgreSQL. See storage/callbacks.py for what is promised."""

from __future__ import annotations

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
        now: float,
    ) -> CallbackAnswer:
        return await self._ways.write(_end, token_hash, result, failure, now)

    async def heartbeat(self, token_hash: bytes, *, now: float) -> CallbackAnswer:
        return await self._ways.write(_heartbeat, token_hash, now)

    async def time_out(self, token_hash: bytes, *, now: float) -> float | None:
        return await self._ways.write(_time_out, token_hash, now)


async def open_callback(db: Database, append: Append, effect: OpenCallback) -> None:
    """The effect of an append."""
    await db.run(
        "open_callback",
        token_hash=effect.token_hash,
        run=append.run,
        op=effect.op,
        opened_at=effect.opened_at,
        expires_at=effect.expires_at,
        heartbeat=effect.heartbeat,
    )


async def _end(
    db: Database, token_hash: bytes, result: bytes | None, failure: Failure | None, now: float
) -> CallbackAnswer:
    row, verdict = await _look(db, token_hash, now)
    if row is not None and verdict is CallbackVerdict.DONE:
        state = CallbackState.COMPLETED if failure is None else CallbackState.FAILED
        await _close(db, token_hash, row, state, ended(row, result, failure, now), now)
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
    for found in await db.rows("callback", token_hash=token_hash):
        row = CallbackRow(*found)
        if standing(row) is CallbackVerdict.DONE and is_over(row, now):
            await _close(db, token_hash, row, CallbackState.EXPIRED, timed_out(row, now), now)
        return row, standing(row)
    return None, CallbackVerdict.UNKNOWN


async def _close(
    db: Database, token_hash: bytes, row: CallbackRow, state: CallbackState, event: bytes, now: float
) -> None:
    await db.run("close_callback", token_hash=token_hash, state=state.value, now=now)
    row.state, row.ended_at = state.value, now
    await deliver(db, row.run, event, now)
