"""Callbacks: a run waits for somebody outside, who shows a token to complete it. Both sides of that.

cb = perdure.callback(Approval, timeout=86_400)     in the workflow
await ask_by_mail(cb.token)
approval = await cb

await engine.callbacks.complete(token, approval)    anywhere else
"""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NoReturn, TypeVar, cast, overload

from perdure.api.call import current_machine
from perdure.api.connection import Connection
from perdure.codec.explain import non_finite
from perdure.codec.values import ValueCodec, cannot_carry, check_size
from perdure.core.commands import AwaitCallback
from perdure.core.events import Failure
from perdure.core.machine import Machine
from perdure.core.retry import seconds
from perdure.errors import (
    CallbackCompletedError,
    CallbackExpiredError,
    UnknownCallbackError,
    UsageError,
)
from perdure.runtime.tokens import token_hash, token_of
from perdure.storage.callbacks import CallbackAnswer, CallbackState, CallbackVerdict

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_VALUE = "value for a callback"
_ANY = ValueCodec[Any](Any, _VALUE)


class Callback(Generic[R_co]):
    """A promise that somebody outside keeps. Await it for the value, as often as you like.

    Attributes:
        token: what completes it: 256 bits as text that is safe in URLs. Whoever has it can complete this
            callback, so treat it as a secret.
        id: its id within the run.
    """

    __slots__ = ("_machine", "_operation", "token")

    def __init__(self, machine: Machine, operation: AwaitCallback, token: str) -> None:
        self._machine = machine
        self._operation = operation
        self.token = token

    @property
    def id(self) -> str:
        return self._operation.id

    def done(self) -> bool:
        """Whether it has ended: awaiting it then gives its outcome at once."""
        return self._operation.ended.done()

    def __await__(self) -> Generator[Any, Any, R_co]:
        wait = self._machine.wait_callback(self._operation).__await__()
        return cast("Generator[Any, Any, R_co]", wait)

    def __repr__(self) -> str:
        return f"<callback {self.id!r} of run {self._machine.run_id!r}>"  # never with its token


@overload
def callback(
    type: type[R], *, timeout: float | timedelta | None = None, heartbeat: float | timedelta | None = None
) -> Callback[R]: ...
@overload
def callback(
    type: Any = None, *, timeout: float | timedelta | None = None, heartbeat: float | timedelta | None = None
) -> Callback[Any]: ...
def callback(
    type: Any = None, *, timeout: float | timedelta | None = None, heartbeat: float | timedelta | None = None
) -> Callback[Any]:
    """Make a callback: hand its token to somebody outside of this run, and await what they bring.

    It is durable before any step or child that was given the token begins. Giving up a wait for it leaves it
    open: it can be awaited again.

    Args:
        type: what the value has to be; any JSON by default.
        timeout: seconds from now until it is over. From then on it can't be completed.
        heartbeat: most seconds that may pass without a heartbeat, from now on and after each.

    Returns:
        The callback, with its `token`. Awaiting it gives the value, or raises `CallbackFailed` if it was failed
        or a value came that doesn't fit the type, and TimeoutError if its time was over.

    Raises:
        UsageError: outside of workflow code, or a time is out of range.

    Example:
        >>> approval = perdure.callback(bool, timeout=86_400)  # doctest: +SKIP
        >>> await ask(f"https://example.org/approve?token={approval.token}")  # doctest: +SKIP
        >>> if await approval: ...  # doctest: +SKIP
    """
    machine = current_machine()
    if machine is None:
        msg = "perdure.callback() works only in workflow code, while a run executes it"
        raise UsageError(msg)
    return open_callback(machine, machine.loop.scope().numbered("callback"), type, timeout, heartbeat)


def open_callback(
    machine: Machine,
    op_id: str,
    type: Any = None,
    timeout: float | timedelta | None = None,
    heartbeat: float | timedelta | None = None,
) -> Callback[Any]:
    """`callback`, with the id that it has within the run."""
    started = machine.started
    assert started is not None
    token = token_of(started.seed, machine.run_id, op_id)
    codec = ValueCodec[Any](Any if type is None else type, f"value of {op_id}")
    operation = machine.callback(
        op_id,
        token_hash=token_hash(token),
        decode=codec.decode,
        timeout=_limit(timeout, "timeout"),
        heartbeat=_limit(heartbeat, "heartbeat"),
    )
    return Callback(machine, operation, token)


