"""Appending: the compare-and-set of many runs' histories, and what follows from it.

The hot path is one UPDATE and one INSERT for a whole wave of appends to different runs, bound as one
JSON text and one blob. It doesn't tell who in a wave is stale; as that is rare, the writer then rolls back
and has the appends applied one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import apsw

from perdure.core.status import FINAL
from perdure.storage.chain import surplus
from perdure.storage.errands import any_errand, placed
from perdure.storage.records import Append, Appended, Stale
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.effects import take_effect
from perdure.storage.sqlite.events import insert_events
from perdure.storage.sqlite.generations import succeed
from perdure.storage.sqlite.lifecycle import close_children, create_run, deliver, take_inbox
from perdure.storage.sqlite.rows import as_json

_FINAL = frozenset(status.value for status in FINAL)

#: Events of one INSERT, so that a batch of large ones neither meets SQLite's limit for a value (1 GB) nor
#: is copied as a whole.
_INSERT_BYTES = 4 * 1024 * 1024


class WaveRefusedError(Exception):
    """Somebody in a wave is stale: roll back, and apply the appends singly."""


class PlaceTakenError(Exception):
    """The history of a run has an event already where another is to go: roll back, and leave that run out."""

    def __init__(self, run: int) -> None:
        super().__init__(run)
        self.run = run


def apply_appends(
    db: Database, appends: Sequence[Append], *, singly: bool, damaged: Collection[int] = ()
) -> list[Appended | Stale]:
    """Apply appends in order within the open transaction; a stale one has no effect.

    Args:
        damaged: runs whose histories have no room for what follows.

    Raises:
        WaveRefusedError: one of them is stale, and not `singly`.
        PlaceTakenError: one of them has no room, and isn't known to be `damaged`.
    """
    if singly or len(appends) == 1:
        return [
            Stale(append.expected, append.epoch, surplus(append.expected))
            if append.run in damaged and append.events
            else apply_append(db, append)
            for append in appends
        ]
    answers: list[Appended | Stale] = []
    wave: list[Append] = []
    runs: set[int] = set()
    for append in appends:
        if append.run in runs:
            answers += _apply_wave(db, wave)
            wave = []
            runs.clear()
        wave.append(append)
        runs.add(append.run)
    return answers + _apply_wave(db, wave)


def _apply_wave(db: Database, wave: Sequence[Append]) -> list[Appended | Stale]:
    """Apply appends to different runs."""
    ending = [append.run for append in wave if append.status in _FINAL]
    if len(wave) == 1 or (ending and _would_terminate(db, ending)):
        # The end of one run may reach into the rows of others in this wave: the order counts.
        return [apply_append(db, append) for append in wave]
    rows = [(a.run, a.expected, a.epoch, a.attempt, a.expected + len(a.events), a.now, a.chain) for a in wave]
    if db.run("advance_many", (as_json(rows),)) != len(wave):
        raise WaveRefusedError
    try:
        insert_events(db, _numbered(wave))
    except apsw.ConstraintError as error:
        raise WaveRefusedError from error
    ending_plainly = [append for append in wave if _only_ends(append)]
    if ending_plainly:
        _finish_many(db, ending_plainly)
    return [
        Appended(append.expected + len(append.events)) if _only_ends(append) else _follow(db, append)
        for append in wave
    ]


def _would_terminate(db: Database, ending: Sequence[int]) -> bool:
    return bool(db.value("would_terminate", (as_json(ending),)))


def _numbered(appends: Sequence[Append]) -> Iterator[tuple[int, int, int, bytes]]:
    for append in appends:
        its_links = append.links
        for place, data in enumerate(append.events):
            yield append.run, append.expected + place + 1, its_links[place], data


def apply_append(db: Database, append: Append) -> Appended | Stale:
    """Apply one append by plain statements."""
    run, expected = append.run, append.expected
    seq = expected + len(append.events)
    chain = append.links[-1] if append.links else None
    execute, queries = db.execute, db.queries
    execute(queries["advance"], (run, expected, append.epoch, append.attempt, seq, append.now, chain))
    if not db.changes():
        return _refuse(db, append)
    try:
        if len(append.events) == 1:  # the hot path: one step's outcome
            execute(queries["insert_event"], (run, seq, append.links[0], append.events[0]))
        else:
            for event in _numbered([append]):
                db.run("insert_event", event)
    except apsw.ConstraintError as error:
        raise PlaceTakenError(run) from error
    return _follow(db, append)


def _refuse(db: Database, append: Append) -> Appended | Stale:
    """The answer to an append that didn't pass: it is stale, or it is there already."""
    standing = db.rows("standing", {"run": append.run})
    if not standing:
        return Stale(0, 0)
    seq, epoch, attempt, driver = standing[0]
    if attempt != append.attempt:
        return Stale(seq, epoch)
    children: list[tuple[int, int]] = []
    for child in append.children:
        key, epoch, owner, parent = next(iter(db.rows("key_of", {"id": child.id})), (0, 0, None, None))
        ours = owner is not None and owner == child.owner and parent == append.run and epoch == 1
        children.append((key, 1 if ours and driver in (None, owner) else 0))
    return Appended(append.expected + len(append.events), tuple(children), _successor_again(db, append))


