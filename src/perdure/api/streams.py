"""Streams: what a run puts out while it goes on, and reading it from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, Literal, TypeVar

from perdure.api.call import current_machine
from perdure.api.connection import Connection
from perdure.codec.explain import non_finite
from perdure.codec.values import ValueCodec, cannot_carry, check_size
from perdure.core import bounds
from perdure.core import events as ev
from perdure.errors import UnknownRunError, UsageError
from perdure.runtime.stepcontext import current_outlet
from perdure.storage.streams import Emit, StreamRow

T = TypeVar("T")

NAME_MAX = bounds.TOPIC_MAX  #: characters of a stream's name
_PAGE = 500  # items fetched at once


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamItem(Generic[T]):
    """One item of a run's stream, from `handle.stream(...)`.

    Attributes:
        offset: its place in the stream, from 1. Give it as `after=` to go on behind it.
        kind: "item", or "superseded": what this step has put out, from the offset `since` on, is void, as its
            attempt failed or was lost and the step is tried again.
        value: what was emitted; None if kind is "superseded".
        step: the id of the step that emitted it, None for the workflow itself.
        attempt: the step's attempt, from 1; None for the workflow itself.
        at: when it was committed.
        since: the first offset of what is void; None if kind is "item". Earlier items of a step with the same id are of
            another generation of the run, and stay.
    """

    offset: int
    kind: Literal["item", "superseded"]
    value: T
    step: str | None
    attempt: int | None
    at: datetime
    since: int | None = None


def emit(stream: str, item: Any) -> None:
    """Put an item into one of the run's streams, for readers outside: `handle.stream(stream)`.

    In a workflow the item is written with the run's next event, exactly once, and silently left out on replay. In a
    step it is sent to the store at once, without waiting; when the step's attempt fails or is lost and the step is
    tried again, readers are told that its items don't count. Outside of runs nothing happens but the checks.

    Args:
        stream: the stream's name.
        item: anything that can be written as JSON; readers say as what they want it read.

    Raises:
        UsageError: the name can't be one.
        NotSerializableError: the item can't be written.
        StaleWorkerError: in a step, if another worker drives its run by now.

    Example:
        >>> emit("progress", {"done": 3, "of": 10})
    """
    data = _encoded(checked_stream(stream), item)
    machine = current_machine()
    if machine is not None:
        check_size(data, machine.max_payload, f"item of stream {stream}")
        op = machine.loop.scope().numbered("emit")
        machine.write_down(ev.Emitted(machine.loop.now, op, stream, data), [Emit(stream, data)])
    elif (outlet_of := current_outlet.get()) is not None:
        outlet = outlet_of()
        check_size(data, outlet.max_payload, f"item of stream {stream}")
        outlet.emit(stream, data)


def checked_stream(stream: str) -> str:
    """The name of a stream, if it can be one.

    Raises:
        UsageError: it can't.
    """
    if not isinstance(stream, str) or not 0 < len(stream) <= NAME_MAX or not stream.isprintable():
        msg = f"{stream!r} can't name a stream: a name has 1 to {NAME_MAX} printable characters"
        raise UsageError(msg)
    return stream


def _encoded(stream: str, item: Any) -> bytes:
    where = f"item of stream {stream}"
    data = ValueCodec[Any](Any, where).encode(item)
    if b"null" in data and (problem := non_finite(item)) is not None:
        raise cannot_carry(where, problem)
    return data


async def read_stream(
    connection: Connection,
    id: str,
    name: str,
    *,
    after: int,
    type: Any,
    superseded: bool,
    follow: bool,
) -> AsyncIterator[StreamItem[Any]]:
    """The items of a run's stream; see `Handle.stream`. Ends with EngineClosedError if the engine is closed."""
    codec = ValueCodec[Any](type, f"item of stream {name}")
    position = after
    told: dict[str, int] = {}  # the newest offset that the reader got of each step
    listeners = connection.listeners
    while True:
        connection.check()
        more = listeners.expect(id)
        try:
            page = await connection.store.streams.read(id, name, after=position, limit=_PAGE)
            if page is None:
                msg = f"no run has the id {id!r} in this database: look it up with `perdure ls`"
                raise UnknownRunError(msg, run_id=id)
            for row in page.rows:
                position = row.offset
                if superseded or _counts(row, after, told):
                    yield _item(row, codec)
            if not page.rows:
                if page.ended or not follow:
                    return
                await listeners.wait(id, more)
        finally:
            listeners.forget(id, more)


def _counts(row: StreamRow, after: int, told: dict[str, int]) -> bool:
    """Whether a reader who started behind `after` has to hear of it."""
    if row.data is not None:
        if row.step is not None and not row.superseded:
            told[row.step] = row.offset
        return not row.superseded
    assert row.step is not None
    # Steps of several generations have the same ids: what is told of an earlier one is no reason to tell of this.
    return row.since <= max(after, told.get(row.step, 0))


def _item(row: StreamRow, codec: ValueCodec[Any]) -> StreamItem[Any]:
    return StreamItem(
        offset=row.offset,
        kind="superseded" if row.data is None else "item",
        value=None if row.data is None else codec.decode(row.data),
        step=row.step,
        attempt=row.attempt,
        at=datetime.fromtimestamp(row.at, UTC),
        since=row.since if row.data is None else None,
    )
