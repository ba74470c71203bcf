"""The attributes of runs in a PostgreSQL store, and finding runs by them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from perdure.core.attributes import Attribute, Condition
from perdure.storage.attributes import MarkPatched, SetAttributes
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.newest import lock_newest
from perdure.storage.postgres.ways import Ways
from perdure.storage.records import Append, Delivery, MailKind, RunFilter

#: Above every key.
HIGHEST = (1 << 63) - 1


class PostgresAttributes:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def set(self, id: str, attributes: Sequence[Attribute], event: bytes, *, now: float) -> Delivery:
        return await self._ways.write(_set_from_outside, id, attributes, event)

    async def of(self, runs: Sequence[int]) -> Mapping[int, Sequence[Attribute]]:
        return await self._ways.read(attributes_of, runs) if runs else {}


async def set_attributes(db: Database, append: Append, effect: SetAttributes) -> None:
    """The effect of an append that changes attributes."""
    await put_attributes(db, append.run, effect.attributes)


async def mark_patched(db: Database, append: Append, effect: MarkPatched) -> None:
    """The effect of an append by which a run took the new branch of a change."""
    await db.run("mark_patched", run=append.run, change=effect.change)


async def put_attributes(db: Database, run: int, attributes: Sequence[Attribute]) -> None:
    """Change a run's attributes."""
    for attribute in attributes:
        name, family = attribute.name, attribute.family
        await db.run("remove_attribute", run=run, name=name)
        for place, value in enumerate(attribute.values, int(attribute.listed)):
            text, number = columns(family, value)
            await db.run(
                "put_attribute", run=run, name=name, place=place, family=family, text=text, number=number
            )


async def _set_from_outside(db: Database, id: str, attributes: Sequence[Attribute], event: bytes) -> Delivery:
    run = await lock_newest(db, id)
    if run is None:
        return Delivery.UNKNOWN_RUN
    await put_attributes(db, run, attributes)
    for (number,) in await db.rows("quiet_mail", run=run):
        await db.run("put_mail", run=run, number=number, kind=MailKind.CONTROL.value, data=event)
        return Delivery.DELIVERED
    return Delivery.RUN_ENDED


async def attributes_of(db: Database, runs: Sequence[int]) -> dict[int, list[Attribute]]:
    """The attributes of these runs."""
    values: dict[tuple[int, str], tuple[Any, bool, list[Any]]] = {}
    for run, name, place, family, text in await db.rows("attributes_of", runs=list(runs)):
        value = value_of(family, text)
        values.setdefault((run, name), (family, place > 0, []))[2].append(value)
    found: dict[int, list[Attribute]] = {}
    for (run, name), (family, listed, several) in values.items():
        found.setdefault(run, []).append(Attribute(name, family, tuple(several), listed))
    return found


async def find_keys(db: Database, filter: RunFilter, bindings: Mapping[str, Any]) -> list[int]:
    """Keys of the runs that a filter matches, newest first."""
    conditions = list(filter.attributes)
    given: dict[str, Any] = {
        **bindings,
        "before": HIGHEST if filter.before is None else filter.before,
        "floor": -1 if filter.floor is None else filter.floor,
        "until": None if filter.until is None else float(filter.until),
        "unpatched": filter.unpatched,
        "conditions": json.dumps([_plain(condition) for condition in conditions]),
    }
    among = filter.among
    if among is None and filter.parent is not None:
        among = [run for (run,) in await db.rows("children_of", parent=filter.parent)]
    if among is not None:
        rows = await db.rows("find_among", **given, within=filter.within, among=list(among))
        return [run for (run,) in rows]
    if filter.within is not None:
        mark = filter.within.removesuffix("/")
        return [run for (run,) in await db.rows("find_within", **given, mark=mark)]
    if filter.floor is not None:  # the runs that are looked at are few enough; an index may know many more
        conditions = []
    equal = next((condition for condition in conditions if condition.operator == "="), None)
    first = equal or (conditions[0] if conditions else None)
    texts, numbers = (None, None) if equal is None else split(equal)
    name = None if first is None else first.name
    rows = await db.rows("find_keys", **given, name=name, texts=texts, numbers=numbers)
    return [run for (run,) in rows]


def split(condition: Condition) -> tuple[list[str], list[Decimal]]:
    """The texts among a condition's values, and what else there is."""
    texts = [str(value) for family, value in condition.choices if family == "text"]
    return texts, [_number(value) for family, value in condition.choices if family != "text"]


def _plain(condition: Condition) -> tuple[Any, ...]:
    choices = [
        (family, value if family == "text" else str(_number(value))) for family, value in condition.choices
    ]
    return condition.name, condition.operator, choices


def columns(family: str, value: Any) -> tuple[str, Decimal | None]:
    """A value as the columns `text` and `number` keep it."""
    return (str(value), None) if family == "text" else (json.dumps(value), _number(value))


def value_of(family: str, text: str) -> Any:
    """The value that `columns` was given."""
    return text if family == "text" else json.loads(text)


def _number(value: Any) -> Decimal:
    """A number that compares as it reads: the shortest decimal form of a float."""
    return Decimal(repr(value))
