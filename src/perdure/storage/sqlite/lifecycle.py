"""How runs come into being, get messages, and end, inside a transaction of the writer.

A run's end reaches further than its own row: its parent is told, and its children are cancelled,
terminated or left alone, which in turn can end more runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.codec.events import encode_event
from perdure.core.bounds import INBOX_MAX
from perdure.core.events import SEMANTICS_VERSION, CancelRequested, ChildEnded, RunTerminated
from perdure.core.status import Status
from perdure.storage.chain import first_link
from perdure.storage.generations import following, goes_over
from perdure.storage.pauses import ends_pause
from perdure.storage.reasons import parent_ended
from perdure.storage.records import Delivery, Mail, MailKind, NewMail, NewRun, ParentPolicy
from perdure.storage.sqlite.attributes import put_attributes
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.events import append_by_itself, insert_events
from perdure.storage.sqlite.queues import stands_for
from perdure.storage.sqlite.rows import as_json, mail_rows, new_run, new_runs
from perdure.storage.sqlite.streams import take_back_unsettled


def create_run(db: Database, run: NewRun, parent: int | None) -> tuple[int, int] | None:
    """(key, epoch) of a new run, None if its id or its dedup exists already, or another follows what it follows."""
    if run.follows is not None:
        run = following(run, db.rows("ties", {"run": run.follows}))
    if run.dedup is not None and stands_for(db, run) is not None:
        return None
    if run.follows is not None and not db.run("make_way", {"run": run.follows, "id": run.id}):
        return None
    chain = first_link(run.id, run.generation, run.first_event)
    made = db.rows("create", new_run(run, parent, SEMANTICS_VERSION, chain))
    if not made:
        return None
    key, epoch = made[0]
    db.run("insert_event", (key, 1, chain, run.first_event))
    for item in run.mail:
        post(db, key, item, run.created_at)
    if run.follows is not None:
        db.run("followed_by", {"run": run.follows, "next": key})
        if run.inherit:
            inherit(db, run.follows, key, take_inbox(db, run.follows), run.created_at)
            take_back_unsettled(db, run.follows, run.created_at)
        db.run("hand_attributes_on", {"run": run.follows, "next": key})
    put_attributes(db, key, run.attributes)
    if run.donor is not None:
        db.run("put_donors", (key, run.donor))
    return key, epoch


def create_runs(db: Database, runs: Sequence[NewRun]) -> list[bool]:
    """Create many runs, by two statements unless some have a dedup; tells for each whether it is new."""
    if any(run.dedup is not None or run.donor is not None for run in runs):
        return [create_run(db, run, run.parent) is not None for run in runs]
    chains = [first_link(run.id, 1, run.first_event) for run in runs]
    made = db.rows("create_many", {"runs": new_runs(runs, chains), "semantics": SEMANTICS_VERSION})
    keys: dict[str, int] = dict(made)
    new: list[bool] = []
    events: list[tuple[int, int, int, bytes]] = []
    for run, chain in zip(runs, chains, strict=True):
        key = keys.pop(run.id, None)  # popped, since of two runs with one id only the first is new
        new.append(key is not None)
        if key is not None:
            events.append((key, 1, chain, run.first_event))
            for item in run.mail:
                post(db, key, item, run.created_at)
            put_attributes(db, key, run.attributes)
    insert_events(db, events)
    return new


def deliver(
    db: Database,
    run: int,
    data: bytes,
    now: float,
    kind: MailKind = MailKind.CONTROL,
    *,
    patient: bool = False,
    most: int | None = None,
) -> bool:
    """Put an event into a run's inbox; False if the run has ended, or `most` items wait there.

    Messages, and what is `patient`, don't cut short the delay with which a run was started.
    """
    if kind is MailKind.CONTROL and ends_pause(data):
        db.run("unpause", {"run": run, "now": now})
    patient = patient or kind is MailKind.MESSAGE
    if db.run("more_mail", {"run": run, "now": now, "patient": patient, "most": most}) == 0:
        return False
    db.run("put_mail", {"run": run, "kind": kind.value, "data": data})
    return True


def post(db: Database, run: int, item: NewMail, now: float) -> Delivery:
    """Put an item into a run's inbox, unless the run has had one with its key."""
    if item.key is not None and db.value("has_key", {"run": run, "key": item.key}):
        return Delivery.REPEATED
    most = INBOX_MAX if item.kind is MailKind.MESSAGE else None
    if not deliver(db, run, item.data, now, item.kind, most=most):
        return Delivery.RUN_ENDED if db.value("has_ended", {"run": run}) else Delivery.INBOX_FULL
    if item.key is not None:
        db.run("put_key", {"run": run, "key": item.key})
    return Delivery.DELIVERED


def send_message(db: Database, run: int, data: bytes, now: float) -> None:
    """Put a message into a run's inbox; one that has ended keeps it as undelivered."""
    if not deliver(db, run, data, now, MailKind.MESSAGE):
        db.run("more_undelivered", {"run": run})
        db.run("put_mail", {"run": run, "kind": MailKind.MESSAGE.value, "data": data})


def take_inbox(db: Database, run: int) -> list[Mail]:
    """Empty a run's inbox; what was in it, oldest first."""
    found = mail_rows(db.rows("inbox", {"run": run}))
    if found:
        db.run("empty_inbox", {"run": run})
    return found


def inherit(db: Database, run: int, new: int, inbox: Sequence[Mail], now: float) -> None:
    """What is meant for a run goes over to the generation that follows it: it was in its inbox."""
    for item in inbox:
        if goes_over(item.data):
            deliver(db, new, item.data, now, MailKind(item.kind))
    db.run("inherit_pause", {"run": run, "new": new})
    db.run("inherit_keys", {"run": run, "new": new})
    db.run("inherit_updates", {"run": run, "new": new})


def close_children(db: Database, parent: int, now: float) -> None:
    """Treat the live children of a run that has ended, and theirs, by their on_parent_close."""
    ended = [parent]
    while ended:
        run = ended.pop()
        children = db.rows("live_children", {"parent": run})
        for child, policy, parent_id in children:
            reason = parent_ended(parent_id)
            if policy == ParentPolicy.CANCEL:
                deliver(db, child, encode_event(CancelRequested(at=now, reason=reason)), now)
            elif policy == ParentPolicy.TERMINATE:
                # Nobody is told: the child's parent has ended.
                end_from_outside(db, child, encode_event(RunTerminated(at=now, reason=reason)), now)
                ended.append(child)


def end_from_outside(db: Database, run: int, event: bytes, now: float) -> tuple[int | None, str | None]:
    """Terminate a live run alone; returns its parent and the op under which that waits for it."""
    ((seq, chain, parent, parent_op),) = db.rows("terminate", {"run": run, "now": now})
    append_by_itself(db, run, seq, chain, event)
    db.run("drop_inbox", {"run": run})
    db.run("drop_details", {"runs": as_json([run])})
    db.run("close_waits", {"run": run})
    return parent, parent_op


def terminate_run(db: Database, run: int, event: bytes, now: float) -> None:
    """Terminate a live run: tell its parent, and end its children as they wish it."""
    parent, parent_op = end_from_outside(db, run, event, now)
    tell_parent(db, parent, parent_op, Status.TERMINATED.value, now)
    close_children(db, run, now)


def tell_parent(db: Database, parent: int | None, parent_op: str | None, status: str, now: float) -> None:
    """Tell the parent of a run that was ended from outside."""
    if parent is not None and parent_op is not None:
        ended = ChildEnded(at=now, child=parent_op, status=status)
        deliver(db, parent, encode_event(ended), now)
