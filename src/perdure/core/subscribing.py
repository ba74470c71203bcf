"""What starts a workflow besides people, code and the clock: events that are published."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from perdure.core import bounds
from perdure.core.namespaces import is_reserved, refusal
from perdure.core.retry import seconds
from perdure.core.where import Scalar, where_text
from perdure.errors import ConfigurationError

#: Longest name of an event, and longest key, in characters.
NAME_MAX = bounds.TOPIC_MAX
#: Most payloads in a batch.
BATCH_MAX = 10_000

#: What has the form of a condition.
_decode = msgspec.json.Decoder(dict[str, Scalar | list[Scalar]]).decode

_ROUND = 3.0  # seconds that a batch waits for more unless something else is said


class Event:
    """Which published events start a workflow: `@workflow(on=Event("order.paid"))`.

    Args:
        name: the events' name, as given to `publish`.
        where: what their payloads must have: fields with their values, or with lists of which they have one. Dots lead
            into nested objects: `{"customer.country": ["de", "at"]}`.
        debounce: start a run only when so many seconds have passed without another such event; the run gets the last
            one's payload.
        batch: let a run have the payloads of up to so many events, as a list.
        within: with `batch`: seconds after which one that isn't full yet starts all the same; by default 3.
        by: with `debounce` or `batch`: a field of the payload; events that differ in it are kept apart.
        queue: where the runs go; by default the first queue of the worker that signs up with the workflow.

    Raises:
        ConfigurationError: one of these can't be used.

    Example:
        >>> Event("doc.changed", where={"kind": "invoice"}, debounce=30, by="doc_id")
        Event('doc.changed')
    """

    __slots__ = ("batch", "by", "debounce", "name", "queue", "where", "within")

    def __init__(
        self,
        name: str,
        *,
        where: Mapping[str, Any] | None = None,
        debounce: float | timedelta | None = None,
        batch: int | None = None,
        within: float | timedelta | None = None,
        by: str | None = None,
        queue: str | None = None,
    ) -> None:
        check_event_name(name)
        self.name = name
        self.where = checked_where(where)
        self.debounce = None if debounce is None else _some(debounce, "debounce")
        self.batch = batch
        self.within = None if within is None else _some(within, "within")
        self.by = by
        self.queue = queue
        if batch is not None:
            if debounce is not None:
                msg = f"Event({name!r}) has debounce= and batch=: a run gets the last event, or all of them"
                raise ConfigurationError(msg)
            if not isinstance(batch, int) or not 1 <= batch <= BATCH_MAX:
                msg = f"Event({name!r}, batch={batch!r}): a batch has 1 to {BATCH_MAX} events"
                raise ConfigurationError(msg)
            self.within = _ROUND if self.within is None else self.within
        elif within is not None:
            msg = f"Event({name!r}) has within= but no batch=: it says how long a batch waits to be full"
            raise ConfigurationError(msg)
        elif by is not None and debounce is None:
            msg = f"Event({name!r}) has by= but neither debounce= nor batch=: it says what these keep apart"
            raise ConfigurationError(msg)

    def __repr__(self) -> str:
        return f"Event({self.name!r})"


def check_event_name(name: object, what: str = "name") -> None:
    """Raises ConfigurationError for names and keys that would make trouble in logs, shells and URLs."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or not name.isprintable():
        msg = f"{name!r} can't be an event's {what}: that is a string of 1 to {NAME_MAX} printable characters"
        raise ConfigurationError(msg)
    if what == "name" and is_reserved(name):
        raise ConfigurationError(refusal(name, "an event's name"))


def checked_where(where: Mapping[str, Any] | None) -> str:
    """A condition in its canonical form, see core/where.py.

    Raises:
        ConfigurationError: it isn't one.
    """
    if not where:
        return ""
    try:
        plain = _decode(msgspec.json.encode(where))
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise _no_condition(where, str(error)) from error
    for field, value in plain.items():
        if not field or value == []:
            raise _no_condition(where, f"{field!r} must have {value!r}")
    return where_text(plain)


def _no_condition(where: object, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"where={where!r} can't be used: {why}. It names fields of the payload and the values they must have, as in "
        '{"customer": "c-7", "kind": ["book", "map"]}'
    )


def _some(value: float | timedelta, what: str) -> float:
    number = seconds(value, what)
    if number in (0, float("inf")):
        msg = f"{what}={value!r}: give a number of seconds greater than 0"
        raise ConfigurationError(msg)
    return number
