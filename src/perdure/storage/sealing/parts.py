"""The verbs of a sealed store's parts. What isn't sealed goes through as it is, but each verb is written down."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import msgspec

from perdure.codec.sealing.chain import CannotOpen
from perdure.core import events as ev
from perdure.core.attributes import Attribute
from perdure.errors import SealedError, UndecodableError
from perdure.storage.callbacks import (
    Answerer,
    CallbackAnswer,
    CallbackRow,
    CallbackVerdict,
    QuestionFilter,
    ended,
)
from perdure.storage.inquiries import NewInquiry, TakenInquiry
from perdure.storage.publications import (
    Distributed,
    Gathered,
    Gathering,
    Pending,
    Publication,
    Sealer,
    Subscription,
)
from perdure.storage.records import Delivery, Mail, NewRun
from perdure.storage.schedules import Due, ScheduleRow
from perdure.storage.sealing.appends import Appends, published
from perdure.storage.sealing.around import Part
from perdure.storage.sealing.index import hidden, shown
from perdure.storage.sealing.vault import Vault, closing
from perdure.storage.streams import StepItems, StreamPage, StreamRow
from perdure.storage.updates import UpdateRow

logger = logging.getLogger("perdure.sealing")

_change = msgspec.structs.replace


class SealedCallbacks(Part):
    """See CallbackStore."""

    async def end(
        self,
        token_hash: bytes,
        *,
        result: bytes | None = None,
        failure: ev.Failure | None = None,
        answerer: Answerer | None = None,
        now: float,
    ) -> CallbackAnswer:
        below = self._store.below.callbacks
        row = await below.get(token_hash)
        if row is None:
            return CallbackAnswer(CallbackVerdict.UNKNOWN)
        # made here, as the store below has no key; whether it is put anywhere is decided there
        event = await self._store.mail_for(row.run_id, ended(row, result, failure, answerer, now))
        told = None if failure is None else ev.Failure(type="", message="")
        answer = await below.end(token_hash, result=event, failure=told, answerer=answerer, now=now)
        return await self._answer(answer, token_hash)

    async def heartbeat(self, token_hash: bytes, *, now: float) -> CallbackAnswer:
        answer = await self._store.below.callbacks.heartbeat(token_hash, now=now)
        return await self._answer(answer, token_hash)

    async def time_out(self, token_hash: bytes, *, now: float) -> float | None:
        return await self._store.below.callbacks.time_out(token_hash, now=now)

    async def get(self, token_hash: bytes) -> CallbackRow | None:
        row = await self._store.below.callbacks.get(token_hash)
        return None if row is None else await self._opened(row, token_hash)

    async def questions(self, filter: QuestionFilter) -> Sequence[tuple[bytes, CallbackRow]]:
        found = await self._store.below.callbacks.questions(filter)
        opened: list[tuple[bytes, CallbackRow]] = []
        for token_hash, row in found:
            opened.append((token_hash, await self._opened(row, token_hash)))
        return opened

    async def _answer(self, answer: CallbackAnswer, token_hash: bytes) -> CallbackAnswer:
        if answer.row is None:
            return answer
        return CallbackAnswer(answer.verdict, await self._opened(answer.row, token_hash))

    async def _opened(self, row: CallbackRow, token_hash: bytes) -> CallbackRow:
        if row.question is None and row.answer is None:
            return row
        await self._store.subjects.fetch([row.question, row.answer])
        if row.question is not None:
            row.question = self._question(row.question, row, token_hash)
        if row.answer is not None:
            row.answer = self._vault.mail_or_closed(row.answer, row.run_id)
        return row

    def _question(self, data: bytes, row: CallbackRow, token_hash: bytes) -> bytes:
        try:
            return self._vault.open_value(data, "question", row.run_id, token_hash.hex())
        except (CannotOpen, UndecodableError):
            return data  # whoever unpacks it shows that it is sealed


class Distributing(Sealer):
    """What a distribution needs within the store below."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._appends = Appends(vault)

    def publication(self, publication: Publication) -> Publication | None:
        try:
            payload = self._vault.open_value(publication.payload, "publication", publication.id)
        except (CannotOpen, UndecodableError):
            return None
        return _change(publication, payload=payload)

    def gathered(self, gathering: Gathering, item: Gathered) -> Gathered:
        place = gathering.workflow, gathering.group, item.number
        return _change(item, payload=self._vault.value(item.payload, "gathered", *place))

    def content(self, gathering: Gathering, item: Gathered) -> Gathered | None:
        place = gathering.workflow, gathering.group, item.number
        try:
            return _change(item, payload=self._vault.open_value(item.payload, "gathered", *place))
        except (CannotOpen, UndecodableError):
            return None

    def mail(self, id: str, event: bytes) -> bytes:
        return self._vault.mail(event, id)

    def run(self, run: NewRun) -> NewRun:
        return self._appends.new_run(run, None)


