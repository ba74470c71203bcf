"""Makes new runs: what `engine.start` and a parent's await have in common."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.codec.events import encode_event
from perdure.core import bounds
from perdure.core import events as ev
from perdure.core.attributes import Attribute, attributes_json
from perdure.core.finding import fingerprint
from perdure.core.namespaces import is_reserved, refusal
from perdure.core.tracing import TraceContext
from perdure.errors import UsageError
from perdure.runtime.definitions import is_singleton, stays_pinned
from perdure.runtime.queues import checked_key, checked_priority, dedup_in, dedup_of
from perdure.storage.chance import chance
from perdure.storage.records import NewRun, ParentPolicy

#: Longest run id, in characters.
RUN_ID_MAX = bounds.RUN_ID_MAX

#: Length of a run's seed, from which its random numbers and its callbacks' tokens are made.
SEED_BYTES = 32


class Asker(msgspec.Struct, frozen=True):
    """The run that asks for another one; without fields, somebody who isn't a run.

    Attributes:
        id: its id, short.
        run: the store's key of it.
        op: the operation by which it asks.
        on_close: what becomes of the other one when it ends first.
    """

    id: str | None = None
    run: int | None = None
    op: str | None = None
    on_close: str = ParentPolicy.CANCEL


class Place(msgspec.Struct, frozen=True):
    """What a queue may go by with a run.

    Attributes:
        key, priority: see `Engine.start`.
        dedup: no other live run of its queue may have the same.
        debounce: seconds that it waits for others with its dedup, or else its key, which take its place.
        at_most: seconds that it waits for such at most.
    """

    key: str | None = None
    priority: int = 0
    dedup: str | None = None
    debounce: float | None = None
    at_most: float | None = None


_NOBODY = Asker()
_ANY = Place()


def new_run(
    *,
    id: str,
    workflow: str,
    input: bytes,
    queue: str,
    now: float,
    delay: float = 0.0,
    timeout: float | None = None,
    owner: int | None = None,
    asker: Asker = _NOBODY,
    schedule: str | None = None,
    slot: float | None = None,
    attributes: Sequence[Attribute] = (),
    place: Place = _ANY,
    trace: TraceContext | None = None,
) -> NewRun:
    """A run ready to be created.

    Args:
        now: wall-clock seconds.
        delay: seconds before it may be driven.
        timeout: seconds after its start by which it has to end.
        owner: the worker that will drive it from the start.
        schedule, slot: the schedule that starts it, and the moment it is started for.
        attributes: what it can be found by.
        trace: where whoever asks for it stands in a trace.

    Raises:
        UsageError: the id can't be a run's, or the rest doesn't fit together.
    """
    check_run_id(id)
    delay, dedup = _waiting(workflow, queue, delay, place)
    started = ev.RunStarted(
        at=now,
        workflow=workflow,
        input=input,
        seed=chance.secret(SEED_BYTES),
        parent=asker.id,
        parent_op=asker.op,
        deadline=None if timeout is None else now + delay + timeout,
        schedule=schedule,
        slot=slot,
        attributes=attributes_json(attributes) if attributes else None,
        trace=trace,
    )
    return NewRun(
        id=id,
        workflow=workflow,
        fingerprint=run_fingerprint(workflow, input),
        first_event=encode_event(started),
        queue=queue,
        created_at=now,
        wake_at=now + delay,
        owner=None if delay > 0 else owner,
        parent=asker.run,
        parent_op=asker.op,
        on_parent_close=ParentPolicy(asker.on_close),
        attributes=attributes,
        pinned=stays_pinned(workflow),
        key=checked_key(place.key, "key"),
        priority=checked_priority(place.priority),
        dedup=dedup,
        debounce=place.debounce is not None,
        at_most=place.at_most,
    )


def _waiting(workflow: str, queue: str, delay: float, place: Place) -> tuple[float, str | None]:
    """How long a run waits before it begins, and what stands in the database for its dedup."""
    dedup = place.dedup
    if place.debounce is not None:
        dedup = dedup or place.key
        if delay or dedup is None:
            msg = "debounce= takes the place of delay=, and needs a dedup= (or a key=) that says what goes together"
            raise UsageError(msg)
        delay = place.debounce if place.at_most is None else min(place.debounce, place.at_most)
    if not is_singleton(workflow):
        return delay, None if dedup is None else dedup_in(queue, checked_key(dedup, "dedup") or "")
    if dedup is not None:
        msg = f"{workflow} is a singleton, of which one run is live at a time: leave out dedup= and debounce="
        raise UsageError(msg)
    return delay, dedup_of(workflow)


def child_run_id(parent: str, op_id: str, generation: int = 1) -> str:
    """The id of a child that was given none; in deep families the path is cut, with a digest for the rest.

    Op ids begin anew in each generation of the parent, so later ones are part of the path.
    """
    path = f"{parent}/{op_id}" if generation == 1 else f"{parent}~{generation}/{op_id}"
    if len(path) <= RUN_ID_MAX:
        return path
    return f"{path[: RUN_ID_MAX // 2]}~{fingerprint(path.encode()).hex()}"


def run_fingerprint(workflow: str, input: bytes) -> bytes:
    """What tells a repeated start from a conflicting one."""
    return fingerprint(workflow.encode() + b"\0" + input)


def check_run_id(id: str) -> None:
    """Raises UsageError for ids that would make trouble in logs, shells and URLs."""
    if not isinstance(id, str) or not 0 < len(id) <= RUN_ID_MAX or not id.isprintable():
        msg = f"{id!r} can't be a run id: an id is a string of 1 to {RUN_ID_MAX} printable characters"
        raise UsageError(msg)
    if is_reserved(id):
        raise UsageError(refusal(id, "a run id"))
