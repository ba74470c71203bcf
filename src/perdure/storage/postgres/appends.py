"""Appending: the compare-and-set of many runs' histories, and what follows from it.

The hot path is one statement for a whole batch of appends to different runs, which needs no transaction around it,
and so is the end of runs that concerns no other run. Appends with other consequences (a status, mail, children) have
the same statement first, and what follows from those that passed after it, in one transaction.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Sequence
from typing import Any

import msgspec

from perdure.core.status import FINAL
from perdure.storage.errands import any_errand, placed
from perdure.storage.postgres.arrays import blobs, integers, reals
from perdure.storage.postgres.budgets import Due, settle
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.effects import take_effects
from perdure.storage.postgres.lifecycle import (
    close_children,
    create_runs,
    deliver,
    succeed,
    take_inbox,
)
from perdure.storage.records import Append, Appended, Mail, Stale, Successor

logger = logging.getLogger("perdure.postgres")

_FINAL = frozenset(status.value for status in FINAL)
_run = operator.attrgetter("run")


def bindings(batch: Sequence[Append]) -> dict[str, Any]:
    """Of the `append_many` query. The runs must differ; they are locked in the order of their keys."""
    batch = sorted(batch, key=_run)
    runs = integers([append.run for append in batch])
    seqs = integers([append.expected + len(append.events) for append in batch])
    chains = integers([append.chain for append in batch])
    told = {
        "runs": runs,
        "expected": integers([append.expected for append in batch]),
        "epochs": integers([append.epoch for append in batch]),
        "attempts": integers([append.attempt for append in batch]),
        "seqs": seqs,
        "nows": reals([append.now for append in batch]),
        "chains": chains,
    }
    if all(len(append.events) == 1 for append in batch):  # most are, and so a quarter less is packed
        data = blobs([append.events[0] for append in batch])
        return {**told, "event_runs": runs, "event_seqs": seqs, "event_links": chains, "event_data": data}
    events = [
        (append.run, seq, link, data)
        for append in batch
        for seq, (link, data) in enumerate(zip(append.links, append.events, strict=True), append.expected + 1)
    ]
    return {
        **told,
        "event_runs": integers([run for run, _, _, _ in events]),
        "event_seqs": integers([seq for _, seq, _, _ in events]),
        "event_links": integers([link for _, _, link, _ in events]),
        "event_data": blobs([data for _, _, _, data in events]),
    }


def ending_bindings(batch: Sequence[Append]) -> dict[str, Any]:
    """Of the `end_many` query."""
    ordered = sorted(batch, key=_run)
    return {**bindings(batch), **_said(ordered)}


async def answers(
    db: Database, batch: Sequence[Append], passed: Sequence[tuple[Any, ...]]
) -> list[Appended | Stale]:
    """What plain appends are told, from the runs that passed."""
    through = {run for (run,) in passed}
    refused = [append for append in batch if append.run not in through]
    told = await refusals(db, refused) if refused else {}
    return [
        told[append.run] if append.run in told else Appended(append.expected + len(append.events))
        for append in batch
    ]


async def refusals(db: Database, refused: Sequence[Append]) -> dict[int, Appended | Stale]:
    """The answers to appends that didn't pass: they are stale, or there already."""
    rows = await db.rows("standing", runs=[append.run for append in refused])
    standing = {run: tuple(rest) for run, *rest in rows}
    told: dict[int, Appended | Stale] = {}
    for append in refused:
        seq, epoch, attempt, driver = standing.get(append.run, (0, 0, None, None))
        if attempt != append.attempt:
            told[append.run] = Stale(seq, epoch)
        else:
            children = await _children_again(db, append, driver) if append.children else ()
            successor = await _successor_again(db, append)
            told[append.run] = Appended(append.expected + len(append.events), children, successor)
            logger.info("an append to run key %s had come through, though its reply was lost", append.run)
    return told


async def _children_again(db: Database, append: Append, driver: int | None) -> tuple[tuple[int, int], ...]:
    """What the first of two equal appends was told about its children.

    Args:
        driver: who appends; None if that has been the run's end.
    """
    rows = await db.rows("keys_of", ids=[child.id for child in append.children])
    known = {id: (run, epoch, owner, parent) for id, run, epoch, owner, parent in rows}
    children: list[tuple[int, int]] = []
    for child in append.children:
        run, epoch, owner, parent = known.get(child.id, (0, 0, None, None))
        ours = owner is not None and owner == child.owner and parent == append.run and epoch == 1
        children.append((run, 1 if ours and driver in (None, owner) else 0))
    return tuple(children)


