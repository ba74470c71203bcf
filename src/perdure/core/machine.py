"""The machine: events in, commands out.

One machine drives the code of one run. It is fed the run's events one at a time, in recorded order; after
each it drains the run's loop and notes what the code asked for meanwhile. Whether an event was just
recorded or comes from a history of last year makes no difference to it: that is what replay is.

Operations the code asked for are *open* until their outcome is fed. The ones whose outcome isn't in the
history are handed out by `take_commands()` once the history is used up, and only then carried out. An
event that no open operation fits is a divergence, and is refused before any command gets out.

An operation the code stopped waiting for (it was cancelled) is *dropped*: an outcome that was on its way
to the log already may still arrive, and is passed over, live and on replay alike.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from perdure.core import events as ev
from perdure.core import mismatch
from perdure.core.commands import Ending, Finish, Operation, WriteDown
from perdure.core.conditions import done_looking
from perdure.core.continuing import ContinueAs
from perdure.core.finding import UNSET
from perdure.core.handlers import Passed
from perdure.core.matching import Matching
from perdure.core.matching_calls import StepError
from perdure.errors import TurnLimitError

#: The encoded input of a workflow that is called without arguments.
_NO_ARGUMENTS = b"[[],{}]"


class Machine(Matching):
    """The state of one run, rebuilt from its events.

    Args:
        run_id: the run's public id.
        workflow: the workflow's durable name.
        main: makes the workflow's coroutine from the first event.
        step_error: makes the exception the code sees from a recorded failure.
        child_error: makes the exception the code sees from a child's end.
        max_payload: largest encoded input in bytes that its calls may have.

    Attributes:
        replaying: events being fed are history; the code's log and error reports are silent.
        inert: the run is leaving memory; durable calls unwind instead of doing anything.
        ended: the workflow function and all it left behind are done.
    """

    __slots__ = ("_main", "max_payload", "workflow")

    def __init__(
        self,
        run_id: str,
        workflow: str,
        main: Callable[[ev.RunStarted], Coroutine[Any, Any, Any]],
        step_error: StepError,
        child_error: Callable[[ev.ChildEnded, str], BaseException],
        max_payload: int,
    ) -> None:
        super().__init__(run_id, step_error, child_error)
        self.workflow = workflow
        self.max_payload = max_payload
        self._main: Callable[[ev.RunStarted], Coroutine[Any, Any, Any]] | None = main

    # -- events in ----------------------------------------------------------------------------------

    def begin(self, event: ev.RunStarted, at: float) -> None:
        """Feed the first event. `at` is when the run was first driven: the code's first idea of now."""
        main, self._main = self._main, None
        assert main is not None, "a run begins once"
        if event.workflow != self.workflow:
            raise mismatch.changed_workflow(self.run_id, event.workflow, self.workflow)
        # what runs have alike isn't kept for each of them
        plain = _NO_ARGUMENTS if event.input == _NO_ARGUMENTS else event.input
        self.started = msgspec.structs.replace(event, workflow=self.workflow, input=plain)
        self.seq = 1
        self.loop.now = at
        self.loop.start(main(event))
        self._settle()

    def feed(self, event: ev.Event, value: Any = UNSET) -> None:
        """Feed the next event and let the code go on as far as it gets.

        Args:
            value: the decoded result, if the caller has it at hand.

        Raises:
            NonDeterminismError: the code didn't ask for this.
            UndecodableError: the recorded value doesn't fit the code's type.
            TurnLimitError: the code was interrupted because it didn't come to an await.
        """
        self.seq += 1
        if event.at > self.loop.now:
            self.loop.now = event.at
        kind = type(event)
        if (turn := _TURNS.get(kind)) is not None:
            turn(self, event, value)
            self._settle()
        else:
            _NOTES[kind](self, event, value)

    # -- the code's turn ----------------------------------------------------------------------------

    def _settle(self) -> None:
        """Drain the loop; when the workflow function is done, wind up what it left running."""
        if self.ended:  # what its last turn was recorded with, and of no more concern
            return
        loop = self.loop
        root = loop.root
        assert root is not None
        loop.silent = self.replaying
        try:
            while True:
                loop.drain()
                if self.conditions is not None:
                    self.conditions.settle()
                if not (root.done() and loop.has_leftovers() and loop.wind_up()) or loop.interrupted:
                    break
        except SystemExit as error:
            loop.silent = True  # it is the run's outcome now: asyncio needn't report it as unheard
            self._finish(Ending.RAISED, error=error)
            return
        if loop.interrupted:
            raise self.turn_limit_error()
        if root.done() and not loop.live_tasks():
            self._read_outcome()

    def _read_outcome(self) -> None:
        root = self.loop.root
        assert root is not None
        if root.cancelled():
            self._finish(Ending.CANCELLED)
        elif isinstance(error := root.exception(), ContinueAs):
            self._finish(Ending.CONTINUED, error=error)
        elif error is not None:
            self._finish(Ending.RAISED, error=error)
        else:
            self._finish(Ending.RETURNED, value=root.result())

    def _finish(self, ending: Ending, value: Any = None, error: BaseException | None = None) -> None:
        self.ended = True
        for command in self._fresh.values():  # asked for, never to be awaited
            if isinstance(command, Operation):
                self.operations.pop(command.id, None)
                self._passed(command.id)
        self._fresh = {key: done for key, done in self._fresh.items() if isinstance(done, WriteDown)}
        self._command(Finish(ending, value, error))

    def unheard(self) -> list[ev.Event]:
        """What has come from outside, for the run as such, and its code hasn't heard of. Messages oldest first."""
        messages: list[ev.Event] = [] if self.mailbox is None else [*self.mailbox.left()]
        return messages if self._late_cancel is None else [*messages, self._late_cancel]

    def admits(self) -> bool:
        """Whether an update may begin now. Where they are summed up, the one before has to be written down."""
        handlers = self.handlers
        return handlers is None or handlers.keeper is None or not (handlers.going or self.asks())

    def stuck(self) -> str | None:
        """What the code waits for when it has asked for nothing that would come; None if it has."""
        handlers = self.handlers
        if self.operations or self.ended or (handlers is not None and handlers.keeper is not None):
            return None
        where = "".join(f"\n  code is at: {place}" for place in mismatch.where(self.loop)[:6])
        if handlers is not None and handlers.updates:
            names = ", ".join(handlers.updates)
            return (
                "the code waits for its own state to change (until, an Event, a Queue), and from outside only an "
                f"update ({names}) or a cancellation can bring that.{where}"
            )
        return (
            "the code waits for something that no step, timer, child, message or callback will bring, such as an "
            f"Event that nobody sets or a Queue that nobody fills. Only a cancellation can end this wait.{where}"
        )

    def turn_limit_error(self) -> TurnLimitError:
        return TurnLimitError(
            f"run {self.run_id!r} was interrupted: its workflow code ran on without awaiting anything "
            "durable for longer than the engine's turn_limit. Move long computations into a @step, and let "
            "loops await something; the run is blocked until its code is mended."
        )

    def _checkpointed(self, event: ev.Checkpointed, value: Any) -> None:
        """What the code has just summed up; or that from which it begins."""
        if self._records is not None and event.op in self._records:
            self._confirm(event, value)
        elif self.handlers is None or self.handlers.keeper is None or self.seq != 2:
            raise self._unexpected(event)
        else:
            self._dropped = Passed(self.handlers.restore(event))

    # -- leaving memory -----------------------------------------------------------------------------

    def close(self) -> None:
        """Unwind the code without any effect: the run is leaving memory, or its state is void."""
        if not self.inert:
            self.inert = True
            self.supervisor = None
            if self.conditions is not None:
                done_looking(self.loop)
            if not self.ended or self.loop.has_leftovers():
                self.loop.abandon()
            self.loop.over = True
            self.operations.clear()
            self._fresh = {}
            self._commands = None


