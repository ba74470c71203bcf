"""What must never be, looked at in the very moment at which it would come to be.

The observer sees each change of the shared database as it is committed, each body that begins, and each outcome that
code of a run gets. So it needs no clock to know what came first. It keeps copies of its own of everything that must not
change any more.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import Any, Final

import msgspec

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.core.status import FINAL
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_queues import with_dedup
from perdure.storage.memory_run import Run
from perdure.storage.records import Append, Appended, NewRun, Stale
from perdure.storage.workers import WorkerRow
from perdure.testing.simulation.clocks import EPOCH
from perdure.testing.simulation.world import World

_FINAL: Final = frozenset(status.value for status in FINAL)
_ENDINGS: Final = (ev.RunCompleted, ev.RunFailed, ev.RunCancelled, ev.RunTerminated, ev.RunContinued)
_ROUNDING: Final = 0.000_002  #: seconds
_SHOWN: Final = 20  #: violations that are told in full


class Rule:
    """Something that must always hold, of a part of the engine that not every scenario uses.

    Its docstring says what, in words. It looks when the observer tells it of something.
    """

    def created(self, run: Run) -> None:
        """A run is there."""

    def happened(self, run: Run, event: ev.Event) -> None:
        """An event was committed."""

    def carried_out(self, verb: str) -> None:
        """The database has carried out a verb of a store, for the observer's `sender`."""

    def noted(self, process: int, what: str, tag: str, more: Any) -> None:
        """A body or code of a run has said what it is at; see `SimulatedBooks.says`."""

    def is_at_rest(self) -> bool:
        """Whether nothing of what it watches is under way. Else the simulation goes on."""
        return True

    def look_back(self) -> None:
        """Everything has ended."""


