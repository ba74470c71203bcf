"""The part of an engine that erases what belongs to a subject, or to one run, by destroying its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from perdure.api.connection import Connection
from perdure.api.sealing import checked_subject, sealed_in
from perdure.codec.events import encode_event
from perdure.core import events as ev
from perdure.core.status import Status
from perdure.errors import UnknownRunError, UsageError
from perdure.storage.keys import OF_RUN, KeyRow, name_of_subject
from perdure.storage.protocol import Store
from perdure.storage.records import Delivery, RunFilter

if TYPE_CHECKING:
    from perdure.storage.sealing import SealedStore

_PAGE = 500
_LIVE = tuple(status.value for status in Status if not status.final)


class Erased(msgspec.Struct, frozen=True):
    """What an erasure did.

    Attributes:
        keys: how many keys were destroyed; 0 if that was done before, or there is nothing of the subject.
        terminated: ids of the runs that were live, and were terminated.
    """

    keys: int
    terminated: tuple[str, ...]


class Erasing:
    """What an engine has for erasing."""

    if TYPE_CHECKING:

        def _open(self) -> Connection: ...

    async def erase(self, *, subject: str | None = None, run: str | None = None) -> Erased:
        """Destroy the key with which the data of a subject, or of one run, is encrypted. It can't be taken back.

        The histories stay, and `perdure check` finds them intact; but of their events there is only what is said in the
        clear: what happened when. Runs of the subject that are still live are terminated. Erasing again does no harm;
        a start for the subject after that gets a new key.

        Args:
            subject: what its runs were started with, see `start(subject=...)`.
            run: the id of a run that has a key of its own, see `Encryption(per_run=True)`; with its children.

        Raises:
            UsageError: not exactly one of these is given; the engine doesn't encrypt; or the run has no key of its own.
            UnknownRunError: no run has this id.

        Example:
            >>> await engine.erase(subject="customer-42")  # doctest: +SKIP
        """
        if (subject is None) == (run is None):
            msg = "erase() takes either subject= or run="
            raise UsageError(msg)
        connection = self._open()
        store, sealed = connection.store, sealed_in(connection.store)
        if sealed is None or sealed.vault.encryption is None:
            msg = "erase(): this engine doesn't encrypt, so there is no key to destroy: Engine(codec=...)"
            raise UsageError(msg)
        if subject is not None:
            rows = await store.keys.of(name_of_subject(checked_subject(subject)))
        else:
            assert run is not None
            rows = [await _key_of_run(store, sealed, run)]
        now = connection.clock()
        destroyed = [row.id for row in rows if await store.keys.erase(row.id, now=now)]
        for row in rows:
            sealed.vault.keep_key(row.id, None)
        whose = f"subject {subject!r}" if subject is not None else f"run {run!r}"
        reason = f"its data was erased: the key of {whose} was destroyed"
        ended = await _terminate(store, sealed, {row.id for row in rows}, reason, now) if rows else []
        connection.nudge()
        return Erased(len(destroyed), tuple(ended))


async def _key_of_run(store: Store, sealed: SealedStore, id: str) -> KeyRow:
    (row,) = await store.get([id])
    if row is None:
        msg = f"no run has the id {id!r} in this database: look it up with `perdure ls`"
        raise UnknownRunError(msg, run_id=id)
    key = await sealed.subjects.id_of(row.run)
    (found,) = await store.keys.get([key]) if key is not None else [None]
    if found is None:
        msg = (
            f"run {id!r} has no key of its own: start runs with subject=, or use Encryption(per_run=True). This one "
            "can only be deleted"
        )
        raise UsageError(msg)
    if not found.subject.startswith(OF_RUN):
        _, _, subject = found.subject.partition(":")
        msg = f"run {id!r} belongs to the subject {subject!r}, whose data has one key: erase(subject={subject!r})"
        raise UsageError(msg)
    return found


async def _terminate(store: Store, sealed: SealedStore, keys: set[str], reason: str, now: float) -> list[str]:
    """Terminate the live runs whose data is sealed with these keys: what they would write nobody could read."""
    ended: list[str] = []
    event = encode_event(ev.RunTerminated(at=now, reason=reason))
    before: int | None = None
    while True:
        rows = await store.find(RunFilter(statuses=_LIVE, before=before, limit=_PAGE))
        for row in rows:
            if await sealed.subjects.id_of(row.run) not in keys:
                continue
            if await store.terminate(row.id, event, now=now) is Delivery.DELIVERED:
                ended.append(row.id)
        if len(rows) < _PAGE:
            return ended
        before = rows[-1].run