#: After these the code gets a turn.
_TURNS: dict[type[ev.Event], Callable[[Any, Any, Any], None]] = {
    ev.StepCompleted: Machine._step_ended,
    ev.StepFailed: Machine._step_ended,
    ev.TimerFired: Machine._timer_fired,
    ev.ChildStarted: Machine._child_started,
    ev.ChildEnded: Machine._child_ended,
    ev.UpdateAccepted: Machine._update_accepted,
    ev.CallbackEnded: Machine._callback_ended,
    ev.QuestionAnswered: Machine._callback_ended,
    ev.PublicationArrived: Machine._publication_arrived,
    ev.MessageReceived: Machine._message_received,
    ev.MessageSent: Machine._message_sent,
    ev.MessageRefused: Machine._message_sent,
    ev.CancelRequested: Machine._cancel_requested,
    ev.DeadlinePassed: Machine._deadline,
}

#: These change nothing that the code could see.
_NOTES: dict[type[ev.Event], Callable[[Any, Any, Any], None]] = {
    ev.RunStarted: Machine._refuse,
    ev.RunRecovered: Machine._pass_over,
    ev.RunPaused: Machine._pass_over,
    ev.RunResumed: Machine._pass_over,
    ev.StepStarted: Machine._step_noted,
    ev.StepAttemptFailed: Machine._step_noted,
    ev.StepSent: Machine._step_sent,
    ev.ErrandEnded: Machine._refuse,
    ev.StepDelayed: Machine._step_delayed,
    ev.StepParked: Machine._step_parked,
    ev.StepRerun: Machine._step_rerun,
    ev.TimerStarted: Machine._timer_noted,
    ev.OperationDropped: Machine._drop_noted,
    ev.UpdateCompleted: Machine._update_completed,
    ev.CallbackOpened: Machine._callback_opened,
    ev.QuestionAsked: Machine._callback_opened,
    ev.QuestionWithdrawn: Machine._confirm,
    ev.PublicationAwaited: Machine._publication_awaited,
    ev.PublicationGivenUp: Machine._confirm,
    ev.Published: Machine._confirm,
    ev.MessageAwaited: Machine._message_awaited,
    ev.MessageSetAside: Machine._confirm,
    ev.Emitted: Machine._confirm,
    ev.Checkpointed: Machine._checkpointed,
    ev.AttributesSet: Machine._attributes_noted,
    ev.Patched: Machine._patch_noted,
    ev.RunCompleted: Machine._ended,
    ev.RunFailed: Machine._ended,
    ev.RunCancelled: Machine._ended,
    ev.RunContinued: Machine._ended,
    ev.RunTerminated: Machine._pass_over,
}
