"""Publications: each reaches everybody who wants it, once, whoever comes first."""

from __future__ import annotations

from typing import Any

from perdure.codec.events import decode_event
from perdure.core.events import PublicationArrived
from perdure.core.where import where_text
from perdure.storage.publications import (
    CloseWait,
    CloseWaits,
    Distributed,
    OpenWait,
    Publication,
    Publish,
    keyed_id,
    new_id,
    number_at,
)
from perdure.storage.records import RunRow
from perdure.testing.conformance.bench import NOW, Bench, Check

FAR = NOW + 1e6


def publication(
    name: str = "paid", payload: bytes = b"{}", *, at: float = NOW, key: str | None = None
) -> Publication:
    id = new_id() if key is None else keyed_id(name, key)
    return Publication(id, name, key, payload, at)


async def publish(bench: Bench, *payloads: bytes, name: str = "paid", at: float = NOW) -> None:
    for payload in payloads:
        await bench.store.publications.publish([publication(name, payload, at=at)])


def wait(
    op: str = "event:1", name: str = "paid", *, since: float = NOW, after: int = 0, **where: Any
) -> OpenWait:
    return OpenWait(op, name, where_text(where), since, after)


async def driven(bench: Bench, id: str) -> RunRow:
    """A run that a worker drives."""
    worker = await bench.worker()
    await bench.make(id)
    (row,) = await bench.claim(worker)
    return row


async def waiting(bench: Bench, id: str, *waits: OpenWait) -> RunRow:
    """A run that waits for something, and is driven."""
    return await bench.put(await driven(bench, id), b"e", effects=waits)


async def distribute(bench: Bench, now: float = NOW) -> Distributed:
    """All that there is to distribute now; the sum of it."""
    runs = mail = 0
    while True:
        done = await bench.store.publications.distribute(now=now)
        runs, mail = runs + done.runs, mail + done.mail
        if not done.more:
            return Distributed(runs, mail)


async def arrivals(bench: Bench, row: RunRow) -> list[PublicationArrived]:
    events = [decode_event(data) for data in await bench.inbox(row)]
    return [event for event in events if isinstance(event, PublicationArrived)]


async def payloads(bench: Bench, row: RunRow) -> list[bytes | None]:
    return [event.payload for event in await arrivals(bench, row)]


# -- publishing -----------------------------------------------------------------------------------------


async def a_publication_is_kept_once_for_its_key(bench: Bench) -> None:
    store = bench.store.publications
    first, again = publication(payload=b"1", key="k"), publication(payload=b"2", key="k")
    other, another = publication("refunded", b"3", key="k"), publication(payload=b"4", key="l")
    assert await store.publish([first, again, other, another]) == [True, False, True, True]
    assert await store.publish([again]) == [False]
    assert {one.payload for one in await store.find(name="paid", limit=10)} == {b"1", b"4"}
    assert len(await store.find(limit=10)) == 3


async def publications_are_listed_newest_first(bench: Bench) -> None:
    store = bench.store.publications
    await publish(bench, b"1", b"2", b"3", at=NOW - 1)
    await distribute(bench)
    await publish(bench, b"4")
    found = await store.find(limit=3)
    assert found[0].payload == b"4"
    assert found[0].number is None
    assert all(one.settled for one in found[1:])
    older = await store.find(before=found[-1].number, limit=10)
    assert sorted(one.payload for one in [*found, *older]) == [b"1", b"2", b"3", b"4"]
    assert await store.find(name="refunded", limit=10) == []


