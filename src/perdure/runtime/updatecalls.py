"""Calls of update handlers, from outside the run: a request that is durable, and the wait for its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from perdure.codec.events import encode_event
from perdure.core import bounds
from perdure.core import events as ev
from perdure.core.bounds import INBOX_MAX
from perdure.core.finding import fingerprint
from perdure.core.namespaces import short
from perdure.core.scope import keyed_operation
from perdure.errors import InboxFullError, RunConflictError, RunEndedError, UnknownRunError, UsageError
from perdure.runtime.handlers import decode_failure, handler_exception
from perdure.runtime.lookout import Lookout
from perdure.storage.chance import chance
from perdure.storage.effects import SetUpdate, UpdateState
from perdure.storage.protocol import Store
from perdure.storage.records import Delivery
from perdure.storage.updates import UpdateRow

KEY_MAX = bounds.RUN_ID_MAX  #: longest key of an update, in characters

_Key = tuple[str, str]  # run id, update id


class UpdateCalls:
    """Calls updates of any run, wherever that is driven.

    Args:
        clock: wall-clock seconds.
        nudge: called when something was written that runs driven here may have to hear of.
        within: what the stored ids begin with in the namespace that `store` shows.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        nudge: Callable[[], None],
        within: str = "",
    ) -> None:
        self._store = store
        self._within = within
        self._others: list[UpdateCalls] = []
        self._clock = clock
        self._nudge = nudge
        self.answers: Lookout[_Key, UpdateRow] = Lookout(loop, self._look)

    async def _look(self, keys: list[_Key]) -> list[UpdateRow | None]:
        rows = await self._store.updates.look(keys)
        return [row if row is not None and (row.state.answered or row.ended) else None for row in rows]

    def answered(self, run_id: str, answers: Sequence[SetUpdate]) -> None:
        """Updates of a run that is driven here have their answers, and that is durable."""
        for item in answers:
            row = UpdateRow(run_id, item.update, item.state, item.answer, ended=False)
            self.answers.found((run_id, item.update), row)
        for other in self._others:
            if run_id.startswith(other._within):
                other.answered(short(run_id), answers)

    def lend(self, other: UpdateCalls) -> None:
        """Tell those, too, who see a namespace of the same store."""
        self._others.append(other)
        self.answers.others.append(other.answers)

    async def call(
        self, run_id: str, name: str, input: bytes, *, key: str | None = None, timeout: float | None = None
    ) -> bytes:
        """Call a run's update handler and wait for its end.

        Args:
            input: the encoded arguments (see runtime/handlers.py).
            key: makes the call recognisable: a second one with it gets the answer of the first.
            timeout: how long to wait, in seconds; the update goes on, whatever becomes of this wait.

        Returns:
            The encoded result.

        Raises:
            UpdateRejected, UnknownHandlerError: the run didn't take it; nothing happened.
            RunConflictError: the key belongs to another call.
            RunEndedError: the run has ended, or ended before the update did.
            UnknownRunError: no run has this id.
            TimeoutError: it hasn't ended in time.
            Exception: what the handler raised.
        """
        update = f"update:{chance.uuid4().hex}" if key is None else keyed_operation("update", _checked(key))
        now = self._clock()
        event = encode_event(ev.UpdateAccepted(at=now, update=update, name=name, input=input))
        call = fingerprint(name.encode() + b"\0" + input)
        said = await self._store.updates.request(run_id, update, event, call=call, now=now)
        if said is Delivery.UNKNOWN_RUN:
            msg = f"no run has the id {run_id!r} in this database: look it up with `perdure ls`, or start it"
            raise UnknownRunError(msg, run_id=run_id)
        if said is Delivery.INBOX_FULL:
            msg = (
                f"{INBOX_MAX:,} messages and updates wait in the inbox of run {run_id!r}, and no more may: "
                f"{name!r} wasn't called. Call it again when the run has received some; `perdure why` tells why it "
                "doesn't"
            )
            raise InboxFullError(msg)
        if said is Delivery.RUN_ENDED:
            msg = f"run {run_id!r} has ended and takes no updates any more ({name!r} was called)"
            raise RunEndedError(msg)
        if said is Delivery.REPEATED:
            await self._check_same((run_id, update), call, key)
        # Not earlier: with a key that was rejected before, the old answer could be taken for the new one. What
        # has happened since the request is found by the look that the nudge makes.
        waiter = self.answers.wait((run_id, update))
        try:
            self._nudge()
            row = await asyncio.wait_for(waiter, timeout)
        except TimeoutError:
            again = f"key={key!r}" if key is not None else "a key="
            msg = (
                f"update {name!r} of run {run_id!r} hasn't ended within {timeout} s; it goes on, and calling it with "
                f"{again} again waits for the same answer"
            )
            raise TimeoutError(msg) from None
        finally:
            self.answers.forget((run_id, update), waiter)
        return _result(row, name)

    async def _check_same(self, known: _Key, call: bytes, key: str | None) -> None:
        """Raise RunConflictError if the update that has this id is another call."""
        (row,) = await self._store.updates.look([known])
        if row is not None and row.call != call:
            msg = (
                f"run {known[0]!r} has had an update with the key {key!r} that called another handler, or with other "
                "arguments: use another key for another call"
            )
            raise RunConflictError(msg)


def _checked(key: str) -> str:
    if not isinstance(key, str) or not 0 < len(key) <= KEY_MAX or not key.isprintable():
        msg = f"{key!r} can't be an update's key: a key is a string of 1 to {KEY_MAX} printable characters"
        raise UsageError(msg)
    return key


def _result(row: UpdateRow, name: str) -> bytes:
    if row.state is UpdateState.COMPLETED:
        assert row.answer is not None
        return row.answer
    if row.answer is not None and row.state.answered:
        raise handler_exception(decode_failure(row.answer), f"update {name!r} of run {row.run_id!r}")
    how = "had begun and wasn't done" if row.state is UpdateState.ACCEPTED else "hadn't been taken up"
    raise RunEndedError(f"run {row.run_id!r} has ended, and update {name!r} {how}: it has no result")
