"""What a run's code says to others and hears from them: callbacks, messages, handlers; and its own state.

What isn't there while code doesn't use it (the mailbox, the conditions, the handlers) is made when it first does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from typing import Any

from perdure.core.commands import (
    AwaitCallback,
    AwaitMessage,
    AwaitPublication,
    CancelOperation,
    SendMessage,
)
from perdure.core.conditions import Conditions
from perdure.core.events import PublicationGivenUp, Question, QuestionWithdrawn
from perdure.core.handlers import Handlers, QueryHandler, UpdateHandler
from perdure.core.listening import Listening
from perdure.core.mailbox import Doubt, Mailbox
from perdure.core.opening import Opening
from perdure.errors import UndecodableError


class AskingMail(Opening):
    """Code waits for what comes from outside of the run, and for what comes of it.

    Attributes:
        handlers: what others may call in this run, None while that is nothing.
        mailbox: messages, once there are some or the code waits for some.
        conditions: what the code waits for in its own state, once it does.
        listening: waits for publications, once the code does.
        look_ahead: while replaying: the numbers of the messages that the history sets aside, and why.
    """

    __slots__ = ("conditions", "handlers", "listening", "look_ahead", "mailbox")

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.handlers: Handlers | None = None
        self.mailbox: Mailbox | None = None
        self.conditions: Conditions | None = None
        self.listening: Listening | None = None
        self.look_ahead: Callable[[], dict[int, str]] | None = None

    # -- callbacks ----------------------------------------------------------------------------------

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

    # -- questions ----------------------------------------------------------------------------------

    def ask(
        self,
        op_id: str,
        *,
        token_hash: bytes,
        decode: Callable[[bytes], Any],
        timeout: float | None,
        question: Question,
        withdrawing: Sequence[Any],
        presumed: bytes | None = None,
    ) -> Generator[Any, Any, Any]:
        """What `await ask(...)` runs: ask a person, wait for the answer. Giving up the wait withdraws the question.

        Args:
            withdrawing: what the store does then.
            presumed: the answer that is taken for given; nobody is asked.

        Returns:
            The answer, and who gave it.
        """
        if self.inert:
            return self._unwound()
        ended = self.loop.create_future()
        operation = AwaitCallback(
            op_id,
            self.loop.now,
            token_hash,
            decode,
            ended,
            timeout,
            question=question,
            withdrawing=withdrawing,
            presumed=presumed,
        )
        self._open(operation)
        return self._wait_for_answer(operation)

    def _wait_for_answer(self, operation: AwaitCallback) -> Generator[Any, Any, Any]:
        try:
            answer = yield from operation.ended
            return answer, operation.by
        finally:
            if not self.inert and self.operations.get(operation.id) is operation:
                del self.operations[operation.id]
                self._fresh.pop(operation.id, None)
                self._passed(operation.id, operation)
                if operation.recorded:
                    self.withdraw(operation)

    def withdraw(self, operation: AwaitCallback) -> None:
        """Write down that the code doesn't wait for an answer any more."""
        if not self.replaying:
            self._command(CancelOperation(operation))  # the clock needn't be watched any more
        self.write_down(QuestionWithdrawn(self.loop.now, operation.id), operation.withdrawing)

    # -- messages -----------------------------------------------------------------------------------

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

    # -- publications -------------------------------------------------------------------------------

    def open_listening(self, operation: AwaitPublication) -> None:
        """A wait for a publication goes out."""
        self._open(operation)

    def give_up_listening(self, operation: AwaitPublication) -> None:
        """The code waits no more for a publication. Nothing happens if it isn't open."""
        if self.operations.get(operation.id) is operation:
            del self.operations[operation.id]
            self._fresh.pop(operation.id, None)
            self._passed(operation.id)
            if operation.recorded:
                self.close_listening(operation.id)

    def close_listening(self, op_id: str) -> None:
        """Write down that the code waits no more for a publication."""
        assert self.listening is not None
        self.write_down(PublicationGivenUp(self.loop.now, op_id), self.listening.closing(op_id))

    # -- conditions and handlers --------------------------------------------------------------------

    def until(self, predicate: Callable[[], object], timeout: float | None) -> Generator[Any, Any, None]:
        """What `await until(...)` runs."""
        if self.inert:
            return self._unwound()
        if self.conditions is None:
            self.conditions = Conditions(self)
        return self.conditions.wait(predicate, timeout)

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