class Observer:
    """Keeps the log, and watches.

    Attributes:
        rules: what else must hold.
        log: what happened, in order.
        violations: what must never be, and was.
        counts: what happened how often.
        sender: the number of the process whose verb the database is carrying out.
        recorded: when each step's outcome was committed, and for which run, by tag.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.rules: list[Rule] = []
        self.log: list[str] = []
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.sender = 0
        self.recorded: dict[str, tuple[float, int]] = {}
        self.database = ObservedDatabase(self)
        self._failed: set[str] = set()  # those of them that failed
        self._retried: set[str] = set()  # ids of runs that went on after they had failed
        self._histories: dict[int, list[bytes]] = {}
        self._ended: set[int] = set()
        self._outcomes: set[tuple[int, str]] = set()
        self._processes: dict[int, int] = {}  # of workers
        self._bodies: Counter[str] = Counter()
        self._effects: Counter[str] = Counter()
        self._at_work: dict[tuple[int, str], bool] = {}
        self.clocks_are_right = True
        self.deceived: set[int] = set()  #: processes that may believe that runs are theirs which aren't
        self.wrong_clocks: set[int] = set()  #: some of them, by their own clocks

    @property
    def now(self) -> float:
        """What a right clock shows."""
        return EPOCH + self._world.now

    def tell(self, what: str) -> None:
        """A line for the log."""
        self.log.append(f"{self._world.now:.6f} {what}")

    def wrong(self, what: str) -> None:
        """Something is that must never be."""
        if len(self.violations) < _SHOWN:
            self.violations.append(what)
        self.tell(f"VIOLATION {what}")

    # -- bodies and code ----------------------------------------------------------------------------

    def begins(self, process: int, tag: str) -> None:
        """The body of a step begins."""
        self._bodies[tag] += 1
        self.counts["bodies"] += 1
        self.tell(f"process {process} begins {tag}")
        if tag not in self.recorded:
            return
        at, run = self.recorded[tag]
        if tag in self._failed and self.goes_on_anew(self.database.runs[run].id):
            self.counts["failures done anew"] += 1
        elif process in self.deceived and not self.owned_by(run, process):
            self.counts["late bodies"] += 1
        else:
            self.wrong(f"{tag} was recorded at {at:.6f}, and process {process} began it again")

    def goes_on_anew(self, id: str) -> bool:
        """Whether somebody has let a run go on that had failed, or that run has started this one.

        What failed is done anew then, and what is taken over has the times of before.
        """
        return id.partition("/")[0].partition("~")[0] in self._retried

    def has_effect(self, process: int, tag: str) -> None:
        """A body has done what it is for."""
        self._effects[tag] += 1
        self.tell(f"process {process} did {tag}")

    def happened(self, tag: str) -> bool:
        """Whether a step had its effect."""
        return self._effects[tag] > 0

    def hears(self, process: int, what: str, tag: str, more: Any) -> None:
        """A body, or code of a run, says something to the rules."""
        for rule in self.rules:
            rule.noted(process, what, tag, more)

    def sees(self, process: int, tag: str) -> None:
        """The code of a run goes on with the outcome of a step."""
        if tag not in self.recorded:
            self.wrong(f"process {process} showed the outcome of {tag} before it was recorded")

    def waited(self, tag: str, asked: float, took: float) -> None:
        """The code of a run goes on after a time."""
        if took < asked - _ROUNDING and not self.goes_on_anew(tag.partition(".")[0]):
            self.wrong(f"{tag} was to last {asked} s, and lasted {took} s")

    def owned_by(self, run: int, process: int) -> bool:
        """Whether a run belongs to a worker of this process."""
        owner = self.database.runs[run].owner
        return owner is not None and self._processes.get(owner) == process

    def is_recorded_with(self, tag: str) -> Run | None:
        """The run in whose history a step's outcome is, None if there is none."""
        return self.database.runs[self.recorded[tag][1]] if tag in self.recorded else None

    # -- the database -------------------------------------------------------------------------------

    def registered(self, worker: int, row: WorkerRow) -> None:
        """A worker is there."""
        self._processes[worker] = row.pid
        self.tell(f"process {row.pid} is worker {worker}")

    def buried(self, row: WorkerRow) -> None:
        """A worker is held for dead. If that is due to somebody's clock, it doesn't know yet, and can't."""
        if self.sender in self.wrong_clocks:
            self.deceived.add(row.pid)

    def created(self, run: Run) -> None:
        """A run is there."""
        self._histories[run.run] = list(run.events)
        self.counts["runs"] += 1
        self.tell(
            f"run {run.run} {run.id} generation {run.generation} for worker {run.owner}: {_digest(run.events)}"
        )
        for rule in self.rules:
            rule.created(run)

    def put_off(self, run: Run) -> None:
        """A debounced start has met a run: until that is driven, its first event is that of the last start."""
        if run.started_at is None and len(run.events) == 1:
            self._histories[run.run] = list(run.events)

    def carried_out(self, verb: str) -> None:
        """The database has carried out a verb of a store."""
        for rule in self.rules:
            rule.carried_out(verb)

    def appended(self, append: Append, was: _Before | None, answer: Appended | Stale) -> None:
        """An append was carried out, or turned away."""
        kinds = ",".join(type(decode_event(data)).__name__ for data in append.events)
        said = "stale" if isinstance(answer, Stale) else f"{answer.seq}"
        self.tell(
            f"process {self.sender} appends to run {append.run} at {append.expected} in epoch {append.epoch} "
            f"[{kinds}] {append.status or ''} {_digest(append.events)}: {said}"
        )
        self.counts["appends"] += 1
        if isinstance(answer, Stale) or was is None:
            self.counts["stale"] += 1
            return
        run = self.database.runs[append.run]
        if was.attempt == append.attempt:
            self.counts["recognised"] += 1
            if len(run.events) != was.seq:
                self.wrong(f"run {run.id}: a repeated append was written twice")
            return
        self._check_fence(append, was, run)
        for data in append.events:
            self._happens(run, decode_event(data))
        if append.status in _FINAL:
            self._ended.add(run.run)
        self._grown(run, append.events)

    def _check_fence(self, append: Append, was: _Before, run: Run) -> None:
        if (append.expected, append.epoch) != (was.seq, was.epoch) or was.owner is None:
            self.wrong(
                f"run {run.id}: an append at {append.expected} in epoch {append.epoch} was taken at {was.seq} in "
                f"epoch {was.epoch} of worker {was.owner}"
            )
        elif self._processes.get(was.owner) != self.sender:
            self.wrong(f"run {run.id}: process {self.sender} wrote what belongs to worker {was.owner}")
        if run.run in self._ended and append.events:
            self.wrong(f"run {run.id} had ended, and was written to")

    def ended_from_outside(self, run: Run, event: bytes) -> None:
        """A run was terminated."""
        self.tell(f"run {run.run} is ended from outside: {_digest([event])}")
        self._ended.add(run.run)
        self._grown(run, [event])

    def _grown(self, run: Run, events: Any) -> None:
        history = self._histories.setdefault(run.run, [])
        history += events
        if len(run.events) != len(history):
            self.wrong(f"run {run.id} has {len(run.events)} events, and was given {len(history)}")

    def _happens(self, run: Run, event: ev.Event) -> None:
        for rule in self.rules:
            rule.happened(run, event)
        match event:
            case ev.StepCompleted():
                self._outcome(run, event.step)
                self._recorded(run, msgspec.json.decode(event.result)[0])
                self.counts["steps"] += 1
            case ev.StepFailed():
                self._outcome(run, event.step)
                if event.failure.type == "builtins.ValueError":  # else it was given up
                    self._recorded(run, event.failure.message)
                    self._failed.add(event.failure.message)
                self.counts["steps"] += 1
            case ev.TimerFired():
                self._outcome(run, event.timer)
                if self.clocks_are_right and event.at > EPOCH + self._world.now + _ROUNDING:
                    self.wrong(f"run {run.id}: {event.timer} fired at {self._world.now}, before its time")
                self.counts["timers"] += 1
            case ev.ChildEnded():
                self._outcome(run, event.child)
                self.counts["children"] += 1
            case ev.MessageReceived():
                if event.key is not None:
                    self._outcome(run, f"message {event.key}")
                self.counts["messages"] += 1
            case ev.RunRecovered():
                self.counts["takeovers"] += 1
            case ev.RunFailed():
                self._retried.add(run.id)
            case ev.RunContinued():
                self.counts["generations"] += 1
            case _:
                pass

    def _outcome(self, run: Run, operation: str) -> None:
        key = run.run, operation
        if key in self._outcomes:
            self.wrong(f"run {run.id}: a second outcome of {operation} was recorded")
        self._outcomes.add(key)

    def _recorded(self, run: Run, tag: str) -> None:
        if self._bodies[tag] == 0:
            self.wrong(f"run {run.id}: an outcome of {tag} was recorded, and its body never began")
        self.recorded.setdefault(tag, (self._world.now, run.run))

    # -- at the end ---------------------------------------------------------------------------------

    def look_back(self) -> None:
        """Whether histories have stayed what they were."""
        for key, run in self.database.runs.items():
            if run.events != self._histories.get(key):
                self.wrong(f"run {run.id}: its history isn't what was written")
            endings = [n for n, data in enumerate(run.events, 1) if isinstance(decode_event(data), _ENDINGS)]
            if run.ended and endings != [len(run.events)]:
                self.wrong(f"run {run.id} has ended, and its ends are at {endings} of {len(run.events)}")
            self.tell(f"run {run.id} generation {run.generation} is {run.status}: {_digest(run.events)}")
        for rule in self.rules:
            rule.look_back()


