"""How runs come into being, get messages, and end, inside a transaction.

A run's end reaches further than its own row: its parent is told, and its children are cancelled, terminated or
left alone, which in turn can end more runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.codec.events import encode_event
from perdure.core.bounds import INBOX_MAX
from perdure.core.events import SEMANTICS_VERSION, CancelRequested, ChildEnded, RunTerminated
from perdure.core.status import Status
from perdure.storage.chain import first_link
from perdure.storage.generations import following, goes_over, succeeding
from perdure.storage.pauses import ends_pause
from perdure.storage.postgres.attributes import put_attributes
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.events import append_by_itself
from perdure.storage.postgres.queues import stands_for
from perdure.storage.postgres.rows import new_key, new_runs
from perdure.storage.postgres.streams import take_back_unsettled
from perdure.storage.reasons import parent_ended
from perdure.storage.records import Delivery, Mail, MailKind, NewMail, NewRun, ParentPolicy, Successor


async def create_runs(
    db: Database, runs: Sequence[NewRun], parents: Sequence[int | None]
) -> list[tuple[int, int] | None]:
    """(key, epoch) of each new run, None where its id or dedup exists already, or another follows what it follows."""
    if len(runs) > 1 and any(run.dedup is not None for run in runs):
        each = [await create_runs(db, [run], [parent]) for run, parent in zip(runs, parents, strict=True)]
        return [made for (made,) in each]
    runs = [
        run if run.follows is None else following(run, await db.rows("ties", run=run.follows)) for run in runs
    ]
    if len(runs) == 1 and runs[0].dedup is not None and await stands_for(db, runs[0]) is not None:
        return [None]
    keys: dict[str, int] = {}
    ours: set[int] = set()
    for run in runs:
        key = new_key()
        if run.follows is None:
            keys.setdefault(run.id, key)
        elif run.id not in keys and await db.run("make_way", run=run.follows, id=run.id, next=key):
            await db.run("pass_id", run=run.follows, id=run.id, next=key)
            keys[run.id] = key
            ours.add(key)
    fresh_ids = {name: key for name, key in keys.items() if key not in ours}
    if fresh_ids:
        taken = await db.rows("take_ids", ids=list(fresh_ids), runs=list(fresh_ids.values()))
        ours.update(key for (key,) in taken)
    fresh: list[tuple[int, NewRun, int | None]] = []
    places: list[int] = []
    for place, (run, parent) in enumerate(zip(runs, parents, strict=True)):
        if keys.get(run.id) in ours:
            places.append(place)
            fresh.append((keys.pop(run.id), run, parent))  # of two runs with one id only the first is new
    if not fresh:
        return [None] * len(runs)
    owners = sorted({run.owner for _, run, _ in fresh if run.owner is not None})
    if owners:
        await db.rows("lock_workers", workers=owners)
    chains = [first_link(run.id, run.generation, run.first_event) for _, run, _ in fresh]
    given = new_runs(fresh, chains)
    epochs: dict[int, int] = dict(await db.rows("create_many", semantics=SEMANTICS_VERSION, **given))
    numbers = [key for key, _, _ in fresh]
    first = [run.first_event for _, run, _ in fresh]
    await db.run("insert_events", runs=numbers, seqs=[1] * len(numbers), links=chains, data=first)
    for key, run, _ in fresh:
        if run.follows is not None:
            await db.run("hand_attributes_on", run=run.follows, next=key)
        await put_attributes(db, key, run.attributes)
        if run.donor is not None:
            await db.many("put_donors", [(key, run.donor)])
        if run.dedup is not None:
            await db.run("take_dedup", dedup=run.dedup, holder=key)
        for item in run.mail:
            await post(db, key, item, run.created_at)
        if run.follows is not None and run.inherit:
            await inherit(db, run.follows, key, await take_inbox(db, run.follows), run.created_at)
            await take_back_unsettled(db, run.follows, run.created_at)
    made: list[tuple[int, int] | None] = [None] * len(runs)
    for place, key in zip(places, numbers, strict=True):
        made[place] = key, epochs[key]
    return made


async def deliver(
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
    patient = patient or kind is MailKind.MESSAGE
    if kind is MailKind.CONTROL and ends_pause(data):
        await db.run("unpause", run=run, now=float(now))
    counted = await db.rows("more_mail", run=run, now=float(now), patient=patient, most=most)
    if not counted:
        return False
    ((number, _),) = counted
    await db.run("put_mail", run=run, number=number, kind=kind.value, data=data)
    return True


async def post(db: Database, run: int, item: NewMail, now: float) -> Delivery:
    """Put an item into a run's inbox, unless the run has had one with its key."""
    if item.key is not None and not await db.run("put_key", run=run, key=item.key):
        return Delivery.REPEATED
    most = INBOX_MAX if item.kind is MailKind.MESSAGE else None
    if await deliver(db, run, item.data, now, item.kind, most=most):
        return Delivery.DELIVERED
    if item.key is not None:
        await db.run("drop_key", run=run, key=item.key)
    return Delivery.RUN_ENDED if await db.value("has_ended", run=run) else Delivery.INBOX_FULL


