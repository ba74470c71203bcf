"""How a run's events become durable: what a driver has collected is appended, and fed back when the journal has it.

At most one append of a run is on its way. What it carries besides the events is put together here, and what
follows from the answer is done here: the code goes on, the run has ended or is handed back, or somebody else
drives it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from sys import intern
from typing import TYPE_CHECKING, Any

import msgspec

from perdure.codec.events import encode_event
from perdure.core import events as ev
from perdure.core.bounds import mended
from perdure.core.finding import UNSET
from perdure.core.status import Status
from perdure.runtime.collecting import NO_EVENTS, Collecting
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.endings import Last, told_to_parent, without_messages
from perdure.runtime.fullness import tell_of_length
from perdure.runtime.generations import successor
from perdure.runtime.host import Handover, Host
from perdure.runtime.journal import Events
from perdure.runtime.logfields import about_run
from perdure.runtime.parking import why_parked
from perdure.runtime.pausing import Pause
from perdure.runtime.reception import Reception
from perdure.runtime.soundness import damaged
from perdure.runtime.takeover import FED
from perdure.runtime.work import Work
from perdure.storage.chain import Damage, DamageKind, links
from perdure.storage.chance import chance
from perdure.storage.effects import Effect
from perdure.storage.errands import StopErrand
from perdure.storage.publications import OpenWait, Publish
from perdure.storage.records import Append, Appended, BlockCode, RunRow, Stale

logger = logging.getLogger("perdure.driver")


class Appending(Collecting):
    """The part of a driver that appends.

    Args:
        host: the worker's parts that a driver uses.
        row: the run as claimed or created; its epoch is what every append names.

    Attributes:
        gone: this driver drives no more.
        last_active: wall-clock time of the last turn, for eviction.
        pause: it is paused, and what is kept from its code meanwhile.
        size: bytes of its history.
        room: if it is full and cancelled, how many events and bytes it may have in the end.
    """

    definition: WorkflowDefinition
    work: Work

    __slots__ = (
        "_early",
        "_ending",
        "_final_sent",
        "_handover",
        "_in_flight",
        "_reception",
        "_state",
        "chain",
        "epoch",
        "gone",
        "last_active",
        "parent_op",
        "pause",
        "queue",
        "room",
        "run",
        "seq",
        "size",
    )  # fmt: skip

    def __init__(self, host: Host[Any], row: RunRow) -> None:
        super().__init__(host, row.id, row.started_at or row.created_at)
        self.run = row.run
        self.epoch = row.epoch
        self.seq = row.seq
        self.size = 0
        self.room: tuple[int, int] | None = None
        self.chain = row.chain
        self.queue = intern(row.queue)  # shared by the runs: each row brings texts of its own
        self.parent_op = row.parent_op
        self.gone = False
        self.last_active = 0.0
        self.pause: Pause | None = None
        self._state: str | None = row.status  # what the store has, None if that is to be told anew
        self._reception: Reception | None = None  # for callers of its handlers
        self._in_flight = False
        self._early: list[tuple[int, ev.Event]] | None = None  # decisions about what may be on its way
        self._ending: Last | None = None
        self._final_sent = False
        self._handover: Handover | None = None

    if TYPE_CHECKING:

        def give(self, event: ev.Event, value: Any) -> None: ...
        def proceed(self) -> None: ...
        def hear_early(self) -> None: ...
        def block(self, error: Exception) -> None: ...
        def lose(self, why: str) -> None: ...
        def check_children(self) -> None: ...
        def _let_go(self) -> None: ...

    def busy(self) -> bool:
        """Whether something of this run is on its way to the log."""
        return self._in_flight or bool(self._buffer)

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
                self._put(self._ending[1], UNSET)
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

    def _submit(self, status: Status | None, *, release: bool = False) -> None:
        events, self._buffer = self._buffer, NO_EVENTS
        if self._riders:
            events = [*((note, UNSET) for note in self.take_riders()), *events]
        # the plain append of a step's outcome is the hot path: nothing is named that isn't needed
        data = (
            [encode_event(events[0][0])] if len(events) == 1 else [encode_event(event) for event, _ in events]
        )
        append = Append(
            self.run,
            self.seq,
            self.epoch,
            chance.getrandbits(63),
            data,
            self.host.clock(),
            links(self.chain, data),
        )
        if status is not None or self._children or self._consumed or self._effects:
            append = self._with_effects(append, status, release=release)
        self._in_flight = True
        self.host.journal.submit(append, self, events)

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
                parent_mail = self.told_to_parent(self._ending, self.parent_op)
        if status is not None:
            self._state = status
        if self._final_sent and self._ending is not None:
            reason = getattr(self._ending[1], "reason", None)
        return msgspec.structs.replace(
            self._take_effects(append),
            status=status,
            reason=None if reason is None else mended(reason),
            block_code=code,
            release=release,
            wake_at=handover.wake_at if handover else None,
            parent_mail=parent_mail,
            successor=following,
        )

    def _effects_done(self, effects: Sequence[Effect]) -> None:
        """What others may have to do because of what an append has brought about besides."""
        if any(isinstance(effect, StopErrand) for effect in effects):
            self.host.changed()  # it may be driven here, and has mail
        if any(isinstance(effect, Publish | OpenWait) for effect in effects):
            self.host.distribute()

    def told_to_parent(self, last: Last, parent_op: str) -> bytes:
        """What a parent hears of the run's end."""
        return told_to_parent(last, parent_op)

    def _damage_of(self, result: Stale, append: Append) -> Damage | None:
        """What an append that was refused tells of the run's history, if that is why."""
        if self._handover is not None or result.epoch != self.epoch or result.seq == append.expected:
            return result.damage
        # nobody but this driver writes in its epoch
        text = f"its row says that there are {result.seq} events, and {append.expected} were recorded"
        return Damage(DamageKind.HEAD, None, text)

    def appended(self, result: Appended | Stale, events: Events, append: Append) -> None:
        """The journal has done it, or the store has refused it."""
        self._in_flight = False
        if isinstance(result, Stale):
            if (damage := self._damage_of(result, append)) is not None:
                self.seq = result.seq
                self.block(damaged(self.id, damage))
                return
            self.lose(f"the store has it at event {result.seq}, epoch {result.epoch}")
            return
        self.seq = result.seq
        for data in append.events:
            self.size += len(data)
        bounds = self.host.bounds
        if self.seq >= bounds.least_events or self.size >= bounds.least_bytes:
            tell_of_length(self, append)
        if append.links:
            self.chain = append.links[-1]
        if (observer := self.host.observer) is not None and events:
            observer.recorded(self, [event for event, _ in events], append)
        if self._reception is not None:
            self._reception.sent()
        if append.effects:
            self._effects_done(append.effects)
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
            if observer is not None:
                observer.rested(self, self._handover.status, self._handover.code)
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
            if self._early is not None and self.pause is None:
                self.hear_early()
            try:
                self.proceed()
            except Exception as error:  # the engine's own: the run mustn't hang for it
                logger.critical("run %s made the engine fail", self.id, exc_info=True, extra=about_run(self))
                self.block(error)
            if result.children and any(not epoch for _, epoch in result.children):
                self.check_children()
