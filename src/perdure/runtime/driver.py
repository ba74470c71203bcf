"""The life of one run on this worker.

A driver holds the run's machine and carries the machine's commands out. Everything that happens to the run
comes in as an event through `record()`: it is appended to the history, and when that is durable it is fed
to the machine, whose code then goes on (appending.py). At most one append of a run is on its way; what happens
meanwhile is collected and follows in the next (collecting.py).

    record(event) -> buffer -> journal -> durable -> machine -> commands -> steps, timers, children
        ^                                                                            |
        +----------------------------------------------------------------------------+

If the append is refused (another worker took over), or history and code disagree, or the code spins, the
driver lets go: it unwinds the code without effect and leaves the run to its new owner, or blocked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from perdure.codec.redaction import mask
from perdure.core import events as ev
from perdure.core.commands import Command, RunStep, StartChild
from perdure.core.finding import UNSET
from perdure.core.machine import Machine
from perdure.core.namespaces import prefix_of
from perdure.core.reuse import Reuse
from perdure.core.status import Status
from perdure.errors import DamagedHistoryError, HistoryFullError, NonDeterminismError, UndecodableError
from perdure.runtime.appending import Appending
from perdure.runtime.carrying import carry_out, still_wanted
from perdure.runtime.collecting import NO_EVENTS
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.elsewhere import REPORTS, take_report
from perdure.runtime.endings import Last
from perdure.runtime.feeding import feed
from perdure.runtime.fullness import holds_back, keeps_back, take_more
from perdure.runtime.host import Handover, Host
from perdure.runtime.machines import let_go
from perdure.runtime.notes import wait_notes
from perdure.runtime.parking import DECISIONS, admitted, goes_on, too_late, why_parked
from perdure.runtime.pausing import TURNING, Pause, admitted_now, paused_after
from perdure.runtime.reception import Reception
from perdure.runtime.renewing import renew
from perdure.runtime.takeover import first_moment, take_over
from perdure.runtime.timelimit import TimeLimited
from perdure.runtime.work import FOLLOWED, Work
from perdure.storage.attributes import Misfit
from perdure.storage.publications import CloseWaits
from perdure.storage.records import BlockCode, RunRow


class Driver(Appending, TimeLimited):
    """Drives one run.

    Args:
        host: the worker's parts that a driver uses.
        row: the run as claimed or created; its epoch is what every append names.

    Attributes:
        donor: what the run may still take over from the one that it retries or forks.
        overflow: messages that stay in the inbox until the code has received some.
    """

    __slots__ = ("_held", "_last_mail", "definition", "donor", "machine", "number", "overflow", "work")

    made = 0  # how many drivers this process has made so far
    carries_errand = False  # whether the run is a step's attempt that another run has sent here

    def __init__(
        self, host: Host[Driver], row: RunRow, definition: WorkflowDefinition, machine: Machine
    ) -> None:
        super().__init__(host, row)
        Driver.made += 1
        self.number = Driver.made
        self.definition = definition
        self.machine = machine
        machine.supervisor = self
        self.work = Work(self)
        self.donor: Reuse | None = None
        self._last_mail = 0
        self.overflow: dict[str, list[tuple[int, ev.Event]]] | None = None
        self._held: list[Command] | None = None  # commands that wait for the append on its way

    # -- events in ----------------------------------------------------------------------------------

    def begin(self, event: ev.RunStarted) -> None:
        """Feed the first event of a new run. Nothing the code asks for is carried out before `proceed()`."""
        self._last_at = first_moment(event, self._last_at)
        feed(self, event, self._last_at)
        if not self.gone:
            self._met(event)

    def recall(self, event: ev.Event) -> None:
        """Feed one recorded event, amid a replay (feeding.py)."""
        kind = type(event)
        if kind is ev.StepCompleted:  # nearly all are of this kind
            if event.at > self._last_at:
                self._last_at = event.at
            self.machine.feed(event)
        elif isinstance(event, ev.RunStarted):
            self._last_at = first_moment(event, self._last_at)
            self.machine.begin(event, self._last_at)
            self._met(event)
        else:
            self._last_at = max(self._last_at, event.at)
            self.has_children = self.has_children or isinstance(event, ev.ChildStarted | ev.StepSent)
            self.machine.feed(event)
            if kind in TURNING:
                self.pause = paused_after(event, self.pause)

    def _met(self, started: ev.RunStarted) -> None:
        """The first event tells as what its steps know the run."""
        self.keys = started.keys
        self.keys_of = None if started.keys_of is None else prefix_of(self.id) + started.keys_of

    def go_on_from(self, donor: Reuse) -> None:
        """Take over what a donor has, before anything else comes to the code."""
        self.donor = donor
        if self.pause is None:
            self._held = take_over(self, donor)

    def recovered(self, worker: str, version: str) -> None:
        """Let the history show that the run's former driver died."""
        self._riders = [ev.RunRecovered(self.now(), worker, self.epoch, version)]

    def record(self, event: ev.Event, value: Any = UNSET) -> None:
        """Something happened: append it, and feed it once it is durable."""
        if self.gone or self._final_sent:
            return
        if event.at < self._last_at:  # the wall clock was set back; a run's time isn't
            event = msgspec.structs.replace(event, at=self._last_at)
        self._last_at = event.at
        if self._buffer is NO_EVENTS:
            self._buffer = [(event, value)]
        else:
            self._buffer.append((event, value))
        self.flush()

    def take_mail(self, items: Iterable[tuple[int, ev.Event]]) -> None:
        """Take inbox items into the history, each once, in the order of their arrival."""
        for number, sent in admitted_now(items, paused=self.pause is not None):
            if number > self._last_mail and not self.gone and not self._final_sent:
                self._last_mail = number
                if type(sent) in DECISIONS and too_late(self.machine, sent):
                    if self._in_flight:  # that the step waits may be durable, and not known here
                        self._early = [*(self._early or ()), (number, sent)]
                    else:
                        self.drop(number)
                    continue
                self._hear(number, sent)
        self.flush()

    def hear_early(self) -> None:
        """Decisions came before it was known here that their steps wait, or else too late."""
        early, self._early = self._early or [], None
        for number, sent in early:
            if too_late(self.machine, sent):
                self.drop(number)
            else:
                self._hear(number, sent)

    def _hear(self, number: int, sent: ev.Event) -> None:
        event = admitted(self.machine, sent, self.now()) if type(sent) in DECISIONS else sent
        if keeps_back(self, number, event):
            return
        if self._reception is not None or isinstance(event, ev.UpdateAccepted):
            self.reception().receive(number, event)
        else:
            self.take(number, event)

    def take(self, number: int, event: ev.Event) -> None:
        """Take an inbox item into the history."""
        self.drop(number)
        self._last_at = self.now()
        value = UNSET
        if type(event) in REPORTS and take_report(self, event):  # type: ignore[arg-type]
            return
        if isinstance(event, ev.CallbackEnded):
            event, value = self.machine.read_callback(event)
        elif isinstance(event, ev.PublicationArrived):
            event, value = self.machine.read_publication(event)
        self._put(msgspec.structs.replace(event, at=self._last_at), value)

    def reception(self) -> Reception:
        """Who deals with callers of the run's handlers."""
        self._reception = self._reception or Reception(self)
        return self._reception

    def give(self, event: ev.Event, value: Any) -> None:
        """Give the code something that is durable, and do what follows from that here."""
        if type(event) is ev.StepCompleted:  # nearly all are of this kind
            feed(self, event, value)
            return
        ignored = isinstance(event, ev.StepRerun) and not goes_on(self.machine, event)
        feed(self, event, value)
        if type(event) in FOLLOWED and not ignored:
            self._state = None if isinstance(event, ev.StepParked) else self._state
            self.work.follow(event)
        elif isinstance(event, ev.Checkpointed):
            renew(self, event)
        elif isinstance(event, ev.RunPaused):
            self.pause = Pause(event.reason)
            self.pause.begin_later(self.work.not_begun(), self.work.start_step)

    def proceed(self) -> None:
        """Carry out what the code has asked for, and write down what that made happen."""
        if self.gone:
            return
        bounds = self.host.bounds
        if (self.seq >= bounds.least_events or self.size >= bounds.least_bytes) and holds_back(self):
            return
        if self._held is not None and self._in_flight:
            return  # what they wait for isn't durable yet; this is called again when it is
        if self.pause is not None:
            self.flush()
            if not self.busy() and not self.work.executing:
                self.release(None)
            return
        commands = self.machine.take_commands() if self.donor is None else take_over(self, self.donor)
        if self._held is not None:
            commands = [*still_wanted(self, self._held), *commands]
        self._held = carry_out(self, commands)
        if self.overflow is not None:
            take_more(self)
        if not self._in_flight:
            self.flush()
        if (status := self.work.news(self._state)) is not None:
            self.note([], status)

    def check_children(self) -> None:
        """Make sure that the open children are ours: an id given by the user may be taken already."""
        operations = self.machine.operations.values()
        children = [item for item in operations if isinstance(item, StartChild) and item.recorded]
        if children and not self.gone:
            self.host.check_children(self, children)

    def check_errands(self) -> None:
        """Make sure that the errands which the run waits for are there."""
        operations = self.machine.operations.values()
        sent = [item for item in operations if isinstance(item, RunStep) and item.sent is not None]
        if sent and not self.gone:
            self.host.check_errands(self, sent)

    # -- standing ------------------------------------------------------------------------------------

    def idle(self) -> bool:
        """Whether this run only waits: nothing executes, nothing is on its way to the log."""
        working = self.busy() or self.work.executing or self.work.sending
        return not (working or self.overflow or self.gone or self._ending or self._handover or self.pause)

    # -- the end of its drive ------------------------------------------------------------------------

    def end(self, last: Last) -> None:
        """The run is over: this is its last event, whatever its steps may still bring."""
        if self._ending is None:
            self._ending = last
            self.work.drop()
            if self.machine.listening is not None:
                self.add_effect(CloseWaits())

    def release(self, wake_at: float | None) -> None:
        """Hand the run back, to be driven again at `wake_at` or when something arrives for it."""
        stuck = self.machine.stuck()
        if self.busy():  # the code hasn't heard of that yet, and may wait for nothing else
            wake_at = self.now()
        # else the code doesn't know yet what isn't waited for any more; a note that comes after it fits no replay
        if self.pause is None and not self._in_flight:
            for note in wait_notes(self.machine.operations.values(), self.now()):
                self.ride(note)
        self._handover = Handover(Status.WAITING, wake_at, reason=stuck)
        if parked := self.work.parked():
            self._handover = Handover(Status.BLOCKED, wake_at, why_parked(self.id, parked), BlockCode.STEP)
        if self.pause is not None:
            self._handover = Handover(Status.PAUSED, reason=self.pause.reason)
        self._let_go()
        self.flush()

    def block(self, error: Exception, where: str = "") -> None:
        """The run can't go on: let go of its code, and tell people why."""
        self._let_go()
        reason = mask(f"{error}\n  {where}" if where else str(error))
        self.host.blocked(self, reason)
        if isinstance(error, NonDeterminismError | UndecodableError):  # others may be the moment's
            self.add_effect(Misfit(self.host.code))
        code = BlockCode.HISTORY if isinstance(error, DamagedHistoryError) else BlockCode.CODE
        if isinstance(error, HistoryFullError):
            code = BlockCode.LIMIT
        self._handover = Handover(Status.BLOCKED, reason=reason, code=code)
        self.flush()

    def intruded(self, error: Exception) -> None:
        """A thread tried to reach into the run's loop: what it brings can't be waited for."""
        self.host.call_from_thread(self._block_if_here, error)

    def _block_if_here(self, error: Exception) -> None:
        if not self.gone and self._ending is None:
            self.block(error)

    def lose(self, why: str) -> None:
        """Another worker drives this run now."""
        self._let_go()
        self.host.lost(self, why)

    def _let_go(self) -> None:
        if not self.gone:
            self.gone = True
            self.work.drop()
            let_go(self.machine, self.host.turns)
