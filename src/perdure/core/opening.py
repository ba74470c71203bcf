"""The tables in which a run keeps what its code has asked for.

Operations the code asked for are *open* until their outcome is fed. Those it asked for since the last
`take_commands()` are *fresh*. An operation the code stopped waiting for (it was cancelled) is *dropped*: an
outcome that was on its way to the log already may still arrive, and is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from typing import Any

from perdure.core.bounds import PENDING_MAX
from perdure.core.commands import (
    AwaitCallback,
    CancelOperation,
    Command,
    OpenOperation,
    RunStep,
    StartChild,
    StartTimer,
    WriteDown,
)
from perdure.core.events import Record
from perdure.core.handles import TimerHandle
from perdure.core.loop import WorkflowLoop
from perdure.core.mailbox import Doubt
from perdure.core.namespaces import short
from perdure.core.unwinding import Suspended
from perdure.errors import TooManyPendingError, UsageError

#: The tables of all runs that have nothing in them; not to be written into. An empty one for each would be 64 bytes.
_NONE: dict[str, Any] = {}

#: After so many durable calls while being unwound, code will never end.
RESISTANCE_MAX = 100


class Opening:
    """Operations are opened, waited for, and dropped.

    Attributes:
        operations: the open operations by op id.
        known_as: the run's id as it is stored.
        inert: the run is leaving memory; durable calls unwind instead of doing anything.
        replaying: events being fed are history; the code's log and error reports are silent.
    """

    __slots__ = (
        "_commands",
        "_doubt",
        "_dropped",
        "_fresh",
        "_keyed",
        "_records",
        "_resisted",
        "inert",
        "known_as",
        "loop",
        "operations",
        "replaying",
    )  # fmt: skip

    def __init__(self, known_as: str) -> None:
        self.known_as = known_as
        self.loop = WorkflowLoop(short(known_as), self)
        self.operations: dict[str, OpenOperation] = {}
        self.inert = False
        self.replaying = False
        self._dropped: dict[str, StartChild | RunStep | AwaitCallback | None] = _NONE
        self._fresh: dict[str, OpenOperation | WriteDown] = _NONE
        self._records: dict[str, WriteDown] | None = (
            None  # what the code did and the history doesn't hold yet
        )
        self._commands: list[Command] | None = None
        self._keyed: set[str] | None = None  # ids made of the user's own keys, which mustn't come twice
        self._resisted = 0
        self._doubt: Doubt | None = None

    @property
    def run_id(self) -> str:
        """The run's id as its code knows it."""
        return short(self.known_as)

    # -- commands out -------------------------------------------------------------------------------

    def take_commands(self) -> list[Command]:
        """What the code has asked for that isn't in the history. Each command is handed out once."""
        commands = [*self._fresh.values(), *(self._commands or ())]
        self._fresh = _NONE
        self._commands = None
        self._doubt = None  # the history is used up, and nothing in it has proved the code wrong
        return commands

    def asks(self) -> bool:
        """Whether there is anything for `take_commands` to hand out."""
        return bool(self._fresh or self._commands)

    def asks_anew(self, operation: RunStep) -> bool:
        """Whether an operation is among the commands to come: nothing has been done about it yet."""
        return operation.id in self._fresh

    def write_down(self, record: Record, effects: Sequence[Any] = ()) -> None:
        """The code did something that has no outcome. Its record goes with the run's next append.

        Args:
            record: what it did, under an id that no other record of this run has.
            effects: what the store does in the same transaction.
        """
        self._check_inert()
        if self._records is None:
            self._records = {}
        assert record.op not in self._records, "a record's id is its own"
        self._records[record.op] = command = WriteDown(record, effects)
        self._hand_out(record.op, command)

    def done_as(self, op: str) -> Record | None:
        """The record of something that the code did and no event has confirmed yet."""
        done = None if self._records is None else self._records.get(op)
        return None if done is None else done.record

    # -- operations ---------------------------------------------------------------------------------

    def give_up(self, operation: OpenOperation) -> None:
        """The code doesn't wait for this any more. Nothing happens if it isn't open."""
        if self.operations.get(operation.id) is operation:
            self._drop(operation)

    def given_up(self, op_id: str) -> StartChild | RunStep | AwaitCallback | None:
        """A child, a question, or a step that is executed elsewhere, that the code has stopped waiting for."""
        return self._dropped.get(op_id)

    def _open(self, operation: OpenOperation) -> None:
        if len(self.operations) >= PENDING_MAX:
            raise self._too_many(operation)
        if operation.id[-1] == "]":
            self._check_key(operation.id)
        self.operations[operation.id] = operation
        if self._fresh is _NONE:  # as `_hand_out` does; each step comes here
            self._fresh = {operation.id: operation}
        else:
            self._fresh[operation.id] = operation

    def _too_many(self, operation: OpenOperation) -> TooManyPendingError:
        return TooManyPendingError(
            f"run {self.run_id!r} has {len(self.operations):,} steps, timers, children and other waits open, and may "
            f"have no more than {PENDING_MAX:,} at once; {operation.id!r} is one too many. Let fewer be open: "
            "perdure.map(..., concurrency=100), a semaphore, or child runs that do a part each"
        )

    def _hand_out(self, op_id: str, command: OpenOperation | WriteDown) -> None:
        """Have something handed out with the next commands."""
        if self._fresh is _NONE:
            self._fresh = {op_id: command}
        else:
            self._fresh[op_id] = command

    def _command(self, command: Command) -> None:
        """A command that is no operation is handed out with the next ones, after what is fresh."""
        if self._commands is None:
            self._commands = []
        self._commands.append(command)

    def _passed(self, op_id: str, kept: StartChild | RunStep | AwaitCallback | None = None) -> None:
        """An outcome of this may still come."""
        if self._dropped is _NONE:
            self._dropped = {}
        self._dropped[op_id] = kept

    def _check_key(self, op_id: str) -> None:
        if self._keyed is None:
            self._keyed = set()
        if op_id in self._keyed:
            msg = (
                f"run {self.run_id!r} asks for {op_id!r} a second time: the two calls' outcomes, and their "
                "idempotency keys, couldn't be told apart. Give each call a key of its own"
            )
            raise UsageError(msg)
        self._keyed.add(op_id)

    def _wait(self, operation: OpenOperation, future: asyncio.Future[Any]) -> Generator[Any, Any, Any]:
        try:
            return (yield from future)
        except BaseException:
            if not self.inert and self.operations.get(operation.id) is operation:
                self._drop(operation)  # the wait was given up: cancelled, or its task closed
            raise

    def _drop(self, operation: OpenOperation) -> None:
        del self.operations[operation.id]
        fresh = self._fresh.pop(operation.id, None) is not None
        kept: StartChild | RunStep | None = None  # of the rest, the id says enough
        if isinstance(operation, StartChild):
            kept = operation
            begun = not fresh and operation.recorded
        elif isinstance(operation, RunStep) and operation.elsewhere:
            kept = operation
            begun = (
                not fresh or operation.sent is not None
            )  # on replay it is fresh, and was sent all the same
        else:
            begun = not fresh
        self._passed(operation.id, kept)
        if begun:
            self._command(CancelOperation(operation))

    # -- the loop's timers --------------------------------------------------------------------------

    def timer_started(self, handle: TimerHandle) -> None:
        """The code has set a timer."""
        if not self.inert:
            self._open(StartTimer(handle.id, self.loop.now, handle, handle.when()))

    def timer_cancelled(self, handle: TimerHandle) -> None:
        """The code doesn't need a timer any more."""
        operation = self.operations.get(handle.id)
        if not self.inert and isinstance(operation, StartTimer):
            self._drop(operation)

    # -- leaving memory -----------------------------------------------------------------------------

    def _check_inert(self) -> None:
        if self.inert:
            raise Suspended

    def _unwound(self) -> Generator[Any, Any, Any]:
        """A durable call of code that is leaving memory."""
        self._resisted += 1
        while self._resisted > RESISTANCE_MAX:
            yield  # it catches everything and tries again: this hands it back to whoever unwinds it
        raise Suspended
