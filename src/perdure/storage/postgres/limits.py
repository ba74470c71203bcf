"""The rate limits of a PostgreSQL store. See storage/limits.py for what is promised.

A batch is a transaction of its own, beside the lane of what clients write: it must not wait for a thousand starts.
It leaves no mark. If its commit gets lost and it is repeated, permissions are reserved twice and used once.
"""

from __future__ import annotations

from collections.abc import Mapping

from perdure.core.limiting import turn
from perdure.core.permits import Answers, Batch, LimitState
from perdure.storage.limits import decode_state, encode_state
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.ways import Ways


class PostgresLimits:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def turn(self, batch: Batch, *, now: int) -> Answers:
        return await self._ways.beside(_turn, batch, now)

    async def all(self) -> Mapping[str, LimitState]:
        return await self._ways.read(_all)


async def _turn(db: Database, batch: Batch, now: int) -> Answers:
    names = batch.names()
    before = await _locked(db, names)
    if len(before) < len(names):  # new ones: only a row that is there can be locked
        await db.run("make_limits", names=[name for name in names if name not in before])
        before = await _locked(db, names)
    states = {name: decode_state(data) for name, data in before.items() if data}
    answers = turn(states, batch, now)
    after = {name: encode_state(state) for name, state in states.items()}
    changed = [name for name, data in after.items() if data != before[name]]
    if changed:
        await db.run("keep_limits", names=changed, data=[after[name] for name in changed])
    return answers


async def _locked(db: Database, names: list[str]) -> dict[str, bytes]:
    return {name: bytes(data) for name, data in await db.rows("lock_limits", names=names)}


async def _all(db: Database) -> Mapping[str, LimitState]:
    return {name: decode_state(data) for name, data in await db.rows("limits") if data}
