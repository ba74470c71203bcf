"""Inquiries in a SQLite file. See storage/inquiries.py for what is promised."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.inquiries import TAKE_MAX, NewInquiry, TakenInquiry
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.rows import as_json
from perdure.storage.sqlite.updates import Threads


class SqliteInquiries:
    """The verbs, handed to the store's threads."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def ask(self, inquiry: NewInquiry, *, now: float) -> int:
        number: int = await self._threads._write(_ask, inquiry, now)
        return number

    async def waiting(self, workflows: Sequence[str], *, now: float) -> bool:
        found: bool = await self._threads._read(_waiting, workflows, now)
        return found

    async def take(
        self, worker: int, workflows: Sequence[str], *, now: float, again: float
    ) -> list[TakenInquiry]:
        taken: list[TakenInquiry] = await self._threads._write(_take, worker, workflows, now, again)
        return taken

    async def answer(self, id: int, answer: bytes) -> None:
        await self._threads._write(_answer, id, answer)

    async def answers(self, ids: Sequence[int]) -> list[bytes | None]:
        found: list[bytes | None] = await self._threads._read(_answers, ids)
        return found

    async def forget(self, id: int) -> None:
        await self._threads._write(_forget, id)


def _ask(db: Database, inquiry: NewInquiry, now: float) -> int:
    db.run("forget_expired_inquiries", {"now": now})
    number: int = db.value(
        "put_inquiry",
        {
            "run_id": inquiry.run_id,
            "workflow": inquiry.workflow,
            "name": inquiry.name,
            "input": inquiry.input,
            "now": now,
            "expires_at": inquiry.expires_at,
        },
    )
    return number


def _waiting(db: Database, workflows: Sequence[str], now: float) -> bool:
    return bool(db.value("inquiries_wait", {"workflows": as_json(workflows), "now": now}))


def _take(
    db: Database, worker: int, workflows: Sequence[str], now: float, again: float
) -> list[TakenInquiry]:
    bindings: dict[str, Value] = {
        "worker": worker,
        "workflows": as_json(workflows),
        "now": now,
        "again": again,
        "limit": TAKE_MAX,
    }
    return sorted(
        (TakenInquiry(*row) for row in db.rows("take_inquiries", bindings)), key=lambda item: item.id
    )


def _answer(db: Database, id: int, answer: bytes) -> None:
    db.run("answer_inquiry", {"id": id, "answer": answer})


def _answers(db: Database, ids: Sequence[int]) -> list[bytes | None]:
    found: dict[int, bytes | None] = dict(db.rows("inquiry_answers", {"ids": as_json(ids)}))
    return [found.get(id) for id in ids]


def _forget(db: Database, id: int) -> None:
    db.run("forget_inquiry", {"id": id})
