"""Talking to a run: messages, queries and updates go in, its streams come out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from perdure.api.connection import Connection
from perdure.api.messages import new_mail
from perdure.codec.values import check_size
from perdure.core.bounds import INBOX_MAX
from perdure.core.retry import seconds
from perdure.errors import InboxFullError, RunEndedError, UnknownRunError
from perdure.runtime.handlers import encode_call
from perdure.storage.records import Delivery

if TYPE_CHECKING:
    from perdure.api.interface import RunInterface
    from perdure.api.questions import QuestionInfo
    from perdure.api.steplogs import LogLine
    from perdure.api.streams import StreamItem

T = TypeVar("T")


class Addressed:
    """The part of a handle that talks to its run."""

    id: str
    _connection: Connection

    async def send(self, name: str, value: Any, *, key: str | None = None) -> None:
        """Send the run a message: durable when this returns, delivered once, in the order of sending.

        The run may not have begun yet, may not wait for the message yet, or be blocked; it is kept until the
        code receives it. A run that ends first keeps it as undelivered.

        Args:
            name: the message's name, as given to `receive`.
            value: plain data, or anything else that has a JSON form.
            key: makes sending idempotent: a second message of this name and key to this run is ignored.

        Raises:
            UnknownRunError: no run has this id.
            RunEndedError: it has ended (and has had no message of this name and key before).
            InboxFullError: too many messages wait in its inbox already.
            NotSerializableError, PayloadTooLargeError: the value can't be recorded.
            UsageError: the name or the key can't be a message's.

        Example:
            >>> await engine.get("order-7").send("approval", True, key="mail-81")  # doctest: +SKIP
        """
        connection = self._connection
        connection.check()
        now = connection.clock()
        mail = new_mail(name, value, key, at=now, max_payload=connection.max_payload)
        delivery = await connection.store.send(self.id, mail.data, now=now, kind=mail.kind, key=mail.key)
        self._known(delivery)
        if delivery is Delivery.RUN_ENDED:
            raise ended_error(self.id, f"message {name!r} wasn't")
        if delivery is Delivery.INBOX_FULL:
            raise full_error(self.id, f"message {name!r} wasn't")

    async def answer(
        self, value: Any, *, by: str | None = None, via: str = "python", question: str | None = None
    ) -> QuestionInfo:
        """Answer the question that the run asks (see `perdure.ask`). As `engine.answer`, by the run instead of the id.

        Args:
            value: the answer.
            by: who answers; the run's history keeps it.
            via: through what it comes, for the history.
            question: the question's id, if the run asks several.

        Raises:
            UnknownQuestionError: the run asks nothing at the moment.
            UsageError: it asks several questions.
            InvalidAnswerError, QuestionAnsweredError, QuestionClosedError: as for `engine.answer`.
            UnknownRunError: no run has this id.

        Example:
            >>> await engine.get("article-7").answer({"approved": True}, by="ann")  # doctest: +SKIP
        """
        from perdure.api.questions import answer_question, question_of

        connection = self._connection
        id = question or (await question_of(connection, self.id)).id
        return await answer_question(connection, id, value, by=by, via=via, digest=None)

    @overload
    def stream(
        self, name: str, after: int | None = None, *, superseded: bool = False, follow: bool = True
    ) -> AsyncIterator[StreamItem[Any]]: ...
    @overload
    def stream(
        self,
        name: str,
        after: int | None = None,
        *,
        type: type[T],
        superseded: bool = False,
        follow: bool = True,
    ) -> AsyncIterator[StreamItem[T]]: ...
    def stream(
        self,
        name: str,
        after: int | None = None,
        *,
        type: Any = Any,
        superseded: bool = False,
        follow: bool = True,
    ) -> AsyncIterator[StreamItem[Any]]:
        """What the run puts into a stream, in order, until the run has ended and all of it is read.

        Args:
            name: the stream, as in `perdure.emit(name, item)`. One that nothing was put into is empty.
            after: start behind the item with this offset; by default from the first.
            type: read the values as this; plain JSON by default.
            superseded: include items of failed and lost attempts that are known to be void. Without it they
                are left out; of what becomes void after it was read, an item of kind "superseded" tells.
            follow: wait for more while the run goes on. False stops at what there is now.

        Raises:
            UnknownRunError: no run has this id.
            UndecodableError: an item can't be read as `type`.

        Example:
            >>> async for item in handle.stream("tokens", after=last_seen):  # doctest: +SKIP
            ...     print(item.value, end="")
        """
        self._connection.check()
        from perdure.api.streams import read_stream

        return read_stream(
            self._connection,
            self.id,
            name,
            after=after or 0,
            type=type,
            superseded=superseded,
            follow=follow,
        )

    async def streams(self) -> list[tuple[str, int]]:
        """The streams that the run has put something into, by name, with the offset of each one's newest item.

        Raises:
            UnknownRunError: no run has this id.

        Example:
            >>> await handle.streams()  # doctest: +SKIP
            [('progress', 7), ('tokens', 1840)]
        """
        await self._connection.row(self.id)
        return await self._connection.store.streams.names(self.id)

    def step_logs(self, after: int | None = None, *, follow: bool = False) -> AsyncIterator[LogLine]:
        """What the run's steps have logged, as far as a `perdure.StepLogHandler` has kept it, in order.

        Lines of attempts that failed are among them.

        Args:
            after: start behind the line with this offset.
            follow: wait for more until the run has ended.

        Raises:
            UnknownRunError: no run has this id.

        Example:
            >>> async for line in handle.step_logs():  # doctest: +SKIP
            ...     print(line.step, line.attempt, line.level, line.text)
        """
        self._connection.check()
        from perdure.api.steplogs import read_lines

        return read_lines(self._connection, self.id, after=after or 0, follow=follow)

    async def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask one of the run's query handlers (see `perdure.on_query`). It changes nothing and leaves no trace.

        It is answered by the run in memory, or from its history by any process that has the workflow's code;
        so ended, blocked and paused runs have answers, too. A process without the code (a client, the command
        line) has a worker answer; the value is then the plain JSON of it.

        Args:
            name: the handler's name.
            args, kwargs: what it is called with, read by its annotations.

        Raises:
            UnknownHandlerError: the run has no such handler.
            ReadOnlyError: the handler tried to act.
            HandlerUnreachableError: nobody who has the code could be reached.
            UnknownRunError: no run has this id.
            Exception: what the handler raised; HandlerFailed if that can't be rebuilt here.

        Example:
            >>> await handle.query("progress")  # doctest: +SKIP
            {'done': 3, 'left': 7}
        """
        row = await self._connection.row(self.id)
        input = encode_call(args, kwargs, f"query {name}")
        check_size(input, self._connection.max_payload, f"input of query {name}")
        return await self._connection.inquiry.query(row, name, input)

    async def interface(self) -> RunInterface:
        """What can be said to the run at the moment: the messages it waits for, its updates and queries, with forms.

        It is answered as queries are.

        Raises:
            HandlerUnreachableError: nobody who has the code could be reached.
            UnknownRunError: no run has this id.

        Example:
            >>> (await handle.interface()).messages  # doctest: +SKIP
            {'approval': {'type': 'boolean'}}
        """
        from perdure.api.interface import RunInterface
        from perdure.runtime.interface import INTERFACE

        row = await self._connection.row(self.id)
        found = await self._connection.inquiry.query(row, INTERFACE, encode_call((), {}, "interface"))
        return RunInterface(**found)

    async def update(
        self,
        name: str,
        /,
        *args: Any,
        key: str | None = None,
        timeout: float | timedelta | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call one of the run's update handlers (see `perdure.on_update`) and wait for its result.

        The call is durable before this waits, and an update once accepted survives crashes. It waits for a run
        that hasn't begun yet, or that is paused or blocked.

        Args:
            name: the handler's name.
            args, kwargs: what it is called with, read by its annotations.
            key: makes the call idempotent: with a key that the run has had before nothing is called, and the
                answer is that of the first call, also after the run's end.
            timeout: how long to wait, in seconds. The update goes on, whatever becomes of this wait.

        Raises:
            UpdateRejected: the validator said no, or the arguments don't fit. Nothing is in the history.
            UnknownHandlerError: the run has no such handler after its first activation.
            RunConflictError: the key belongs to a call with other arguments.
            RunEndedError: the run has ended, or ended before the update did.
            InboxFullError: too many messages and updates wait in its inbox already.
            TimeoutError: it hasn't ended within `timeout`.
            UnknownRunError: no run has this id.
            Exception: what the handler raised; HandlerFailed if that can't be rebuilt here.

        Example:
            >>> await handle.update("add", "milk", key="request-7")  # doctest: +SKIP
        """
        row = await self._connection.row(self.id)
        input = encode_call(args, kwargs, f"update {name}")
        check_size(input, self._connection.max_payload, f"input of update {name}")
        limit = None if timeout is None else seconds(timeout, "timeout")
        return await self._connection.inquiry.update(row, name, input, key, limit)

    def _known(self, delivery: Delivery) -> None:
        if delivery is Delivery.UNKNOWN_RUN:
            msg = f"no run has the id {self.id!r} in this database: look it up with `perdure ls`"
            raise UnknownRunError(msg, run_id=self.id)
        self._connection.nudge()


def ended_error(id: str, lost: str) -> RunEndedError:
    """The error of whoever sends something to a run that has ended. `lost` says what, as "message 'a' wasn't"."""
    return RunEndedError(
        f"run {id!r} has ended: {lost} delivered. Send what a run needs before it ends, or start another run for it"
    )


def full_error(id: str, lost: str) -> InboxFullError:
    """The error of whoever sends something to a run that has too much mail. `lost` says what wasn't sent."""
    return InboxFullError(
        f"{INBOX_MAX:,} messages and updates wait in the inbox of run {id!r}, and no more may: {lost} sent. Send it "
        "again when the run has received some (`perdure why` tells why it doesn't), or fewer and larger ones"
    )
