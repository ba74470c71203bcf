"""Why a run's queue doesn't let it go on, in words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import msgspec


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands in its queue, and what holds that up.

    Attributes:
        in_line: it hasn't begun, and stands in line.
        ahead: how many come before it, those of other keys aside.
        many: `ahead` is as far as they were counted.
        key: the run's own.
        held, held_by_key: slots that are held.
        holders: ids of some of those that hold them.
        parent_holds: its parent is one of those.
        rate: the rate in words, None if there is none.
        next_at: when the rate lets the next run begin; None if one may begin now.
    """

    queue: str
    paused: bool
    draining: bool
    in_line: bool
    ahead: int
    many: bool
    key: str | None
    held: int
    held_by_key: int
    holders: Sequence[str]
    parent_holds: bool
    concurrency: int | None
    per_worker: int | None
    per_key: int | None
    rate: str | None
    next_at: float | None


def explain_place(place: Place) -> tuple[str, float | None, str] | None:
    """What the queue has to do with it: half a sentence, until when at least, and what helps. None: nothing."""
    resume = f"perdure queues resume {shlex.quote(place.queue)}"
    if place.paused:
        return f"its queue {place.queue!r} is paused", None, resume
    if not place.in_line:
        if place.per_worker is None:
            return None
        text = (
            f"it is due, and waits for room on a worker: each has at most {place.per_worker} runs of its queue "
            f"{place.queue!r}"
        )
        return text, None, "if this lasts, start more workers"
    if place.draining:
        return f"its queue {place.queue!r} is drained: nothing begins there", None, resume
    waits = f"waits in its queue {place.queue!r}"
    if place.ahead:
        waits += f" behind {place.ahead}{' or more' if place.many else ''} {'other' if place.ahead == 1 else 'others'}"
    reason, until, todo = _reason(place)
    return f"{waits}: {reason}" if reason else waits, until, todo


def _reason(place: Place) -> tuple[str, float | None, str]:
    """What holds the line up."""
    if place.per_key is not None and place.key is not None and place.held_by_key >= place.per_key:
        number = place.held_by_key
        return (
            f"its key {place.key!r} has {number} of {place.per_key} slots, {_held(place, number)}",
            None,
            "",
        )
    if place.concurrency is not None and place.held >= place.concurrency:
        text = f"its limit of {place.concurrency} is reached, {_held(place, place.held)}"
        if not place.parent_holds:
            return text, None, ""
        todo = (
            "raise the limit, such as "
            f"perdure queues set {shlex.quote(place.queue)} --concurrency {2 * place.concurrency}; "
            "and let such children go to another queue"
        )
        return f"{text}. Its own parent holds one of them while it waits for this run", None, todo
    if place.next_at is not None:
        return f"its rate of {place.rate} lets the next one begin then", place.next_at, ""
    if place.per_worker is not None:
        text = f"each worker has at most {place.per_worker} of its runs"
        return text, None, "if this lasts, start more workers"
    return "", None, "if this lasts, start more workers"


def _held(place: Place, number: int) -> str:
    names = ", ".join(place.holders)
    return f"held by {names}{', ...' if number > len(place.holders) else ''}"
