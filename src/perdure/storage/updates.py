"""What a store promises about updates: messages that have an answer.

A caller's request puts the update's event into the run's inbox and a row for its answer into a table, in one
transaction; the row is found by the run's id and the update's id, so a repeated request finds it. The appends
of the run's driver bring the row on, by SetUpdate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from perdure.storage.effects import UpdateState
from perdure.storage.records import Delivery


class UpdateRow(msgspec.Struct, frozen=True, gc=False):
    """An update as the store knows it.

    Attributes:
        answer: the encoded result or failure, once there is one.
        call: digest of the handler's name and the arguments, to tell a repeat from a conflict.
        ended: the run that was to handle it has ended: an answer that isn't there will never come.
    """

    run_id: str
    id: str
    state: UpdateState
    answer: bytes | None
    ended: bool
    call: bytes = b""


def renewable(state: UpdateState, ended: bool) -> bool:
    """Whether a repeated request is a new one: nothing came of the last, and nothing will."""
    return state is UpdateState.REJECTED or (ended and not state.answered)


class Updates(Protocol):
    """The updates of all runs."""

    async def request(self, run_id: str, update: str, data: bytes, *, call: bytes, now: float) -> Delivery:
        """Put an encoded UpdateAccepted event into a run's inbox, as `Store.send` does, and note the update.

        An update that is there already is left as it is, whether the run has ended or not (REPEATED). But one
        that was rejected, or whose run ended before it was handled, is delivered anew if there is a live run. The
        request doesn't cut short the delay with which a run was started.
        """
        ...

    async def look(self, keys: Sequence[tuple[str, str]]) -> list[UpdateRow | None]:
        """The updates with these (run id, update id)s, None for unknown ones."""
        ...
