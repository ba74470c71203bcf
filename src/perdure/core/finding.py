"""How an event finds the operation that it belongs to, and what is checked then.

An event that nothing fits is a divergence: the code isn't what it was when the event was recorded.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import Any

from perdure.core import events as ev
from perdure.core import mismatch
from perdure.core.commands import OpenOperation
from perdure.core.patches import Patching
from perdure.errors import NonDeterminismError, UndecodableError

#: No decoded value is at hand.
UNSET: Any = object()

FINGERPRINT_BYTES = 16


def fingerprint(data: bytes) -> bytes:
    """BLAKE2b digest of an encoded input."""
    return blake2b(data, digest_size=FINGERPRINT_BYTES).digest()


class Finding(Patching):
    """Open operations are looked up by their ids.

    Attributes:
        ended: the workflow function and all it left behind are done.
    """

    __slots__ = ("ended",)

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.ended = False

    def _take(self, event: ev.Event, op_id: str) -> OpenOperation | None:
        """Close the open operation that an outcome belongs to; None if the code dropped it."""
        operation = self.operations.pop(op_id, None)
        if operation is None:
            if op_id not in self._dropped:
                raise self._unexpected(event)
            return None
        if self._fresh.pop(op_id, None) is not None and self._doubt is not None:
            self._check_doubt(op_id)
        return operation

    def _check_doubt(self, op_id: str) -> None:
        """An outcome of what was asked for after a doubtful message: the code had received that."""
        doubt = self._doubt
        if doubt is not None and op_id == f"message:{doubt.number}":
            self._doubt = None  # it is set aside in the history
        elif doubt is not None and op_id not in doubt.known:
            raise doubt.error

    def _known(self, event: ev.Event, op_id: str) -> OpenOperation | None:
        """The open operation a note is about; None if the code dropped it."""
        operation = self.operations.get(op_id)
        if operation is None and op_id not in self._dropped:
            raise self._unexpected(event)
        return operation

    def _check_input(
        self, event: ev.StepCompleted | ev.StepFailed | ev.StepParked | ev.ChildStarted, asked: bytes
    ) -> None:
        self._check_recorded(event, event.input, event.fingerprint, asked)

    def _check_recorded(
        self, event: ev.Event, recorded: bytes | None, digest: bytes | None, asked: bytes
    ) -> None:
        if recorded is not None:
            if recorded != asked:
                raise mismatch.changed_input(self.run_id, self.seq, event, recorded, asked, self.loop)
        elif digest is not None and digest != fingerprint(asked):
            raise mismatch.changed_input(self.run_id, self.seq, event, None, asked, self.loop)

    def _unexpected(self, event: ev.Event) -> NonDeterminismError | UndecodableError:
        if (
            self._doubt is not None
        ):  # more likely the code goes another way because of a message it can't read
            return self._doubt.error
        return mismatch.unexpected_event(
            self.run_id, self.seq, event, self.operations.values(), self.ended, self.loop
        )


def fail(future: asyncio.Future[Any], error: BaseException) -> None:
    """Give a future an exception, without a complaint if the code never looks at it."""
    future.set_exception(error)
    future.exception()
