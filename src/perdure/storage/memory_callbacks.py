"""Callbacks in a memory database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

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
        question=effect.question,
        run_id=db.runs[append.run].id,
    )
    known = db.callbacks.setdefault(effect.token_hash, row)
    if known is row or known.run == append.run or db.runs[known.run].id != row.run_id:
        return
    match takeover(known, effect.question):
        case Takeover.REOPEN:
            db.callbacks[effect.token_hash] = row
        case Takeover.KEEP:
            known.run = append.run
        case Takeover.DELIVER:
            known.run = append.run
            db.deliver(db.runs[append.run], known.answer, append.now)


def withdraw_callback(db: Any, append: Append, effect: WithdrawCallback) -> None:
    """The effect of an append."""
    row = db.callbacks.get(effect.token_hash)
    if row is not None and row.run == append.run and row.state == CallbackState.OPEN:
        row.state, row.ended_at = CallbackState.WITHDRAWN.value, append.now


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
        answerer: Answerer | None = None,
        now: float,
    ) -> CallbackAnswer:
        row, verdict = self._look(token_hash, now)
        if row is not None and verdict is CallbackVerdict.DONE:
            state = CallbackState.COMPLETED if failure is None else CallbackState.FAILED
            event = ended(row, result, failure, answerer, now)
            row.answer = None if answerer is None else event
            self._close(row, state, event, now)
        return _answer(verdict, row)

    async def heartbeat(self, token_hash: bytes, *, now: float) -> CallbackAnswer:
        row, verdict = self._look(token_hash, now)
        if row is not None and verdict is CallbackVerdict.DONE:
            row.heard_at = max(row.heard_at, now)
        return _answer(verdict, row)

    async def time_out(self, token_hash: bytes, *, now: float) -> float | None:
        row, verdict = self._look(token_hash, now)
        return row.deadline if row is not None and verdict is CallbackVerdict.DONE else None

    async def get(self, token_hash: bytes) -> CallbackRow | None:
        row: CallbackRow | None = self._database().callbacks.get(token_hash)
        return None if row is None else self._with_run(row)

    async def questions(self, filter: QuestionFilter) -> list[tuple[bytes, CallbackRow]]:
        found = [
            (token_hash, self._with_run(row))
            for token_hash, row in self._database().callbacks.items()
            if row.question is not None
        ]
        found = [(token_hash, row) for token_hash, row in found if _wanted(filter, token_hash, row)]
        found.sort(key=lambda item: (item[1].opened_at, item[0]))
        return found[: filter.limit]

    def _with_run(self, row: CallbackRow) -> CallbackRow:
        run = self._database().runs[row.run]
        return msgspec.structs.replace(
            row,
            run_id=run.id,
            run_status=run.status,
            run_ended=run.ended,
            generation=run.generation,
            workflow=run.workflow,
        )

    def _look(self, token_hash: bytes, now: float) -> tuple[CallbackRow | None, CallbackVerdict]:
        """Where a callback stands; one whose deadline has come is ended."""
        db = self._database()
        row: CallbackRow | None = db.callbacks.get(token_hash)
        if row is None:
            return None, CallbackVerdict.UNKNOWN
        run = db.runs[row.run]
        row.run_status, row.run_ended = run.status, run.ended
        row.generation, row.workflow = run.generation, run.workflow
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


def _wanted(filter: QuestionFilter, token_hash: bytes, row: CallbackRow) -> bool:
    if filter.open and (standing(row) is not CallbackVerdict.DONE or is_over(row, filter.now)):
        return False
    return (
        (filter.run_id is None or row.run_id == filter.run_id)
        and (filter.within is None or row.run_id.startswith(filter.within))
        and row.opened_at >= filter.since
        and (row.opened_at, token_hash) > filter.after
    )
