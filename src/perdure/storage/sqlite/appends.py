"""Appending: the compare-and-set of many runs' histories, and what follows from it.

The hot path is one statement for a whole wave of appends to different runs, bound as JSON texts and one blob
(queries/waves.sql, docs/adr/0032). What is nothing but such a wave needs no transaction around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import apsw

from perdure.core.status import FINAL
from perdure.storage.chain import surplus
from perdure.storage.changes import ends_alone, plain
from perdure.storage.errands import any_errand, placed
from perdure.storage.records import Append, Appended, Stale
from perdure.storage.sqlite.database import Database
from perdure.storage.sqlite.effects import take_effect
from perdure.storage.sqlite.generations import succeed
from perdure.storage.sqlite.lifecycle import close_children, create_run, deliver, take_inbox
from perdure.storage.sqlite.rows import as_json

_FINAL = frozenset(status.value for status in FINAL)

#: Bytes of events in one statement, so that a batch of large ones doesn't meet SQLite's limit for a value (1 GB).
_WAVE_BYTES = 4 * 1024 * 1024


def prepare(db: Database) -> None:
    """Make what a connection needs to append."""
    for query in ("make_lone", "make_lone_rules", "make_wave", "make_wave_rules"):
        db.run(query)


def append_at_once(db: Database, appends: Sequence[Append]) -> list[Appended] | None:
    """Apply appends by one statement, outside a transaction: SQLite makes one of it, and commits it.

    Returns None when it can't be done so, or one is stale: nothing has happened then.
    """
    for append in appends:
        if not (plain(append) or ends_alone(append)):
            return None
    if len(appends) != 1 and len(_waves(appends)) != 1:
        return None
    try:
        _append(db, appends)
    except apsw.ConstraintError:
        return None
    return [Appended(append.expected + len(append.events)) for append in appends]


def apply_appends(db: Database, appends: Sequence[Append]) -> list[Appended | Stale]:
    """Apply appends in order within the open transaction; a stale one has no effect."""
    return [answer for wave in _waves(appends) for answer in _apply_wave(db, wave)]


def _waves(appends: Sequence[Append]) -> list[list[Append]]:
    """Cut a series into parts of different runs each, which one statement can take."""
    waves: list[list[Append]] = []
    runs: set[int] = set()
    room = 0
    for append in appends:
        size = sum(map(len, append.events))
        if not waves or append.run in runs or size > room:
            waves.append([])
            runs.clear()
            room = _WAVE_BYTES
        waves[-1].append(append)
        runs.add(append.run)
        room -= size
    return waves


def _apply_wave(db: Database, wave: Sequence[Append]) -> list[Appended | Stale]:
    """Apply appends to different runs. The statement doesn't tell who in a wave is stale: as that is rare, all are
    applied one by one then.
    """
    if len(wave) > 1:
        try:
            _append(db, wave)
        except apsw.ConstraintError:
            pass
        else:
            return [
                Appended(append.expected + len(append.events)) if ends_alone(append) else _follow(db, append)
                for append in wave
            ]
    return [apply_append(db, append) for append in wave]


def apply_append(db: Database, append: Append) -> Appended | Stale:
    """Apply one append within the open transaction."""
    try:
        _append(db, (append,), with_ends=False)
    except apsw.ConstraintError as error:
        return _refuse(db, append, error)
    return _follow(db, append)


def _append(db: Database, wave: Sequence[Append], *, with_ends: bool = True) -> None:
    """Move runs on and write their events; end those that do nothing but end, unless that is done by `_follow`.

    Raises:
        apsw.ConstraintError: one of them is stale, or has no room, or its end concerns living children.
    """
    first = wave[0]
    if len(wave) == 1 and len(first.events) == 1 and not (with_ends and first.status in _FINAL):
        # the hot path: one step's outcome
        db.execute(
            db.queries["append_lone"],
            (
                first.run,
                first.expected,
                first.epoch,
                first.attempt,
                first.now,
                first.links[0],
                first.events[0],
            ),
        )
        return
    ending = [append for append in wave if append.status in _FINAL] if with_ends else ()
    places: list[tuple[int, int, int, int, int]] = []
    offset = 1
    for append in wave:
        for seq, link, data in zip(count(append.expected + 1), append.links, append.events, strict=False):
            places.append((append.run, seq, link, offset, len(data)))
            offset += len(data)
    db.execute(
        db.queries["append_wave"],
        {
            "number": len(wave),
            "appends": as_json(
                [
                    (a.run, a.expected, a.epoch, a.attempt, a.expected + len(a.events), a.now, a.chain)
                    for a in wave
                ]
            ),
            "events": as_json(places),
            "data": b"".join([data for append in wave for data in append.events]),
            "ending": as_json([append.run for append in ending]),
            "ends": as_json(
                [(a.run, a.status, a.reason, a.block_code, a.now) for a in ending if ends_alone(a)]
            ),
        },
    )


def _refuse(db: Database, append: Append, error: apsw.Error) -> Appended | Stale:
    """The answer to an append that didn't pass: it is stale, or it is there already, or has no room."""
    standing = db.rows("standing", {"run": append.run})
    if not standing:
        return Stale(0, 0)
    seq, epoch, attempt, driver = standing[0]
    if attempt != append.attempt:
        if (seq, epoch) != (append.expected, append.epoch) or driver is None:
            return Stale(seq, epoch)
        if not db.value("has_more", {"run": append.run, "seq": seq}):
            raise error  # it should have passed
        return Stale(seq, epoch, surplus(seq))
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


def _follow(db: Database, append: Append) -> Appended:
    """What follows from an append that has passed: nothing, if it changes no more than its run's seq."""
    if plain(append):
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
