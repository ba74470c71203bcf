"""Receives those who call a run's handlers: judges updates before they become part of the history, lets queries look.

An update comes by mail and is held here until its validator can see the state in which its handler would begin:
nothing may be on its way to the code that hasn't got there. So mail behind an update waits with it, and an update
behind an accepted one waits for that one's first turn. A rejection is an append without events: the mail is gone
and the caller has the answer, the history doesn't know.

A handler that tried to act although it may only look has left the state in memory void. The run then takes down
what happens, but doesn't let its code see it; as soon as nothing executes, it leaves memory and goes on from its
history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from perdure.core import events as ev
from perdure.core.machine import Machine
from perdure.errors import ReadOnlyError
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.host import Host
from perdure.runtime.looking import look, refusal
from perdure.runtime.pausing import RESUMING, Pause
from perdure.runtime.work import Work
from perdure.storage.effects import Effect, SetUpdate, UpdateState

T = TypeVar("T")


class Run(Protocol):
    """The run's driver."""

    machine: Machine
    definition: WorkflowDefinition
    gone: bool
    pause: Pause | None

    @property
    def host(self) -> Host[Any]: ...
    @property
    def work(self) -> Work: ...
    def take(self, number: int, event: ev.Event) -> None: ...
    def drop(self, number: int) -> None: ...
    def add_effect(self, effect: Effect) -> None: ...
    def only_records(self) -> bool: ...
    def busy(self) -> bool: ...
    def flush(self) -> None: ...
    def now(self) -> float: ...
    def release(self, wake_at: float | None) -> None: ...


class Reception:
    """The callers of one run.

    Attributes:
        void: what is in memory isn't what the history says any more.
    """

    __slots__ = ("_answers", "_held", "_run", "void")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._held: list[tuple[int, ev.Event]] = []
        self._answers: list[SetUpdate] = []  # in the append that is on its way
        self.void = False

    def receive(self, number: int, event: ev.Event) -> None:
        """An inbox item: an update, or what came after one."""
        if self._held or isinstance(event, ev.UpdateAccepted):
            self._held.append((number, event))
        else:
            self._run.take(number, event)

    def go_on(self) -> None:
        """Nothing of the run is on its way to the log: take in what is held, as far as that goes."""
        run = self._run
        if run.pause is not None:
            self._take_what_resumes()
        elif not self.void:
            self._judge()
        if self.void and not run.busy() and not run.work.executing:
            run.release(run.now())

    def _judge(self) -> None:
        """Take in mail in its order, up to and including the next update that isn't rejected."""
        run = self._run
        while self._held and run.only_records() and run.machine.admits():
            root = run.machine.loop.root
            if root is None or root.done():
                return  # the run is ending: what it hasn't taken up, it never will
            number, event = self._held.pop(0)
            if not isinstance(event, ev.UpdateAccepted):
                run.take(number, event)
                continue
            turns, guarded = run.host.turns, run.definition.guard
            no, self.void = refusal(turns, run.machine, guarded, event)
            run.add_effect(no or SetUpdate(event.update, UpdateState.ACCEPTED))
            if no is None:
                run.take(number, event)
                continue
            run.drop(number)
            if self.void:
                return

    def _take_what_resumes(self) -> None:
        """A paused run takes in nothing but what ends its pause, whatever stands in line before that."""
        for place, (number, event) in enumerate(self._held):
            if type(event) in RESUMING:
                del self._held[place]
                self._run.take(number, event)
                return

    # -- answers ------------------------------------------------------------------------------------

    def sending(self, effects: Sequence[Effect]) -> None:
        """These effects go with the append that is handed in now."""
        self._answers += [item for item in effects if isinstance(item, SetUpdate) and item.state.answered]

    def sent(self) -> None:
        """That append is durable: tell the callers in this process."""
        if self._answers:
            answers, self._answers = self._answers, []
            self._run.host.answered(self._run, answers)

    # -- looking ------------------------------------------------------------------------------------

    def sound(self) -> bool:
        """Whether what is in memory is what the history says."""
        return not self._run.gone and not self.void

    def look(self, call: Callable[[], T]) -> T:
        """Call something that only looks at the run's state.

        Raises:
            ReadOnlyError: it tried to act.
        """
        run = self._run
        try:
            return look(run.host.turns, run.machine, run.definition.guard, call)
        except ReadOnlyError:
            self.void = True
            run.flush()
            raise
