"""The code's side of a run: what it asks for.

The tables in which that is kept are in opening.py, what goes to others and comes from them in asking_mail.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Generator, Sequence
from hashlib import blake2b
from typing import Any, Protocol

from perdure.core.asking_mail import AskingMail
from perdure.core.commands import CancelOperation, ConcludeStep, RunStep, StartChild
from perdure.core.events import RunStarted
from perdure.core.futures import HeldFuture
from perdure.core.listening import Listening, heard_of

#: Length of the seeds of the first runs, in bytes. They are used as they are.
SHORT_SEED = 16


class Supervisor(Protocol):
    """Whoever drives a run. Called from any thread."""

    def intruded(self, error: Exception) -> None:
        """A thread tried to reach into the run's loop: it can't go on."""
        ...


class Asking(AskingMail):
    """What workflow code, and the loop it runs on, ask of their run.

    Attributes:
        started: the run's first event, once it has been fed.
        compensating: how many Sagas are undoing what was done.
        supervisor: told of what happens to the run from outside of its code.
    """

    __slots__ = ("_random", "compensating", "started", "supervisor")

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.compensating = 0
        self.started: RunStarted | None = None
        self._random: random.Random | None = None
        self.supervisor: Supervisor | None = None

    # -- steps --------------------------------------------------------------------------------------

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

    def send_elsewhere(self, op_id: str) -> None:
        """A step that was just asked for is to be executed elsewhere."""
        operation = self.operations.get(op_id)
        if isinstance(operation, RunStep):  # else the run is leaving memory
            operation.elsewhere = True

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
                self._command(ConcludeStep(operation))
            asked.append(message)

        wait = self.step(op_id, name, call, input, decode, unfit, refused)
        if isinstance(operation := self.operations.get(op_id), RunStep):
            operation.recalled = self.replaying
        return _cancelled_afterwards(wait, asked)

    # -- children -----------------------------------------------------------------------------------

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
            self._command(CancelOperation(operation))

    # -- publications -------------------------------------------------------------------------------

    def listen(
        self,
        name: str,
        where: str,
        decode: Callable[[bytes], Any],
        since: float | None,
        timeout: float | None,
        closing: Callable[[str], Sequence[Any]],
    ) -> Generator[Any, Any, Any]:
        """What `await event(...)` runs: wait for the next publication of this name that fits.

        Args:
            where: as of core/where.py.
            since: wall-clock seconds, None = all that were published since the run began; or from now on, if it is an
                entity's, which forgets with each call what it has got.
            closing: what the store does when a wait, by its op id, is given up.
        """
        if self.inert:
            return self._unwound()
        if self.listening is None:
            started = self.started
            assert started is not None
            self.listening = Listening(self, heard_of(started), closing)
        if since is None and self.handlers is not None and self.handlers.keeper is not None:
            since = self.loop.now
        return self.listening.wait(name, where, decode, since, timeout)

    # -- random numbers -----------------------------------------------------------------------------

    def random(self) -> random.Random:
        """The run's own source of random numbers, seeded by its first event."""
        if self._random is None:
            assert self.started is not None
            seed = self.started.seed
            if len(seed) > SHORT_SEED:  # tokens are made from it: random numbers mustn't give it away
                seed = blake2b(seed, digest_size=32, person=b"perdure random").digest()
            self._random = random.Random(seed)  # noqa: S311 - replayable, not secret
        return self._random


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
