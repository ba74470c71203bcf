"""The code's side of a run: what it asks for, and the tables in which that is kept.

Operations the code asked for are *open* until their outcome is fed. Those it asked for since the last
`take_commands()` are *fresh*. An operation the code stopped waiting for (it was cancelled) is *dropped*: an
outcome that was on its way to the log already may still arrive, and is passed over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Generator, Sequence
from hashlib import blake2b
from typing import Any, Protocol

from perdure.core.commands import (
    AwaitCallback,
    AwaitMessage,
    CancelOperation,
    Command,
    ConcludeStep,
    OpenOperation,
    RunStep,
    SendMessage,
    StartChild,
    StartTimer,
    WriteDown,
)
from perdure.core.conditions import Conditions
from perdure.core.events import Record, RunStarted
from perdure.core.futures import HeldFuture
from perdure.core.handlers import Handlers, QueryHandler, UpdateHandler
from perdure.core.handles import TimerHandle
from perdure.core.loop import WorkflowLoop
from perdure.core.mailbox import Doubt, Mailbox
from perdure.core.unwinding import Suspended
from perdure.errors import UndecodableError, UsageError

#: Length of the seeds of the first runs, in bytes. They are used as they are.
SHORT_SEED = 16

#: After so many durable calls while being unwound, code will never end.
RESISTANCE_MAX = 100


class Supervisor(Protocol):
    """Whoever drives a run. Called from any thread."""

    def intruded(self, error: Exception) -> None:
        """A thread tried to reach into the run's loop: it can't go on."""
        ...


class Asking:
    """What workflow code, and the loop it runs on, ask of their run.

    Attributes:
        operations: the open operations by op id.
        handlers: what others may call in this run, None while that is nothing.
        inert: the run is leaving memory; durable calls unwind instead of doing anything.
        started: the run's first event, once it has been fed.
        replaying: events being fed are history; the code's log and error reports are silent.
        compensating: how many Sagas are undoing what was done.
        supervisor: told of what happens to the run from outside of its code.
        mailbox: messages, once there are some or the code waits for some.
        conditions: what the code waits for in its own state, once it does.
        look_ahead: while replaying: the numbers of the messages that the history sets aside, and why.
    """

    __slots__ = (
        "_commands", "_doubt", "_dropped", "_fresh", "_keyed", "_random", "_records", "_resisted", "compensating",
        "conditions", "handlers", "inert", "look_ahead", "loop", "mailbox", "operations", "replaying", "run_id",
        "started", "supervisor",
    )  # fmt: skip

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.loop = WorkflowLoop(run_id, self._timer_started, self._timer_cancelled)
        self.loop.owner = self
        self.operations: dict[str, OpenOperation] = {}
        self.inert = False
        self.replaying = False
        self.compensating = 0
        self.started: RunStarted | None = None
        self._dropped: dict[str, StartChild | None] = {}
        self._fresh: dict[str, OpenOperation | WriteDown] = {}
        self._records: dict[str, WriteDown] | None = (
            None  # what the code did and the history doesn't hold yet
        )
        self._commands: list[Command] = []
        self._keyed: set[str] | None = None  # ids made of the user's own keys, which mustn't come twice
        self._random: random.Random | None = None
        self._resisted = 0
        self.handlers: Handlers | None = None
        self.supervisor: Supervisor | None = None
        self.mailbox: Mailbox | None = None
        self.conditions: Conditions | None = None
        self.look_ahead: Callable[[], dict[int, str]] | None = None
        self._doubt: Doubt | None = None

    def take_commands(self) -> list[Command]:
        """What the code has asked for that isn't in the history. Each command is handed out once."""
        commands = [*self._fresh.values(), *self._commands] if self._fresh else self._commands
        self._fresh = {}
        self._commands = []
        self._doubt = None  # the history is used up, and nothing in it has proved the code wrong
        return commands

    def asks(self) -> bool:
        """Whether there is anything for `take_commands` to hand out."""
        return bool(self._fresh or self._commands)

    def asks_anew(self, operation: RunStep) -> bool:
        """Whether an operation is among the commands to come: nothing has been done about it yet."""
        return operation.id in self._fresh

    def step(
        self,
        op_id: str,
        name: str,
        call: Any,
        input: bytes,
        decode: Callable[[bytes], Any],
        unfit: Exception | None = None,
        refused: Callable[[Any], None] | None = None,
    ) -> Generator[Any, Any, Any]:
        """What `await step(...)` runs: ask for the step, wait for its outcome.

        Args:
            unfit: why it can't be executed at all (its input can't be recorded); becomes its outcome.
            refused: cancellations don't end the wait; their messages go there.
        """
        if self.inert:
            return self._unwound()
        loop = self.loop
        future: asyncio.Future[Any]
        future = asyncio.Future(loop=loop) if refused is None else HeldFuture(refused, loop=loop)
        operation = RunStep(op_id, loop.now, name, call, input, decode, future, unfit)
        self._open(operation)
        return self._wait(operation, future)

    def step_to_its_end(
        self,
        op_id: str,
        name: str,
        call: Any,
        input: bytes,
        decode: Callable[[bytes], Any],
        unfit: Exception | None = None,
    ) -> Generator[Any, Any, Any]:
        """The same for a step with `on_cancel="wait"`: a cancellation is raised when its outcome is there."""
        asked: list[Any] = []

        def refused(message: Any) -> None:
            operation = self.operations.get(op_id)
            if not asked and isinstance(operation, RunStep):
                operation.concluding = True
                self._commands.append(ConcludeStep(operation))
            asked.append(message)

        wait = self.step(op_id, name, call, input, decode, unfit, refused)
        if isinstance(operation := self.operations.get(op_id), RunStep):
            operation.recalled = self.replaying
        return _cancelled_afterwards(wait, asked)

    def child(
        self,
        op_id: str,
        *,
        run_id: str,
        workflow: str,
        call: Any,
        input: bytes,
        on_parent_close: str,
        decode: Callable[[bytes], Any],
        announce: bool,
        refused: Callable[[Any], None] | None = None,
    ) -> StartChild:
        """Ask for a child run. With `announce`, `operation.started` tells when it exists; `refused` as for steps."""
        self._check_inert()
        operation = StartChild(
            op_id,
            self.loop.now,
            run_id=run_id,
            workflow=workflow,
            call=call,
            input=input,
            on_parent_close=on_parent_close,
            decode=decode,
            started=self.loop.create_future() if announce else None,
            ended=self.loop.create_future() if refused is None else HeldFuture(refused, loop=self.loop),
        )
        self._open(operation)
        return operation

    def wait_child(self, operation: StartChild) -> Generator[Any, Any, Any]:
        """Wait for a child run as one waits for a call: giving up the wait cancels the child."""
        return self._wait(operation, operation.ended)

    def wait_started(self, operation: StartChild) -> Generator[Any, Any, Any]:
        """Wait until a child run exists (it was asked for with `announce`)."""
        assert operation.started is not None
        return self._wait(operation, operation.started)

    def cancel_child(self, operation: StartChild) -> None:
        """Ask a started child to cancel, and go on waiting for its end."""
        self._check_inert()
        if operation.id in self.operations:
            self._commands.append(CancelOperation(operation))

    def callback(
        self,
        op_id: str,
        *,
        token_hash: bytes,
        decode: Callable[[bytes], Any],
        timeout: float | None,
        heartbeat: float | None,
    ) -> AwaitCallback:
        """Ask for a callback. Giving up a wait for it doesn't close it: its token is out in the world."""
        self._check_inert()
        ended = self.loop.create_future()
        operation = AwaitCallback(op_id, self.loop.now, token_hash, decode, ended, timeout, heartbeat)
        self._open(operation)
        return operation

    async def wait_callback(self, operation: AwaitCallback) -> Any:
        """Wait for a callback's end, however many do."""
        self._check_inert()
        return await asyncio.shield(operation.ended)

    # -- messages and conditions --------------------------------------------------------------------

    def receive(
        self, name: str, decode: Callable[[bytes], Any], timeout: float | None
    ) -> Generator[Any, Any, Any]:
        """What `await receive(...)` runs: wait for the next message of this name that `decode` can read.

        Args:
            decode: raises UndecodableError, whose text says why, for a message that isn't of the type asked for.
        """
        if self.inert:
            return self._unwound()
        return self.open_mailbox().receive(name, decode, timeout)

    def open_mailbox(self) -> Mailbox:
        """The run's mailbox, made when it is first needed."""
        if self.mailbox is None:
            self.mailbox = Mailbox(self)
        return self.mailbox

    def open_wait(self, operation: AwaitMessage) -> None:
        """The code begins to wait for a message."""
        self._open(operation)

    def end_wait(self, operation: AwaitMessage) -> None:
        """The code has its message."""
        del self.operations[operation.id]
        self._fresh.pop(operation.id, None)

    def give_up(self, operation: OpenOperation) -> None:
        """The code doesn't wait for this any more. Nothing happens if it isn't open."""
        if self.operations.get(operation.id) is operation:
            self._drop(operation)

    def doubt_message(self, number: int, error: UndecodableError) -> None:
        """A replayed message can't be read: that must be so because the record of it was never written."""
        if self._doubt is None:
            self._doubt = Doubt(number, error, frozenset(self._fresh))

    def send(self, to: str, name: str, payload: bytes) -> Generator[Any, Any, None]:
        """What `await send(...)` runs: put a message into another run's inbox."""
        if self.inert:
            return self._unwound()
        op_id = self.loop.scope().numbered("send")
        operation = SendMessage(op_id, self.loop.now, to, name, payload, self.loop.create_future())
        self._open(operation)
        return self._wait(operation, operation.future)

    def until(self, predicate: Callable[[], object], timeout: float | None) -> Generator[Any, Any, None]:
        """What `await until(...)` runs."""
        if self.inert:
            return self._unwound()
        if self.conditions is None:
            self.conditions = Conditions(self)
        return self.conditions.wait(predicate, timeout)

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
        self._records[record.op] = self._fresh[record.op] = WriteDown(record, effects)

    def handle_queries(self, name: str, handler: QueryHandler) -> None:
        """From now on this handler answers queries of that name."""
        self._check_inert()
        self.handlers = self.handlers or Handlers()
        self.handlers.queries[name] = handler

    def handle_updates(self, name: str, handler: UpdateHandler) -> None:
        """From now on this handler takes updates of that name."""
        self._check_inert()
        self.handlers = self.handlers or Handlers()
        self.handlers.updates[name] = handler

    def random(self) -> random.Random:
        """The run's own source of random numbers, seeded by its first event."""
        if self._random is None:
            assert self.started is not None
            seed = self.started.seed
            if len(seed) > SHORT_SEED:  # tokens are made from it: random numbers mustn't give it away
                seed = blake2b(seed, digest_size=32, person=b"perdure random").digest()
            self._random = random.Random(seed)  # noqa: S311 - replayable, not secret
        return self._random

    def _open(self, operation: OpenOperation) -> None:
        if operation.id[-1] == "]":
            self._check_key(operation.id)
        self.operations[operation.id] = operation
        self._fresh[operation.id] = operation

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
        self._dropped[operation.id] = operation if isinstance(operation, StartChild) else None
        if not fresh and (not isinstance(operation, StartChild) or operation.recorded):
            self._commands.append(CancelOperation(operation))

    def _timer_started(self, handle: TimerHandle) -> None:
        if not self.inert:
            self._open(StartTimer(handle.id, self.loop.now, handle, handle.when()))

    def _timer_cancelled(self, handle: TimerHandle) -> None:
        operation = self.operations.get(handle.id)
        if not self.inert and isinstance(operation, StartTimer):
            self._drop(operation)

    def _check_inert(self) -> None:
        if self.inert:
            raise Suspended

    def _unwound(self) -> Generator[Any, Any, Any]:
        """A durable call of code that is leaving memory."""
        self._resisted += 1
        while self._resisted > RESISTANCE_MAX:
            yield  # it catches everything and tries again: this hands it back to whoever unwinds it
        raise Suspended


def _cancelled_afterwards(wait: Generator[Any, Any, Any], asked: list[Any]) -> Generator[Any, Any, Any]:
    """Wait, and be cancelled then if that was `asked` meanwhile: what came of the wait stays in the history."""
    try:
        value = yield from wait
    except Exception:
        if asked:
            raise _cancelled(asked[0])  # noqa: B904 - the failure is its context, as it is in plain code
        raise
    if asked:
        raise _cancelled(asked[0])
    return value


def _cancelled(message: Any) -> asyncio.CancelledError:
    return asyncio.CancelledError() if message is None else asyncio.CancelledError(message)