def _limit(value: float | timedelta | None, what: str) -> float | None:
    if value is None:
        return None
    number = seconds(value, f"callback({what}=)")
    if number in (0, float("inf")):
        msg = f"callback({what}={value!r}): give a number of seconds > 0, or leave it out to wait for ever"
        raise UsageError(msg)
    return number


class Callbacks:
    """Completes callbacks from outside of their runs: `engine.callbacks`.

    Args:
        max_payload: largest encoded value in bytes.
    """

    def __init__(self, connection: Connection, max_payload: int) -> None:
        self._connection = connection
        self._max_payload = max_payload

    async def complete(self, token: str, value: Any = None) -> None:
        """Complete a callback. Durable when this returns; it can be done once.

        Args:
            token: the callback's.
            value: what the run gets; it is read as the type the workflow gave to the callback.

        Raises:
            UnknownCallbackError: no callback has this token.
            CallbackCompletedError: it was completed or failed before.
            CallbackExpiredError: its time is over, or its run has ended.
            NotSerializableError: the value can't be recorded.

        Example:
            >>> await engine.callbacks.complete(token, {"approved": True})  # doctest: +SKIP
        """
        data = _ANY.encode(value)
        if (problem := non_finite(value)) is not None:
            raise cannot_carry(_VALUE, problem)
        check_size(data, self._max_payload, _VALUE)
        await self._end(token, result=data)

    async def fail(self, token: str, message: str) -> None:
        """Fail a callback: the run gets `CallbackFailed` with this message.

        Raises:
            UnknownCallbackError, CallbackCompletedError, CallbackExpiredError: as for `complete`.
        """
        await self._end(token, failure=Failure(type="perdure.errors.CallbackFailed", message=str(message)))

    async def heartbeat(self, token: str) -> None:
        """Say that the work behind a callback goes on: its heartbeat timeout begins again.

        Raises:
            UnknownCallbackError, CallbackCompletedError, CallbackExpiredError: as for `complete`. The work can
                stop then: nobody waits for it any more.
        """
        connection = self._connection
        connection.check()
        answer = await connection.store.callbacks.heartbeat(token_hash(token), now=connection.clock())
        self._check(answer)

    async def _end(self, token: str, *, result: bytes | None = None, failure: Failure | None = None) -> None:
        connection = self._connection
        connection.check()
        answer = await connection.store.callbacks.end(
            token_hash(token), result=result, failure=failure, now=connection.clock()
        )
        self._check(answer)
        connection.nudge()

    def _check(self, answer: CallbackAnswer) -> None:
        if answer.verdict is not CallbackVerdict.DONE:
            self._connection.nudge()  # whoever is too late may have timed it out
            _refuse(answer)


def _refuse(answer: CallbackAnswer) -> NoReturn:
    row = answer.row
    if row is None:
        msg = (
            "no callback in this database has this token: check that it is whole, and that this is the database "
            "of the run that gave it out"
        )
        raise UnknownCallbackError(msg)
    which = f"{row.op} of run {row.run_id!r}"
    match answer.verdict:
        case CallbackVerdict.ENDED:
            how = "failed" if row.state == CallbackState.FAILED else "completed"
            msg = f"{which} was {how} already, {_at(row.ended_at)}; a callback ends once. Nothing was changed"
            raise CallbackCompletedError(msg, run_id=row.run_id)
        case CallbackVerdict.EXPIRED:
            msg = f"the time of {which} was over {_at(row.ended_at)}: its run has got a TimeoutError in its place"
            raise CallbackExpiredError(msg, run_id=row.run_id)
        case _:
            msg = f"{which} can't be completed any more: the run has ended ({row.run_status})"
            raise CallbackExpiredError(msg, run_id=row.run_id)


def _at(moment: float | None) -> str:
    return "" if moment is None else f"at {datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"
