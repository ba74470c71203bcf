"""The life of one run on this worker.

A driver holds the run's machine and carries the machine's commands out. Everything that happens to the run
comes in as an event through `record()`: it is appended to the history, and when that is durable it is fed
to the machine, whose code then goes on. At most one append of a run is on its way; what happens meanwhile
is collected and follows in the next.

    record(event) -> buffer -> journal -> durable -> machine -> commands -> steps, timers, children
        ^                                                                            |
        +----------------------------------------------------------------------------+

If the append is refused (another worker took over), or history and code disagree, or the code spins, the
driver lets go: it unwinds the code without effect and leaves the run to its new owner, or blocked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from random import getrandbits
from sys import intern
from typing import Any

import msgspec

from perdure.codec.events import encode_event
from perdure.core import events as ev
from perdure.core.commands import Command, StartChild
from perdure.core.machine import Machine
from perdure.core.matching import UNSET
from perdure.core.reuse import Reuse
from perdure.core.status import Status
from perdure.errors import NonDeterminismError, UndecodableError
from perdure.runtime.carrying import carry_out, still_wanted
from perdure.runtime.collecting import Batch, Collecting
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.endings import Last, told_to_parent, without_messages
from perdure.runtime.feeding import feed
from perdure.runtime.generations import LONG_HISTORY, long_history, successor
from perdure.runtime.host import Handover, Host
from perdure.runtime.machines import let_go
from perdure.runtime.notes import wait_notes
from perdure.runtime.parking import admitted, why_parked
from perdure.runtime.pausing import TURNING, Pause, admitted_now, paused_after
from perdure.runtime.reception import Reception
from perdure.runtime.renewing import renew
from perdure.runtime.takeover import FED, first_moment, take_over
from perdure.runtime.timelimit import TimeLimited
from perdure.runtime.work import FOLLOWED, Work
from perdure.storage.attributes import Misfit
from perdure.storage.records import Append, Appended, BlockCode, RunRow, Stale

logger = logging.getLogger("perdure.driver")


class Driver(Collecting, TimeLimited):
    """Drives one run.

    Args:
        host: the worker's parts that a driver uses.
        row: the run as claimed or created; its epoch is what every append names.

    Attributes:
        gone: this driver drives no more.
        last_active: wall-clock time of the last turn, for eviction.
        pause: it is paused, and what is kept from its code meanwhile.
        donor: what the run may still take over from the one that it retries or forks.
    """

    __slots__ = (
        "_ending",
        "_final_sent",
        "_handover",
        "_held",
        "_in_flight",
        "_last_mail",
        "_reception",
        "_state",
        "definition",
        "donor",
        "epoch",
        "gone",
        "id",
        "last_active",
        "machine",
        "number",
        "parent_op",
        "pause",
        "queue",
        "run",
        "seq",
        "work",
    )  # fmt: skip

    made = 0  # how many drivers this process has made so far

    def __init__(
        self, host: Host[Driver], row: RunRow, definition: WorkflowDefinition, machine: Machine
    ) -> None:
        super().__init__(host, row.started_at or row.created_at)
        Driver.made += 1
        self.number = Driver.made
        self.run = row.run
        self.id = row.id
        self.epoch = row.epoch
        self.seq = row.seq
        self.queue = intern(row.queue)  # shared by the runs: each row brings texts of its own
        self.parent_op = row.parent_op
        self.definition = definition
        self.machine = machine
        machine.supervisor = self
        self.work = Work(self)
        self.gone = False
        self.last_active = 0.0
        self.pause: Pause | None = None
        self.donor: Reuse | None = None
        self._state: str | None = row.status  # what the store has, None if that is to be told anew
        self._last_mail = 0
        self._reception: Reception | None = None  # for callers of its handlers
        self._in_flight = False
        self._ending: Last | None = None
        self._final_sent = False
        self._handover: Handover | None = None
        self._held: list[Command] | None = None  # commands that wait for the append on its way

    # -- events in ----------------------------------------------------------------------------------

    def replay(self, event: ev.Event) -> None:
        """Feed one recorded event. Nothing the code asks for is carried out before `proceed()`."""
        if isinstance(event, ev.RunStarted):
            self._last_at = first_moment(event, self._last_at)
            feed(self, event, self._last_at)
        else:
            self._last_at = max(self._last_at, event.at)
            self.has_children = self.has_children or isinstance(event, ev.ChildStarted)
            feed(self, event)
            if type(event) in TURNING:
                self.pause = paused_after(event, self.pause)

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
        self._buffer.append((event, value))
        self.flush()

    def take_mail(self, items: Iterable[tuple[int, ev.Event]]) -> None:
        """Take inbox items into the history, each once, in the order of their arrival."""
        for number, sent in admitted_now(items, paused=self.pause is not None):
            event = admitted(self.machine, sent, self.now()) if isinstance(sent, ev.StepCompleted) else sent
            if number > self._last_mail and not self.gone and not self._final_sent:
                self._last_mail = number
                if self._reception is not None or isinstance(event, ev.UpdateAccepted):
                    self.reception().receive(number, event)
                else:
                    self.take(number, event)
        self.flush()

    def take(self, number: int, event: ev.Event) -> None:
        """Take an inbox item into the history."""
        self.drop(number)
        self._last_at = self.now()
        value = UNSET
        if isinstance(event, ev.CallbackEnded):
            event, value = self.machine.read_callback(event)
        self._buffer.append((msgspec.structs.replace(event, at=self._last_at), value))

    def reception(self) -> Reception:
        """Who deals with callers of the run's handlers."""
        self._reception = self._reception or Reception(self)
        return self._reception

    def proceed(self) -> None:
        """Carry out what the code has asked for, and write down what that made happen."""
        if self.gone:
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
        self.flush()
        if (status := self.work.news(self._state)) is not None:
            self.note([], status)

    # -- durable -------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Append what has been collected, unless an append is on its way already."""
        if self._in_flight:
            return
        if self._handover is not None:
            if not self._handover.sent:
                self._handover.sent = True
                self._submit(self._handover.status, release=True)
        elif self.gone:
            return
        elif self._ending is not None:
            if not self._final_sent:
                self._final_sent = True
                if self._consumed:  # what came while the run was ending stays in the inbox, as undelivered
                    self._buffer, self._consumed = without_messages(self._buffer), None
                self._buffer.append((self._ending[1], UNSET))
                self._submit(self._ending[0])
        else:
            if self._reception is not None:
                self._reception.go_on()
            if (self._buffer or self._consumed or self._effects) and not self._in_flight:
                self._submit(None)

    def note(self, notes: list[ev.Event], status: Status) -> None:
        """Write down notes for people: a step that takes long, what the run waits for."""
        if self.busy() or self.gone or self._ending or self._handover or self.pause:
            return  # the next append will tell as much
        self._buffer = [(event, UNSET) for event in notes]
        if notes or status != self._state:
            self._submit(status)

    def release(self, wake_at: float | None) -> None:
        """Hand the run back, to be driven again at `wake_at` or when something arrives for it."""
        stuck = self.machine.stuck()
        if self.pause is None:  # else the code doesn't know yet what isn't waited for any more
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
        reason = f"{error}\n  {where}" if where else str(error)
        self.host.blocked(self, reason)
        if isinstance(error, NonDeterminismError | UndecodableError):  # others may be the moment's
            self.add_effect(Misfit(self.host.code))
        self._handover = Handover(Status.BLOCKED, reason=reason, code=BlockCode.CODE)
        self.flush()

    def intruded(self, error: Exception) -> None:
        """A thread tried to reach into the run's loop: what it brings can't be waited for."""
        self.host.call_from_thread(self._block_if_here, error)

    def _block_if_here(self, error: Exception) -> None:
        if not self.gone and self._ending is None:
            self.block(error)

    def _submit(self, status: Status | None, *, release: bool = False) -> None:
        events = self._take_events()
        # the plain append of a step's outcome is the hot path: nothing is named that isn't needed
        data = [encode_event(event) for event, _ in events]
        append = Append(self.run, self.seq, self.epoch, getrandbits(63), data, self.host.clock())
        if status is not None or self._children or self._consumed or self._effects:
            append = self._with_effects(append, status, release=release)
        self._in_flight = True
        self.host.journal.submit(append, self._appended, events, append)

    def _with_effects(self, append: Append, status: Status | None, *, release: bool) -> Append:
        """The same append, with what is more than events."""
        handover = self._handover
        if self._effects and self._reception is not None:
            self._reception.sending(self._effects)
        reason, code = self.machine.stuck(), None
        if handover is not None:
            reason, code = handover.reason, handover.code
        elif status is Status.BLOCKED:
            reason, code = why_parked(self.id, self.work.parked()), BlockCode.STEP
        parent_mail = following = None
        if self._final_sent and self._ending is not None:
            last = self._ending[1]
            if isinstance(last, ev.RunContinued):  # the parent hears only of the end of them all
                following = successor(self, last)
            elif self.parent_op is not None:
                parent_mail = told_to_parent(self._ending, self.parent_op)
        if status is not None:
            self._state = status
        if self._final_sent and self._ending is not None:
            reason = getattr(self._ending[1], "reason", None)
        return msgspec.structs.replace(
            self._take_effects(append),
            status=status,
            reason=reason,
            block_code=code,
            release=release,
            wake_at=handover.wake_at if handover else None,
            parent_mail=parent_mail,
            successor=following,
        )

    def _appended(self, result: Appended | Stale, events: Batch, append: Append) -> None:
        self._in_flight = False
        if isinstance(result, Stale):
            self.lose(f"the store has it at event {result.seq}, epoch {result.epoch}")
            return
        if result.seq >= LONG_HISTORY > self.seq and not self.definition.entity:
            logger.warning("run %s goes on, but %s", self.id, long_history(result.seq))
        self.seq = result.seq
        if self._reception is not None:
            self._reception.sent()
        if append.children:
            for child, (run, epoch) in zip(append.children, result.children, strict=True):
                self.host.child_created(child, run, epoch)
        if self._final_sent:
            assert self._ending is not None
            self._let_go()
            self.host.ended(self, *self._ending)
            if append.successor is not None and result.successor is not None:
                self.host.continued(append.successor.run, *result.successor)
        elif self._handover is not None and self._handover.sent:
            self.host.handed_back(self)
        elif self.gone or (self._reception is not None and self._reception.void):
            self.flush()  # blocked while this append was on its way, or its state is void
        else:
            self.last_active = self.host.clock()
            for event, value in events:
                if value is FED:
                    continue
                if self.pause is not None:
                    self.pause.keep(self, event, value)
                else:
                    self.give(event, value)
            try:
                self.proceed()
            except Exception as error:  # the engine's own: the run mustn't hang for it
                logger.critical("run %s made the engine fail", self.id, exc_info=True)
                self.block(error)
            if any(not epoch for _, epoch in result.children):
                self.check_children()

    def give(self, event: ev.Event, value: Any) -> None:
        """Give the code something that is durable, and do what follows from that here."""
        feed(self, event, value)
        if type(event) in FOLLOWED:
            self._state = None if isinstance(event, ev.StepParked) else self._state
            self.work.follow(event)
        elif isinstance(event, ev.Checkpointed):
            renew(self, event)
        elif isinstance(event, ev.RunPaused):
            self.pause = Pause(event.reason)
            self.pause.begin_later(self.work.not_begun(), self.work.start_step)

    # -- what commands change ------------------------------------------------------------------------

    def check_children(self) -> None:
        """Make sure that the open children are ours: an id given by the user may be taken already."""
        operations = self.machine.operations.values()
        children = [item for item in operations if isinstance(item, StartChild) and item.recorded]
        if children and not self.gone:
            self.host.check_children(self, children)

    def end(self, last: Last) -> None:
        """The run is over: this is its last event, whatever its steps may still bring."""
        if self._ending is None:
            self._ending = last
            self.work.drop()

    # -- standing ------------------------------------------------------------------------------------

    def busy(self) -> bool:
        """Whether something of this run is on its way to the log."""
        return self._in_flight or bool(self._buffer)

    def idle(self) -> bool:
        """Whether this run only waits: nothing executes, nothing is on its way to the log."""
        working = self.busy() or self.work.executing or self.work.sending
        return not (working or self.gone or self._ending or self._handover or self.pause)

    def lose(self, why: str) -> None:
        """Another worker drives this run now."""
        self._let_go()
        self.host.lost(self, why)

    def _let_go(self) -> None:
        if not self.gone:
            self.gone = True
            self.work.drop()
            let_go(self.machine, self.host.turns)