class SealedPublications(Part):
    """See PublicationStore."""

    sealer: Sealer | None = None  # that of the store below counts

    async def publish(self, publications: Sequence[Publication]) -> list[bool]:
        sealed = [published(self._vault, publication) for publication in publications]
        return await self._store.below.publications.publish(sealed)

    async def subscribe(self, subscriptions: Sequence[Subscription], *, now: float) -> None:
        await self._store.below.publications.subscribe(subscriptions, now=now)

    async def unsubscribe(self, workflow: str) -> bool:
        return await self._store.below.publications.unsubscribe(workflow)

    async def subscriptions(self) -> list[Subscription]:
        return await self._store.below.publications.subscriptions()

    async def waiting(self) -> list[tuple[str, str, int]]:
        return await self._store.below.publications.waiting()

    async def pending(self, *, now: float) -> Pending:
        return await self._store.below.publications.pending(now=now)

    async def distribute(self, *, now: float) -> Distributed:
        return await self._store.below.publications.distribute(now=now)

    async def find(
        self,
        *,
        name: str | None = None,
        within: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Publication]:
        publications = self._store.below.publications
        found = await publications.find(name=name, within=within, before=before, limit=limit)
        opened: list[Publication] = []
        for one in found:
            try:
                payload = self._vault.open_value(one.payload, "publication", one.id)
            except (CannotOpen, UndecodableError) as error:
                payload = closing(one.payload, error)  # whoever looks is told
            opened.append(_change(one, payload=payload))
        return opened

    async def forget(self, *, before: int, limit: int) -> int:
        return await self._store.below.publications.forget(before=before, limit=limit)


class SealedSchedules(Part):
    """See ScheduleStore."""

    async def create(self, row: ScheduleRow) -> ScheduleRow | None:
        there = await self._store.below.schedules.create(self._sealed(row))
        return None if there is None else self._opened(there)

    async def get(self, name: str) -> ScheduleRow | None:
        row = await self._store.below.schedules.get(name)
        return None if row is None else self._opened(row)

    async def all(self) -> list[ScheduleRow]:
        return [self._opened(row) for row in await self._store.below.schedules.all()]

    async def change(
        self,
        row: ScheduleRow,
        *,
        runs: Sequence[NewRun] = (),
        mail: Sequence[tuple[str, bytes]] = (),
        now: float,
    ) -> bool:
        store = self._store
        keys = await store.subjects.of_new(runs)
        appends = Appends(self._vault)
        sealed = [appends.new_run(run, key) for run, key in zip(runs, keys, strict=True)]
        letters = [(id, await store.mail_for(id, data)) for id, data in mail]
        return await store.below.schedules.change(self._sealed(row), runs=sealed, mail=letters, now=now)

    async def delete(self, name: str) -> bool:
        return await self._store.below.schedules.delete(name)

    async def due(self, *, now: float, limit: int) -> Due:
        due = await self._store.below.schedules.due(now=now, limit=limit)
        opened: list[ScheduleRow] = []
        for row in due.rows:
            try:
                opened.append(self._opened(row))
            except SealedError as error:  # the others' slots mustn't wait for its key
                logger.error("%s", error)
        return Due(opened, due.next_at)

    def _sealed(self, row: ScheduleRow) -> ScheduleRow:
        return _change(row, data=self._vault.value(row.data, "schedule", row.name))

    def _opened(self, row: ScheduleRow) -> ScheduleRow:
        return _change(row, data=self._vault.needed(row.data, "schedule", row.name))


class SealedUpdates(Part):
    """See Updates."""

    async def request(self, run_id: str, update: str, data: bytes, *, call: bytes, now: float) -> Delivery:
        sealed = await self._store.mail_for(run_id, data)
        digest = hidden(self._vault, call)
        return await self._store.below.updates.request(run_id, update, sealed, call=digest, now=now)

    async def look(self, keys: Sequence[tuple[str, str]]) -> list[UpdateRow | None]:
        found = await self._store.below.updates.look(keys)
        await self._store.subjects.fetch(row.answer for row in found if row is not None)
        return [None if row is None else self._opened(row) for row in found]

    def _opened(self, row: UpdateRow) -> UpdateRow:
        answer = row.answer
        if answer is not None:
            answer = self._vault.needed(answer, "update", row.run_id, row.id)
        return _change(row, answer=answer, call=shown(self._vault, row.call))


