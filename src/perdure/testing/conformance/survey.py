"""Promises about looking at very many runs."""

from __future__ import annotations

from typing import Any

from perdure.core.attributes import attributes_of, conditions_of
from perdure.storage.records import RunFilter
from perdure.testing.conformance.bench import NOW, Bench, Check


async def a_floor_bounds_what_is_looked_at(bench: Bench) -> None:
    """Above it, and below the place, there are at most as many runs as asked for."""
    survey = bench.store.survey
    assert await survey.floor(None, depth=3) is None
    await bench.store.create([bench.new(f"r{n}") for n in range(10)])
    keys = [row.run for row in await bench.store.find(RunFilter())]
    floor = await survey.floor(None, depth=4)
    assert floor == keys[4]
    assert await survey.keys(RunFilter(floor=floor)) == keys[:4]
    assert await survey.floor(keys[4], depth=3) == keys[8]
    assert await survey.floor(keys[4], depth=4) == keys[9]
    assert await survey.floor(keys[4], depth=5) is None
    assert await survey.floor(None, depth=10) is None
    assert await survey.floor(keys[9], depth=1) is None


async def keys_are_those_of_the_runs_that_are_found(bench: Bench) -> None:
    """Whatever the filter; newest first, within the limit, and with all its bounds."""
    await bench.store.create(
        [
            bench.new(
                f"r{n}", created_at=NOW + n, workflow=f"app.w{n % 2}", attributes=attributes_of({"n": n})
            )
            for n in range(10)
        ]
    )
    keys = [row.run for row in reversed(await bench.store.find(RunFilter()))]

    async def found(**fields: Any) -> list[int]:
        filter = RunFilter(**fields)
        rows = await bench.store.find(filter)
        assert [row.run for row in rows] == await bench.store.survey.keys(filter)
        return [keys.index(row.run) for row in rows]

    assert await found(until=NOW + 3) == [2, 1, 0]
    assert await found(since=NOW + 2, until=NOW + 5) == [4, 3, 2]
    assert await found(floor=keys[6]) == [9, 8, 7]
    assert await found(floor=keys[3], before=keys[6], workflow="w0") == [4]
    assert await found(among=[keys[1], keys[8], keys[4], keys[4] + 1_000_000], text="r") == [8, 4, 1]
    assert await found(among=[]) == []
    assert await found(among=keys[:6], before=keys[5], limit=2) == [4, 3]
    assert await found(floor=keys[2], limit=2) == [9, 8]
    small = conditions_of({"n": ("<", 5)})
    assert await found(attributes=small, floor=keys[2]) == [4, 3]
    assert await found(attributes=small, among=[keys[7], keys[4], keys[0]]) == [4, 0]
    assert await found(attributes=small, until=NOW + 2) == [1, 0]
    assert await found(floor=keys[0], statuses=["completed"]) == []


async def an_index_tells_the_few_that_may_match(bench: Bench) -> None:
    """Those with an attribute that a condition asks for; None if they are too many, or nothing can tell."""
    survey = bench.store.survey
    for n in range(6):
        await bench.make(f"r{n}", attributes=attributes_of({"n": n, "all": True, "tags": [f"t{n}", "each"]}))
    keys = [row.run for row in reversed(await bench.store.find(RunFilter()))]

    async def few(cap: int = 3, **wanted: Any) -> set[int] | None:
        filter = RunFilter(attributes=conditions_of(wanted), limit=1, before=keys[0])
        found = await survey.few(filter, cap=cap)
        if found is None:
            return None
        real = await bench.store.find(RunFilter(attributes=conditions_of(wanted)))
        assert {row.run for row in real} <= set(found)
        return {keys.index(run) for run in found}

    assert await survey.few(RunFilter(text="r"), cap=3) is None
    assert await survey.few(RunFilter(statuses=["failed", "queued"]), cap=3) is None
    assert set(await survey.few(RunFilter(statuses=["queued"]), cap=6) or keys) == set(keys)
    assert await survey.few(RunFilter(statuses=["failed"]), cap=6) == []
    assert await few(n=4) == {4}
    assert await few(n=("in", [1, 2])) == {1, 2}
    assert await few(n=99) == set()
    assert await few(all=True) is None
    assert await few(all=True, cap=6) == {0, 1, 2, 3, 4, 5}
    assert await few(tags="t5") == {5}
    assert await few(tags="each") is None
    assert await few(all=True, n=(">", 3)) in ({4, 5}, {3, 4, 5})
    assert await few(n=("<=", 1)) == {0, 1}
    assert await few(n=("!=", 1)) is None


async def rows_come_in_the_order_of_their_keys(bench: Bench) -> None:
    """The order in which the keys are given. Those that nobody has are left out."""
    rows = [await bench.make(f"r{n}") for n in range(3)]
    keys = [rows[1].run, rows[2].run + 1_000_000, rows[0].run]
    assert await bench.store.survey.rows(keys) == [rows[1], rows[0]]
    assert await bench.store.survey.rows([]) == []


async def a_text_is_also_found_in_the_reason(bench: Bench) -> None:
    """Why a run is blocked, say."""
    worker = await bench.worker()
    row = await bench.make("r1", owner=worker)
    await bench.make("r2")
    await bench.put(row, status="blocked", reason="CardDeclined: no money")
    for found in (
        await bench.store.find(RunFilter(text="Declined")),
        await bench.store.find(RunFilter(text="Declined", floor=0)),
    ):
        assert [row.id for row in found] == ["r1"]


