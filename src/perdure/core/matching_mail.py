"""What events of callbacks, messages and updates mean: what comes from outside of a run, and what it sends."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.core import events as ev
from perdure.core import mismatch
from perdure.core.bounds import INBOX_MAX
from perdure.core.commands import AwaitCallback, AwaitMessage, AwaitPublication, CancelOperation, SendMessage
from perdure.core.finding import UNSET, fail
from perdure.core.matching_calls import MatchingCalls
from perdure.errors import CallbackFailed, InboxFullError, RunEndedError, UndecodableError, UnknownRunError


class MatchingMail(MatchingCalls):
    """What the code waits for comes in."""

    __slots__ = ()

    # -- updates ------------------------------------------------------------------------------------

    def _update_accepted(self, event: ev.UpdateAccepted, value: Any) -> None:
        handler = None if self.handlers is None else self.handlers.updates.get(event.name)
        if handler is None or self.ended:
            raise self._unexpected(event)
        assert self.handlers is not None
        self.handlers.begin(self, handler, event)

    def _update_completed(self, event: ev.UpdateCompleted, value: Any) -> None:
        """On replay it must have ended in the same way; an exception's text may tell of places in memory."""
        done = None if self._records is None else self._records.pop(event.op, None)
        if done is None:
            raise self._unexpected(event)
        record = done.record
        assert isinstance(record, ev.UpdateCompleted)
        if record.result != event.result or _type(record.failure) != _type(event.failure):
            raise mismatch.changed_record(self.run_id, self.seq, event, record, self.loop)
        self._fresh.pop(event.op, None)

    # -- callbacks ----------------------------------------------------------------------------------

    def _callback_opened(self, event: ev.CallbackOpened, value: Any) -> None:
        operation = self._known(event, event.op)
        if operation is None:
            dropped = self._dropped.get(event.op)
            if isinstance(
                dropped, AwaitCallback
            ):  # given up before this was written, so the store has yet to be told
                self.withdraw(dropped)
            return
        if not isinstance(operation, AwaitCallback):
            raise self._unexpected(event)
        self._check_question(event, operation)
        operation.timeout, operation.heartbeat = event.timeout, event.heartbeat
        operation.opened_at = event.at
        operation.recorded = True

    def _check_question(self, event: ev.CallbackOpened, operation: AwaitCallback) -> None:
        """An answer counts for the question to which it was given, so the code has to ask that one."""
        asked = operation.question
        told = event.question if isinstance(event, ev.QuestionAsked) else None
        if told is None and asked is None:
            return
        if told is None or asked is None or not same_question(told, asked):
            raise mismatch.changed_question(self.run_id, self.seq, event, asked, self.loop)

    def _callback_ended(self, event: ev.CallbackEnded, value: Any) -> None:
        operation = self._take(event, event.callback)
        if operation is None:
            return
        if not isinstance(operation, AwaitCallback):
            raise self._unexpected(event)
        if not self.replaying:
            self._command(CancelOperation(operation))  # the clock needn't be watched any more
        if isinstance(event, ev.QuestionAnswered):
            operation.by = event.by
        told = event.failure.message if event.failure is not None else ""
        if event.result is not None:
            operation.ended.set_result(operation.decode(event.result) if value is UNSET else value)
        elif event.timed_out:
            fail(operation.ended, TimeoutError(told))
        else:
            fail(operation.ended, CallbackFailed(told, callback=event.callback))

    def read_callback(self, event: ev.CallbackEnded) -> tuple[ev.CallbackEnded, Any]:
        """Before what came for a callback is recorded: decode it. If it doesn't fit, it is a failure.

        Whoever sends a value of another type than the code expects mustn't block the run.
        """
        operation = self.operations.get(event.callback)
        if event.result is None or not isinstance(operation, AwaitCallback):
            return event, UNSET
        try:
            return event, operation.decode(event.result)
        except UndecodableError as error:
            told = f"a value came that isn't what the code expects. {error.__cause__ or error}"
            failure = ev.Failure(type="perdure.errors.CallbackFailed", message=told)
            if isinstance(event, ev.QuestionAnswered):
                event = msgspec.structs.replace(event, given=event.result)
            return msgspec.structs.replace(event, result=None, failure=failure), UNSET

    # -- messages -----------------------------------------------------------------------------------

    def _message_received(self, event: ev.MessageReceived, value: Any) -> None:
        self.open_mailbox().put(self.seq, event)

    def _message_awaited(self, event: ev.MessageAwaited, value: Any) -> None:
        operation = self._known(event, event.receive)
        if isinstance(operation, AwaitMessage):
            operation.noted = True

    def _message_sent(self, event: ev.MessageSent | ev.MessageRefused, value: Any) -> None:
        operation = self._take(event, event.message)
        if operation is None:
            return
        if not isinstance(operation, SendMessage):
            raise self._unexpected(event)
        if (event.run, event.name) != (operation.to, operation.name):
            raise mismatch.changed_address(self.run_id, self.seq, event, operation, self.loop)
        if isinstance(event, ev.MessageRefused):
            if not operation.future.done():
                fail(operation.future, _refusal(event))
            return
        self._check_recorded(event, event.payload, event.fingerprint, operation.payload)
        if not operation.future.done():
            operation.future.set_result(None)

    # -- publications -------------------------------------------------------------------------------

    def _publication_awaited(self, event: ev.PublicationAwaited, value: Any) -> None:
        operation = self._known(event, event.op)
        if operation is None:  # given up before this was written, so the store has yet to be told
            self.close_listening(event.op)
            return
        if not isinstance(operation, AwaitPublication):
            raise self._unexpected(event)
        if (event.name, event.where) != (operation.name, operation.where):
            raise mismatch.changed_record(self.run_id, self.seq, event, _asked(operation), self.loop)
        if self._doubt is not None and operation.id in self._fresh:
            self._check_doubt(operation.id)
        operation.recorded = True

    def _publication_arrived(self, event: ev.PublicationArrived, value: Any) -> None:
        waiting = self.operations.get(event.wait)
        if event.unread is not None and isinstance(waiting, AwaitPublication):
            assert self.listening is not None
            self.listening.passed_over(waiting, event.number)
            waiting.recorded = False
            self._hand_out(waiting.id, waiting)
            return
        operation = self._take(event, event.wait)
        if operation is None:  # whoever waits next gets it
            return
        if not isinstance(operation, AwaitPublication):
            raise self._unexpected(event)
        if not operation.future.done():
            assert event.payload is not None
            read = operation.decode(event.payload) if value is UNSET else value
            operation.future.set_result((event.number, read))

    def read_publication(self, event: ev.PublicationArrived) -> tuple[ev.PublicationArrived, Any]:
        """Before it is recorded that a publication came: decode it. One that doesn't fit is passed over.

        Whoever publishes something of another type than the code expects mustn't block the run.
        """
        operation = self.operations.get(event.wait)
        if event.payload is None or not isinstance(operation, AwaitPublication):
            return event, UNSET
        try:
            return event, operation.decode(event.payload)
        except UndecodableError as error:
            return msgspec.structs.replace(event, payload=None, unread=str(error)), UNSET


def same_question(one: ev.Question, other: ev.Question) -> bool:
    """Whether an answer to the one is an answer to the other. How it is put, and to whom, may change."""
    return (one.text, one.details, one.digest) == (other.text, other.details, other.digest)


def _asked(operation: AwaitPublication) -> ev.PublicationAwaited:
    return ev.PublicationAwaited(operation.asked_at, operation.id, operation.name, operation.where)


def _type(failure: ev.Failure | None) -> str | None:
    return None if failure is None else failure.type


def _refusal(event: ev.MessageRefused) -> UnknownRunError | RunEndedError | InboxFullError:
    if event.why == "inbox_full":
        return InboxFullError(
            f"message {event.name!r} couldn't be sent to run {event.run!r}: {INBOX_MAX:,} messages and updates wait "
            "there, and no more may. Send it again when that run has received some, or fewer and larger ones"
        )
    if event.why == "run_ended":
        return RunEndedError(
            f"message {event.name!r} couldn't be sent to run {event.run!r}: that run has ended. Whatever it "
            "still needs to hear has to come before it ends"
        )
    return UnknownRunError(
        f"message {event.name!r} couldn't be sent to run {event.run!r}: no run has this id. Start it first",
        run_id=event.run,
    )
