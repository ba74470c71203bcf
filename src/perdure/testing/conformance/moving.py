"""Taking runs to another database."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.core.attributes import attributes_of
from perdure.core.events import Question
from perdure.core.where import where_text
from perdure.storage.attributes import MarkPatched, Misfit, SetAttributes
from perdure.storage.callbacks import Answerer, CallbackVerdict, OpenCallback, pack_question
from perdure.storage.effects import StepDetail
from perdure.storage.moving import CallbackPart, Generation, Mark, Package, everything
from perdure.storage.publications import OpenWait, Publication, new_id
from perdure.storage.records import Delivery, MailKind, NewMail, NewRun, RunFilter, Successor
from perdure.storage.schedules import ScheduleRow
from perdure.storage.streams import Emit, StepItems
from perdure.testing.conformance.bench import NOW, Bench, Check

MARK = Mark("token", "sqlite:///there.db")
_ASKED = Question(id="q_1", text="Sure?", form=b"{}")


async def a_rich_run(bench: Bench, id: str) -> None:
    """A run with something of everything, in its second generation, with a child."""
    worker = await bench.worker()
    row = await bench.make(
        id, owner=worker, attributes=attributes_of({"tags": ["a", "b"], "n": 1.5, "on": True})
    )
    await bench.store.send(id, b"keyed", now=NOW, kind=MailKind.MESSAGE, key="k")
    await bench.store.updates.request(id, "u", b"update", call=b"call", now=NOW)
    items = StepItems(row.run, row.epoch, "s#1", 1, "out", [b"one", b"two"], NOW)
    await bench.store.streams.emit([items])
    effects = (
        Emit("out", b"three"),
        MarkPatched("change"),
        Misfit("code"),
        StepDetail("s#1", b"half", NOW),
        OpenCallback(id.encode(), "callback:1", NOW, NOW + 50, 9.0),
        OpenCallback(b"?" + id.encode(), "ask:1", NOW, question=pack_question(_ASKED)),
        OpenWait("event:1", "paid", where_text({"x": 1}), NOW, 7),
    )
    child = bench.new(f"{id}-child", parent_op="child#1", wake_at=NOW + 7)
    row = await bench.put(row, b"event", effects=effects, children=[child])
    await bench.store.callbacks.end(b"?" + id.encode(), result=b"1", answerer=Answerer("ann", "cli"), now=NOW)
    following = Successor(bench.new(id, owner=worker, generation=2, first_event=b"again", created_at=NOW + 2))
    await bench.put(row, b"end", status="continued", successor=following)
    row = await bench.row(id)
    later = (SetAttributes(attributes_of({"name": "x"})), Emit("out", b"four"))
    await bench.put(row, b"more", effects=later, status="waiting", release=True, wake_at=NOW + 30)


async def packages(bench: Bench, *ids: str) -> list[Package]:
    found = await bench.store.moving.read(ids)
    return [package for package in found if package is not None]


async def take_out(bench: Bench, *ids: str) -> list[Package]:
    """The packages of runs, which are gone from the database then."""
    taken = await packages(bench, *ids)
    renamed = [Package(package.id, _renamed(package)).under(f"copy of {package.id}") for package in taken]
    assert all(await bench.store.moving.put(renamed))
    return renamed


def _renamed(package: Package) -> Any:
    """The parts, with the parents' ids and the tokens of the copies."""
    parts: list[Any] = []
    for part in package.parts:
        if isinstance(part, Generation) and part.parent_id is not None:
            parts.append(msgspec.structs.replace(part, parent_id=f"copy of {part.parent_id}"))
        elif isinstance(part, CallbackPart):
            parts.append(msgspec.structs.replace(part, token_hash=b"copy of " + part.token_hash))
        else:
            parts.append(part)
    return tuple(parts)