async def workflows_are_known(bench: Bench) -> None:
    """Those of the newest runs, each once, by name."""
    assert await bench.store.survey.workflows(depth=5) == []
    for n, name in enumerate(["old", "b.x", "b.a", "b.x", "ß"]):
        await bench.make(f"r{n}", workflow=name)
    assert await bench.store.survey.workflows(depth=4) == ["b.a", "b.x", "ß"]
    assert await bench.store.survey.workflows(depth=5) == ["b.a", "b.x", "old", "ß"]


async def runs_are_counted_by_status_and_workflow(bench: Bench) -> None:
    """All of them; and those of one kind are listed, newest first."""
    survey = bench.store.survey
    assert await survey.tallies() == []
    worker = await bench.worker()
    for n in range(5):
        await bench.make(f"q{n}", workflow="app.a")
    row = await bench.make("b", workflow="app.b", owner=worker)
    await bench.put(row, status="blocked", reason="no", block_code="step")
    assert {(each.status, each.workflow, each.count) for each in await survey.tallies()} == {
        ("queued", "app.a", 5),
        ("blocked", "app.b", 1),
    }
    (a, b) = await survey.rows(await survey.of_kind("queued", "app.a", skip=1, limit=2))
    assert [a.id, b.id] == ["q3", "q2"]
    (tally,) = await survey.tallies(["blocked", "paused"])
    assert (tally.status, tally.workflow, tally.count) == ("blocked", "app.b", 1)
    (tally,) = await survey.tallies(["queued"])
    assert tally.count == 5
    (tally,) = await survey.blocked()
    assert (tally.status, tally.workflow, tally.count) == ("step", "app.b", 1)
    assert await survey.few(RunFilter(statuses=["blocked", "paused"]), cap=2) == [row.run]
    assert await survey.of_kind("blocked", "app.b", skip=0, limit=2) == [row.run]
    assert await survey.of_kind("blocked", "app.a", skip=0, limit=2) == []
    await bench.put(await bench.row("b"), b"end", status="completed")
    assert await survey.of_kind("blocked", "app.b", skip=0, limit=2) == []
    assert await survey.of_kind("completed", "app.b", skip=0, limit=2) == [row.run]


async def ends_are_counted_in_parts_of_a_time(bench: Bench) -> None:
    """By status. What ended before is left out, and so is the older part of too many. It is told how long they took."""
    survey = bench.store.survey
    worker = await bench.worker()
    for n, (status, at) in enumerate(
        [("completed", 5), ("completed", 10), ("failed", 12), ("completed", 19), ("completed", 31)]
    ):
        row = await bench.make(f"r{n}", owner=worker)
        await bench.put(row, b"end", status=status, now=NOW + at)
    errand = await bench.make("e", workflow="step/app.s", owner=worker)
    await bench.put(errand, b"end", status="completed", now=NOW + 13)

    async def ends(since: float, limit: int = 100) -> list[tuple[int, str, int, float]]:
        found = await survey.finished(NOW + since, width=10.0, limit=limit)
        return sorted((each.part, each.status, each.count, each.first - NOW) for each in found)

    assert await ends(10) == [(0, "completed", 2, 10), (0, "failed", 1, 12), (2, "completed", 1, 31)]
    assert await ends(10, limit=2) == [(0, "completed", 1, 19), (2, "completed", 1, 31)]
    assert await ends(32) == []
    kinds = await survey.ends(NOW + 10, limit=100)
    assert {(each.workflow, each.queue, each.status, each.count, each.first - NOW) for each in kinds} == {
        ("shop.orders.handle", "default", "completed", 3, 10),
        ("shop.orders.handle", "default", "failed", 1, 12),
        ("step/app.s", "default", "completed", 1, 13),
    }
    assert [each.count for each in await survey.ends(NOW + 10, limit=2)] == [2]
    assert await survey.ends(NOW + 32, limit=2) == []
    took = await survey.took(limit=3)
    assert took == [("shop.orders.handle", 31), ("shop.orders.handle", 19), ("step/app.s", 13)]


async def long_driven_runs_are_told(bench: Bench) -> None:
    """Of those that a worker has, the ones it has for long."""
    worker = await bench.worker()
    old = await bench.make("old", owner=worker, created_at=NOW - 100)
    older = await bench.make("older", owner=worker, created_at=NOW - 200)
    await bench.make("new", owner=worker)
    await bench.make("nobody's", created_at=NOW - 300)
    assert await bench.store.survey.driven_since(NOW - 50, limit=10) == [older.run, old.run]
    assert await bench.store.survey.driven_since(NOW - 50, limit=1) == [older.run]
    assert await bench.store.survey.driven_since(NOW - 300, limit=1) == []


CHECKS: tuple[Check, ...] = (
    runs_are_counted_by_status_and_workflow,
    ends_are_counted_in_parts_of_a_time,
    long_driven_runs_are_told,
    a_floor_bounds_what_is_looked_at,
    keys_are_those_of_the_runs_that_are_found,
    an_index_tells_the_few_that_may_match,
    rows_come_in_the_order_of_their_keys,
    a_text_is_also_found_in_the_reason,
    workflows_are_known,
)