async def numbers_grow_with_time_and_with_each_publication(bench: Bench) -> None:
    await publish(bench, b"1", b"2")
    await distribute(bench, NOW)
    await publish(bench, b"3")
    await distribute(bench, NOW - 3600)  # another worker's clock
    await publish(bench, b"4")
    await distribute(bench, NOW + 60)
    found = [one.number or 0 for one in await bench.store.publications.find(limit=10)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 4
    assert found[0] >= number_at(NOW + 60)


async def what_nobody_wants_is_settled(bench: Bench) -> None:
    await publish(bench, b"1")
    assert (await bench.store.publications.pending(now=NOW)).due
    assert await distribute(bench) == Distributed()
    assert not (await bench.store.publications.pending(now=FAR)).due


async def an_append_publishes_with_its_events(bench: Bench) -> None:
    row = await driven(bench, "r")
    await bench.put(row, b"e", effects=[Publish(publication(payload=b"7"))])
    stale = await bench.append(row, b"x", effects=[Publish(publication(payload=b"8"))])
    assert type(stale).__name__ == "Stale"
    assert [one.payload for one in await bench.store.publications.find(limit=10)] == [b"7"]


# -- waits ----------------------------------------------------------------------------------------------


async def a_waiting_run_gets_what_is_published(bench: Bench) -> None:
    row = await waiting(bench, "r", wait())
    await distribute(bench)
    await bench.store.publications.publish([publication(payload=b"[1]", key="k")])
    assert await distribute(bench) == Distributed(mail=1)
    (event,) = await arrivals(bench, row)
    assert (event.wait, event.name, event.payload, event.key) == ("event:1", "paid", b"[1]", "k")
    assert event.published_at == NOW
    await publish(bench, b"[2]")
    assert await distribute(bench) == Distributed()
    assert await payloads(bench, row) == [b"[1]"]


async def what_was_published_before_the_wait_is_found(bench: Bench) -> None:
    await publish(bench, b"1", at=NOW - 60)
    await publish(bench, b"2", at=NOW - 5)
    await publish(bench, b"3", at=NOW - 4)
    await distribute(bench)
    row = await waiting(bench, "r", wait(since=NOW - 10))
    assert (await bench.store.publications.pending(now=NOW)).due
    await distribute(bench)
    assert await payloads(bench, row) == [b"2"]


async def what_is_published_and_awaited_before_a_look_is_found(bench: Bench) -> None:
    """Neither was seen by any worker yet."""
    await publish(bench, b"1")
    row = await waiting(bench, "r", wait())
    await publish(bench, b"2")
    await distribute(bench)
    assert len(await payloads(bench, row)) == 1


async def a_wait_goes_on_behind_what_the_run_has_had(bench: Bench) -> None:
    for payload in (b"1", b"2", b"3"):
        await publish(bench, payload)
        await distribute(bench)
    numbers = [one.number or 0 for one in await bench.store.publications.find(limit=10)]
    row = await waiting(bench, "r", wait(after=sorted(numbers)[0]))
    await distribute(bench)
    assert await payloads(bench, row) == [b"2"]
    row = await bench.put(row, b"e", effects=[wait("event:2", after=sorted(numbers)[2])])
    await distribute(bench)
    assert await payloads(bench, row) == [b"2"]
    await publish(bench, b"4")
    await distribute(bench)
    assert await payloads(bench, row) == [b"2", b"4"]


async def a_late_commit_is_not_overlooked(bench: Bench) -> None:
    """It was published first, and was committed when a later one had come to the run already."""
    row = await waiting(bench, "r", wait(since=NOW - 100))
    await publish(bench, b'"later"', at=NOW)
    await distribute(bench)
    (event,) = await arrivals(bench, row)
    await publish(bench, b'"earlier"', at=NOW - 50)
    row = await bench.put(row, b"e", effects=[wait("event:2", since=NOW - 100, after=event.number)])
    await distribute(bench)
    assert await payloads(bench, row) == [b'"later"', b'"earlier"']


async def only_what_fits_reaches_a_wait(bench: Bench) -> None:
    one = await waiting(bench, "one", wait(customer="c-1"))
    two = await waiting(bench, "two", wait(customer="c-2", kind=["book", "map"]))
    three = await waiting(bench, "three", OpenWait("event:1", "paid", where_text({"a.b": True}), NOW, 0))
    every = await waiting(bench, "every", wait())
    await distribute(bench)
    await publish(bench, b'{"customer": "c-2", "kind": "pen", "a": {"b": 1}}', b'"no object"', name="other")
    await publish(bench, b'{"customer": "c-2", "kind": "pen", "a": {"b": 1}}')
    await distribute(bench)
    assert [len(await payloads(bench, row)) for row in (one, two, three, every)] == [0, 0, 0, 1]
    await publish(bench, b'{"customer": "c-2", "kind": "map"}', b'{"customer": "c-1"}', b'{"a": {"b": true}}')
    await distribute(bench)
    assert [len(await payloads(bench, row)) for row in (one, two, three, every)] == [1, 1, 1, 1]


async def conditions_hold_when_looking_back(bench: Bench) -> None:
    await publish(bench, b'{"n": 1}', b'{"n": 2.0, "kind": "x"}', b'{"n": 2, "kind": "y"}')
    await distribute(bench)
    row = await waiting(bench, "r", wait(n=2, kind=["y", "z"]), wait("event:2", n=3))
    await distribute(bench)
    assert await payloads(bench, row) == [b'{"n": 2, "kind": "y"}']


async def a_closed_wait_gets_nothing(bench: Bench) -> None:
    row = await waiting(bench, "r", wait(), wait("event:2"))
    other = await waiting(bench, "other", wait(), wait("event:2"))
    await distribute(bench)
    row = await bench.put(row, b"e", effects=[CloseWait("event:1")])
    other = await bench.put(other, b"e", effects=[CloseWaits()])
    await publish(bench, b"1")
    assert await distribute(bench) == Distributed(mail=1)
    assert [event.wait for event in await arrivals(bench, row)] == ["event:2"]
    assert await arrivals(bench, other) == []


async def a_terminated_run_waits_no_more(bench: Bench) -> None:
    await waiting(bench, "r", wait())
    assert await bench.store.publications.waiting() == [("paid", "", 1)]
    await bench.store.terminate("r", b"end", now=NOW)
    assert await bench.store.publications.waiting() == []
    await publish(bench, b"1")
    assert await distribute(bench) == Distributed()


async def mail_for_a_wait_wakes_the_run(bench: Bench) -> None:
    row = await waiting(bench, "r", wait())
    await bench.put(row, status="waiting", release=True)
    await publish(bench, b"1")
    await distribute(bench, NOW + 3)
    assert (await bench.row("r")).wake_at == NOW + 3


async def very_many_waits_get_it_in_portions(bench: Bench) -> None:
    worker = await bench.worker()
    await bench.store.create([bench.new(f"r{number}") for number in range(1100)])
    rows = await bench.claim(worker, limit=2000)
    await bench.store.append([bench.change(row, b"e", effects=[wait()]) for row in rows])
    await publish(bench, b"1")
    await distribute(bench)
    await publish(bench, b"2")
    assert await distribute(bench) == Distributed()
    mail = await bench.store.mail(worker)
    assert len({item.run for item in mail}) == len(mail) == 1100


async def very_many_who_wait_already_get_it_in_portions(bench: Bench) -> None:
    """One that is published when all of them have looked back."""
    worker = await bench.worker()
    await bench.store.create([bench.new(f"r{number}") for number in range(1100)])
    rows = await bench.claim(worker, limit=2000)
    await bench.store.append([bench.change(row, b"e", effects=[wait()]) for row in rows])
    assert await distribute(bench) == Distributed()
    await publish(bench, b"1")
    await distribute(bench)
    mail = await bench.store.mail(worker)
    assert len({item.run for item in mail}) == len(mail) == 1100


async def each_wait_of_a_run_ends_by_itself(bench: Bench) -> None:
    row = await waiting(bench, "r", wait(), wait("event:2", "refunded"), wait("event:3"))
    await waiting(bench, "s", wait("event:2"))
    await distribute(bench)
    await publish(bench, b"1")
    await distribute(bench)
    await publish(bench, b"2", name="refunded")
    await distribute(bench)
    arrived = {(event.wait, event.payload) for event in await arrivals(bench, row)}
    assert arrived == {("event:1", b"1"), ("event:3", b"1"), ("event:2", b"2")}


async def waits_of_other_names_and_values_are_counted(bench: Bench) -> None:
    await waiting(bench, "a", wait(customer="c"))
    await waiting(bench, "b", wait(customer="c"), wait("event:2", "refunded"))
    assert await bench.store.publications.waiting() == [("paid", '{"customer":"c"}', 2), ("refunded", "", 1)]


CHECKS: tuple[Check, ...] = (
    a_publication_is_kept_once_for_its_key,
    publications_are_listed_newest_first,
    numbers_grow_with_time_and_with_each_publication,
    what_nobody_wants_is_settled,
    an_append_publishes_with_its_events,
    a_waiting_run_gets_what_is_published,
    what_was_published_before_the_wait_is_found,
    what_is_published_and_awaited_before_a_look_is_found,
    a_wait_goes_on_behind_what_the_run_has_had,
    a_late_commit_is_not_overlooked,
    only_what_fits_reaches_a_wait,
    conditions_hold_when_looking_back,
    a_closed_wait_gets_nothing,
    a_terminated_run_waits_no_more,
    mail_for_a_wait_wakes_the_run,
    very_many_waits_get_it_in_portions,
    very_many_who_wait_already_get_it_in_portions,
    each_wait_of_a_run_ends_by_itself,
    waits_of_other_names_and_values_are_counted,
)