async def a_copy_is_equal_to_the_last_part(bench: Bench) -> None:
    """Whatever is kept of a run is in its package, and comes out of the copy as it went in."""
    await a_rich_run(bench, "r")
    renamed = await take_out(bench, "r", "r-child")
    again = await packages(bench, "copy of r", "copy of r-child")
    assert again == renamed
    assert [one.digest() for one in again] == [one.digest() for one in renamed]
    counts = renamed[0].counts()
    expected = {"generation": 2, "event": 5, "mail_key": 1, "callback": 2, "update": 1, "item": 4}
    assert {name: counts[name] for name in expected} == expected
    assert counts["mail"] == 2
    assert counts["attribute"] == 5
    assert counts["patch"] == 1
    assert counts["stream_writer"] == 1
    copy, child = await bench.row("copy of r"), await bench.row("copy of r-child")
    assert (copy.status, copy.generation, copy.wake_at) == ("waiting", 2, (await bench.row("r")).wake_at)
    first = await bench.store.generation("copy of r", 1)
    assert first is not None
    assert first.next == copy.run
    assert child.parent == first.run
    assert list(await bench.history(copy)) == [b"again", b"more"]
    page = await bench.store.streams.read("copy of r", "out", after=0, limit=9)
    assert page is not None
    assert [row.data for row in page.rows] == [b"one", b"two", b"three", b"four"]
    found = await bench.store.find(RunFilter(attributes=()))
    assert {row.id for row in found} == {"r", "r-child", "copy of r", "copy of r-child"}
    ended = await bench.store.callbacks.end(b"copy of r", result=b"1", now=NOW)
    assert ended.verdict is CallbackVerdict.RUN_ENDED  # its generation has ended, as the original's has


async def a_copy_goes_on(bench: Bench) -> None:
    """It can be claimed and driven; mail that was sent with a key isn't delivered again."""
    await a_rich_run(bench, "r")
    await take_out(bench, "r")
    worker = await bench.worker()
    claimed = {row.id: row for row in await bench.claim(worker, now=NOW + 40)}
    await bench.put(claimed["copy of r"], b"on", status="waiting", release=True)
    assert (await bench.store.send("copy of r", b"x", now=NOW, key="k")) is Delivery.REPEATED
    assert (
        await bench.store.updates.request("copy of r", "u", b"x", call=b"call", now=NOW)
    ) is Delivery.REPEATED


async def an_id_that_is_taken_stays(bench: Bench) -> None:
    """A package of a run that exists isn't put; the others of the same call are. Unknown runs have no package."""
    await bench.make("r")
    (package,) = await packages(bench, "r")
    other = package.under("other")
    assert await bench.store.moving.put([package, other]) == [False, True]
    assert await bench.store.moving.read(["nobody"]) == [None]


async def a_held_copy_rests_until_it_arrives(bench: Bench) -> None:
    """No claim, mail or pause sets it going; a new copy of the same move replaces it; then it is as it was."""
    worker = await bench.worker()
    await bench.make("r")
    (package,) = await packages(bench, "r")
    copy = package.under("copy")
    store = bench.store
    assert await store.moving.put([copy], hold="one") == [True]
    assert await packages(bench, "copy") == [copy]
    await store.send("copy", b"hello", now=NOW, kind=MailKind.MESSAGE)
    await store.pauses.pause("copy", b"p", reason=None, now=NOW)
    await store.pauses.resume("copy", b"r", now=NOW)
    assert [row.id for row in await bench.claim(worker, now=NOW + 99)] == ["r"]
    assert await store.moving.put([copy], hold="other") == [False]
    assert await store.moving.put([copy], hold="one") == [True]
    assert await bench.inbox(await bench.row("copy")) == []
    stamps = {stamp.id: stamp for stamp in await store.moving.stamps()}
    assert stamps["copy"].held
    assert not stamps["copy"].owned
    assert await store.moving.arrive("other", now=NOW, limit=9) == 0
    assert await store.moving.arrive("one", now=NOW, limit=9) == 1
    assert await store.moving.arrive("one", now=NOW, limit=9) == 0
    assert await packages(bench, "copy") == [copy]
    assert await store.moving.put([copy], hold="one") == [False]
    assert [row.id for row in await bench.claim(worker)] == ["copy"]


