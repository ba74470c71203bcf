"""What the parts of a sealed store need of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from perdure.storage.protocol import Store
from perdure.storage.records import Mail, RunRow
from perdure.storage.sealing.subjects import Subjects
from perdure.storage.sealing.vault import Vault


class Around(Protocol):
    """A store around a store.

    Attributes:
        below: where everything is kept.
        vault, subjects: what seals and opens, and finds the keys of subjects.
    """

    below: Store
    vault: Vault
    subjects: Subjects

    def shown(self, row: RunRow) -> RunRow:
        """A row as its user knows it."""
        ...

    async def mail_for(self, id: str, data: bytes) -> bytes:
        """An event, sealed for the inbox of a run."""
        ...

    async def opened_mail(self, items: Sequence[Mail]) -> list[Mail]:
        """Items of inboxes as they were sent; those that can't be opened tell so when they are decoded."""
        ...

    async def named(self, runs: Sequence[int]) -> list[tuple[str, int]]:
        """(id, generation) of each of these runs; ("", 0) of one that isn't there."""
        ...


class Part:
    """What all parts have."""

    def __init__(self, store: Around) -> None:
        self._store = store
        self._vault = store.vault
