"""Looking at one namespace: its own runs are seen, and none whose prefix only looks alike."""

from __future__ import annotations

from perdure.storage.publications import Publication
from perdure.storage.records import RunFilter, RunRow
from perdure.storage.survey import Tally
from perdure.testing.conformance.bench import NOW, WORKFLOW, Bench, Check

MINE = ":a/"
#: Ids that aren't in it, however much they look like it.
OTHERS = ("a/1", ":a.b/1", ":ab/1", "::a/1", ":A/1", ":b/:a/1", "a", "1")


async def _fill(bench: Bench) -> list[RunRow]:
    """Three runs of the namespace among many others; newest first."""
    mine: list[RunRow] = []
    for number in range(3):
        mine.insert(0, await bench.make(f"{MINE}{number}"))
        await bench.store.create([bench.new(f"{id}-{number}") for id in OTHERS])
    return mine


async def a_namespace_is_found_by_what_its_ids_begin_with(bench: Bench) -> None:
    mine = await _fill(bench)
    keys, find = [row.run for row in mine], bench.store.find
    assert await find(RunFilter(within=MINE)) == mine
    assert await bench.store.survey.keys(RunFilter(within=MINE)) == keys
    assert await find(RunFilter(within=MINE, limit=2)) == mine[:2]
    assert await find(RunFilter(within=MINE, before=keys[0])) == mine[1:]
    assert await find(RunFilter(within=MINE, floor=keys[2])) == mine[:2]
    assert await find(RunFilter(within=":nobody/")) == []


async def filters_hold_within_a_namespace(bench: Bench) -> None:
    mine = await _fill(bench)
    keys, find = [row.run for row in mine], bench.store.find
    everything = [row.run for row in await find(RunFilter())]
    assert await find(RunFilter(within=MINE, among=everything)) == mine
    assert await find(RunFilter(within=MINE, among=everything, text="1")) == [mine[1]]
    assert await find(RunFilter(within=MINE, text="1")) == [mine[1]]
    assert await find(RunFilter(within=MINE, text="a/")) == []  # the prefix is no part of what is looked in
    assert await find(RunFilter(within=MINE, statuses=["completed"])) == []
    assert await find(RunFilter(within=MINE, statuses=["queued"], workflow=WORKFLOW, since=NOW)) == mine
    assert await bench.store.survey.keys(RunFilter(within=MINE, unpatched="x", until=NOW + 1)) == keys


async def a_namespace_is_counted_alone(bench: Bench) -> None:
    mine = await _fill(bench)
    keys, look = [row.run for row in mine], bench.store.namespaces
    assert await look.tallies(MINE) == [Tally("queued", WORKFLOW, 3)]
    assert await look.tallies(MINE, ["failed"]) == []
    assert await look.of_kind(MINE, "queued", WORKFLOW, skip=1, limit=5) == keys[1:]
    assert await look.workflows(MINE, depth=10) == [WORKFLOW]
    assert await look.floor(MINE, None, depth=3) is None
    assert await look.floor(MINE, None, depth=2) == keys[2]
    assert await look.floor(MINE, keys[0], depth=1) == keys[2]
    counts = dict(await look.all())
    assert (counts[MINE], counts[":ab/"], counts[":A/"]) == (3, 3, 3)
    assert "" not in counts


async def a_namespace_sees_what_became_of_its_runs(bench: Bench) -> None:
    worker = await bench.worker()
    mine = await bench.make(f"{MINE}1", owner=worker)
    ended = await bench.make(f"{MINE}2", owner=worker)
    other = await bench.make(":ab/1", owner=worker)
    for row in (ended, other):
        await bench.put(row, b"end", status="completed", now=NOW + 2)
    look = bench.store.namespaces
    assert await look.driven_since(MINE, NOW + 10, limit=10) == [mine.run]
    assert await look.took(MINE, limit=10) == [(WORKFLOW, 2.0)]
    (part,) = await look.finished(MINE, NOW, width=60.0, limit=10)
    assert (part.status, part.count, part.first) == ("completed", 1, NOW + 2)


async def publications_are_found_within_a_namespace(bench: Bench) -> None:
    names = (":a/paid", ":ab/paid", "paid", ":a/sent", ":A/paid")
    await bench.store.publications.publish(
        [Publication(f"{name} 1", name, None, b"1", NOW + place) for place, name in enumerate(names)]
    )

    async def found() -> list[str]:
        return [one.name for one in await bench.store.publications.find(within=MINE, limit=10)]

    assert await found() == [":a/sent", ":a/paid"]
    await bench.store.publications.distribute(now=NOW + 10)
    assert await found() == [":a/sent", ":a/paid"]
    assert await bench.store.namespaces.waiting(MINE) == []


CHECKS: tuple[Check, ...] = (
    a_namespace_is_found_by_what_its_ids_begin_with,
    filters_hold_within_a_namespace,
    a_namespace_is_counted_alone,
    a_namespace_sees_what_became_of_its_runs,
    publications_are_found_within_a_namespace,
)
