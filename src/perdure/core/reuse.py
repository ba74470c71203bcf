"""Takes over from another run's history what the code asks for again: how retries and forks go on.

The new run has a history of its own. Its code starts from the beginning, and whenever it asks for something that
succeeded in the other run, the *donor*, that outcome is copied into the new history and fed at once; nothing is
executed. So any code can follow any other: what it asks for in the same way as before is there already, what it
asks for in another way (or with other input) is done anew. A fork finds it under other numbers, too (alike.py), if
steps were put in before or left out. Failures and cancellations of the donor aren't copied; but
a counterfactual run, in which nothing is to differ but what was changed, meets the same failures, too.

Outcomes are taken in the order in which the donor recorded them, one at a time, so that what raced there ends
in the same way here. The donor's messages and updates are given again in that order, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any

import msgspec

from perdure.core import events as ev
from perdure.core.alike import of_event, of_operation, same_input, same_message, under
from perdure.core.commands import (
    AwaitCallback,
    AwaitPublication,
    CancelOperation,
    Command,
    Operation,
    RunStep,
    SendMessage,
    StartChild,
    StartTimer,
    WriteDown,
)
from perdure.core.copying import Copy, as_it_came, marked, with_outcome
from perdure.core.donor import Donor
from perdure.core.edits import given_result
from perdure.core.finding import UNSET
from perdure.core.machine import Machine
from perdure.core.scope import operation_name
from perdure.core.status import Status
from perdure.errors import UndecodableError

_GIVEN = (ev.MessageReceived, ev.UpdateAccepted)


class Reuse:
    """What a donor has to offer.

    Args:
        history: the donor's.
        donor: how it is taken over: up to where, and with which changes.
        had: the new run's own history so far: what it has taken over isn't there twice.
        unsaid: the run whose messages to the donor aren't given again: the new run's parent says anew what it has to.
        own: the donor is an earlier generation of the new run.

    Attributes:
        steps: ids of the steps whose outcomes were taken over.
        edited: those of them whose results were given.
        moved: ids that outcomes had in the donor, by those that they have here, where these differ.
        children: ids of the child runs whose results were taken over.
        origins: by op id, what whoever starts a child anew needs for it to go on from the one that was there.
    """

    __slots__ = (
        "_alike", "_edits", "_emitted", "_faithful", "_families", "_given", "_outcomes", "_own", "_recorded",
        "_results", "children", "edited", "moved", "origins", "steps",
    )  # fmt: skip

    def __init__(
        self,
        history: Iterable[ev.Event],
        donor: Donor,
        *,
        had: Sequence[ev.Event] = (),
        unsaid: str | None = None,
        own: bool = False,
    ) -> None:
        self.steps: list[str] = []
        self.edited: list[str] = []
        self.children: list[str] = []
        self.origins: dict[str, Any] = {}
        done = {event.step for event in had if isinstance(event, ev.StepCompleted)}
        self._results = {step: result for step, result in donor.results.items() if step not in done}
        self._own = own
        self._alike: dict[Hashable, list[str]] | None = None
        self.moved: dict[str, str] = {}
        self._edits = donor.edits
        self._faithful = donor.counterfactual is not None
        self._outcomes: dict[str, tuple[int, list[ev.Event]]] = {}
        self._recorded: dict[str, bytes] | None = None  # results by step, and the last one by name
        if donor.counterfactual is not None and donor.counterfactual.recorded:
            self._recorded = {}
        self._emitted: dict[str, ev.Emitted] = {}
        self._given: list[tuple[int, ev.Event]] = []
        self._families: set[str] = set()  # the donor's child runs
        begun: dict[str, ev.Event] = {}
        given = Counter(map(_plain, given_before(had)))
        for seq, event in enumerate(history, 1):
            if donor.upto is not None and seq >= donor.upto:
                break
            match event:
                case ev.StepCompleted():
                    if not event.stubbed or self._faithful:  # what was never done mustn't pass for done
                        self._outcomes[event.step] = seq, [event]
                    if self._recorded is not None:
                        self._recorded[event.step] = self._recorded[operation_name(event.step)] = event.result
                case ev.TimerFired():
                    self._outcomes[event.timer] = seq, [event]
                case ev.MessageSent() if not event.withheld or self._faithful:
                    self._outcomes[event.message] = seq, [event]
                case ev.ChildStarted():
                    begun[event.child] = event
                    self._families.add(event.run)
                case ev.CallbackOpened() | ev.PublicationAwaited():
                    begun[event.op] = event
                case ev.ChildEnded() if event.child in begun and self._takes(event):
                    self._outcomes[event.child] = seq, [begun[event.child], event]
                case ev.CallbackEnded() if event.callback in begun and self._takes(event):
                    self._outcomes[event.callback] = seq, [begun[event.callback], event]
                case ev.PublicationArrived() if event.unread is None and event.wait in begun:
                    self._outcomes[event.wait] = seq, [begun[event.wait], event]
                case ev.Emitted() if own:
                    self._emitted[event.op] = event
                case ev.MessageReceived() if event.sender is not None and event.sender == unsaid:
                    pass
                case ev.MessageReceived() | ev.UpdateAccepted():
                    if given[_plain(event)] > 0:
                        given[_plain(event)] -= 1
                    else:
                        self._given.append((seq, event))
                case ev.StepFailed() if self._faithful:
                    self._outcomes[event.step] = seq, [event]
                case ev.MessageRefused() if self._faithful:
                    self._outcomes[event.message] = seq, [event]
                case _:
                    pass
        self._forget(had)

    def _takes(self, event: ev.ChildEnded | ev.CallbackEnded) -> bool:
        if isinstance(event, ev.QuestionAnswered) and event.presumed and not self._faithful:
            return False  # nobody has said so
        if event.result is not None:
            return True
        if isinstance(event, ev.ChildEnded):
            return self._faithful and event.status == Status.FAILED
        return self._faithful and event.failure is not None

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to take."""
        if self._outcomes or self._given or self._results or self.origins or self._recorded:
            return False
        return all(edit.result is None for edit in self._edits)

    def recorded(self, op_id: str) -> list[bytes]:
        """Results that the donor has for this very step, and for one of its name; if they are to be had."""
        if self._recorded is None:
            return []
        found = (self._recorded.get(op_id), self._recorded.get(operation_name(op_id)))
        return [result for result in found if result is not None]

    def go_on(
        self,
        machine: Machine,
        feed: Callable[[ev.Event, Any], bool],
        write: Callable[[ev.Record, Sequence[Any]], bool],
    ) -> list[Command]:
        """Let the code go on as far as this history brings it.

        Args:
            feed: records an event and feeds it to the machine; False if the machine is of no more use.
            write: the same for a record of the code's, with what the store does for it.

        Returns:
            What the code has asked for beyond.
        """
        left: list[Command] = []
        ready: list[tuple[int, int, Operation, list[Copy]]] = []
        order = count()
        while True:
            for command in machine.take_commands():
                if isinstance(command, WriteDown):
                    if not write(command.record, () if self._is_out(command.record) else command.effects):
                        return []
                elif isinstance(command, Operation) and (found := self._take(command)) is not None:
                    heappush(ready, (found[0], next(order), command, found[1]))
                else:
                    left.append(command)
            while ready and machine.operations.get(ready[0][2].id) is not ready[0][2]:
                heappop(ready)  # given up by the code meanwhile
            if machine.ended:
                break
            following = self._next_given(machine)
            if following is not None and (not ready or following[0] < ready[0][0]):
                self._given.remove(following)
                copies: list[Copy] = [(marked(following[1]), UNSET)]
            elif ready:
                copies = heappop(ready)[3]
            else:
                break
            for event, value in copies:
                if not feed(event, value):
                    return []
        return _without_given_up(left, machine)

    def offers(self, command: Command) -> list[Copy]:
        """The outcome of something that the code has asked for, to be recorded as any other; empty if there is none."""
        found = self._take(command) if isinstance(command, Operation) else None
        return [] if found is None else found[1]

    def _is_out(self, record: ev.Record) -> bool:
        """Whether an item is in the stream already: a retry has the streams of its donor."""
        put = self._emitted.get(record.op)
        return put is not None and msgspec.structs.replace(record, at=put.at) == put

    def _next_given(self, machine: Machine) -> tuple[int, ev.Event] | None:
        for item in self._given:
            event = item[1]
            if isinstance(event, ev.MessageReceived):
                if event.sender in self._families and event.sender not in self.children:
                    continue  # that child is there anew, and says itself what it has to
                return item
            handlers = machine.handlers
            if isinstance(event, ev.UpdateAccepted) and handlers and event.name in handlers.updates:
                return item
        return None

    def _take(self, operation: Operation) -> tuple[int, list[Copy]] | None:
        """The donor's outcome of an operation, if it is that of the same one; it is there once."""
        id = operation.id
        seq, events = self._outcomes.get(id, (0, []))
        copies = self._copies(operation, events)
        if not copies and not self._own and (what := of_operation(operation)) is not None:
            for id in self._of_its_kind(what):
                seq, events = self._outcomes[id]
                if copies := self._copies(operation, [under(event, operation.id) for event in events]):
                    self.moved[operation.id] = id
                    break
        if not copies:
            return None
        if isinstance(operation, StartChild) and isinstance(copies[0][0], ev.ChildStarted):
            self.children.append(copies[0][0].run)
            if id == operation.id:
                self.origins.pop(id, None)
        self._outcomes.pop(id, None)
        return seq, copies

    def _copies(self, operation: Operation, events: list[ev.Event]) -> list[Copy] | None:
        match operation:
            case RunStep():
                return self._step(operation, events)
            case StartTimer():
                return [(marked(event), UNSET) for event in events]
            case SendMessage():
                same = [event for event in events if same_message(operation, event)]
                return [(marked(event), UNSET) for event in same]
            case StartChild() if self._edits and self.origins:
                return None  # they may be meant for steps of the child's
            case StartChild() | AwaitCallback():
                return with_outcome(operation, events)
            case AwaitPublication():
                return as_it_came(operation, events)
            case _:
                return None

    def _of_its_kind(self, what: Hashable) -> list[str]:
        """Ids of what is left of the same call, in order; not of those that edits give another result."""
        if self._alike is None:
            self._alike = defaultdict(list)
            for _, events in self._outcomes.values():
                found = of_event(events[0])
                if (
                    found is not None
                    and found[0] not in self._results
                    and not given_result(self._edits, found[0])
                ):
                    self._alike[found[1]].append(found[0])
        left = self._alike[what] = [id for id in self._alike[what] if id in self._outcomes]
        return left

    def goes_on_from(self, op_id: str) -> None:
        """A child is started that goes on from the donor's of this id."""
        self.origins.pop(op_id, None)
        if self._edits:  # it isn't taken over as it was either
            self._outcomes.pop(op_id, None)

    def _forget(self, had: Iterable[ev.Event]) -> None:
        """Leave out what the new run has taken over before."""
        for event in had:
            found = of_event(event) if getattr(event, "reused", False) else None
            if found is None or self._own:
                continue
            there = self._outcomes.get(found[0])
            if there is not None and of_event(there[1][0]) == found:
                del self._outcomes[found[0]]
            elif others := self._of_its_kind(found[1]):
                del self._outcomes[others[0]]

    def _step(self, step: RunStep, events: list[ev.Event]) -> list[Copy] | None:
        given = self._results.pop(step.id, None)
        if given is None and self._edits:
            given = given_result(self._edits, step.id)
        if given is not None:
            at = events[0].at if events else step.asked_at
            whole = None if step.unfit is not None else step.input
            made = ev.StepCompleted(at, step.id, 1, at, given, input=whole, reused=True)
            self.steps.append(step.id)
            self.edited.append(step.id)
            return [(made, UNSET)]
        if step.unfit is not None:
            return None
        for event in events:
            if isinstance(event, ev.StepFailed) and same_input(event, step.input):
                self.steps.append(step.id)
                return [(marked(event), UNSET)]
            if isinstance(event, ev.StepCompleted) and same_input(event, step.input):
                try:
                    value = step.decode(event.result)
                except UndecodableError:  # the code's type has changed: the step is done anew
                    return None
                self.steps.append(step.id)
                return [(marked(event), value)]
        return None


def given_before(history: Iterable[ev.Event]) -> list[ev.Event]:
    """What a run has had of its donor's messages and updates."""
    return [event for event in history if isinstance(event, _GIVEN) and event.reused]


def _plain(event: ev.Event) -> ev.Event:
    """A message or update, to be found again in the history of another run."""
    assert isinstance(event, _GIVEN)
    return msgspec.structs.replace(event, at=0.0, reused=False)


def _without_given_up(commands: list[Command], machine: Machine) -> list[Command]:
    """Nothing of this was carried out yet: what the code gave up needn't be begun, nor stopped."""
    never = {
        command.id
        for command in commands
        if isinstance(command, Operation) and machine.operations.get(command.id) is not command
    }
    return [
        command
        for command in commands
        if not (isinstance(command, Operation) and command.id in never)
        and not (isinstance(command, CancelOperation) and command.operation.id in never)
    ]