async def mail_that_comes_while_a_copy_is_held_wakes_it_when_it_arrives(bench: Bench) -> None:
    """A sleeping run is due at once then."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await bench.put(row, status="waiting", release=True, wake_at=NOW + 500)
    (package,) = await packages(bench, "r")
    await bench.store.moving.put([package.under("copy")], hold="one")
    await bench.store.send("copy", b"hello", now=NOW)
    await bench.store.moving.arrive("one", now=NOW + 5, limit=9)
    assert (await bench.row("copy")).wake_at == NOW + 5


async def held_copies_can_be_dropped(bench: Bench) -> None:
    """Nothing is left of them, and nothing else goes."""
    await a_rich_run(bench, "r")
    (package,) = await packages(bench, "r")
    await bench.store.moving.put([package.under("copy")], hold="one")
    assert await bench.store.moving.drop("one") == 1
    assert await bench.store.get(["copy"]) == [None]
    assert await packages(bench, "r") == [package]
    assert await bench.store.moving.put([package.under("copy")]) == [True]


async def nobody_claims_in_a_marked_database(bench: Bench) -> None:
    """And no schedule fires, not even one that somebody is about to fire. Giving up ends that."""
    worker = await bench.worker()
    await bench.make("r")
    store = bench.store
    schedule = ScheduleRow("s", 1, NOW, waiting=False, running=[], data=b"x")
    await store.schedules.create(schedule)
    assert await store.moving.mark() is None
    assert await store.moving.begin(MARK) == MARK
    assert await store.moving.begin(Mark("second", "elsewhere")) == MARK
    assert await store.moving.mark() == MARK
    assert await bench.claim(worker, now=NOW + 9) == []
    assert (await store.schedules.due(now=NOW + 9, limit=9)).rows == []
    assert not await store.schedules.change(schedule, runs=[bench.new("fired")], now=NOW)
    assert not await store.moving.give_up("second")
    assert await store.moving.give_up("token")
    assert [row.id for row in await bench.claim(worker, now=NOW + 9)] == ["r"]
    assert len((await store.schedules.due(now=NOW + 9, limit=9)).rows) == 1


async def seen(bench: Bench) -> bytes:
    rows = await bench.store.schedules.all()
    return everything(await bench.store.moving.stamps(), [(row.name, row.version) for row in rows])


async def the_switch_ends_everything_or_nothing(bench: Bench) -> None:
    """It is refused when something has changed, or somebody drives a run; and happens once."""
    worker = await bench.worker()
    store = bench.store
    row = await bench.make("driven", owner=worker)
    await bench.make("r", mail=[NewMail(b"message")])
    await store.moving.begin(MARK)

    async def switch(before: bytes) -> bool:
        return await store.moving.switch("token", before, b"moved", now=NOW + 3)

    assert not await switch(await seen(bench))
    await bench.put(row, status="waiting", release=True)
    before = await seen(bench)
    await store.send("r", b"late", now=NOW)
    assert not await switch(before)
    before = await seen(bench)
    await bench.make("new")
    assert not await switch(before)
    assert (await bench.row("r")).status == "queued"
    assert not await store.moving.switch("wrong", await seen(bench), b"moved", now=NOW)
    assert await switch(await seen(bench))
    for id in ("driven", "r", "new"):
        row = await bench.row(id)
        assert (row.status, row.ended_at) == ("terminated", NOW + 3)
        assert list(await bench.history(row))[-1] == b"moved"
        assert await store.send(id, b"x", now=NOW) is Delivery.RUN_ENDED
    mark = await store.moving.mark()
    assert mark is not None
    assert mark.done
    assert not await switch(await seen(bench))
    assert not await store.moving.give_up("token")


async def the_switch_tells_nobody(bench: Bench) -> None:
    """No parent hears of an end, and no child is cancelled."""
    worker = await bench.worker()
    parent = await bench.make("parent", owner=worker)
    child: NewRun = bench.new("child", parent_op="child#1")
    await bench.put(parent, b"x", children=[child], status="waiting", release=True)
    await bench.store.moving.begin(MARK)
    assert await bench.store.moving.switch("token", await seen(bench), b"moved", now=NOW)
    for id in ("parent", "child"):
        assert await bench.inbox(await bench.row(id)) == []


async def a_wait_for_an_event_goes_on_in_the_copy(bench: Bench) -> None:
    await a_rich_run(bench, "r")
    await take_out(bench, "r", "r-child")
    publication = Publication(new_id(), "paid", None, b'{"x": 1}', NOW)
    await bench.store.publications.publish([publication])
    assert (await bench.store.publications.distribute(now=NOW)).mail == 2
    assert len(await bench.inbox(await bench.row("copy of r"))) > 0


CHECKS: tuple[Check, ...] = (
    a_copy_is_equal_to_the_last_part,
    a_wait_for_an_event_goes_on_in_the_copy,
    a_copy_goes_on,
    an_id_that_is_taken_stays,
    a_held_copy_rests_until_it_arrives,
    mail_that_comes_while_a_copy_is_held_wakes_it_when_it_arrives,
    held_copies_can_be_dropped,
    nobody_claims_in_a_marked_database,
    the_switch_ends_everything_or_nothing,
    the_switch_tells_nobody,
)