class SealedPauses(Part):
    """See Pauses."""

    async def pause(self, id: str, event: bytes, *, reason: str | None, now: float) -> Delivery:
        store = self._store
        why = self._vault.reason(reason, id, await store.subjects.of(id))
        return await store.below.pauses.pause(id, await store.mail_for(id, event), reason=why, now=now)

    async def resume(self, id: str, event: bytes, *, now: float) -> Delivery:
        return await self._store.below.pauses.resume(id, await self._store.mail_for(id, event), now=now)


class SealedUnbegun(Part):
    """See Unbegun."""

    async def mail(self, *, limit: int) -> Sequence[Mail]:
        return await self._store.opened_mail(await self._store.below.unbegun.mail(limit=limit))

    async def missed(self, queues: Sequence[str], prefix: str, *, limit: int) -> Sequence[tuple[str, str]]:
        return await self._store.below.unbegun.missed(queues, prefix, limit=limit)

    async def end(self, run: int, event: bytes, *, status: str, reason: str | None, now: float) -> bool:
        store = self._store
        ((id, _),) = await store.named([run])
        key = await store.subjects.at_the_end(id)
        sealed, why = self._vault.final(event, id, key), self._vault.reason(reason, id, key)
        return await store.below.unbegun.end(run, sealed, status=status, reason=why, now=now)


class SealedAttributes(Part):
    """See store.Attributes. What runs are found by isn't sealed."""

    async def set(self, id: str, attributes: Sequence[Attribute], event: bytes, *, now: float) -> Delivery:
        sealed = await self._store.mail_for(id, event)
        return await self._store.below.attributes.set(id, attributes, sealed, now=now)

    async def of(self, runs: Sequence[int]) -> Mapping[int, Sequence[Attribute]]:
        return await self._store.below.attributes.of(runs)


class SealedStreams(Part):
    """See Streams."""

    async def emit(self, batch: Sequence[StepItems]) -> list[bool]:
        store = self._store
        names = await store.named([part.run if part.of is None else part.of for part in batch])
        sealed: list[StepItems] = []
        for part, (id, _) in zip(batch, names, strict=True):
            key = await store.subjects.of(id)
            items = [self._vault.value(item, "stream", id, part.stream, key=key) for item in part.items]
            sealed.append(_change(part, items=items))
        return await store.below.streams.emit(sealed)

    async def unsettled(self, runs: Sequence[int]) -> list[tuple[int, str]]:
        return await self._store.below.streams.unsettled(runs)

    async def supersede(
        self, run: int, epoch: int, steps: Sequence[str], *, now: float, of: int | None = None
    ) -> bool:
        return await self._store.below.streams.supersede(run, epoch, steps, now=now, of=of)

    async def read(self, id: str, stream: str, *, after: int, limit: int) -> StreamPage | None:
        page = await self._store.below.streams.read(id, stream, after=after, limit=limit)
        if page is None:
            return None
        await self._store.subjects.fetch(row.data for row in page.rows)
        return StreamPage([self._opened(row, id, stream) for row in page.rows], page.ended)

    def _opened(self, row: StreamRow, id: str, stream: str) -> StreamRow:
        if row.data is None:
            return row
        return _change(row, data=self._vault.needed(row.data, "stream", id, stream))

    async def names(self, id: str) -> list[tuple[str, int]]:
        return await self._store.below.streams.names(id)


class SealedInquiries(Part):
    """See Inquiries."""

    async def ask(self, inquiry: NewInquiry, *, now: float) -> int:
        sealed = self._vault.value(inquiry.input, "inquiry", inquiry.run_id, inquiry.name)
        return await self._store.below.inquiries.ask(_change(inquiry, input=sealed), now=now)

    async def waiting(self, workflows: Sequence[str], *, now: float) -> bool:
        return await self._store.below.inquiries.waiting(workflows, now=now)

    async def take(
        self, worker: int, workflows: Sequence[str], *, now: float, again: float
    ) -> list[TakenInquiry]:
        taken = await self._store.below.inquiries.take(worker, workflows, now=now, again=again)
        opened: list[TakenInquiry] = []
        for one in taken:
            try:
                input = self._vault.open_value(one.input, "inquiry", one.run_id, one.name)
            except (CannotOpen, UndecodableError):
                continue  # whoever has the key answers it, or its time passes
            opened.append(_change(one, input=input))
        return opened

    async def answer(self, id: int, answer: bytes) -> None:
        await self._store.below.inquiries.answer(id, self._vault.value(answer, "answer", id))

    async def answers(self, ids: Sequence[int]) -> list[bytes | None]:
        found = await self._store.below.inquiries.answers(ids)
        return [
            None if data is None else self._vault.needed(data, "answer", id)
            for id, data in zip(ids, found, strict=True)
        ]

    async def forget(self, id: int) -> None:
        await self._store.below.inquiries.forget(id)
