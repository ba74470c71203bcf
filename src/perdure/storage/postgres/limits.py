"""The rate limits of a PostgreSQL store. See storage/limits.py for what is promised.

A batch is a transaction of its own, beside the lane of what clients write: it must not wait for a thousand starts.
A worker that has a limit to itself needs one statement for it: it computes from the row as it has left it, and writes
the new one if it is still that. If others use the limit as well, the row is locked first.

If a commit gets lost and is repeated, permissions are reserved twice and used once, which does no harm. To give
something back twice would; such a batch leaves a mark.
"""

from __future__ import annotations

from collections.abc import Mapping

from perdure.core.limiting import turn
from perdure.core.permits import Answers, Batch, LimitState, Settlement
from perdure.storage.limits import decode_state, encode_state
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.ways import Ways

#: Once somebody else was there first, the next turns lock at once.
SHARED_FOR = 20


class PostgresLimits:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._left: dict[str, bytes] = {}  # rows as this store has left them
        self._shared = 0

    async def turn(self, batch: Batch, *, now: int) -> Answers:
        gives_back = any(isinstance(change, Settlement) for change in batch.changes)
        names = batch.names()
        if len(names) == 1 and not gives_back and not self._shared and (left := self._left.get(names[0])):
            swapped = await self._swap(names[0], left, batch, now)
            if swapped is not None:
                return swapped
            self._shared = SHARED_FOR
        self._shared = max(0, self._shared - 1)
        locked, self._left = await self._ways.beside(_turn, batch, now, marked=gives_back)
        return locked

    async def _swap(self, name: str, left: bytes, batch: Batch, now: int) -> Answers | None:
        """The quick way. None if somebody else has used the limit since."""
        states = {name: decode_state(left)}
        answers = turn(states, batch, now)
        after = encode_state(states[name])
        if not await self._ways.alone("swap_limit", {"name": name, "before": left, "after": after}):
            return None
        self._left[name] = after
        return answers

    async def all(self) -> Mapping[str, LimitState]:
        return await self._ways.read(_all)


async def _turn(db: Database, batch: Batch, now: int) -> tuple[Answers, dict[str, bytes]]:
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
    return answers, after


async def _locked(db: Database, names: list[str]) -> dict[str, bytes]:
    return {name: bytes(data) for name, data in await db.rows("lock_limits", names=names)}


async def _all(db: Database) -> Mapping[str, LimitState]:
    return {name: decode_state(data) for name, data in await db.rows("limits") if data}
