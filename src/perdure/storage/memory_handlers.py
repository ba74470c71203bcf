"""Updates and questions in a memory database. See storage/updates.py and storage/questions.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from perdure.storage.effects import UpdateState
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.questions import TAKE_MAX, NewQuestion, Question
from perdure.storage.records import Delivery
from perdure.storage.updates import UpdateRow, renewable


class MemoryUpdates:
    """Updates.

    Args:
        database: the store's database, if that is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], MemoryDatabase], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def request(self, run_id: str, update: str, data: bytes, *, call: bytes, now: float) -> Delivery:
        db = self._database()
        row = self._row(db, run_id, update)
        if row is not None and not renewable(row.state, row.ended):
            return Delivery.REPEATED
        run = db.find_id(run_id)
        if run is None:
            return Delivery.UNKNOWN_RUN
        if not db.deliver(run, data, now, patient=True):
            return Delivery.REPEATED if row is not None and row.state.answered else Delivery.RUN_ENDED
        db.updates[run_id, update] = (run.run, UpdateState.REQUESTED, None, call)
        self._changed()
        return Delivery.DELIVERED

    async def look(self, keys: Sequence[tuple[str, str]]) -> list[UpdateRow | None]:
        db = self._database()
        return [self._row(db, run_id, update) for run_id, update in keys]

    def _row(self, db: MemoryDatabase, run_id: str, update: str) -> UpdateRow | None:
        found = db.updates.get((run_id, update))
        if found is None:
            return None
        run, state, answer, call = found
        return UpdateRow(run_id, update, state, answer, db.runs[run].ended, call)


class OpenQuestion(msgspec.Struct):
    """A question with what became of it."""

    question: NewQuestion
    asked_at: float
    taken_at: float | None = None
    answer: bytes | None = None


class MemoryQuestions:
    """Questions. Arguments as for MemoryUpdates."""

    def __init__(self, database: Callable[[], MemoryDatabase], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def ask(self, question: NewQuestion, *, now: float) -> int:
        db = self._database()
        for id in [id for id, item in db.questions.items() if item.question.expires_at < now]:
            del db.questions[id]
        db.last_question += 1
        db.questions[db.last_question] = OpenQuestion(question, now)
        self._changed()
        return db.last_question

    async def waiting(self, workflows: Sequence[str], *, now: float) -> bool:
        return any(_open(item, workflows, now) for item in self._database().questions.values())

    async def take(
        self, worker: int, workflows: Sequence[str], *, now: float, again: float
    ) -> list[Question]:
        db = self._database()
        taken: list[Question] = []
        for id, item in db.questions.items():
            waits = item.taken_at is not None and item.taken_at > now - again
            run = db.find_id(item.question.run_id)
            other = run is not None and run.owner is not None and run.owner != worker
            if waits or not _open(item, workflows, now) or (other and item.asked_at > now - again):
                continue
            if len(taken) == TAKE_MAX:
                break
            item.taken_at = now
            taken.append(Question(id, item.question.run_id, item.question.name, item.question.input))
        if taken:
            self._changed()
        return taken

    async def answer(self, id: int, answer: bytes) -> None:
        item = self._database().questions.get(id)
        if item is not None and item.answer is None:
            item.answer = answer
            self._changed()

    async def answers(self, ids: Sequence[int]) -> list[bytes | None]:
        questions = self._database().questions
        return [questions[id].answer if id in questions else None for id in ids]

    async def forget(self, id: int) -> None:
        self._database().questions.pop(id, None)


def _open(item: OpenQuestion, workflows: Sequence[str], now: float) -> bool:
    question = item.question
    return item.answer is None and question.workflow in workflows and question.expires_at >= now
