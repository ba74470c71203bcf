"""Attributes: typed, changed as a whole, and found by."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from perdure.core.attributes import attributes_of, conditions_of, value_of
from perdure.storage.attributes import MarkPatched, SetAttributes
from perdure.storage.records import Delivery, RunFilter, RunRow, Stale
from perdure.testing.conformance.bench import NOW, Bench, Check

_DAY = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)


async def _of(bench: Bench, row: RunRow) -> dict[str, Any]:
    found = (await bench.store.attributes.of([row.run])).get(row.run, ())
    return {attribute.name: value_of(attribute) for attribute in found}


async def _found(bench: Bench, **wanted: Any) -> list[str]:
    rows = await bench.store.find(RunFilter(attributes=conditions_of(wanted)))
    return [row.id for row in rows]


def _set(**values: Any) -> SetAttributes:
    return SetAttributes(attributes_of(values))


async def attributes_keep_their_types(bench: Bench) -> None:
    """Given with the run, by an append, or from outside."""
    given: dict[str, Any] = {
        "text": "x",
        "number": 3,
        "part": 0.1,
        "flag": True,
        "day": _DAY,
        "tags": ["b", "a"],
    }
    row = await bench.make("r", attributes=attributes_of(given), owner=await bench.worker())
    plain = await bench.make("plain")
    assert await _of(bench, row) == given
    assert [type(value) for value in (await _of(bench, row)).values()] == [
        datetime, bool, int, float, list, str,
    ]  # fmt: skip
    assert await _of(bench, plain) == {}
    await bench.put(row, b"set", effects=[_set(text="y", number=None, new=-1)])
    changed = {**given, "text": "y", "new": -1}
    del changed["number"]
    assert await _of(bench, row) == changed


async def many_runs_are_made_with_their_attributes(bench: Bench) -> None:
    """One that exists already keeps its own."""
    await bench.make("b", attributes=attributes_of({"n": 0}))
    await bench.store.create([bench.new(id, attributes=attributes_of({"n": 1})) for id in ("a", "b", "c")])
    assert await _found(bench, n=1) == ["c", "a"]
    assert await _found(bench, n=0) == ["b"]


async def a_stale_append_changes_no_attribute(bench: Bench) -> None:
    """A worker that lost the run can't change what it is found by."""
    row = await bench.make("r", owner=await bench.worker())
    answer = await bench.append(row, b"set", epoch=row.epoch + 1, effects=[_set(x=1)])
    assert isinstance(answer, Stale)
    assert await _of(bench, row) == {}


async def attributes_can_be_set_from_outside(bench: Bench) -> None:
    """Visible at once; the event for the history wakes nobody. An ended run's change, too."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    row = await bench.put(row, release=True, status="waiting", wake_at=NOW + 99)
    store = bench.store.attributes
    values = attributes_of({"customer": "x"})
    assert await store.set("r", values, b"event", now=NOW) is Delivery.DELIVERED
    assert await _of(bench, row) == {"customer": "x"}
    row = await bench.row("r")
    assert row.wake_at == NOW + 99
    assert await bench.inbox(row) == [b"event"]
    assert await store.set("nobody", values, b"event", now=NOW) is Delivery.UNKNOWN_RUN
    await bench.store.terminate("r", b"end", now=NOW)
    removal = attributes_of({"customer": None})
    assert await store.set("r", removal, b"event", now=NOW) is Delivery.RUN_ENDED
    assert await _of(bench, row) == {}


async def runs_are_found_by_their_attributes(bench: Bench) -> None:
    """By equality and order within a kind of value, by any text of a list; all conditions hold."""
    given: dict[str, dict[str, Any]] = {
        "a": {"n": 1, "s": "x", "tags": ["p", "q"], "day": _DAY},
        "b": {"n": 2.5, "s": "y", "flag": True},
        "c": {"n": "1", "flag": False, "tags": ["q"]},
        "d": {},
    }
    for id, values in given.items():
        await bench.make(id, attributes=attributes_of(values))
    assert await _found(bench, n=1) == ["a"]
    assert await _found(bench, n=1.0) == ["a"]
    assert await _found(bench, n="1") == ["c"]
    assert await _found(bench, n=(">=", 1)) == ["b", "a"]
    assert await _found(bench, n=[(">", 1), ("<", 3)]) == ["b"]
    assert await _found(bench, n=("<=", 2), s=("!=", "y")) == ["a"]
    assert await _found(bench, s="x", n=(">", 1)) == []
    assert await _found(bench, flag=True) == ["b"]
    assert await _found(bench, flag=False) == ["c"]
    assert await _found(bench, n=True) == []
    assert await _found(bench, tags="q") == ["c", "a"]
    assert await _found(bench, tags="p", n=1) == ["a"]
    assert await _found(bench, day=("<", datetime(2027, 1, 1, tzinfo=UTC))) == ["a"]
    assert await _found(bench, day=_DAY) == ["a"]
    assert await _found(bench, nothing="x") == []


async def attributes_go_with_the_other_filters(bench: Bench) -> None:
    """Newest first, a page at a time."""
    worker = await bench.worker()
    for n in range(5):
        await bench.make(f"r{n}", owner=worker, attributes=attributes_of({"k": "v", "n": n}))
    conditions = conditions_of({"k": "v"})
    page = await bench.store.find(RunFilter(attributes=conditions, limit=2))
    assert [row.id for row in page] == ["r4", "r3"]
    page = await bench.store.find(RunFilter(attributes=conditions, limit=2, before=page[-1].run))
    assert [row.id for row in page] == ["r2", "r1"]
    assert await bench.store.find(RunFilter(attributes=conditions, statuses=["completed"])) == []
    found = await bench.store.find(RunFilter(attributes=conditions_of({"n": ("<", 3)}), text="1"))
    assert [row.id for row in found] == ["r1"]


async def attributes_go_over_to_the_next_generation(bench: Bench) -> None:
    """Where those that it is made with come on top."""
    row = await bench.make("r", owner=await bench.worker(), attributes=attributes_of({"a": 1, "b": 1}))
    await bench.put(row, b"end", status="completed")
    after = await bench.make("r", follows=row.run, generation=2, attributes=attributes_of({"b": 2}))
    assert await _of(bench, after) == {"a": 1, "b": 2}
    assert await _found(bench, a=1) == ["r"]


async def live_runs_without_a_change_are_found(bench: Bench) -> None:
    """Those that took its new branch, and those that have ended, are left out."""
    worker = await bench.worker()
    rows = [await bench.make(id, owner=worker) for id in ("old", "new", "ended")]
    await bench.put(rows[1], b"patched", effects=[MarkPatched("change")])
    await bench.put(rows[2], b"end", status="completed")

    async def without(change: str) -> list[str]:
        return [row.id for row in await bench.store.find(RunFilter(unpatched=change))]

    assert await without("change") == ["old"]
    assert await without("other") == ["new", "old"]


CHECKS: tuple[Check, ...] = (
    attributes_keep_their_types,
    many_runs_are_made_with_their_attributes,
    a_stale_append_changes_no_attribute,
    attributes_can_be_set_from_outside,
    runs_are_found_by_their_attributes,
    attributes_go_with_the_other_filters,
    attributes_go_over_to_the_next_generation,
    live_runs_without_a_change_are_found,
)
