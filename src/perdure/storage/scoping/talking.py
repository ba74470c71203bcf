"""What is said to the runs of one namespace, and what they say: callbacks, updates, queries, streams, attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from perdure.core.attributes import Attribute
from perdure.core.events import Failure
from perdure.core.namespaces import short
from perdure.storage.attributes import Attributes
from perdure.storage.callbacks import (
    Answerer,
    CallbackAnswer,
    CallbackRow,
    CallbackStore,
    CallbackVerdict,
    QuestionFilter,
)
from perdure.storage.inquiries import Inquiries, NewInquiry, TakenInquiry
from perdure.storage.pauses import Pauses
from perdure.storage.records import Delivery
from perdure.storage.scoping.mine import Mine, of_workers
from perdure.storage.streams import StepItems, StreamPage, Streams
from perdure.storage.updates import UpdateRow, Updates


class ScopedCallbacks:
    """See CallbackStore. A token leads to a run of any namespace: it is looked up before it is used."""

    def __init__(self, inner: CallbackStore, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def end(
        self,
        token_hash: bytes,
        *,
        result: bytes | None = None,
        failure: Failure | None = None,
        answerer: Answerer | None = None,
        now: float,
    ) -> CallbackAnswer:
        if await self.get(token_hash) is None:
            return CallbackAnswer(CallbackVerdict.UNKNOWN)
        return _outside(
            await self._inner.end(token_hash, result=result, failure=failure, answerer=answerer, now=now)
        )

    async def heartbeat(self, token_hash: bytes, *, now: float) -> CallbackAnswer:
        if await self.get(token_hash) is None:
            return CallbackAnswer(CallbackVerdict.UNKNOWN)
        return _outside(await self._inner.heartbeat(token_hash, now=now))

    async def time_out(self, token_hash: bytes, *, now: float) -> float | None:
        if await self.get(token_hash) is None:
            return None
        return await self._inner.time_out(token_hash, now=now)

    async def get(self, token_hash: bytes) -> CallbackRow | None:
        row = await self._inner.get(token_hash)
        return None if row is None or not row.run_id.startswith(self._prefix) else _bare(row)

    async def questions(self, filter: QuestionFilter) -> Sequence[tuple[bytes, CallbackRow]]:
        run = None if filter.run_id is None else self._prefix + filter.run_id
        inside = msgspec.structs.replace(filter, run_id=run, within=self._prefix)
        return [(token_hash, _bare(row)) for token_hash, row in await self._inner.questions(inside)]


def _outside(answer: CallbackAnswer) -> CallbackAnswer:
    return answer if answer.row is None else CallbackAnswer(answer.verdict, _bare(answer.row))


def _bare(row: CallbackRow) -> CallbackRow:
    return msgspec.structs.replace(row, run_id=short(row.run_id))


class ScopedUpdates:
    """See Updates."""

    def __init__(self, inner: Updates, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def request(self, run_id: str, update: str, data: bytes, *, call: bytes, now: float) -> Delivery:
        return await self._inner.request(self._prefix + run_id, update, data, call=call, now=now)

    async def look(self, keys: Sequence[tuple[str, str]]) -> list[UpdateRow | None]:
        rows = await self._inner.look([(self._prefix + run_id, update) for run_id, update in keys])
        return [
            None if row is None else msgspec.structs.replace(row, run_id=short(row.run_id)) for row in rows
        ]


class ScopedPauses:
    """See Pauses."""

    def __init__(self, inner: Pauses, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def pause(self, id: str, event: bytes, *, reason: str | None, now: float) -> Delivery:
        return await self._inner.pause(self._prefix + id, event, reason=reason, now=now)

    async def resume(self, id: str, event: bytes, *, now: float) -> Delivery:
        return await self._inner.resume(self._prefix + id, event, now=now)


class ScopedInquiries:
    """See Inquiries. Their ids count up for everybody: only those that were put here can be heard of."""

    def __init__(self, inner: Inquiries, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix
        self._asked: set[int] = set()

    async def ask(self, inquiry: NewInquiry, *, now: float) -> int:
        inside = msgspec.structs.replace(inquiry, run_id=self._prefix + inquiry.run_id)
        number = await self._inner.ask(inside, now=now)
        self._asked.add(number)
        return number

    async def waiting(self, workflows: Sequence[str], *, now: float) -> bool:
        of_workers()

    async def take(
        self, worker: int, workflows: Sequence[str], *, now: float, again: float
    ) -> list[TakenInquiry]:
        of_workers()

    async def answer(self, id: int, answer: bytes) -> None:
        of_workers()

    async def answers(self, ids: Sequence[int]) -> list[bytes | None]:
        mine = [id for id in ids if id in self._asked]
        found = dict(zip(mine, await self._inner.answers(mine), strict=True)) if mine else {}
        return [found.get(id) for id in ids]

    async def forget(self, id: int) -> None:
        if id in self._asked:
            await self._inner.forget(id)
            self._asked.discard(id)


class ScopedStreams:
    """See Streams."""

    def __init__(self, inner: Streams, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix

    async def emit(self, batch: Sequence[StepItems]) -> list[bool]:
        of_workers()

    async def unsettled(self, runs: Sequence[int]) -> list[tuple[int, str]]:
        of_workers()

    async def supersede(
        self, run: int, epoch: int, steps: Sequence[str], *, now: float, of: int | None = None
    ) -> bool:
        of_workers()

    async def read(self, id: str, stream: str, *, after: int, limit: int) -> StreamPage | None:
        return await self._inner.read(self._prefix + id, stream, after=after, limit=limit)

    async def names(self, id: str) -> list[tuple[str, int]]:
        return await self._inner.names(self._prefix + id)


class ScopedAttributes:
    """See Attributes."""

    def __init__(self, inner: Attributes, prefix: str, mine: Mine) -> None:
        self._inner = inner
        self._prefix = prefix
        self._mine = mine

    async def set(self, id: str, attributes: Sequence[Attribute], event: bytes, *, now: float) -> Delivery:
        return await self._inner.set(self._prefix + id, attributes, event, now=now)

    async def of(self, runs: Sequence[int]) -> Mapping[int, Sequence[Attribute]]:
        mine = await self._mine.only(runs)
        return await self._inner.of(mine) if mine else {}
