"""The rate limits of a SQLite store. See storage/limits.py for what is promised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from perdure.core.limiting import turn
from perdure.core.permits import Answers, Batch, LimitState
from perdure.storage.limits import decode_state, encode_state
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.rows import as_json


class SqliteLimits:
    """See LimitStore.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def turn(self, batch: Batch, *, now: int) -> Answers:
        answers: Answers = await self._write(_turn, batch, now)
        return answers

    async def all(self) -> Mapping[str, LimitState]:
        found: Mapping[str, LimitState] = await self._read(_all)
        return found


def _turn(db: Database, batch: Batch, now: int) -> Answers:
    names = batch.names()
    before: dict[str, bytes] = dict(db.rows("limits_named", {"names": as_json(names)}))
    states = {name: decode_state(data) for name, data in before.items()}
    answers = turn(states, batch, now)
    for name in names:
        if name in states and (data := encode_state(states[name])) != before.get(name):
            db.run("keep_limit", {"name": name, "data": data})
    return answers


def _all(db: Database) -> Mapping[str, LimitState]:
    return {name: decode_state(data) for name, data in db.rows("limits")}
