"""Events that are published: to publish them, to wait for them in a run, and to see them from outside."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, overload

from perdure.api.call import current_machine
from perdure.api.connection import Connection
from perdure.api.messages import Awaiting, reader
from perdure.api.sealing import chosen_codecs
from perdure.codec.explain import non_finite
from perdure.codec.sealing.chain import Codec
from perdure.codec.sealing.envelope import is_sealed, why_closed
from perdure.codec.values import ValueCodec, cannot_carry, check_size
from perdure.core.events import Published
from perdure.core.finding import fingerprint
from perdure.core.namespaces import prefix_of
from perdure.core.retry import seconds
from perdure.core.subscribing import check_event_name, checked_where
from perdure.core.where import where_of
from perdure.errors import UsageError
from perdure.runtime.databases import execute_on
from perdure.runtime.definitions import RECORD_INPUTS_MAX
from perdure.runtime.stepcontext import current_outlet, current_step
from perdure.runtime.withholding import counterfactual
from perdure.storage.publications import (
    CloseWait,
    Publication,
    Publish,
    Subscription,
    keyed_id,
    new_id,
    op_id,
)
from perdure.storage.scoping.records import publication_within

T = TypeVar("T")


# -- in workflow code and in steps ----------------------------------------------------------------------


@overload
async def event(
    name: str,
    type: type[T],
    *,
    where: Mapping[str, Any] | None = None,
    since: float | timedelta | datetime | None = None,
    timeout: float | timedelta | None = None,
) -> T: ...
@overload
async def event(
    name: str,
    type: Any = None,
    *,
    where: Mapping[str, Any] | None = None,
    since: float | timedelta | datetime | None = None,
    timeout: float | timedelta | None = None,
) -> Any: ...
async def event(
    name: str,
    type: Any = None,
    *,
    where: Mapping[str, Any] | None = None,
    since: float | timedelta | datetime | None = None,
    timeout: float | timedelta | None = None,
) -> Any:
    """Wait for an event that somebody publishes, and get its payload.

    A run gets the events of a name and a condition in the order of their publication, each once; so a loop of these
    waits misses none and sees none twice. An event that was published before the wait counts, too, if it isn't older
    than `since`. One that can't be read as `type` is passed over, which the run's history shows.

    Args:
        name: the event's name, as given to `publish`.
        type: what its payload is read as; plain JSON data by default.
        where: which of those: fields of the payload with their values, or with lists of which they have one. Dots lead
            into nested objects.
        since: how long before now it may have been published, in seconds; or a moment. By default everything counts
            that was published since the run began.
        timeout: how long to wait, in seconds; a durable timer. For ever by default.

    Raises:
        TimeoutError: none has come in time.
        UsageError: outside of workflow code.
        ConfigurationError: the name or the condition can't be used.
        NotSerializableError: no value can be read as `type`.

    Example:
        >>> order = await perdure.event("order.paid", Order, where={"id": "o-7"}, timeout=86_400)  # doctest: +SKIP
    """
    machine = current_machine()
    if machine is None:
        msg = "perdure.event() works only in workflow code, while a run executes it"
        raise UsageError(msg)
    check_event_name(name)
    condition = checked_where(where)
    decode = reader(type)
    earliest = None if since is None else _moment(since, machine.loop.now)
    limit = None if timeout is None else seconds(timeout, "timeout")
    return await Awaiting(machine.listen(name, condition, decode, earliest, limit, _closing))


def _closing(op: str) -> list[CloseWait]:
    return [CloseWait(op)]


def _moment(since: float | timedelta | datetime, now: float) -> float:
    if not isinstance(since, datetime):
        return max(0.0, now - seconds(since, "since"))
    if since.tzinfo is None:
        msg = f"since={since!r}: give a moment with a time zone, such as datetime(..., tzinfo=UTC)"
        raise UsageError(msg)
    return since.timestamp()


def publish(name: str, payload: Any = None, *, key: str | None = None) -> None:
    """Publish an event from workflow code or from a step: it starts or resumes every run that subscribed.

    In a workflow it is published with the run's next event, exactly once, and not again on replay. In a step it is
    published with the step's result, in the same transaction; an attempt that fails publishes nothing. Outside of runs
    nothing happens but the checks: use `engine.publish` there, or `publish_in`.

    Args:
        name: the event's name.
        payload: plain data, or anything else that has a JSON form.
        key: a second event with this name and key is ignored for as long as the first is kept.

    Raises:
        ConfigurationError: the name or the key can't be one.
        NotSerializableError, PayloadTooLargeError: the payload can't be recorded.

    Example:
        >>> perdure.publish("order.paid", {"id": "o-7", "amount": 12})
    """
    data = _encoded(name, payload, key)
    machine = current_machine()
    if machine is not None:
        check_size(data, machine.max_payload, _where(name))
        started, now = machine.started, machine.loop.now
        assert started is not None
        op = machine.loop.scope().numbered("publish")
        id = (
            op_id(started.keys_of or machine.run_id, started.keys, op) if key is None else keyed_id(name, key)
        )
        whole = len(data) <= RECORD_INPUTS_MAX
        record = Published(
            now,
            op,
            name,
            key,
            payload=data if whole else None,
            fingerprint=None if whole else fingerprint(data),
            withheld=(withhold := counterfactual(machine) is not None),
        )
        machine.write_down(record, [] if withhold else [Publish(Publication(id, name, key, data, now))])
    elif current_step.get() is not None and (outlet_of := current_outlet.get()) is not None:
        outlet = outlet_of()
        check_size(data, outlet.max_payload, _where(name))
        outlet.publish(name, key, data)


def _where(name: str) -> str:
    return f"payload of event {name!r}"


def _encoded(name: str, payload: Any, key: str | None) -> bytes:
    check_event_name(name)
    if key is not None:
        check_event_name(key, "key")
    data = ValueCodec[Any](Any, _where(name)).encode(payload)
    if b"null" in data and (problem := non_finite(payload)) is not None:
        raise cannot_carry(_where(name), problem)
    return data


def new_publication(
    name: str, payload: Any, key: str | None, *, at: float, max_payload: int | None
) -> Publication:
    """What `engine.publish` and `publish_in` put into a database."""
    data = _encoded(name, payload, key)
    if max_payload is not None:
        check_size(data, max_payload, _where(name))
    return Publication(new_id() if key is None else keyed_id(name, key), name, key, data, at)


#: As the stores do it, in the user's own transaction.
_INSERT = "(id, name, key, payload, at) VALUES (:id, :name, :key, :payload, :at) ON CONFLICT (id) DO NOTHING"
_INSERTS = {
    "postgresql": f"INSERT INTO perdure.publications {_INSERT}",
    "sqlite": f"INSERT INTO publications {_INSERT}",
}
_MAX_PAYLOAD = 2 * 1024 * 1024


def publish_in(
    connection: Any,
    name: str,
    payload: Any = None,
    *,
    key: str | None = None,
    codec: Codec | Sequence[Codec] | None = None,
) -> Awaitable[None]:
    """Publish an event within a transaction of your own: with its commit, or not at all.

    The connection leads to the engine's database. It is left as it is: what begins and ends its transaction is yours.
    Subscribers get the event when it is committed; workers notice within a second.

    Args:
        connection: an open connection of psycopg 3, or a connection or session of SQLAlchemy, sync or async, to
            PostgreSQL; or one of apsw to the SQLite file.
        name: the event's name.
        payload: plain data, or anything else that has a JSON form; 2 MB at most.
        key: a second event with this name and key is ignored for as long as the first is kept.
        codec: as the engines on that database have it, see `Engine`.

    Returns:
        To be awaited if the connection is an async one. With any other it is done already.

    Raises:
        ConfigurationError: the connection, the name or the key can't be used.
        NotSerializableError, PayloadTooLargeError: the payload can't be recorded.

    Example:
        >>> with pool.connection() as connection:  # doctest: +SKIP
        ...     connection.execute("UPDATE orders SET paid = true WHERE id = %s", ["o-7"])
        ...     perdure.publish_in(connection, "order.paid", {"id": "o-7"}, key="o-7")
    """
    new = new_publication(name, payload, key, at=time.time(), max_payload=_MAX_PAYLOAD)
    step = current_step.get()
    if step is not None and (prefix := prefix_of(step.known_as)):
        new = publication_within(new, prefix)
    codecs = chosen_codecs(codec)
    if codecs:
        from perdure.storage.sealing.appends import published
        from perdure.storage.sealing.vault import Vault

        new = published(Vault(codecs), new)
    values = {"id": new.id, "name": new.name, "key": new.key, "payload": new.payload, "at": new.at}
    return execute_on(connection, _INSERTS, values, "publish_in()")


# -- from outside ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationInfo:
    """An event that was published, from `engine.publications(...)`.

    Attributes:
        name: its name.
        key: what makes a second one recognisable, None if it has none.
        payload: plain JSON data.
        at: when it was published.
        number: its place in the order of all, None until a worker has seen it.
        settled: everybody who had subscribed has it.
    """

    name: str
    key: str | None
    payload: Any
    at: datetime
    number: int | None
    settled: bool


def publication_info(row: Publication) -> PublicationInfo:
    """A row of the store, for people."""
    payload: Any
    if is_sealed(row.payload):
        payload = {"sealed": why_closed(row.payload)}
    else:
        payload = ValueCodec[Any](Any, _where(row.name)).decode(row.payload)
    at = datetime.fromtimestamp(row.at, UTC)
    return PublicationInfo(
        name=row.name, key=row.key, payload=payload, at=at, number=row.number, settled=row.settled
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionInfo:
    """A workflow that is started by an event, from `engine.subscriptions()`.

    Attributes:
        workflow: the workflow's durable name.
        event: the event's name.
        where: which of those, an empty mapping for all.
        queue: where its runs go.
        since: when it began.
        debounce, batch, within, by: as for `Event`.
    """

    workflow: str
    event: str
    where: Mapping[str, Any]
    queue: str
    since: datetime
    debounce: float | None
    batch: int | None
    within: float | None
    by: str | None


def subscription_info(row: Subscription) -> SubscriptionInfo:
    """A row of the store, for people."""
    return SubscriptionInfo(
        workflow=row.workflow,
        event=row.event,
        where=where_of(row.where),
        queue=row.queue,
        since=datetime.fromtimestamp(row.since, UTC),
        debounce=row.debounce,
        batch=row.batch,
        within=row.within,
        by=row.by,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingInfo:
    """An event that runs wait for, from `engine.awaited()`.

    Attributes:
        event: the event's name.
        where: which of those, an empty mapping for all.
        runs: how many waits there are.
    """

    event: str
    where: Mapping[str, Any]
    runs: int


async def publish_at(connection: Connection, publication: Publication) -> bool:
    """See `Engine.publish`."""
    (new,) = await connection.store.publications.publish([publication])
    connection.nudge()
    if connection.worker is not None:
        connection.worker.distribute()
    return new
