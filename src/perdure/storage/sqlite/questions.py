"""Questions in a SQLite file. See storage/questions.py for what is promised."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.questions import TAKE_MAX, NewQuestion, Question
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.rows import as_json
from perdure.storage.sqlite.updates import Threads


class SqliteQuestions:
    """The verbs, handed to the store's threads."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def ask(self, question: NewQuestion, *, now: float) -> int:
        number: int = await self._threads._write(_ask, question, now)
        return number

    async def waiting(self, workflows: Sequence[str], *, now: float) -> bool:
        found: bool = await self._threads._read(_waiting, workflows, now)
        return found

    async def take(
        self, worker: int, workflows: Sequence[str], *, now: float, again: float
    ) -> list[Question]:
        taken: list[Question] = await self._threads._write(_take, worker, workflows, now, again)
        return taken

    async def answer(self, id: int, answer: bytes) -> None:
        await self._threads._write(_answer, id, answer)

    async def answers(self, ids: Sequence[int]) -> list[bytes | None]:
        found: list[bytes | None] = await self._threads._read(_answers, ids)
        return found

    async def forget(self, id: int) -> None:
        await self._threads._write(_forget, id)


def _ask(db: Database, question: NewQuestion, now: float) -> int:
    db.run("forget_expired_questions", {"now": now})
    number: int = db.value(
        "ask",
        {
            "run_id": question.run_id,
            "workflow": question.workflow,
            "name": question.name,
            "input": question.input,
            "now": now,
            "expires_at": question.expires_at,
        },
    )
    return number


def _waiting(db: Database, workflows: Sequence[str], now: float) -> bool:
    return bool(db.value("questions_wait", {"workflows": as_json(workflows), "now": now}))


def _take(db: Database, worker: int, workflows: Sequence[str], now: float, again: float) -> list[Question]:
    bindings: dict[str, Value] = {
        "worker": worker,
        "workflows": as_json(workflows),
        "now": now,
        "again": again,
        "limit": TAKE_MAX,
    }
    return sorted((Question(*row) for row in db.rows("take_questions", bindings)), key=lambda item: item.id)


def _answer(db: Database, id: int, answer: bytes) -> None:
    db.run("answer_question", {"id": id, "answer": answer})


def _answers(db: Database, ids: Sequence[int]) -> list[bytes | None]:
    found: dict[int, bytes | None] = dict(db.rows("answers", {"ids": as_json(ids)}))
    return [found.get(id) for id in ids]


def _forget(db: Database, id: int) -> None:
    db.run("forget_question", {"id": id})