async def send_message(db: Database, run: int, data: bytes, now: float) -> None:
    """Put a message into a run's inbox; one that has ended keeps it as undelivered."""
    if not await deliver(db, run, data, now, MailKind.MESSAGE):
        for (number,) in await db.rows("more_undelivered", run=run):
            await db.run("put_mail", run=run, number=number, kind=MailKind.MESSAGE.value, data=data)


async def take_inbox(db: Database, run: int) -> list[Mail]:
    """Empty a run's inbox; what was in it, oldest first."""
    found = [Mail(*row) for row in await db.rows("take_inbox", run=run)]
    return sorted(found, key=lambda item: item.id)


async def inherit(db: Database, run: int, new: int, inbox: Sequence[Mail], now: float) -> None:
    """What is meant for a run goes over to the generation that follows it: it was in its inbox."""
    for item in inbox:
        if goes_over(item.data):
            await deliver(db, new, item.data, now, MailKind(item.kind))
    await db.run("inherit_keys", run=run, new=new)
    await db.run("inherit_updates", run=run, new=new)
    await db.run("inherit_pause", run=run, new=new)


async def succeed(db: Database, run: int, successor: Successor, inbox: Sequence[Mail]) -> tuple[int, int]:
    """(key, epoch) of the next generation of a run that has just ended.

    Args:
        inbox: what was in its inbox.
    """
    (ties,) = await db.rows("ties", run=run)
    new = succeeding(successor.run, run, ties)
    (made,) = await create_runs(db, [new], [ties[2]])
    assert made is not None, "a run that has just ended isn't followed by any"
    await inherit(db, run, made[0], inbox, new.created_at)
    return made


async def close_children(db: Database, parent: int, now: float) -> None:
    """Treat the live children of a run that has ended, and theirs, by their on_parent_close."""
    ended = [parent]
    told: set[int] = set()
    while ended:
        for child, policy, parent_id in await db.rows("live_children", parent=ended[-1]):
            if child in told:
                continue
            told.add(child)
            reason = parent_ended(parent_id)
            if policy == ParentPolicy.CANCEL:
                event = encode_event(CancelRequested(at=now, reason=reason))
                if not await deliver(db, child, event, now):
                    break  # it has ended meanwhile; if another run follows it, that is a child, too
            elif policy == ParentPolicy.TERMINATE:
                # Nobody is told: the child's parent has ended.
                event = encode_event(RunTerminated(at=now, reason=reason))
                if await end_from_outside(db, child, event, now) is None:
                    break
                ended.insert(0, child)
        else:
            ended.pop()


async def end_from_outside(
    db: Database, run: int, event: bytes, now: float
) -> tuple[int | None, str | None] | None:
    """Terminate a run alone; returns its parent and the op under which that waits for it, None if it has ended."""
    found = await db.rows("terminate", run=run, now=float(now))
    if not found:
        return None
    ((seq, chain, parent, parent_op),) = found
    await append_by_itself(db, [(run, seq, chain)], [event])
    await db.run("drop_inboxes", runs=[run])
    await db.run("drop_details", runs=[run])
    await db.run("close_waits", run=run)
    return parent, parent_op


async def terminate_run(db: Database, run: int, event: bytes, now: float) -> bool:
    """Terminate a run: tell its parent, and end its children as they wish it. False if it has ended."""
    ended = await end_from_outside(db, run, event, now)
    if ended is None:
        return False
    await tell_parent(db, *ended, Status.TERMINATED.value, now)
    await close_children(db, run, now)
    return True


async def tell_parent(
    db: Database, parent: int | None, parent_op: str | None, status: str, now: float
) -> None:
    """Tell the parent of a run that was ended from outside."""
    if parent is not None and parent_op is not None:
        ended = ChildEnded(at=now, child=parent_op, status=status)
        await deliver(db, parent, encode_event(ended), now)
