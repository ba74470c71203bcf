"""Updates and inquiries in a memory database. See storage/updates.py and storage/inquiries.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from perdure.core.bounds import INBOX_MAX
from perdure.storage.effects import UpdateState
from perdure.storage.inquiries import TAKE_MAX, NewInquiry, TakenInquiry
from perdure.storage.memory_database import MemoryDatabase
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
        if not db.deliver(run, data, now, patient=True, most=INBOX_MAX):
            if not run.ended:
                return Delivery.INBOX_FULL
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


class OpenInquiry(msgspec.Struct):
    """An inquiry with what became of it."""

    inquiry: NewInquiry
    asked_at: float
    taken_at: float | None = None
    answer: bytes | None = None


class MemoryInquiries:
    """Inquiries. Arguments as for MemoryUpdates."""

    def __init__(self, database: Callable[[], MemoryDatabase], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def ask(self, inquiry: NewInquiry, *, now: float) -> int:
        db = self._database()
        for id in [id for id, item in db.inquiries.items() if item.inquiry.expires_at < now]:
            del db.inquiries[id]
        db.last_inquiry += 1
        db.inquiries[db.last_inquiry] = OpenInquiry(inquiry, now)
        self._changed()
        return db.last_inquiry

    async def waiting(self, workflows: Sequence[str], *, now: float) -> bool:
        return any(_open(item, workflows, now) for item in self._database().inquiries.values())

    async def take(
        self, worker: int, workflows: Sequence[str], *, now: float, again: float
    ) -> list[TakenInquiry]:
        db = self._database()
        taken: list[TakenInquiry] = []
        for id, item in db.inquiries.items():
            waits = item.taken_at is not None and item.taken_at > now - again
            run = db.find_id(item.inquiry.run_id)
            other = run is not None and run.owner is not None and run.owner != worker
            if waits or not _open(item, workflows, now) or (other and item.asked_at > now - again):
                continue
            if len(taken) == TAKE_MAX:
                break
            item.taken_at = now
            taken.append(TakenInquiry(id, item.inquiry.run_id, item.inquiry.name, item.inquiry.input))
        if taken:
            self._changed()
        return taken

    async def answer(self, id: int, answer: bytes) -> None:
        item = self._database().inquiries.get(id)
        if item is not None and item.answer is None:
            item.answer = answer
            self._changed()

    async def answers(self, ids: Sequence[int]) -> list[bytes | None]:
        inquiries = self._database().inquiries
        return [inquiries[id].answer if id in inquiries else None for id in ids]

    async def forget(self, id: int) -> None:
        self._database().inquiries.pop(id, None)


def _open(item: OpenInquiry, workflows: Sequence[str], now: float) -> bool:
    inquiry = item.inquiry
    return item.answer is None and inquiry.workflow in workflows and inquiry.expires_at >= now