def _successor_again(db: Database, append: Append) -> tuple[int, int] | None:
    """What the first of two equal appends was told about the run's next generation."""
    if append.successor is None:
        return None
    ((key, epoch, owner),) = db.rows("successor", {"run": append.run})
    ours = owner is not None and owner == append.successor.run.owner and epoch == 1
    return key, 1 if ours else 0


def _only_ends(append: Append) -> bool:
    """Whether it is the end of a run and nothing besides."""
    return append.status in _FINAL and not (
        append.consumed or append.children or append.parent_mail or append.effects or append.successor
    )


def _finish_many(db: Database, appends: Sequence[Append]) -> None:
    ends = [(a.run, a.status, a.reason, a.block_code, a.now) for a in appends]
    runs = as_json([append.run for append in appends])
    db.run("finish_many", {"ends": as_json(ends)})
    db.run("drop_inboxes", {"runs": runs})
    db.run("drop_details", {"runs": runs})
    now = appends[-1].now
    for (parent,) in db.rows("live_parents", {"runs": runs}):
        close_children(db, parent, now)


def _follow(db: Database, append: Append) -> Appended:
    """What follows from an append that has passed: nothing, if it changes no more than its run's seq."""
    if append.status is None and not (
        append.release or append.consumed or append.children or append.parent_mail or append.effects
    ):
        return Appended(append.expected + len(append.events))
    run, now = append.run, append.now
    if append.consumed:
        taken = db.run("take_mail", {"run": run, "ids": as_json(append.consumed)})
        db.run("less_mail", {"run": run, "taken": taken})
    children = _start_children(db, append) if append.children else ()
    for effect in append.effects:
        take_effect(db, append, effect)
    successor = None
    if append.status in _FINAL:
        successor = _finish(db, append)
    else:
        if append.status is not None:
            db.run(
                "set_status",
                {
                    "run": run,
                    "status": append.status,
                    "reason": append.reason,
                    "block_code": append.block_code,
                },
            )
        if append.release:
            db.run("release", {"run": run, "now": now, "wake_at": append.wake_at})
    if append.parent_mail is not None:
        ((parent,),) = db.rows("parent_of", {"run": run})
        if parent is not None:
            deliver(db, parent, append.parent_mail, now)
    return Appended(append.expected + len(append.events), children, successor)


def _start_children(db: Database, append: Append) -> tuple[tuple[int, int], ...]:
    """(key, epoch) of each child; the epoch is 0 if the caller doesn't drive it from now on."""
    ((_, _, _, caller),) = db.rows("standing", {"run": append.run})
    answers: list[tuple[int, int]] = []
    children = append.children
    if any_errand(children):
        ((key, priority),) = db.rows("place_of", {"run": append.run})
        children = placed(children, key, priority)
    for child in children:
        made = create_run(db, child, append.run)
        if made is not None:
            key, epoch = made
            answers.append((key, epoch if child.owner == caller else 0))
        else:
            there = db.rows("key_of", {"id": child.id})  # none, if another live run has its dedup
            answers.append((there[0][0] if there else 0, 0))
    return tuple(answers)


def _finish(db: Database, append: Append) -> tuple[int, int] | None:
    """End a run; (key, epoch) of its next generation, the epoch 0 if the caller doesn't drive that."""
    run, successor, made = append.run, append.successor, None
    ((_, _, _, caller),) = db.rows("standing", {"run": run}) if successor else ((0, 0, 0, None),)
    inbox = take_inbox(db, run) if successor else []
    db.run(
        "finish",
        {
            "run": run,
            "status": append.status,
            "reason": append.reason,
            "block_code": append.block_code,
            "now": append.now,
        },
    )
    db.run("drop_inbox", {"run": run})
    if successor is not None:
        key, epoch = succeed(db, run, successor, inbox)
        made = key, epoch if successor.run.owner == caller else 0
    db.run("drop_details", {"runs": as_json([run])})
    close_children(db, run, append.now)
    return made
