"""What a store keeps of rate limits, and promises about them.

One row for each limit, with the state that `core/limiting.py` computes. A batch locks the rows that it concerns,
computes, and writes them back, in one transaction; so limits hold for all workers together. Everything a worker
wants at a time goes into one batch, whoever it is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from perdure.core.permits import Answers, Batch, LimitState

encode_state = msgspec.json.Encoder().encode
decode_state = msgspec.json.Decoder(LimitState).decode


class LimitStore(Protocol):
    """The rate limits in a store, as `store.limits`. Each verb is one transaction.

    Others don't hear of what happens here: nobody waits for it.
    """

    async def turn(self, batch: Batch, *, now: int) -> Answers:
        """Do what `core.limiting.turn` does with the limits that the batch concerns.

        Args:
            now: microseconds since 1970.
        """
        ...

    async def all(self) -> Mapping[str, LimitState]:
        """Every limit that anybody has named, by name."""
        ...
