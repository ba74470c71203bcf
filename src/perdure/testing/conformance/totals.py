"""What removed runs have spent stays known: their sums are kept in the transaction that removes them."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.core.usage import Sums, Used
from perdure.storage.ledger import Book, EntryState, Inherit, Line, Query, Share, Total
from perdure.storage.moving import Mark
from perdure.storage.packing import counted
from perdure.storage.records import RunRow, Successor
from perdure.storage.retention import Removal
from perdure.testing.conformance.bench import NOW, Bench, Check
from perdure.testing.conformance.ledger import CALL, bury, driven, entry, sums
from perdure.testing.conformance.retention import remove, sweep_all

DAY = 86_400
#: The beginning of the day that NOW is in.
MIDNIGHT = 1_699_920_000.0
#: Of what removed runs had spent these are known.
KNOWN = (None, Share.STEP, Share.WORKFLOW, Share.MODEL, Share.DAY, Share.MONTH)


async def ended(bench: Bench, row: RunRow, *books: Book) -> RunRow:
    """The run has booked this, and ends."""
    row = await bench.put(row, b"e", effects=list(books))
    return await bench.put(row, b"end", status="completed")


async def reports(bench: Bench, **only: Any) -> list[list[Line]]:
    """All reports that don't need the runs."""
    return [await bench.store.ledger.report(Query(by=by, **only)) for by in KNOWN]


async def some(bench: Bench) -> list[RunRow]:
    """Runs of two workflows, with two steps, models, days and months; all have ended. One more goes on."""
    live = await driven(bench, "live", workflow="app.one")
    await bench.put(live, b"e", effects=[Book([entry(1), entry(2, name="app.t")])])
    plain = Used(input=3, output=4, cached=1, written=2, reasoning=1)
    one = await driven(bench, "one", workflow="app.one", key="acme")
    later = entry(3, at=NOW + 40 * DAY)
    one = await ended(bench, one, Book([entry(1), entry(2, used=plain), later]))
    two = await driven(bench, "two", workflow="app.two")
    two = await ended(bench, two, Book([entry(1, name="app.t"), entry(2, EntryState.OPEN, epoch=two.epoch)]))
    return [one, two]


async def what_removed_runs_have_spent_stays(bench: Bench) -> None:
    """In every sum that doesn't need the runs, at once, and when nothing of them is left."""
    gone = await some(bench)
    before = await reports(bench)
    assert before[0][0].sums.calls == 6
    assert before[0][0].sums.unknown == 1
    assert [line.name for line in before[-1]] == ["2023-11", "2023-12"]
    for row in gone:
        assert await remove(bench, row) == [Removal.GONE]
        assert await reports(bench) == before
    await sweep_all(bench)
    assert await reports(bench) == before
    other = await bench.another()
    assert await other.ledger.report(Query()) == before[0]


async def what_needs_the_runs_is_one_line(bench: Bench) -> None:
    """By run and by key; that line has what was removed, so that all together are as before."""
    gone = await some(bench)
    (whole,) = await bench.store.ledger.report(Query())
    assert await remove(bench, *gone) == [Removal.GONE] * 2
    for swept in (False, True):
        for by, name in ((Share.RUN, "live"), (Share.KEY, None)):
            left, removed = await bench.store.ledger.report(Query(by=by))
            assert (left.name, left.removed, left.sums.calls) == (name, False, 2)
            assert (removed.name, removed.removed, removed.sums.calls) == (None, True, 4)
            assert left.sums.cost + removed.sums.cost == whole.sums.cost
        assert await sums(bench, Query(key="acme")) == Sums()
        assert (await sums(bench, Query(run="live"))).calls == 2
        if not swept:
            await sweep_all(bench)


async def removed_days_count_whole_where_they_begin(bench: Bench) -> None:
    """So parts that lie side by side have together what the whole has."""
    row = await driven(bench)
    days = [entry(number, at=MIDNIGHT + number * DAY + 3600) for number in range(3)]
    row = await ended(bench, row, Book(days))
    assert await remove(bench, row) == [Removal.GONE]
    for since, until, calls in (
        (None, None, 3),
        (MIDNIGHT, MIDNIGHT + DAY, 1),
        (MIDNIGHT + 1, None, 2),
        (None, MIDNIGHT + 1, 1),
        (None, MIDNIGHT, 0),
        (MIDNIGHT + 7200, MIDNIGHT + DAY + 7200, 1),
        (MIDNIGHT + 3 * DAY, None, 0),
    ):
        assert (await sums(bench, Query(since=since, until=until))).calls == calls, (since, until)


async def totals_are_of_a_part(bench: Bench) -> None:
    """Of a workflow, or of a namespace."""
    one = await driven(bench, ":acme/r", workflow="app.one")
    two = await driven(bench, "r", workflow="app.two")
    gone = [await ended(bench, one, Book([entry(1)])), await ended(bench, two, Book([entry(1), entry(2)]))]
    assert await remove(bench, *gone) == [Removal.GONE] * 2
    for query, calls in (
        (Query(), 3),
        (Query(workflow="app.one"), 1),
        (Query(workflow="app.none"), 0),
        (Query(within=":acme/"), 1),
        (Query(within=":other/"), 0),
        (Query(within=":acme/", workflow="app.two"), 0),
    ):
        assert (await sums(bench, query)).calls == calls, query
    assert (await bench.store.quotas.measure("acme", since=MIDNIGHT))[1] == CALL.cost
    assert (await bench.store.quotas.measure("acme", since=MIDNIGHT + DAY))[1] == 0


