"""The ledger: what was spent is booked once, with the outcome that it has brought, and can be summed up."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.core.usage import Sums, Used
from perdure.storage.ledger import Book, Entry, EntryState, Inherit, Line, Query, Share
from perdure.storage.records import RunRow, Stale, Successor
from perdure.testing.conformance.bench import NOW, Bench, Check

CALL = Used(
    model="m-1", provider="p", input=100, output=20, cached=30, reasoning=5, cost=7_000, price="given"
)


def entry(id: int, state: EntryState = EntryState.SPENT, used: Used = CALL, **rest: Any) -> Entry:
    """An entry of step `s`."""
    fields: dict[str, Any] = {"step": "s", "name": "app.s", "attempt": 1, "at": NOW, **rest}
    return Entry(id=id, state=state, used=used, **fields)


async def driven(bench: Bench, id: str = "r", **fields: Any) -> RunRow:
    """A run that a worker drives."""
    return await bench.make(id, owner=await bench.worker(), **fields)


async def bury(bench: Bench, worker: int) -> None:
    """The worker is dead."""
    (alive,) = [each for each in await bench.store.workers() if each.id == worker]
    await bench.store.bury(worker, alive.lease_until, now=NOW, max_recoveries=9)


async def sums(bench: Bench, query: Query | None = None) -> Sums:
    (line,) = await bench.store.ledger.report(query or Query())
    return line.sums


async def names(bench: Bench, by: Share) -> dict[str | None, int]:
    """How many calls each name has."""
    return {line.name: line.sums.calls for line in await bench.store.ledger.report(Query(by=by))}


async def an_empty_ledger_sums_up_to_nothing(bench: Bench) -> None:
    assert await bench.store.ledger.report(Query()) == [Line(None, Sums())]
    assert await bench.store.ledger.report(Query(by=Share.MODEL)) == []


async def entries_are_booked_with_the_append(bench: Bench) -> None:
    row = await driven(bench)
    await bench.put(row, b"e", effects=[Book([entry(1), entry(2)])])
    found = await sums(bench)
    assert (found.calls, found.input, found.output, found.cached, found.reasoning) == (2, 200, 40, 60, 10)
    assert (found.cost, found.unpriced, found.unknown, found.in_flight, found.spared) == (14_000, 0, 0, 0, 0)
    assert await bench.store.ledger.entries(row.run) == [entry(1), entry(2)]


async def a_stale_append_books_nothing(bench: Bench) -> None:
    row = await driven(bench)
    late = await bench.append(row, b"e", epoch=row.epoch + 1, effects=[Book([entry(1)])])
    assert isinstance(late, Stale)
    assert (await sums(bench)).calls == 0


async def an_append_that_is_repeated_books_once(bench: Bench) -> None:
    row = await driven(bench)
    append = bench.change(row, b"e", effects=[Book([entry(1)])])
    for store in (bench.store, await bench.another()):
        await store.append([append])
    assert (await sums(bench)).calls == 1


async def many_runs_book_in_one_batch(bench: Bench) -> None:
    rows = [await driven(bench, f"r-{number}") for number in range(5)]
    books = [bench.change(row, b"e", effects=[Book([entry(n)])]) for n, row in enumerate(rows)]
    plain = bench.change(await driven(bench, "other"), b"e")
    await bench.store.append([*books[:3], plain, *books[3:]])
    assert (await sums(bench)).calls == 5


async def what_is_booked_late_is_booked_once(bench: Bench) -> None:
    row = await driven(bench)
    await bench.put(row, b"e", effects=[Book([entry(1, EntryState.OPEN, epoch=row.epoch)])])
    for store in (bench.store, await bench.another()):
        await store.ledger.book(row.run, Book([entry(2)], closes=1))
    found = await sums(bench)
    assert (found.calls, found.unknown, found.in_flight) == (1, 0, 0)


async def late_entries_of_a_run_that_is_not_there_are_left_out(bench: Bench) -> None:
    await bench.store.ledger.book(123_456, Book([entry(1)], closes=2, loses=3))
    assert (await sums(bench)).calls == 0


async def a_price_that_is_not_known_is_counted_not_added(bench: Bench) -> None:
    row = await driven(bench)
    unpriced = msgspec.structs.replace(CALL, cost=None, price=None)
    await bench.put(row, b"e", effects=[Book([entry(1), entry(2, used=unpriced)])])
    found = await sums(bench)
    assert (found.calls, found.cost, found.unpriced) == (2, 7_000, 1)


async def amounts_are_whole_and_large(bench: Bench) -> None:
    row = await driven(bench)
    large = msgspec.structs.replace(CALL, cost=2_000_000_000_000_000, input=3_000_000_000)
    await bench.put(row, b"e", effects=[Book([entry(number, used=large) for number in range(3)])])
    found = await sums(bench)
    assert (found.cost, found.input) == (6_000_000_000_000_000, 9_000_000_000)


async def an_open_entry_is_in_flight_while_its_driver_has_the_run(bench: Bench) -> None:
    row = await driven(bench)
    await bench.put(row, b"e", effects=[Book([entry(1, EntryState.OPEN, epoch=row.epoch)])])
    found = await sums(bench)
    assert (found.in_flight, found.unknown, found.calls) == (1, 0, 0)


async def an_open_entry_is_unknown_when_its_driver_is_dead(bench: Bench) -> None:
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await bench.put(row, b"e", effects=[Book([entry(1, EntryState.OPEN, epoch=row.epoch)])])
    await bury(bench, worker)
    found = await sums(bench)
    assert (found.in_flight, found.unknown, found.unknown_cost, found.calls) == (0, 1, 7_000, 0)
    assert [each.run for each in await bench.claim(await bench.worker(), now=NOW + 1)] == [row.run]
    assert (await sums(bench)).unknown == 1
    (kept,) = await bench.store.ledger.entries(row.run)
    assert kept.state is EntryState.UNKNOWN


async def an_open_entry_is_unknown_when_its_run_has_ended(bench: Bench) -> None:
    row = await driven(bench)
    book = Book([entry(1, EntryState.OPEN, used=Used(model="m-1"), epoch=row.epoch)])
    await bench.put(row, b"e", effects=[book], status="completed")
    found = await sums(bench)
    assert (found.unknown, found.unknown_cost, found.unknown_unpriced) == (1, 0, 1)


async def an_entry_is_closed_by_what_came_of_it(bench: Bench) -> None:
    row = await driven(bench)
    opening = Book([entry(1, EntryState.OPEN, epoch=row.epoch), entry(2, EntryState.OPEN, epoch=row.epoch)])
    await bench.put(row, b"e", effects=[opening])
    row = await bench.row(row.id)
    await bench.put(row, b"e", effects=[Book([entry(3)], closes=1), Book(loses=2)])
    found = await sums(bench)
    assert (found.calls, found.in_flight, found.unknown) == (1, 0, 1)
    assert [each.id for each in await bench.store.ledger.entries(row.run)] == [2, 3]


async def another_run_is_charged_for_its_errand(bench: Bench) -> None:
    sender = await driven(bench, "sender", key="acme")
    errand = await driven(bench, "errand")
    opening = entry(1, EntryState.OPEN, epoch=errand.epoch, errand="errand")
    await bench.put(errand, b"e", effects=[Book([opening], run=sender.run)])
    assert (await sums(bench, Query(run="sender"))).in_flight == 1
    errand = await bench.row("errand")
    book = Book([entry(2)], closes=1, run=sender.run)
    await bench.put(errand, b"e", effects=[book], status="completed")
    assert (await sums(bench, Query(run="sender"))).calls == 1
    assert (await sums(bench, Query(run="errand"))).calls == 0
    assert await names(bench, Share.KEY) == {"acme": 1}


async def an_errand_that_is_lost_leaves_its_entry_unknown(bench: Bench) -> None:
    sender, errand = await driven(bench, "sender"), await driven(bench, "errand")
    opening = entry(1, EntryState.OPEN, epoch=errand.epoch, errand="errand")
    await bench.put(errand, b"e", effects=[Book([opening], run=sender.run)], status="completed")
    assert (await sums(bench, Query(run="sender"))).unknown == 1


async def sums_are_told_apart_by_name(bench: Bench) -> None:
    one = await driven(bench, "one", workflow="app.one")
    two = await driven(bench, "two", workflow="app.two")
    other = Used(provider="p", input=1, cost=5)
    await bench.put(one, b"e", effects=[Book([entry(1), entry(2, name="app.t", at=NOW + 86_400)])])
    await bench.put(two, b"e", effects=[Book([entry(3, used=other)])])
    assert await names(bench, Share.WORKFLOW) == {"app.one": 2, "app.two": 1}
    assert await names(bench, Share.STEP) == {"app.s": 2, "app.t": 1}
    assert await names(bench, Share.MODEL) == {"m-1": 2, None: 1}
    assert await names(bench, Share.RUN) == {"one": 2, "two": 1}
    assert await names(bench, Share.DAY) == {"2023-11-14": 2, "2023-11-15": 1}
    assert [line.name for line in await bench.store.ledger.report(Query(by=Share.MODEL))] == ["m-1", None]


async def reports_are_of_a_part(bench: Bench) -> None:
    row = await driven(bench, "one", workflow="app.one", key="k")
    await bench.put(row, b"e", effects=[Book([entry(1), entry(2, at=NOW + 10)])])
    for query, calls in (
        (Query(workflow="app.one"), 2),
        (Query(workflow="app.two"), 0),
        (Query(key="k"), 2),
        (Query(key="other"), 0),
        (Query(since=NOW + 1), 1),
        (Query(until=NOW + 10), 1),
        (Query(run="nobody"), 0),
        (Query(run="one", since=NOW + 10, until=NOW + 11), 1),
    ):
        assert (await sums(bench, query)).calls == calls, query


async def child_of(bench: Bench, row: RunRow, id: str, owner: int) -> RunRow:
    """A child run, driven by this worker."""
    row = await bench.row(row.id)
    await bench.put(row, b"e", children=[bench.new(id, owner=owner, parent=row.run, parent_op=f"{id}#1")])
    return await bench.row(id)


async def what_children_spend_counts_for_their_parents_too(bench: Bench) -> None:
    worker = await bench.worker()
    top = await bench.make("top", owner=worker, key="acme")
    child = await child_of(bench, top, "child", worker)
    grand = await child_of(bench, child, "grand", worker)
    await bench.put(grand, b"e", effects=[Book([entry(1)])])
    assert [(await sums(bench, Query(run=id))).calls for id in ("top", "child", "grand")] == [1, 1, 1]
    assert (await sums(bench)).calls == 1
    assert await names(bench, Share.KEY) == {"acme": 1}
    assert await names(bench, Share.RUN) == {"grand": 1}


async def earlier_generations_count_for_the_run(bench: Bench) -> None:
    worker = await bench.worker()
    row = await bench.put(await bench.make("r", owner=worker), b"e", effects=[Book([entry(1)])])
    following = Successor(bench.new("r", owner=worker, generation=2))
    await bench.put(row, b"end", status="continued", successor=following)
    await bench.put(await bench.row("r"), b"e", effects=[Book([entry(1), entry(2)])])
    assert (await sums(bench, Query(run="r"))).calls == 3
    await bury(bench, worker)
    assert (await sums(bench, Query(run="r"))).spared == 3


async def an_entry_with_a_key_of_its_own_has_that(bench: Bench) -> None:
    row = await driven(bench, key="acme")
    await bench.put(row, b"e", effects=[Book([entry(1, used=Used(key="other"))])])
    assert await names(bench, Share.KEY) == {"other": 1}


async def a_lost_driver_spares_what_was_paid(bench: Bench) -> None:
    worker, other = await bench.worker(), await bench.worker(name="other")
    top = await bench.make("top", owner=worker)
    over = await child_of(bench, top, "over", worker)
    going = await child_of(bench, top, "going", other)
    await bench.put(over, b"e", effects=[Book([entry(1)])], status="completed")
    await bench.put(going, b"e", effects=[Book([entry(2)])])
    opened = entry(4, EntryState.OPEN, epoch=top.epoch)
    await bench.put(await bench.row("top"), b"e", effects=[Book([entry(3), opened])])
    assert (await sums(bench)).spared == 0
    await bury(bench, worker)
    found = await sums(bench)
    assert (found.spared, found.spared_input, found.spared_output) == (2, 200, 40)
    assert (found.spared_cost, found.spared_unpriced, found.calls, found.unknown) == (14_000, 0, 3, 1)
    await bench.store.retire(other, now=NOW)
    assert (await sums(bench, Query(run="going"))).spared == 1


async def results_that_were_taken_over_are_spared_not_spent(bench: Bench) -> None:
    donor = await driven(bench, "donor")
    unpriced = msgspec.structs.replace(CALL, cost=None)
    book = Book([entry(1), entry(2, step="t", used=unpriced), entry(3, step="u")])
    lost = entry(4, EntryState.OPEN, epoch=donor.epoch)
    await bench.put(donor, b"e", effects=[book, Book([lost])])
    fork = await driven(bench, "fork", workflow="app.fork", key="k")
    await bench.put(fork, b"e", effects=[Inherit("donor", 1, ["s", "t", "nothing"])])
    found = await sums(bench, Query(run="fork"))
    assert (found.calls, found.cost, found.unknown, found.spared, found.spared_cost) == (0, 0, 0, 2, 7_000)
    assert found.spared_unpriced == 1
    fork_of_fork = await driven(bench, "again")
    await bench.put(fork_of_fork, b"e", effects=[Inherit("fork", 1, ["s"])])
    assert (await sums(bench, Query(run="again"))).spared == 1
    assert (await sums(bench, Query(key="k"))).spared == 2
    assert (await sums(bench)).calls == 3
    moved = await driven(bench, "moved")
    await bench.put(moved, b"e", effects=[Inherit("donor", 1, ["s", "t"], renamed={"s": "t", "t": "v"})])
    found_there = await bench.store.ledger.entries(moved.run)
    assert sorted((one.id, one.step) for one in found_there) == [(1, "t"), (2, "v")]


async def children_that_were_taken_over_are_spared(bench: Bench) -> None:
    worker = await bench.worker()
    donor = await bench.make("donor", owner=worker)
    child = await child_of(bench, donor, "child", worker)
    await bench.put(child, b"e", effects=[Book([entry(1)])], status="completed")
    fork = await bench.make("fork", owner=worker)
    await bench.put(fork, b"e", effects=[Inherit("donor", 1, [], ["child", "nobody"])])
    found = await sums(bench, Query(run="fork"))
    assert (found.calls, found.spared) == (0, 1)


async def the_ledger_is_in_a_package(bench: Bench) -> None:
    row = await driven(bench, key="acme")
    opened = entry(2, EntryState.OPEN, epoch=row.epoch)
    row = await bench.put(row, b"e", effects=[Book([entry(1), opened])])
    await bench.put(row, b"e", status="waiting", release=True)
    (package,) = await bench.store.moving.read(["r"])
    assert package is not None
    copy = package.under("copy")
    assert await bench.store.moving.put([copy]) == [True]
    assert await bench.store.moving.read(["copy"]) == [copy]
    found = await sums(bench, Query(run="copy"))
    assert (found.calls, found.unknown, found.in_flight) == (1, 1, 0)
    assert await names(bench, Share.KEY) == {"acme": 2}


CHECKS: tuple[Check, ...] = (
    an_empty_ledger_sums_up_to_nothing,
    entries_are_booked_with_the_append,
    a_stale_append_books_nothing,
    an_append_that_is_repeated_books_once,
    many_runs_book_in_one_batch,
    what_is_booked_late_is_booked_once,
    late_entries_of_a_run_that_is_not_there_are_left_out,
    a_price_that_is_not_known_is_counted_not_added,
    amounts_are_whole_and_large,
    an_open_entry_is_in_flight_while_its_driver_has_the_run,
    an_open_entry_is_unknown_when_its_driver_is_dead,
    an_open_entry_is_unknown_when_its_run_has_ended,
    an_entry_is_closed_by_what_came_of_it,
    another_run_is_charged_for_its_errand,
    an_errand_that_is_lost_leaves_its_entry_unknown,
    sums_are_told_apart_by_name,
    reports_are_of_a_part,
    what_children_spend_counts_for_their_parents_too,
    earlier_generations_count_for_the_run,
    an_entry_with_a_key_of_its_own_has_that,
    a_lost_driver_spares_what_was_paid,
    results_that_were_taken_over_are_spared_not_spent,
    children_that_were_taken_over_are_spared,
    the_ledger_is_in_a_package,
)
