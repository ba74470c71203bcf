"""A run at one moment, as its users see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from perdure.codec.sealing.envelope import shown_reason
from perdure.codec.values import ValueCodec
from perdure.core import events as ev
from perdure.core.attributes import Attribute, AttributeValue, value_of
from perdure.core.bounds import Bounds
from perdure.core.status import Status
from perdure.core.timeline import Wait
from perdure.runtime.definitions import is_entity
from perdure.storage.records import RunRow

_ANY = ValueCodec[Any](Any, "message")
_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayMessage:
    """A message that no code has received.

    Attributes:
        value: as JSON has it.
        at: when it came.
        number: that of its event in the run's history, None if it came too late to get there.
        sender: the run that sent it, if one did.
        why: why it was set aside; None if it was never looked at.
    """

    name: str
    value: Any
    at: datetime
    number: int | None = None
    key: str | None = None
    sender: str | None = None
    why: str | None = None


def stray(event: ev.Event, number: int | None = None, why: str | None = None) -> StrayMessage:
    """A message that no code has received, from its event."""
    assert isinstance(event, ev.MessageReceived)
    return StrayMessage(
        name=event.name,
        value=_ANY.decode(event.payload),
        at=moment_of(event.at),
        number=number,
        key=event.key,
        sender=event.sender,
        why=why,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """A run at one moment.

    Attributes:
        status: where it stands.
        reason: why it is blocked, and whether a cancellation waits for that to end; or what it was cancelled for.
        events: how many events its history has.
        waiting_for: what it waits for, since when, and until when if that is known.
        recoveries: how often in a row its driver died without recording anything.
        generation: which run of this id it is, from 1.
        warning: what should be seen to although the run goes on: a history that has grown long.
        undelivered: the messages that it hadn't received when it ended. Of a terminated run, only those that
            weren't in its history yet. Like the next one, only told by `Handle.info()`.
        attributes: what it can be found by.
        version: of the code that drives it, or drove it last; None if that has none, or nobody did.
        pinned: it stays with that version.
        worker: the name of the worker that drives it, None if nobody does. Only told by `Handle.info()`.
        key, priority: what its queue may go by, see `Queue`.
        set_aside: the messages that couldn't be read as what its code expects, which never saw them.
    """

    id: str
    workflow: str
    status: Status
    queue: str
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    ended_at: datetime | None
    wake_at: datetime | None
    parent: str | None
    reason: str | None
    events: int
    recoveries: int
    generation: int = 1
    warning: str | None = None
    waiting_for: tuple[Wait, ...] = ()
    undelivered: tuple[StrayMessage, ...] = ()
    set_aside: tuple[StrayMessage, ...] = ()
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])
    version: str | None = None
    pinned: bool = False
    key: str | None = None
    priority: int = 0
    worker: str | None = None

    def with_request(self, request: ev.CancelRequested | None) -> RunInfo:
        """The same, and that a cancellation waits until the run can go on."""
        if request is None:
            return self
        why = f" ({request.reason})" if request.reason else ""
        told = (
            f"It is asked to cancel{why}: its code hears of that when it can go on. To end it now, without "
            "its code, terminate it"
        )
        return replace(self, reason=f"{self.reason}\n{told}" if self.reason else told)


def run_info(
    row: RunRow,
    waiting_for: tuple[Wait, ...] = (),
    undelivered: tuple[StrayMessage, ...] = (),
    set_aside: tuple[StrayMessage, ...] = (),
    *,
    attributes: Sequence[Attribute] = (),
) -> RunInfo:
    """From a store's row to what users see."""
    return RunInfo(
        id=row.id,
        workflow=row.workflow,
        status=Status(row.status),
        queue=row.queue,
        key=row.key,
        priority=row.priority,
        created_at=moment_of(row.created_at),
        started_at=None if row.started_at is None else moment_of(row.started_at),
        updated_at=moment_of(row.updated_at),
        ended_at=None if row.ended_at is None else moment_of(row.ended_at),
        wake_at=None if row.wake_at is None else moment_of(row.wake_at),
        parent=row.parent_id,
        reason=shown_reason(row.reason),
        events=row.seq,
        recoveries=row.recoveries,
        generation=row.generation,
        warning=None if row.ended_at is not None or is_entity(row.workflow) else _BOUNDS.long(row.seq, 0),
        waiting_for=waiting_for,
        undelivered=undelivered,
        set_aside=set_aside,
        attributes={attribute.name: value_of(attribute) for attribute in attributes},
        version=row.version or None,
        pinned=bool(row.pinned),
    )


def moment_of(at: float) -> datetime:
    """Wall-clock seconds as a datetime in UTC."""
    try:
        return datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):  # a sleep may end after the calendar does
        return datetime.max.replace(tzinfo=UTC)
