"""Questions in a PostgreSQL database. See storage/questions.py for what is promised."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.postgres.database import Database
from perdure.storage.postgres.rows import new_key
from perdure.storage.postgres.ways import Ways
from perdure.storage.questions import TAKE_MAX, NewQuestion, Question


class PostgresQuestions:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def ask(self, question: NewQuestion, *, now: float) -> int:
        return await self._ways.write(_ask, question, now)

    async def waiting(self, workflows: Sequence[str], *, now: float) -> bool:
        return await self._ways.read(_waiting, workflows, now) if workflows else False

    async def take(
        self, worker: int, workflows: Sequence[str], *, now: float, again: float
    ) -> list[Question]:
        return await self._ways.write(_take, worker, workflows, now, again) if workflows else []

    async def answer(self, id: int, answer: bytes) -> None:
        await self._ways.write(_answer, id, answer)

    async def answers(self, ids: Sequence[int]) -> list[bytes | None]:
        return await self._ways.read(_answers, ids) if ids else []

    async def forget(self, id: int) -> None:
        await self._ways.write(_forget, id)


async def _ask(db: Database, question: NewQuestion, now: float) -> int:
    await db.run("forget_expired_questions", now=now)
    id = new_key()
    await db.run(
        "ask",
        id=id,
        run_id=question.run_id,
        workflow=question.workflow,
        name=question.name,
        input=question.input,
        now=now,
        expires_at=question.expires_at,
    )
    return id


async def _waiting(db: Database, workflows: Sequence[str], now: float) -> bool:
    return bool(await db.value("questions_wait", workflows=list(workflows), now=now))


async def _take(
    db: Database, worker: int, workflows: Sequence[str], now: float, again: float
) -> list[Question]:
    rows = await db.rows(
        "take_questions", worker=worker, workflows=list(workflows), now=now, again=again, limit=TAKE_MAX
    )
    return sorted((Question(*row) for row in rows), key=lambda item: item.id)


async def _answer(db: Database, id: int, answer: bytes) -> None:
    await db.run("answer_question", id=id, answer=answer)


async def _answers(db: Database, ids: Sequence[int]) -> list[bytes | None]:
    found: dict[int, bytes | None] = dict(await db.rows("answers", ids=list(ids)))
    return [found.get(id) for id in ids]


async def _forget(db: Database, id: int) -> None:
    await db.run("forget_question", id=id)
