"""What a client without keys may not do in a database with sealed runs: write to those.

What it wrote would be in the clear, and strict workers, which refuse that, would block the runs: a pause without
PERDURE_KEYS would cost a run its life. So who has no keys may look at all of it, and may work with runs that aren't
sealed, as before; whatever would put something into a sealed run is refused, and nothing is written.

Workers aren't held back here: they block what they can't open, and say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from perdure.codec.sealing.envelope import head_of, is_sealed
from perdure.core import events as ev
from perdure.core.attributes import Attribute
from perdure.errors import SealedError
from perdure.storage.callbacks import Answerer, CallbackAnswer
from perdure.storage.protocol import Store
from perdure.storage.records import Created, Delivery, MailKind, NewRun


class _Around:
    """Something of a store, with verbs of its own in front."""

    def __init__(self, store: Unkeyed, inner: Any) -> None:
        self._store = store
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Unkeyed:
    """A store, but for what would be written to sealed runs. What isn't here is the store's own.

    Args:
        inner: it is open, and encrypts nothing.
    """

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.pauses = _Pauses(self, inner.pauses)
        self.updates = _Updates(self, inner.updates)
        self.attributes = _Attributes(self, inner.attributes)
        self.callbacks = _Callbacks(self, inner.callbacks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def create(self, runs: Sequence[NewRun]) -> list[Created]:
        await self.refuse_sealed(run.id for run in runs)
        return await self._inner.create(runs)

    async def send(
        self,
        id: str,
        data: bytes,
        *,
        now: float,
        kind: MailKind = MailKind.CONTROL,
        key: str | None = None,
    ) -> Delivery:
        await self.refuse_sealed([id])
        return await self._inner.send(id, data, now=now, kind=kind, key=key)

    async def terminate(self, id: str, event: bytes, *, now: float) -> Delivery:
        await self.refuse_sealed([id])
        return await self._inner.terminate(id, event, now=now)

    async def refuse_sealed(self, ids: Iterable[str]) -> None:
        """Nothing, unless one of these runs is there and sealed.

        Raises:
            SealedError: one is.
        """
        rows = {row.run: row.id for row in await self._inner.get(list(ids)) if row is not None}
        for run, newest in zip(rows, await self._inner.last_event(list(rows)), strict=True):
            # A store tells of some ends in the clear, and what was begun before anything was sealed goes on sealed.
            first = await self._inner.events(run, limit=1)
            for data in (newest, *(data for _, data in first)):
                if isinstance(data, bytes) and is_sealed(data) and (key := head_of(data).key):
                    msg = (
                        f"run {rows[run]!r} is sealed with the key {key!r}, and there are no keys here: what is "
                        "written to it now would be in the clear, and its workers would block it for that. Set "
                        "PERDURE_KEYS to the keys that the workers have, and say it again. Nothing was written"
                    )
                    raise SealedError(msg, key=key)


class _Pauses(_Around):
    async def pause(self, id: str, event: bytes, *, reason: str | None, now: float) -> Delivery:
        await self._store.refuse_sealed([id])
        paused: Delivery = await self._inner.pause(id, event, reason=reason, now=now)
        return paused

    async def resume(self, id: str, event: bytes, *, now: float) -> Delivery:
        await self._store.refuse_sealed([id])
        resumed: Delivery = await self._inner.resume(id, event, now=now)
        return resumed


class _Updates(_Around):
    async def request(self, run_id: str, update: str, data: bytes, *, call: bytes, now: float) -> Delivery:
        await self._store.refuse_sealed([run_id])
        requested: Delivery = await self._inner.request(run_id, update, data, call=call, now=now)
        return requested


class _Attributes(_Around):
    async def set(self, id: str, attributes: Sequence[Attribute], event: bytes, *, now: float) -> Delivery:
        await self._store.refuse_sealed([id])
        changed: Delivery = await self._inner.set(id, attributes, event, now=now)
        return changed


class _Callbacks(_Around):
    async def end(
        self,
        token_hash: bytes,
        *,
        result: bytes | None = None,
        failure: ev.Failure | None = None,
        answerer: Answerer | None = None,
        now: float,
    ) -> CallbackAnswer:
        row = await self._inner.get(token_hash)
        if row is not None:
            await self._store.refuse_sealed([row.run_id])
        answered: CallbackAnswer = await self._inner.end(
            token_hash, result=result, failure=failure, answerer=answerer, now=now
        )
        return answered
