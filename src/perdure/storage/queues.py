"""Queues as a store knows them: their settings, whether they are held, who stands in line and who holds slots.

Runs of a queue with limits aren't due by themselves: a claim admits them, in the order of the line, as far as the
limits go. An admitted run holds its slot until it has ended; waiting, leaving memory, a pause and recovery change
nothing about that. So limits hold during recovery, and nothing is counted that could be counted wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from perdure.core.queues import QueueSettings

_encode = msgspec.json.Encoder(order="deterministic").encode
_settings = msgspec.json.Decoder(QueueSettings)
_mapping = msgspec.json.Decoder(dict[str, Any])


class QueueRow(msgspec.Struct, frozen=True, gc=False):
    """A queue that isn't like others.

    Attributes:
        defined: what code says, None if none does.
        overrides: what an operator says instead, by the names of settings.
        limited: its runs stand in line: it has limits, or had some, or was drained.
        paused: none of its runs is claimed.
        draining: none of its runs begins.
        arrival: of the rate's bucket, in microseconds.
        turn: the lane whose turn it was last.
    """

    name: str
    defined: QueueSettings | None
    overrides: Mapping[str, Any]
    limited: bool
    paused: bool
    draining: bool
    arrival: int
    turn: str
    changed_at: float

    @property
    def settings(self) -> QueueSettings:
        """What holds."""
        return combined(self.defined, self.overrides)


class QueueCounts(msgspec.Struct, frozen=True, gc=False):
    """How full a queue is.

    Attributes:
        queued: runs that wait for their beginning, or for a worker.
        later: runs whose time hasn't come.
        held: slots that are held; of a queue without limits None.
        driven: runs that workers have.
        oldest: since when the longest waiting one could have begun.
    """

    name: str
    queued: int = 0
    later: int = 0
    held: int | None = None
    driven: int = 0
    oldest: float | None = None


class Standing(msgspec.Struct, frozen=True, gc=False):
    """Where a run stands in its queue.

    Attributes:
        in_line: it stands in line; else it holds a slot, or its queue has no limits.
        later: its time hasn't come.
        ahead: how many come before it, those of other keys at its rank aside; counted up to AHEAD_MAX.
        held, held_by_key: slots held in its queue, and by its key.
        holders: ids of some that hold them: of its key, if that has all it may have.
        parent_holds: its parent is one that holds a slot of this queue.
    """

    queue: QueueRow | None
    key: str | None
    priority: int
    in_line: bool
    slot: bool
    later: bool
    ahead: int = 0
    held: int = 0
    held_by_key: int = 0
    holders: Sequence[str] = ()
    parent_holds: bool = False


#: How far those ahead of a run are counted, and how many of those that hold slots are named.
AHEAD_MAX = 1000
HOLDERS_MAX = 5


class QueueStore(Protocol):
    """The verbs about queues, as `store.queues`. What creates and claims runs obeys them."""

    async def define(self, name: str, settings: QueueSettings, *, now: float) -> QueueSettings | None:
        """Say what limits a queue's runs, in the name of code. From now on it holds, overrides aside.

        A queue that has limits for the first time gives slots to all of its runs that have begun, and puts the
        others in line. One that has had limits keeps its line, even without.

        Returns:
            What code said before, None if it said nothing.
        """
        ...

    async def change(
        self,
        name: str,
        *,
        overrides: Mapping[str, Any] | None = None,
        paused: bool | None = None,
        draining: bool | None = None,
        now: float,
    ) -> QueueRow:
        """Say what an operator wants; None changes nothing. Makes the queue known if it isn't."""
        ...

    async def all(self) -> list[QueueRow]:
        """The queues that were defined or changed, by name."""
        ...

    async def counts(self, *, now: float) -> list[QueueCounts]:
        """How full the queues are that hold anything, by name."""
        ...

    async def held(self, name: str) -> int:
        """How many slots of a queue are held."""
        ...

    async def standing(self, run: int) -> Standing | None:
        """Where a run stands in its queue; None if there is no such run."""
        ...


def combined(defined: QueueSettings | None, overrides: Mapping[str, Any]) -> QueueSettings:
    """What code says, as far as an operator doesn't say something else."""
    plain = msgspec.to_builtins(defined or QueueSettings())
    return msgspec.convert({**plain, **overrides}, QueueSettings)


def settings_json(settings: QueueSettings) -> str:
    return _encode(settings).decode()


def settings_of(text: str | bytes) -> QueueSettings:
    return _settings.decode(text)


def overrides_json(overrides: Mapping[str, Any]) -> str:
    return _encode(overrides).decode()


def queue_row(row: Sequence[Any]) -> QueueRow:
    """From the columns of the stores' `queue` query."""
    name, defined, overrides, _, limited, _, _, paused, draining, arrival, turn, changed_at = row
    return QueueRow(
        name,
        None if defined is None else settings_of(defined),
        _mapping.decode(overrides),
        bool(limited),
        bool(paused),
        bool(draining),
        arrival,
        turn,
        changed_at,
    )


def changed_queue(
    row: QueueRow | None,
    name: str,
    *,
    defined: QueueSettings | None = None,
    overrides: Mapping[str, Any] | None = None,
    paused: bool | None = None,
    draining: bool | None = None,
    now: float,
) -> QueueRow:
    """A queue's row after a change."""
    old = row or QueueRow(
        name, None, {}, limited=False, paused=False, draining=False, arrival=0, turn="", changed_at=now
    )
    said = old.defined if defined is None else defined
    over = old.overrides if overrides is None else overrides
    return msgspec.structs.replace(
        old,
        defined=said,
        overrides=over,
        limited=old.limited or combined(said, over).limited or bool(draining),
        paused=old.paused if paused is None else paused,
        draining=old.draining if draining is None else draining,
        changed_at=now,
    )


def merged_counts(
    driven: Sequence[Sequence[Any]],
    due: Sequence[Sequence[Any]],
    slots: Sequence[Sequence[Any]],
    lines: Sequence[Sequence[Any]],
) -> list[QueueCounts]:
    """How full queues are, by name.

    Args:
        driven: (queue, runs that workers have).
        due: (queue, runs that are due, that will be, since when the first is due) of runs that needn't stand in line.
        slots: (queue, slots held).
        lines: (queue, runs in line, runs whose time hasn't come, since when the first stands there).
    """
    found: dict[str, QueueCounts] = {}

    def change(name: str, **fields: Any) -> None:
        found[name] = msgspec.structs.replace(found.get(name, QueueCounts(name)), **fields)

    for name, number in driven:
        change(name, driven=number)
    for name, held in slots:
        change(name, held=held)
    for name, queued, later, oldest in due:
        if name not in found or found[name].held is None:
            change(name, queued=queued, later=later, oldest=oldest if queued else None)
    for name, queued, later, oldest in lines:
        change(
            name, queued=queued, later=later, oldest=oldest, held=found.get(name, QueueCounts(name)).held or 0
        )
    return [found[name] for name in sorted(found)]