class _Before(msgspec.Struct, frozen=True):
    """What an append is compared with."""

    seq: int
    epoch: int
    owner: int | None
    attempt: int | None


class ObservedDatabase(MemoryDatabase):
    """A memory database that tells of each change."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer
        self.workers = _Workers(observer)

    def create(self, new: NewRun, parent: int | None) -> Run | None:
        run = super().create(new, parent)
        if run is not None:
            self._observer.created(run)
        elif new.debounce and (holder := with_dedup(self, new.dedup)) is not None:
            self._observer.put_off(holder)
        return run

    def append(self, append: Append) -> Appended | Stale:
        run = self.runs.get(append.run)
        was = None if run is None else _Before(len(run.events), run.epoch, run.owner, run.attempt)
        answer = super().append(append)
        self._observer.appended(append, was, answer)
        return answer

    def end_alone(self, run: Run, event: bytes, now: float, **options: Any) -> None:
        super().end_alone(run, event, now, **options)
        self._observer.ended_from_outside(run, event)


class _Workers(dict[int, WorkerRow]):
    """The rows of workers, which tell of new ones and of those that were held for dead."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self._observer = observer

    def __setitem__(self, worker: int, row: WorkerRow) -> None:
        if worker not in self:
            self._observer.registered(worker, row)
        super().__setitem__(worker, row)

    def __delitem__(self, worker: int) -> None:
        self._observer.buried(self[worker])
        super().__delitem__(worker)


def _digest(events: Any) -> str:
    return blake2b(b"\0".join(events), digest_size=8).hexdigest()