async def what_was_saved_stays_known_too(bench: Bench) -> None:
    worker = await bench.worker()
    unpriced = msgspec.structs.replace(CALL, cost=None)
    row = await bench.make("donor", owner=worker)
    await bench.put(row, b"e", effects=[Book([entry(1), entry(2, used=unpriced)])])
    await bury(bench, worker)
    (row,) = await bench.claim(await bench.worker(), now=NOW + 1)
    donor = await bench.put(row, b"end", status="completed")
    fork = await driven(bench, "fork")
    fork = await bench.put(fork, b"e", effects=[Inherit("donor", 1, ["s"])])
    fork = await bench.put(fork, b"end", status="completed")
    before = await reports(bench)
    found = before[0][0].sums
    assert (found.calls, found.spared, found.spared_cost, found.spared_unpriced) == (2, 4, 14_000, 2)
    assert await remove(bench, donor, fork) == [Removal.GONE] * 2
    assert await reports(bench) == before


async def each_generation_is_kept_once(bench: Bench) -> None:
    """However little is removed at a time."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    for number in range(2, 7):
        row = await bench.put(row, b"e", effects=[Book([entry(1), entry(2)])])
        following = Successor(bench.new("r", owner=worker, generation=number))
        await bench.put(row, b"end", status="continued", successor=following)
        row = await bench.row("r")
    row = await ended(bench, row, Book([entry(1)]))
    before = await reports(bench)
    assert before[0][0].sums.calls == 11
    answer = Removal.PART
    for _ in range(20):
        if answer is Removal.PART:
            (answer,) = await bench.store.retention.remove([(row.run, row.seq)], now=NOW, rows=2)
            assert await reports(bench) == before
    assert answer is Removal.GONE
    await sweep_all(bench, rows=1)
    assert await reports(bench) == before


async def what_stays_is_not_kept(bench: Bench) -> None:
    """Nor is a run that is removed twice."""
    row = await ended(bench, await driven(bench), Book([entry(1)]))
    stays = msgspec.structs.replace(row, seq=row.seq - 1)
    assert await remove(bench, stays) == [Removal.STAYS]
    assert (await sums(bench)).calls == 1
    await bench.store.moving.begin(Mark("token", "sqlite:///there.db"))
    assert await remove(bench, row) == [Removal.STAYS]
    await bench.store.moving.give_up("token")
    assert await bench.store.ledger.totals() == []
    assert await remove(bench, row, row) == [Removal.GONE, Removal.STAYS]
    await bench.store.ledger.book(row.run, Book([entry(9)]))
    assert (await sums(bench)).calls == 1


async def a_run_from_an_archive_counts_by_itself_only(bench: Bench) -> None:
    """It is in the totals, and stays so; it is told of when it is asked for."""
    row = await ended(bench, await driven(bench), Book([entry(1), entry(2)]))
    (package,) = await bench.store.moving.read(["r"])
    assert package is not None
    assert await remove(bench, row) == [Removal.GONE]
    await sweep_all(bench)
    before = await reports(bench)
    back = counted(package)
    assert await bench.store.moving.put([back]) == [True]
    assert await bench.store.moving.read(["r"]) == [back]
    assert await reports(bench) == before
    assert [line.removed for line in await bench.store.ledger.report(Query(by=Share.RUN))] == [True]
    assert (await sums(bench, Query(run="r"))).calls == 2
    assert await remove(bench, await bench.row("r")) == [Removal.GONE]
    assert await reports(bench) == before


async def totals_arrive_once(bench: Bench) -> None:
    """Those of another database, however often they come; and go on from here with what was removed here."""
    gone = await some(bench)
    assert await remove(bench, *gone) == [Removal.GONE] * 2
    own = await bench.store.ledger.totals()
    assert sum(total.figures[0] for total in own) == 5
    assert {(total.namespace, total.day, total.state) for total in own} == {
        ("", 19675, "spent"),
        ("", 19715, "spent"),
        ("", 19675, "unknown"),
    }
    told = Total("", 19675, "app.one", "app.s", None, "spent", (2, *range(2, 14)))
    other = msgspec.structs.replace(told, namespace=":acme/", model="m-9", day=19000)
    before = await sums(bench)
    for _ in range(2):
        await bench.store.ledger.receive("token", [told, other])
        found = await sums(bench)
        assert (found.calls, found.cost) == (before.calls + 4, before.cost + 2 * told.figures[6])
    assert (await sums(bench, Query(within=":acme/"))).calls == 2
    again = await bench.store.ledger.totals()
    assert sum(total.figures[0] for total in again) == 9
    assert len({(t.namespace, t.day, t.workflow, t.name, t.model, t.state) for t in again}) == len(again)
    await bench.store.ledger.receive("token", [])
    assert await sums(bench) == before


CHECKS: tuple[Check, ...] = (
    what_removed_runs_have_spent_stays,
    what_needs_the_runs_is_one_line,
    removed_days_count_whole_where_they_begin,
    totals_are_of_a_part,
    what_was_saved_stays_known_too,
    each_generation_is_kept_once,
    what_stays_is_not_kept,
    a_run_from_an_archive_counts_by_itself_only,
    totals_arrive_once,
)
