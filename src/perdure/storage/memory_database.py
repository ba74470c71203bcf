"""What a memory database holds, and how runs in it come into being, get messages, and end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.codec.events import encode_event
from perdure.core.bounds import INBOX_MAX
from perdure.core.events import SEMANTICS_VERSION, CancelRequested, ChildEnded, RunTerminated
from perdure.core.permits import LimitState
from perdure.core.quotas import QuotaState
from perdure.core.status import FINAL, Status
from perdure.storage.callbacks import CallbackRow
from perdure.storage.chain import first_link
from perdure.storage.changes import OnChange
from perdure.storage.effects import UpdateState
from perdure.storage.errands import placed
from perdure.storage.generations import following, goes_over, succeeding
from perdure.storage.keys import KeyRow
from perdure.storage.memory_budgets import Budgets
from perdure.storage.memory_checkpoints import Checkpoints
from perdure.storage.memory_effects import take_effect
from perdure.storage.memory_ledger import Kept, Row
from perdure.storage.memory_publications import Publications
from perdure.storage.memory_queues import put_in_line, stands_for
from perdure.storage.memory_run import Run
from perdure.storage.memory_streams import Stream, take_back_unsettled
from perdure.storage.memory_versions import may_drive, serves
from perdure.storage.moving import Mark
from perdure.storage.pauses import ends_pause
from perdure.storage.queues import QueueRow
from perdure.storage.reasons import parent_ended
from perdure.storage.records import (
    Append,
    Appended,
    BlockCode,
    Delivery,
    Mail,
    MailKind,
    NewMail,
    NewRun,
    ParentPolicy,
    RunRow,
    Stale,
    Successor,
)
from perdure.storage.schedules import ScheduleRow
from perdure.storage.workers import WorkerRow

_FINAL = frozenset(status.value for status in FINAL)


class MemoryDatabase:
    """The state that stores of one process can share."""

    def __init__(self) -> None:
        self.runs: dict[int, Run] = {}
        self.keys: dict[str, int] = {}
        self.workers: dict[int, WorkerRow] = {}
        self.queues: dict[str, QueueRow] = {}
        self.schedules: dict[str, ScheduleRow] = {}
        self.limits: dict[str, LimitState] = {}
        self.quotas: dict[str, QuotaState] = {}
        self.data_keys: dict[str, KeyRow] = {}
        self.last_worker = 0
        self.last_run = 0  #: keys are never given twice
        self.remainders: dict[int, str] = {}  #: where removed runs went whose orphans are left, by key
        self.sweeper: tuple[str, float, bytes | None] = "", 0.0, None  #: who removes, until when, what
        self.swept: tuple[float, bytes] = 0.0, b""  #: when that was last told, and the rules
        self.callbacks: dict[bytes, CallbackRow] = {}  #: by the hashes of their tokens
        self.streams: dict[tuple[str, str], Stream] = {}  #: by run id and name
        self.listeners: list[OnChange] = []  #: of open stores; one that changes something calls the others'
        #: By run id and update id: the key of the run that is to handle it, its state, its answer, its call's digest.
        self.updates: dict[tuple[str, str], tuple[int, UpdateState, bytes | None, bytes]] = {}
        self.inquiries: dict[int, Any] = {}
        self.last_inquiry = 0
        self.children: dict[int, list[int]] = {}  #: keys by those of their parents
        self.move: Mark | None = None  #: where the runs are moved to
        self.arrivals: dict[int, tuple[float | None, int, str]] = {}  #: held runs: when due, mail, which move
        self.publications = Publications()
        self.usage: dict[int, dict[int, Row]] = {}  #: the ledger, by run and entry
        self.usage_totals: dict[tuple[str, Kept], list[int]] = {}  #: by where they came from, "" = here
        self.checkpoints = Checkpoints()
        self.budgets = Budgets()
        self._last_mail = 0

    def row(self, run: Run) -> RunRow:
        return RunRow(
            run=run.run,
            id=run.id,
            workflow=run.workflow,
            status=run.status,
            queue=run.queue,
            fingerprint=run.fingerprint,
            seq=len(run.events),
            epoch=run.epoch,
            owner=run.owner,
            created_at=run.created_at,
            updated_at=run.updated_at,
            started_at=run.started_at,
            ended_at=run.ended_at,
            wake_at=run.wake_at,
            mail=len(run.inbox),
            recoveries=run.recoveries,
            semantics=SEMANTICS_VERSION,
            reason=run.reason,
            block_code=run.block_code,
            parent=run.parent,
            parent_id=self.runs[run.parent].id if run.parent in self.runs else None,
            parent_op=run.parent_op,
            on_parent_close=run.on_parent_close,
            generation=run.generation,
            next=run.next,
            version=run.version,
            pinned=run.pinned,
            chain=run.chain,
            key=run.key,
            priority=run.priority,
        )

    def find_id(self, id: str) -> Run | None:
        key = self.keys.get(id)
        return None if key is None else self.runs[key]

    def find_generation(self, id: str, number: int) -> Run | None:
        return next((run for run in self.runs.values() if run.id == id and run.generation == number), None)

    def ties(self, key: int) -> list[tuple[Any, ...]]:
        """As the other stores' query of that name."""
        if key not in self.runs:
            return []
        run = self.runs[key]
        start = (run.id, run.fingerprint, run.parent, run.parent_op, run.on_parent_close)
        return [(*start, run.key, run.priority, run.dedup, run.slot)]

    def mail_of(self, run: Run) -> list[Mail]:
        return list(run.inbox.values())

    def create(self, new: NewRun, parent: int | None) -> Run | None:
        """The new run, None if its id exists. A worker that isn't registered (any more) can't own one."""
        former = self.keys.get(new.id)
        if new.follows is not None:
            new = following(new, self.ties(new.follows))
        if new.dedup is not None and stands_for(self, new) is not None:
            return None
        if former != new.follows or (former is not None and not self.runs[former].ended):
            return None
        queue = self.queues.get(new.queue)
        free = queue is None or not (queue.paused or (queue.limited and not new.slot))
        owner = new.owner if new.owner in self.workers and free else None
        chain = first_link(new.id, new.generation, new.first_event)
        self.last_run += 1
        run = Run(
            run=self.last_run,
            id=new.id,
            workflow=new.workflow,
            status=(Status.QUEUED if owner is None else Status.RUNNING).value,
            queue=new.queue,
            fingerprint=new.fingerprint,
            epoch=0 if owner is None else 1,
            owner=owner,
            created_at=new.created_at,
            updated_at=new.created_at,
            started_at=None if owner is None else new.created_at,
            wake_at=new.wake_at if owner is None else None,
            parent=parent,
            parent_op=new.parent_op,
            on_parent_close=new.on_parent_close.value,
            events=[new.first_event],
            links=[chain],
            chain=chain,
            generation=new.generation,
            version=None if owner is None else self.workers[owner].version,
            pinned=new.pinned,
            key=new.key,
            priority=new.priority,
            dedup=new.dedup,
            donor=new.donor,
        )
        if not new.slot:
            put_in_line(queue, run, new.created_at)
        elif queue is not None:
            run.slot = queue.limited
        if former is not None:
            run.attributes, self.runs[former].attributes = self.runs[former].attributes, {}
        run.set_attributes(new.attributes)
        self.runs[run.run] = run
        self.keys[run.id] = run.run
        if former is not None:
            self.runs[former].next = run.run
        if parent is not None:
            self.children.setdefault(parent, []).append(run.run)
        for item in new.mail:
            self.post(run, item, new.created_at)
        if new.inherit and former is not None:
            undelivered = self.mail_of(self.runs[former])
            self.runs[former].inbox.clear()
            self._inherit(self.runs[former], run, undelivered, new.created_at)
            take_back_unsettled(self, former, new.created_at)
        return run

    def deliver(
        self,
        run: Run,
        data: bytes,
        now: float | None,
        kind: MailKind = MailKind.CONTROL,
        *,
        patient: bool = False,
        most: int | None = None,
    ) -> bool:
        """Put an event into a run's inbox, waking nobody without `now`; False if the run has ended, or is full.

        Messages, and what is `patient`, don't cut short the delay with which a run was started.
        """
        if run.ended or (most is not None and len(run.inbox) >= most):
            return False
        self._put(run, data, kind)
        if kind is MailKind.CONTROL and now is not None and ends_pause(data):
            run.unpause(now)
        patient = patient or kind is MailKind.MESSAGE
        delayed = run.status == Status.QUEUED and patient and run.wake_at is not None
        if now is not None and run.owner is None and not run.held and not delayed:
            run.wake_at = now if run.wake_at is None else min(run.wake_at, now)
        return True

    def _put(self, run: Run, data: bytes, kind: MailKind) -> None:
        number = self.new_mail()
        run.inbox[number] = Mail(number, run.run, data, kind.value)

    def new_mail(self) -> int:
        """The number of an inbox item to come."""
        self._last_mail += 1
        return self._last_mail

    def post(self, run: Run, item: NewMail, now: float) -> Delivery:
        """Put an item into a run's inbox, unless the run has had one with its key."""
        if item.key is not None and item.key in run.mail_keys:
            return Delivery.REPEATED
        most = INBOX_MAX if item.kind is MailKind.MESSAGE else None
        if not self.deliver(run, item.data, now, item.kind, most=most):
            return Delivery.RUN_ENDED if run.ended else Delivery.INBOX_FULL
        if item.key is not None:
            run.mail_keys.add(item.key)
        return Delivery.DELIVERED

    def send_message(self, run: Run, data: bytes, now: float) -> None:
        """Put a message into a run's inbox; one that has ended keeps it as undelivered."""
        if not self.deliver(run, data, now, MailKind.MESSAGE):
            self._put(run, data, MailKind.MESSAGE)

    # -- appending ----------------------------------------------------------------------------------

    def append(self, append: Append) -> Appended | Stale:
        run = self.runs.get(append.run)
        if run is None:
            return Stale(0, 0)
        if run.attempt == append.attempt:
            return self._again(run, append)
        if len(run.events) != append.expected or run.epoch != append.epoch or run.owner is None:
            return Stale(len(run.events), run.epoch)
        run.attempt = append.attempt
        run.updated_at = append.now
        if append.events:
            for event, link in zip(append.events, append.links, strict=True):
                run.write(event, link)
            run.recoveries = 0
        for item in append.consumed:
            run.inbox.pop(item, None)
        children = tuple(self._start_child(child, run) for child in append.children)
        for effect in append.effects:
            take_effect(self, append, effect)
        successor = None
        if append.status in _FINAL:
            assert append.status is not None
            caller, inbox = run.owner, list(run.inbox.values()) if append.successor else []
            if append.successor is not None:
                run.inbox.clear()
            run.finish(append.status, append.reason, append.block_code, append.now)
            if append.successor is not None:
                successor = self._succeed(run, append.successor, inbox, caller)
            self._close_children(run, append.now)
        else:
            if append.status is not None:
                run.status, run.reason, run.block_code = append.status, append.reason, append.block_code
            if append.release:
                resumed = run.status == Status.PAUSED and run.paused is None
                if resumed:
                    run.status, run.reason = Status.WAITING.value, None
                run.recoveries = 0
                wanted = (
                    resumed or (run.inbox and not run.held) or run.asked_to_end or self._fits_elsewhere(run)
                )
                run.release(append.now if wanted else append.wake_at)
        if append.parent_mail is not None and run.parent in self.runs and run.parent_op is not None:
            self.deliver(self.runs[run.parent], append.parent_mail, append.now)
        return Appended(append.expected + len(append.events), children, successor)

    def _start_child(self, new: NewRun, parent: Run) -> tuple[int, int]:
        (placed_new,) = placed([new], parent.key, parent.priority)
        child = self.create(placed_new, parent.run)
        if child is None:
            return self.keys.get(new.id, 0), 0
        return child.run, child.epoch if new.owner == parent.owner else 0

    def _succeed(
        self, run: Run, successor: Successor, inbox: Sequence[Mail], caller: int | None
    ) -> tuple[int, int]:
        """Make the next generation of a run that has just ended."""
        new = succeeding(successor.run, run.run, self.ties(run.run)[0])
        made = self.create(new, run.parent)
        assert made is not None, "a run that has just ended isn't followed by any"
        self._inherit(run, made, inbox, new.created_at)
        return made.run, made.epoch if new.owner == caller else 0

    def _inherit(self, run: Run, made: Run, inbox: Sequence[Mail], now: float) -> None:
        """What is meant for a run goes over to the generation that follows it."""
        for item in inbox:
            if goes_over(item.data):
                self.deliver(made, item.data, now, MailKind(item.kind))
        made.mail_keys, run.mail_keys = run.mail_keys, set()
        made.paused = None if run.paused is None else 0.0
        for key, (handled_by, state, answer, call) in self.updates.items():
            if handled_by == run.run and state is UpdateState.REQUESTED:
                self.updates[key] = made.run, state, answer, call

    def _again(self, run: Run, append: Append) -> Appended:
        """What the first of two equal appends was told."""
        successor = None
        if append.successor is not None and run.next is not None:
            after = self.runs[run.next]
            ours = after.owner is not None and after.owner == append.successor.run.owner
            successor = after.run, 1 if ours and after.epoch == 1 else 0
        answers: list[tuple[int, int]] = []
        for new in append.children:
            if new.id not in self.keys:
                answers.append((0, 0))
                continue
            child = self.runs[self.keys[new.id]]
            ours = child.owner is not None and child.owner == new.owner and child.parent == run.run
            ours = ours and run.owner in (None, new.owner)
            answers.append((child.run, 1 if ours and child.epoch == 1 else 0))
        return Appended(append.expected + len(append.events), tuple(answers), successor)

    def _fits_elsewhere(self, run: Run) -> bool:
        """Whether its driver's code couldn't drive a run, and a worker with other code is there."""
        return (
            run.status == Status.BLOCKED
            and run.block_code == BlockCode.CODE
            and bool(run.misfits)
            and any(may_drive(worker, run) and serves(worker, run) for worker in self.workers.values())
        )

    # -- ending -------------------------------------------------------------------------------------

    def terminate(self, run: Run, event: bytes, now: float) -> None:
        """Terminate a live run: tell its parent, and end its children as they wish it."""
        self.end_alone(run, event, now)
        self.tell_parent(run, Status.TERMINATED.value, now)
        self._close_children(run, now)

    def end_alone(
        self,
        run: Run,
        event: bytes,
        now: float,
        *,
        status: str = Status.TERMINATED.value,
        reason: str | None = None,
    ) -> None:
        """End a live run from outside, and nothing else."""
        run.write(event)
        run.epoch += 1
        run.updated_at = now
        run.finish(status, reason, None, now)
        self.publications.close_waits(run.run)

    def tell_parent(self, run: Run, status: str, now: float) -> None:
        """Tell the parent of a run that was ended from outside."""
        if run.parent in self.runs and run.parent_op is not None:
            ended = ChildEnded(at=now, child=run.parent_op, status=status)
            self.deliver(self.runs[run.parent], encode_event(ended), now)

    def _close_children(self, parent: Run, now: float) -> None:
        """Treat the live children of a run that has ended, and theirs, by their on_parent_close."""
        ended = [parent]
        while ended:
            run = ended.pop()
            reason = parent_ended(run.id)
            for child in map(self.runs.__getitem__, self.children.get(run.run, ())):
                if child.ended:
                    continue
                if child.on_parent_close == ParentPolicy.CANCEL:
                    self.deliver(child, encode_event(CancelRequested(at=now, reason=reason)), now)
                elif child.on_parent_close == ParentPolicy.TERMINATE:
                    # Nobody is told: the child's parent has ended.
                    self.end_alone(child, encode_event(RunTerminated(at=now, reason=reason)), now)
                    ended.append(child)
