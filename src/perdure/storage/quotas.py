"""What a store keeps of quotas, and promises about them: how much each namespace may have.

One row for each quota, with the state that `core/quotas.py` computes under its lock. Runs of no namespace cost nothing:
the index of their live runs has only runs of namespaces in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from perdure.core.quotas import Measured, Quota, QuotaState, Refusal

encode_quota = msgspec.json.Encoder().encode
decode_quota = msgspec.json.Decoder(QuotaState).decode


class QuotaStore(Protocol):
    """The quotas in a store, as `store.quotas`. Each verb is one transaction."""

    async def set(self, namespace: str, quota: Quota | None) -> None:
        """Give a namespace a quota, or none any more. What it has admitted so far goes on to count."""
        ...

    async def all(self) -> Mapping[str, QuotaState]:
        """Every quota by namespace."""
        ...

    async def take(
        self, namespace: str, ids: Sequence[str], *, now: float, measured: Measured | None = None
    ) -> Refusal | None:
        """Ask for runs with these stored ids: what `core.quotas.admit` says. None where there is no quota.

        Args:
            now: wall-clock seconds.
            measured: what `measure` has found.
        """
        ...

    async def live(self, namespace: str) -> int:
        """How many runs of a namespace are live."""
        ...

    async def measure(self, namespace: str, *, since: float) -> tuple[int, int]:
        """About how many bytes the histories of a namespace have, and what its calls have cost since a moment.

        The first is the number of events times the mean length of some; the second is exact, in billionths of a
        US dollar, and without calls whose price isn't known.
        """
        ...


def bounds_of(namespace: str) -> tuple[str, str]:
    """The stored ids of a namespace are from the first of these up to the second."""
    return f":{namespace}/", f":{namespace}0"  # the character after the slash
