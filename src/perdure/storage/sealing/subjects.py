"""Which key a run's payloads are sealed with: that of its subject, if it has one.

The first event of a run is sealed with it, and its head says so. Children and later generations get the same one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from perdure.codec.sealing.chain import CannotOpen, DataKey
from perdure.core.namespaces import prefix_of
from perdure.errors import ConfigurationError, SealedError
from perdure.storage.keys import KeyRow, name_of_run, name_of_subject
from perdure.storage.protocol import Store
from perdure.storage.records import NewRun
from perdure.storage.sealing.index import wrapped
from perdure.storage.sealing.vault import Vault, peeked

#: Of so many runs it is remembered.
_RUNS_MAX = 20_000


class Subjects:
    """Finds the keys of subjects, and makes those that are missing."""

    def __init__(self, vault: Vault, below: Store) -> None:
        self._vault = vault
        self._below = below
        self._of_runs: OrderedDict[str, str | None] = OrderedDict()  # the ids of their data keys

    async def of_new(self, runs: Sequence[NewRun]) -> list[DataKey | None]:
        """The key of each run that is to be made."""
        return [await self._of_new(run) for run in runs]

    async def _of_new(self, run: NewRun) -> DataKey | None:
        encryption = self._vault.encryption
        if run.subject is not None:
            if encryption is None:
                msg = f"subject={run.subject!r}: only perdure.Encryption has keys of subjects: Engine(codec=...)"
                raise ConfigurationError(msg)
            return await self._obtained(name_of_subject(run.subject), run.created_at)
        if run.follows is not None:
            return await self.of(run.id)
        if encryption is None:
            return None
        donor = peeked(run.first_event).donor
        if donor is not None and donor.run:  # what it takes over is that subject's, too
            return await self.of(prefix_of(run.id) + donor.run)
        if encryption.per_run and run.parent is None:
            return await self._obtained(name_of_run(run.id), run.created_at)
        return None

    async def of(self, id: str) -> DataKey | None:
        """The key of a run that is there. None: the ring's newest one.

        Raises:
            SealedError: it has a key that can't be had.
        """
        if self._vault.encryption is None:
            return None
        if id not in self._of_runs:
            (row,) = await self._below.get([id])
            if row is None:
                return None
            first = await self._below.events(row.run, limit=1)
            self._of_runs[id] = self._vault.data_key_of(first[0][1]) if first else None
            if len(self._of_runs) > _RUNS_MAX:
                self._of_runs.popitem(last=False)
        key = self._of_runs[id]
        if key is None:
            return None
        await self._fetch({key})
        found = self._vault.data_key(key)
        if found is None:
            msg = (
                f"Run {id!r} can't take anything: the key of its data was destroyed, or can't be opened here."
            )
            raise SealedError(msg, key=key)
        return found

    async def at_the_end(self, id: str) -> DataKey | None:
        """The key for what ends a run: that of the ring, if its own was destroyed. It says nothing of its data."""
        try:
            return await self.of(id)
        except SealedError:
            return None

    async def id_of(self, run: int) -> str | None:
        """The id of a run's data key, by the run's key."""
        first = await self._below.events(run, limit=1)
        return self._vault.data_key_of(first[0][1]) if first else None

    async def fetch(self, blobs: Iterable[bytes | None]) -> None:
        """Have the data keys at hand without which some of these can't be opened."""
        missing = self._vault.unknown_keys(blobs)
        if missing:
            await self._fetch(missing)

    def at_hand(self, data: bytes) -> DataKey | None:
        """The data key that bytes are sealed with, if they are, and it is at hand."""
        id = self._vault.data_key_of(data)
        return None if id is None else self._vault.data_key(id)

    async def _fetch(self, ids: set[str]) -> None:
        missing = [id for id in ids if not self._vault.is_known(id)]
        if not missing:
            return
        for id, row in zip(missing, await self._below.keys.get(missing), strict=True):
            self._vault.keep_key(id, self._unwrapped(row))

    async def _obtained(self, subject: str, now: float) -> DataKey:
        row = await self._below.keys.obtain(wrapped(self._vault, subject, now))
        key = self._unwrapped(row)
        if key is None:
            msg = (
                f"The key of {subject!r} can't be opened: it is wrapped with {row.ring!r}, which isn't here."
            )
            raise SealedError(msg, key=row.ring)
        self._vault.keep_key(row.id, key)
        return key

    def _unwrapped(self, row: KeyRow | None) -> DataKey | None:
        encryption = self._vault.encryption
        if row is None or row.wrapped is None or encryption is None:
            return None
        try:
            return encryption.unwrap(row.id, row.ring, row.wrapped)
        except CannotOpen:
            return None