async def _successor_again(db: Database, append: Append) -> tuple[int, int] | None:
    """What the first of two equal appends was told about the run's next generation."""
    if append.successor is None:
        return None
    ((key, epoch, owner),) = await db.rows("successor", run=append.run)
    ours = owner is not None and owner == append.successor.run.owner and epoch == 1
    return key, 1 if ours else 0


async def apply(db: Database, batch: Sequence[Append]) -> list[Appended | Stale]:
    """Apply appends to different runs, with what follows from them, in the open transaction."""
    telling = [append.run for append in batch if append.parent_mail]
    if telling:
        await db.rows("lock_families", runs=[append.run for append in batch], telling=telling)
    passed = {run for (run,) in await db.rows("append_many", **bindings(batch))}
    refused = [append for append in batch if append.run not in passed]
    told = await refusals(db, refused) if refused else {}
    results: list[Appended | Stale] = []
    ending: list[Append] = []
    due: list[Due] = []
    await _set_statuses(db, [append for append in batch if append.run not in told])
    for append in batch:
        if append.run in told:
            results.append(told[append.run])
        else:
            results.append(await _follow(db, append, due))
            if append.status in _FINAL:
                ending.append(append)
    if ending:
        made = await _finish(db, ending)
        for place, append in enumerate(batch):
            if append.run in made:
                results[place] = msgspec.structs.replace(results[place], successor=made[append.run])
    if due:  # many runs meet in budgets: they are locked last
        await settle(db, due, batch[-1].now)
    return results


async def _set_statuses(db: Database, passed: Sequence[Append]) -> None:
    """What runs that go on say of themselves."""
    saying = [append for append in passed if append.status is not None and append.status not in _FINAL]
    if saying:
        saying.sort(key=_run)
        await db.run("set_statuses", runs=integers([append.run for append in saying]), **_said(saying))


def _said(ordered: Sequence[Append]) -> dict[str, Any]:
    return {
        "statuses": [append.status for append in ordered],
        "reasons": [append.reason for append in ordered],
        "codes": [append.block_code for append in ordered],
    }


async def _follow(db: Database, append: Append, due: list[Due]) -> Appended:
    """What follows from an append that has passed, its status aside, and what budgets have to do with."""
    run = append.run
    if append.consumed:
        taken = await db.run("take_mail", run=run, ids=list(append.consumed))
        await db.run("less_mail", run=run, taken=taken)
    children = await _start_children(db, append) if append.children else ()
    if append.effects:
        due += await take_effects(db, append)
    if append.release and append.status not in _FINAL:
        await db.run("release", run=run, now=float(append.now), wake_at=append.wake_at)
    if append.parent_mail is not None:
        parent = await db.value("parent_of", run=run)
        if parent is not None:
            await deliver(db, parent, append.parent_mail, append.now)
    return Appended(append.expected + len(append.events), children)


async def _start_children(db: Database, append: Append) -> tuple[tuple[int, int], ...]:
    """(key, epoch) of each child; the epoch is 0 if the caller doesn't drive it from now on."""
    caller = await db.value("owner_of", run=append.run)
    children = append.children
    if any_errand(children):
        ((key, priority),) = await db.rows("place_of", run=append.run)
        children = placed(children, key, priority)
    made = await create_runs(db, children, [append.run] * len(children))
    missing = [child.id for child, new in zip(append.children, made, strict=True) if new is None]
    rows = await db.rows("keys_of", ids=missing) if missing else []
    known = {id: run for id, run, *_ in rows}
    return tuple(
        (known.get(child.id, 0), 0) if new is None else (new[0], new[1] if child.owner == caller else 0)
        for child, new in zip(append.children, made, strict=True)
    )


async def _finish(db: Database, ending: Sequence[Append]) -> dict[int, tuple[int, int]]:
    """End runs. By run, (key, epoch) of the next generations; the epoch is 0 if the caller doesn't drive that."""
    ending = sorted(ending, key=_run)
    runs = [append.run for append in ending]
    going_on: list[tuple[Append, Successor, int | None, list[Mail]]] = []
    for append in ending:
        if append.successor is not None:
            caller = await db.value("owner_of", run=append.run)
            going_on.append((append, append.successor, caller, await take_inbox(db, append.run)))
    await db.run(
        "finish_many",
        runs=runs,
        **_said(ending),
        nows=[float(append.now) for append in ending],
    )
    await db.run("drop_inboxes", runs=runs)
    await db.run("drop_details", runs=runs)
    now = ending[-1].now
    for (parent,) in await db.rows("live_parents", runs=runs):
        await close_children(db, parent, now)
    made: dict[int, tuple[int, int]] = {}
    for append, successor, caller, inbox in going_on:
        key, epoch = await succeed(db, append.run, successor, inbox)
        made[append.run] = key, epoch if successor.run.owner == caller else 0
    return made
