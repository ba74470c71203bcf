"""The attributes of runs in the SQLite store, and finding runs by them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from perdure.core.attributes import Attribute, Condition
from perdure.storage.attributes import MarkPatched, SetAttributes
from perdure.storage.records import Append, Delivery, MailKind, RunFilter
from perdure.storage.sqlite.database import Database, Value
from perdure.storage.sqlite.rows import as_json

#: Above every key.
HIGHEST = (1 << 63) - 1


class SqliteAttributes:
    """The verbs of Attributes, handed to the writer and the reader.

    Args:
        write, read: do a verb with its arguments in a transaction.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self._write = write
        self._read = read

    async def set(self, id: str, attributes: Sequence[Attribute], event: bytes, *, now: float) -> Delivery:
        answer: Delivery = await self._write(_set_from_outside, id, attributes, event)
        return answer

    async def of(self, runs: Sequence[int]) -> Mapping[int, Sequence[Attribute]]:
        answer: Mapping[int, Sequence[Attribute]] = await self._read(attributes_of, runs)
        return answer


def set_attributes(db: Database, append: Append, effect: SetAttributes) -> None:
    """The effect of an append that changes attributes."""
    put_attributes(db, append.run, effect.attributes)


def mark_patched(db: Database, append: Append, effect: MarkPatched) -> None:
    """The effect of an append by which a run took the new branch of a change."""
    db.run("mark_patched", {"run": append.run, "change": effect.change})


def put_attributes(db: Database, run: int, attributes: Sequence[Attribute]) -> None:
    """Change a run's attributes."""
    for attribute in attributes:
        name = attribute.name
        db.run("remove_attribute", {"run": run, "name": name})
        for place, value in enumerate(attribute.values, int(attribute.listed)):
            db.run(
                "put_attribute",
                {"run": run, "name": name, "place": place, "family": attribute.family, "value": value},
            )


def _set_from_outside(db: Database, id: str, attributes: Sequence[Attribute], event: bytes) -> Delivery:
    for run, *_ in db.rows("key_of", {"id": id}):
        put_attributes(db, run, attributes)
        if not db.run("quiet_mail", {"run": run}):
            return Delivery.RUN_ENDED
        db.run("put_mail", {"run": run, "kind": MailKind.CONTROL.value, "data": event})
        return Delivery.DELIVERED
    return Delivery.UNKNOWN_RUN


def attributes_of(db: Database, runs: Sequence[int]) -> dict[int, list[Attribute]]:
    """The attributes of these runs."""
    values: dict[tuple[int, str], tuple[str, bool, list[Any]]] = {}
    for run, name, place, family, value in db.rows("attributes_of", {"runs": as_json(runs)}):
        values.setdefault((run, name), (family, place > 0, []))[2].append(value)
    found: dict[int, list[Attribute]] = {}
    for (run, name), (family, listed, several) in values.items():
        found.setdefault(run, []).append(Attribute(name, family, tuple(several), listed))  # type: ignore[arg-type]
    return found


def find_keys(db: Database, filter: RunFilter, bindings: Mapping[str, Value]) -> list[int]:
    """Keys of the runs that a filter matches, newest first."""
    conditions = list(filter.attributes)
    equal = next((condition for condition in conditions if condition.operator == "="), None)
    bounded = filter.among is not None or filter.floor is not None
    if bounded:  # the runs that are looked at are few enough; an index may know many more
        equal = None
    first = None if bounded else equal or (conditions[0] if conditions else None)
    given: dict[str, Value] = {
        **bindings,
        "before": HIGHEST if filter.before is None else filter.before,
        "floor": -1 if filter.floor is None else filter.floor,
        "until": filter.until,
        "parent": filter.parent,
        "unpatched": filter.unpatched,
        "conditions": as_json([_plain(condition) for condition in conditions if condition is not equal]),
    }
    given["within"] = filter.within
    if filter.among is not None:
        return [run for (run,) in db.rows("find_among", {**given, "among": as_json(filter.among)})]
    if filter.within is not None:
        given["conditions"] = as_json([_plain(condition) for condition in conditions])
        return [run for (run,) in db.rows("find_within", given)]
    given["name"] = None if first is None else first.name
    if equal is not None:
        return [run for (run,) in db.rows("find_with", {**given, "choices": as_json(equal.choices)})]
    return [run for (run,) in db.rows("find_named", given)]


def _plain(condition: Condition) -> tuple[Any, ...]:
    return condition.name, condition.operator, condition.choices
