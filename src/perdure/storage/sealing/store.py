"""SealedStore: the verbs of a store, with everything that holds payloads sealed on its way in, opened on its way out.

Each verb is written down here, in parts.py or in passing.py, those that pass nothing confidential, too: a verb that
nobody has thought about doesn't exist on a sealed store, and a test compares.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from weakref import WeakValueDictionary

import msgspec

from perdure.codec.sealing.chain import CannotOpen, Codec, DataKey
from perdure.errors import UndecodableError
from perdure.storage.budgets import BudgetStore
from perdure.storage.chain import Damage
from perdure.storage.changes import OnChange
from perdure.storage.disk import Disk
from perdure.storage.effects import DeliverMessage
from perdure.storage.entities import Entities
from perdure.storage.keys import KeyStore
from perdure.storage.ledger import LedgerStore
from perdure.storage.limits import LimitStore
from perdure.storage.moving import Moving
from perdure.storage.namespaces import Namespaces
from perdure.storage.passing import PassesWorkersOn
from perdure.storage.protocol import Store
from perdure.storage.queues import QueueStore
from perdure.storage.quotas import QuotaStore
from perdure.storage.records import (
    Append,
    Appended,
    Claimed,
    Created,
    Delivery,
    History,
    Mail,
    MailKind,
    NewRun,
    RunFilter,
    RunRow,
    Stale,
)
from perdure.storage.resealing import Resealing
from perdure.storage.retention import Retaining
from perdure.storage.sealing import parts
from perdure.storage.sealing.appends import Appends
from perdure.storage.sealing.checkpoints import SealedCheckpoints
from perdure.storage.sealing.histories import blobs, opened
from perdure.storage.sealing.index import find_index, shown
from perdure.storage.sealing.subjects import Subjects
from perdure.storage.sealing.survey import SealedSurvey
from perdure.storage.sealing.vault import Vault, closing

#: So many runs' ids are remembered by their keys.
_NAMES_MAX = 20_000


class SealedStore(PassesWorkersOn):
    """A store that keeps what is sealed.

    Args:
        below: where it is kept.
        codecs: what seals it, in the order in which they are applied.
        namespace: to whom all of it is bound, if runs of others are kept there, too.
    """

    def __init__(self, below: Store, codecs: Sequence[Codec], *, namespace: str = "") -> None:
        self.below = below
        self.vault = Vault(codecs, namespace)
        self._appends = Appends(self.vault)
        self._names: OrderedDict[int, tuple[str, int]] = OrderedDict()
        self._order: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.subjects = Subjects(self.vault, below)
        self.keys: KeyStore = below.keys
        self.limits: LimitStore = below.limits
        self.quotas: QuotaStore = below.quotas
        self.ledger: LedgerStore = below.ledger
        self.budgets: BudgetStore = below.budgets
        self.entities: Entities = below.entities
        self.namespaces: Namespaces = below.namespaces
        self.queues: QueueStore = below.queues
        self.resealing: Resealing = below.resealing  # who rotates keys opens and seals by itself
        self.retention: Retaining = below.retention
        self.disk: Disk = below.disk
        self.moving: Moving = below.moving  # packages hold what is sealed, as it is
        self.callbacks = parts.SealedCallbacks(self)
        self.publications = parts.SealedPublications(self)
        self.schedules = parts.SealedSchedules(self)
        self.checkpoints = SealedCheckpoints(self)
        self.updates = parts.SealedUpdates(self)
        self.pauses = parts.SealedPauses(self)
        self.survey = SealedSurvey(self)
        self.unbegun = parts.SealedUnbegun(self)
        self.inquiries = parts.SealedInquiries(self)
        self.streams = parts.SealedStreams(self)
        self.attributes = parts.SealedAttributes(self)
        below.publications.sealer = parts.Distributing(self.vault)

    async def open(self, on_change: OnChange | None = None) -> None:
        await self.below.open(on_change)
        try:
            await find_index(self.vault, self.below.keys, now=0.0)
        except BaseException:
            await self.below.close()
            raise

    async def close(self) -> None:
        await self.below.close()
        self._appends.forget_all()

    # -- clients ------------------------------------------------------------------------------------

    async def create(self, runs: Sequence[NewRun]) -> list[Created]:
        keys = await self.subjects.of_new(runs)
        sealed = [self._appends.new_run(run, key) for run, key in zip(runs, keys, strict=True)]
        answers: list[Created] = []
        for run, key, made in zip(runs, keys, await self.below.create(sealed), strict=True):
            if made.new and made.row.owner is not None:
                self._appends.follow(made.row, key, asked=True)
            row = self.shown(made.row)
            if made.row.fingerprint == run.fingerprint:  # it was started before anything was sealed here
                row = msgspec.structs.replace(row, fingerprint=run.fingerprint)
            answers.append(msgspec.structs.replace(made, row=row))
        return answers

    async def send(
        self,
        id: str,
        data: bytes,
        *,
        now: float,
        kind: MailKind = MailKind.CONTROL,
        key: str | None = None,
    ) -> Delivery:
        return await self.below.send(id, await self.mail_for(id, data), now=now, kind=kind, key=key)

    async def terminate(self, id: str, event: bytes, *, now: float) -> Delivery:
        sealed = self.vault.final(event, id, await self.subjects.at_the_end(id))
        return await self.below.terminate(id, sealed, now=now)

    async def get(self, ids: Sequence[str]) -> list[RunRow | None]:
        return [None if row is None else self.shown(row) for row in await self.below.get(ids)]

    async def generation(self, id: str, number: int) -> RunRow | None:
        row = await self.below.generation(id, number)
        return None if row is None else self.shown(row)

    async def inbox(self, run: int) -> list[Mail]:
        return await self.opened_mail(await self.below.inbox(run))

    async def find(self, filter: RunFilter) -> list[RunRow]:
        return [self.shown(row) for row in await self.below.find(filter)]

    async def events(self, run: int, *, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        found = await self.below.events(run, after=after, limit=limit)
        if not found:
            return found
        ((id, generation),) = await self.named([run])
        await self.subjects.fetch(data for _, data in found)
        opened: list[tuple[int, bytes]] = []
        for seq, data in found:
            try:
                opened.append((seq, self.vault.open_event(data, id, generation, seq)))
            except (CannotOpen, UndecodableError) as error:
                opened.append((seq, closing(data, error)))
        return opened

    async def last_event(self, runs: Sequence[int]) -> list[bytes | Damage]:
        found = await self.below.last_event(runs)
        await self.subjects.fetch(data for data in found if isinstance(data, bytes))
        opened: list[bytes | Damage] = []
        for (id, generation), data in zip(await self.named(runs), found, strict=True):
            if isinstance(data, Damage):
                opened.append(data)
                continue
            try:
                opened.append(self.vault.open_event(data, id, generation))
            except (CannotOpen, UndecodableError) as error:
                opened.append(closing(data, error))
        return opened

    # -- drivers ------------------------------------------------------------------------------------

    async def claim(
        self,
        worker: int,
        *,
        workflows: Sequence[str],
        queues: Sequence[str],
        now: float,
        limit: int,
        suspected: float | None = None,
    ) -> Claimed:
        claimed = await self.below.claim(
            worker, workflows=workflows, queues=queues, now=now, limit=limit, suspected=suspected
        )
        if not claimed.rows:
            return claimed
        for row in claimed.rows:
            self._appends.follow(row)
        return msgspec.structs.replace(claimed, rows=[self.shown(row) for row in claimed.rows])

    async def load(self, runs: Sequence[int]) -> list[History]:
        found = await self.below.load(runs)
        names = await self.named(runs)
        await self.subjects.fetch(data for history in found for data in blobs(history))
        for history in found:
            driven = self._appends.of(history.run)
            if history.events and driven is not None and not driven.asked:
                driven.key, driven.asked = self.subjects.at_hand(history.events[0]), True
        return [opened(self.vault, history, *name) for history, name in zip(found, names, strict=True)]

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        appends = self._appends
        for append in batch:
            if not appends.ready(append) or (append.effects and _sends(append)):
                return asyncio.ensure_future(self._append_later(batch))
        return self._append(batch, {})

    def _append(
        self, batch: Sequence[Append], keys: Mapping[str, DataKey | None]
    ) -> asyncio.Future[list[Appended | Stale]]:
        appends = self._appends
        runs = {append.run for append in batch}
        if len(runs) < len(batch):  # one goes on from what comes of another
            return asyncio.ensure_future(self._append_singly(batch))
        sealed = [
            appends.sealed(append, keys) if append.run in appends else _refused(append) for append in batch
        ]
        future = self.below.append(sealed)

        def note(done: asyncio.Future[list[Appended | Stale]]) -> None:
            if done.cancelled() or done.exception() is not None:
                return
            for append, answer in zip(sealed, done.result(), strict=True):
                appends.done(append, answer)

        if future.done():  # whoever awaits it goes on at once, before any callback
            note(future)
        else:
            future.add_done_callback(note)
        return future

    async def _append_later(self, batch: Sequence[Append]) -> list[Appended | Stale]:
        """Find out first what sealing takes."""
        unknown = [append.run for append in batch if not self._appends.ready(append)]
        for row in await self.below.survey.rows(sorted(set(unknown))):
            first = await self.below.events(row.run, limit=1)
            await self.subjects.fetch(data for _, data in first)
            key = self.subjects.at_hand(first[0][1]) if first else None
            self._appends.follow(row, key, asked=True)
        told = {
            effect.to for append in batch for effect in append.effects if isinstance(effect, DeliverMessage)
        }
        keys = {id: await self.subjects.of(id) for id in told}
        return await self._append(batch, keys)

    async def _append_singly(self, batch: Sequence[Append]) -> list[Appended | Stale]:
        return [answer for append in batch for answer in await self._append_later([append])]

    async def mail(self, worker: int) -> list[Mail]:
        return await self.opened_mail(await self.below.mail(worker))

    # -- for the parts ------------------------------------------------------------------------------

    def shown(self, row: RunRow) -> RunRow:
        """A row as its user knows it."""
        self._name(row)
        fingerprint = shown(self.vault, row.fingerprint)
        reason = self.vault.open_reason(row.reason, row.id)
        return msgspec.structs.replace(row, fingerprint=fingerprint, reason=reason)

    async def mail_for(self, id: str, data: bytes) -> bytes:
        """An event, sealed for the inbox of a run. What is sealed for one run keeps its order."""
        lock = self._order.get(id)
        if lock is None:
            lock = self._order[id] = asyncio.Lock()
        async with lock:  # or what is sent later could overtake what waits to know the key
            key = await self.subjects.of(id)
        return self.vault.mail(data, id, key)

    async def opened_mail(self, items: Sequence[Mail]) -> list[Mail]:
        """Items of inboxes as they were sent; those that can't be opened tell so when they are decoded."""
        if not items:
            return []
        names = await self.named([item.run for item in items])
        await self.subjects.fetch(item.data for item in items)
        return [
            msgspec.structs.replace(item, data=self.vault.mail_or_closed(item.data, id))
            for item, (id, _) in zip(items, names, strict=True)
        ]

    async def named(self, runs: Sequence[int]) -> list[tuple[str, int]]:
        """(id, generation) of each of these runs; ("", 0) of one that isn't there."""
        names = self._names
        missing = [run for run in dict.fromkeys(runs) if run not in names and self._appends.of(run) is None]
        if missing:
            for row in await self.below.survey.rows(missing):
                self._name(row)
        return [self._name_of(run) for run in runs]

    def _name_of(self, run: int) -> tuple[str, int]:
        driven = self._appends.of(run)
        if driven is not None:
            return driven.id, driven.generation
        return self._names.get(run, ("", 0))

    def _name(self, row: RunRow) -> None:
        self._names[row.run] = row.id, row.generation
        if len(self._names) > _NAMES_MAX:
            self._names.popitem(last=False)


def _sends(append: Append) -> bool:
    return any(isinstance(effect, DeliverMessage) for effect in append.effects)


def _refused(append: Append) -> Append:
    """For a run that isn't there: nothing of it goes on, and the answer is that it is stale."""
    return Append(append.run, append.expected, -1, append.attempt, (), append.now, ())
