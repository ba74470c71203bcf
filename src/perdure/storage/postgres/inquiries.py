"""Inquiries in a PostgreSQL database. See storage/inquiries.py for what is promised."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.inquiries import TAKE_MAX, NewInquiry, TakenInquiry
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.rows import new_key
from perdure.storage.postgres.ways import Ways


class PostgresInquiries:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def ask(self, inquiry: NewInquiry, *, now: float) -> int:
        return await self._ways.write(_ask, inquiry, now)

    async def waiting(self, workflows: Sequence[str], *, now: float) -> bool:
        return await self._ways.read(_waiting, workflows, now) if workflows else False

    async def take(
        self, worker: int, workflows: Sequence[str], *, now: float, again: float
    ) -> list[TakenInquiry]:
        return await self._ways.write(_take, worker, workflows, now, again) if workflows else []

    async def answer(self, id: int, answer: bytes) -> None:
        await self._ways.write(_answer, id, answer)

    async def answers(self, ids: Sequence[int]) -> list[bytes | None]:
        return await self._ways.read(_answers, ids) if ids else []

    async def forget(self, id: int) -> None:
        await self._ways.write(_forget, id)


async def _ask(db: Database, inquiry: NewInquiry, now: float) -> int:
    await db.run("forget_expired_inquiries", now=now)
    id = new_key()
    await db.run(
        "put_inquiry",
        id=id,
        run_id=inquiry.run_id,
        workflow=inquiry.workflow,
        name=inquiry.name,
        input=inquiry.input,
        now=now,
        expires_at=inquiry.expires_at,
    )
    return id


async def _waiting(db: Database, workflows: Sequence[str], now: float) -> bool:
    return bool(await db.value("inquiries_wait", workflows=list(workflows), now=now))


async def _take(
    db: Database, worker: int, workflows: Sequence[str], now: float, again: float
) -> list[TakenInquiry]:
    rows = await db.rows(
        "take_inquiries", worker=worker, workflows=list(workflows), now=now, again=again, limit=TAKE_MAX
    )
    return sorted((TakenInquiry(*row) for row in rows), key=lambda item: item.id)


async def _answer(db: Database, id: int, answer: bytes) -> None:
    await db.run("answer_inquiry", id=id, answer=answer)


async def _answers(db: Database, ids: Sequence[int]) -> list[bytes | None]:
    found: dict[int, bytes | None] = dict(await db.rows("inquiry_answers", ids=list(ids)))
    return [found.get(id) for id in ids]


async def _forget(db: Database, id: int) -> None:
    await db.run("forget_inquiry", id=id)
