"""Every limit of a run: at it things work, one beyond is refused with what, how much and what to do."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from typing import Any

import pytest
from engine_kit import Place, of_kind, reaches, recorded, run, says, status_of, until, works

import perdure
from perdure import Bounds, Engine, RunFailed, Status, events, step, workflow
from perdure.core import bounds
from perdure.core.bounds import DEPTH_MAX
from perdure.errors import (
    ConfigurationError,
    InboxFullError,
    NotSerializableError,
    PayloadTooLargeError,
    PerdureError,
    StoreError,
    TooManyPendingError,
    UsageError,
)
from perdure.storage.records import Append, Appended, Stale
from perdure.testing.mortal import Wrapped

# -- histories ----------------------------------------------------------------------------------------

CLEANED: list[str] = []


@step
async def cleans(number: int) -> None:
    CLEANED.append(f"{number}")


@workflow
async def goes_on(size: int = 0) -> None:
    number = 0
    try:
        while True:
            number += 1
            await says(f"{number}" + "x" * size)
    finally:
        for number in range(3):
            await cleans(number)


@pytest.mark.parametrize(
    ("limits", "size", "told"),
    [
        (Bounds(history_events=20), 0, "20 events, and the limit is 20"),
        (Bounds(history_bytes=30_000), 5_000, "bytes, and the limit is 30,000"),
    ],
)
def test_a_run_whose_history_is_full_is_blocked_and_can_be_cancelled(
    place: Place, limits: Bounds, size: int, told: str
) -> None:
    CLEANED.clear()

    async def main() -> None:
        async with place.engine(bounds=limits) as engine:
            handle = await engine.start(goes_on(size), id="a")
            await reaches(handle, "blocked")
            info = await handle.info()
            assert told in str(info.reason)
            assert "continue_as" in str(info.reason)
            why = await handle.why()
            assert [cause.kind for cause in why.causes] == ["full"]
            assert "perdure cancel a" in why.causes[0].todo
            done = await recorded(handle)
            await handle.resume()  # to no avail: it is as long as before, and nothing is done again
            await asyncio.sleep(0.1)
            await reaches(handle, "blocked")
            await handle.send("hello", 1)  # it is kept
            assert await recorded(handle) == done
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()
            assert CLEANED == ["0", "1", "2"]
            assert (await recorded(handle))[: len(done)] == done
            await works(engine)

    run(main)


def test_a_full_run_goes_on_where_more_is_allowed_and_can_be_terminated(place: Place) -> None:
    async def main() -> None:
        async with place.engine(bounds=Bounds(history_events=20)) as engine:
            handle = await engine.start(goes_on(), id="a")
            other = await engine.start(goes_on(), id="b")
            await reaches(handle, "blocked")
            await reaches(other, "blocked")
            await other.terminate()
            assert await other.status() == Status.TERMINATED
        async with place.engine(bounds=Bounds(history_events=40)) as engine:
            handle = engine.get("a")
            await asyncio.sleep(0.1)
            assert await handle.status() == Status.BLOCKED  # it waits for a person
            await handle.resume()
            await until(lambda: _longer(handle, 40))
            await reaches(handle, "blocked")
            await handle.terminate()

    run(main)


async def _longer(handle: Any, events: int) -> bool:
    return len([event async for event in handle.history()]) >= events


@workflow
async def gathers_forever() -> None:
    while True:
        await asyncio.gather(*(says(str(number)) for number in range(10)))


@workflow
async def resists() -> None:
    while True:
        try:
            await says("on")
        except asyncio.CancelledError:
            pass


def test_what_was_begun_is_recorded_and_cleaning_up_is_bounded_too(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine(bounds=Bounds(history_events=35)) as engine:
            handle = await engine.start(gathers_forever(), id="a")
            await reaches(handle, "blocked")
            assert len(await recorded(handle)) == 40  # ten at once: all that were begun have their outcomes
            stubborn = await engine.start(resists(), id="b")
            await reaches(stubborn, "blocked")
            await stubborn.cancel()
            await until(lambda: _blocked_again(stubborn, 100))
            assert "terminated" in str((await stubborn.info()).reason)
            await stubborn.terminate()

    run(main)


async def _blocked_again(handle: Any, events: int) -> bool:
    return await _longer(handle, events) and await handle.status() == Status.BLOCKED


@workflow
async def rolls(left: int) -> str:
    for _ in range(8):
        await says("x")
    if left:
        perdure.continue_as(rolls(left - 1))
    return "done"


def test_continue_as_is_never_stopped_and_lengths_are_told_of(
    memory: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        limits = Bounds(history_events=9, warn_bytes=200, warn_events=None)
        async with memory.engine(bounds=limits) as engine:
            with caplog.at_level(logging.WARNING):
                assert await engine.run(rolls(3), id="a") == "done"
        told = [record.getMessage() for record in caplog.records if "continue_as" in record.getMessage()]
        assert len(told) == 4
        assert "bytes" in told[0]

    run(main)


# -- what is open at once -----------------------------------------------------------------------------


@workflow
async def opens(many: int, kind: str) -> str:
    makers: dict[str, Any] = {
        "steps": lambda n: says(str(n)),
        "timers": lambda n: asyncio.sleep(3600 + n),
        "children": lambda n: waits(),
        "messages": lambda n: perdure.receive(f"m{n}"),
    }
    tasks = [asyncio.ensure_future(makers[kind](number)) for number in range(many)]
    done, _ = await asyncio.wait(tasks, timeout=None, return_when=asyncio.FIRST_EXCEPTION)
    refused = [task for task in done if task.exception()]
    for task in tasks:
        task.cancel()
    told = str(refused[0].exception()) if refused else ""
    return f"{len(refused)} {told}"


@workflow
async def waits() -> None:
    await perdure.receive("never")


@pytest.mark.parametrize("kind", ["steps", "timers", "children", "messages"])
def test_what_is_one_too_many_open_at_once_is_an_error_in_the_code(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.core.opening.PENDING_MAX", 20)

    async def main() -> None:
        async with place.engine() as engine:
            if kind == "steps":
                assert await engine.run(opens(20, kind), id="fits") == "0 "
            told = await engine.run(opens(21, kind), id="a")
            assert told.startswith("1 run 'a' has 20")
            assert "no more than 20" in told
            assert "concurrency" in told
        async with place.engine() as engine:
            assert await engine.run(opens(21, kind), id="a") == told  # and from the record

    run(main)


@workflow
async def opens_all(many: int) -> None:
    await asyncio.gather(*(says(str(number)) for number in range(many)))


def test_a_run_that_opens_very_much_fails_and_nothing_of_it_is_done(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine(turn_limit=None) as engine:
            handle = await engine.start(opens_all(bounds.PENDING_MAX + 1), id="a")
            with pytest.raises(RunFailed, match="10,000 steps, timers") as info:
                await handle.result()
            assert isinstance(info.value.__cause__, TooManyPendingError)
            assert await recorded(handle) == []
            await works(engine)

    run(main)


# -- what is sent -------------------------------------------------------------------------------------


@workflow
async def hears_later(count: int) -> list[int]:
    await perdure.receive("go")
    return [await perdure.receive("n", int) for _ in range(count)]


@workflow
async def sends(to: str) -> str:
    try:
        await perdure.send(to, "n", 1)
    except InboxFullError as error:
        return str(error)
    return "sent"


async def fill_inbox(engine: Engine, id: str) -> int:
    """Send numbers until no more are taken; how many were."""
    for number in range(1000):
        try:
            await engine.get(id).send("n", number, key=f"k{number}")
        except InboxFullError:
            with pytest.raises(InboxFullError, match=r"messages and updates wait in the inbox.*wasn't sent"):
                await engine.get(id).send("n", number)
            return number
    pytest.fail("it never ends")


def small_inboxes(monkeypatch: pytest.MonkeyPatch, inbox: int, unread: int) -> None:
    for module in (
        "memory_database", "memory", "memory_handlers", "sqlite.lifecycle", "sqlite.verbs", "sqlite.updates",
        "postgres.lifecycle", "postgres.verbs", "postgres.updates",
    ):  # fmt: skip
        monkeypatch.setattr(f"perdure.storage.{module}.INBOX_MAX", inbox)
    monkeypatch.setattr("perdure.runtime.family.INBOX_MAX", inbox)
    monkeypatch.setattr("perdure.runtime.fullness.UNREAD_MAX", unread)


def test_senders_are_refused_when_too_much_waits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    small_inboxes(monkeypatch, inbox=30, unread=20)

    async def main() -> None:
        async with place.engine(worker=False) as client:  # nobody drives it: all stays in the inbox
            await client.start(hears_later(5), id="a")
            assert await fill_inbox(client, "a") == 30
            await client.get("a").send("n", 0, key="k0")  # it was sent before: nothing more happens
            with pytest.raises(InboxFullError, match="wasn't called"):
                await client.get("a").update("any")
            with pytest.raises(InboxFullError, match="came with the start"):
                await client.start(hears_later(5), id="a", messages=[("n", 1), ("n", 2)])
        async with place.engine() as engine:
            handle = engine.get("a")
            await reaches(handle, "waiting")
            more = 30 + await fill_more(engine, "a")
            assert 50 <= more <= 70  # 20 to 40 are in its history, and 30 in its inbox
            assert "inbox_full" in repr(await of_kind(await _sender(engine), events.MessageRefused))
            await handle.cancel()  # it isn't held up by what waits
            with pytest.raises(perdure.RunCancelled):
                await handle.result()
            await works(engine)

    run(main)


async def fill_more(engine: Engine, id: str) -> int:
    """Send until two refusals in a row, since the run may take some in between."""
    sent, refused = 0, 0
    while refused < 3:
        try:
            await engine.get(id).send("n", 1000 + sent)
            sent, refused = sent + 1, 0
        except InboxFullError:
            refused += 1
            await asyncio.sleep(0.3)
    return sent


async def _sender(engine: Engine) -> Any:
    handle = await engine.start(sends("a"))
    assert "10,000" in await handle.result()
    return handle


def test_no_message_is_lost_where_many_wait(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    small_inboxes(monkeypatch, inbox=200, unread=10)

    async def main() -> None:
        async with place.engine(evict_after=0.2) as engine:
            handle = await engine.start(hears_later(100), id="a")
            for number in range(100):
                await handle.send("n", number)
            await reaches(handle, "waiting")
            taken = await of_kind(handle, events.MessageReceived)
            assert len(taken) <= 10 + 10  # what an append on its way brings comes on top
        async with place.engine(evict_after=0.2) as engine:
            await engine.get("a").send("go", None)
            assert await engine.get("a").result() == list(range(100))

    run(main)


# -- values and names, at every door ------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


@step
async def returns(what: str) -> Any:
    return {"deep": nested(DEPTH_MAX + 1), "deepest": nested(5000), "fits": nested(DEPTH_MAX)}[what]


@workflow
async def values(what: str) -> str:
    try:
        await returns(what)
    except NotSerializableError as error:
        return str(error)
    return "it fits"


@workflow
async def stays() -> None:
    perdure.on_query(echo)
    perdure.on_update(echo)
    await perdure.receive("end")


def echo(value: Any = None) -> Any:
    return value


BIG = "x" * 1001


def test_every_door_bounds_bytes_and_depth(place: Place) -> None:
    async def main() -> None:
        async with place.engine(max_payload=1000) as engine:
            handle = await engine.start(stays(), id="a")
            await reaches(handle, "waiting")
            before = len([event async for event in handle.history()])
            doors: dict[str, Any] = {
                "message": lambda value: handle.send("n", value),
                "update": lambda value: handle.update("echo", value),
                "query": lambda value: handle.query("echo", value),
                "start": lambda value: engine.start(opens_value(value)),
                "publish": lambda value: engine.publish("event", value),
                "schedule": lambda value: engine.schedules.create("s", opens_value(value), every=60),
                "callback": lambda value: engine.callbacks.complete("token", value),
                "start messages": lambda value: engine.start(stays(), id="b", messages=[("n", value)]),
                "fork": lambda value: handle.fork(edits={"*": value}),
            }
            for door, enter in doors.items():
                for value, error in (
                    (BIG, PayloadTooLargeError),
                    (nested(DEPTH_MAX + 1), NotSerializableError),
                    (nested(3_000), NotSerializableError),
                    ("\ud800", NotSerializableError),
                    (math.nan, NotSerializableError),
                    (10**5000, NotSerializableError),
                ):
                    with pytest.raises(error):
                        await enter(value)
                        pytest.fail(f"{door} lets {str(value)[:20]} in")
            assert len([event async for event in handle.history()]) == before
            assert [item.id async for item in engine.runs()] == ["a"]
            for what, told in (("deep", "200 arrays"), ("deepest", "nested too deeply"), ("fits", "it fits")):
                assert told in await engine.run(values(what))
            await works(engine)

    run(main)


@workflow
async def opens_value(value: Any) -> Any:
    return value


WRONG = ["", "x" * 2000, "a\0b", "\ud800", "line\nbreak", "\x1b[31m"]


def test_every_name_is_bounded(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(stays(), id="a")
            await reaches(handle, "waiting")
            doors: dict[str, Any] = {
                "id": lambda text: engine.start(stays(), id=text),
                "queue": lambda text: engine.start(stays(), queue=text),
                "key": lambda text: engine.start(stays(), key=text),
                "dedup": lambda text: engine.start(stays(), dedup=text),
                "message": lambda text: handle.send(text, 1),
                "message key": lambda text: handle.send("n", 1, key=text),
                "update": lambda text: handle.update(text),
                "update key": lambda text: handle.update("echo", key=text),
                "query": lambda text: handle.query(text),
                "event": lambda text: engine.publish(text, 1),
                "event key": lambda text: engine.publish("event", 1, key=text),
                "schedule": lambda text: engine.schedules.create(text, stays(), every=60),
                "attribute": lambda text: handle.set_attributes(**{text: 1}),
                "fork": lambda text: handle.fork(id=text),
            }
            for door, enter in doors.items():
                for text in WRONG:
                    with pytest.raises(PerdureError) as info:
                        await enter(text)
                        pytest.fail(f"{door} takes {text[:20]!r}")
                    assert not isinstance(info.value, perdure.StoreError), (door, text)
            for text in WRONG[1:]:
                for value in (text, [text]):
                    if text in ("line\nbreak", "\x1b[31m"):
                        await handle.set_attributes(text=value)
                        continue
                    with pytest.raises(UsageError, match="attribute 'text'"):
                        await handle.set_attributes(text=value)
            with pytest.raises(UsageError, match="no more than 100"):
                await handle.set_attributes(**{f"a{number}": number for number in range(101)})
            await works(engine)
            for text in ("a\0b", "\ud800"):  # no run has such an id, and none such a workflow
                with pytest.raises(perdure.UnknownRunError):
                    await engine.get(text).status()
                assert [item async for item in engine.runs(workflow=text)] == []
            await handle.pause("held\0 by \ud800")
            await reaches(handle, "paused")
            assert (await handle.info()).reason == "held\\x00 by \\ud800"
            await handle.resume()
            await handle.cancel("no\0 more\udfff" + "!" * 100_000)
            with pytest.raises(perdure.RunCancelled, match=r"no\\x00 more\\udfff!"):
                await handle.result()

    run(main)
    for text in WRONG:
        with pytest.raises(ConfigurationError):
            step(name=text)(returns_nothing)
        with pytest.raises(ConfigurationError):
            Engine("memory:", name=text)
        if text:  # "" says nothing of it
            with pytest.raises(ConfigurationError):
                Engine("memory:", version=text)


def returns_nothing() -> None: ...


@step
async def fails_with(text: str) -> None:
    raise ValueError(text.encode().decode("unicode_escape"))


@workflow
async def fails(text: str) -> None:
    await fails_with(text)


def test_errors_with_any_text_are_recorded_everywhere(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            for number, text in enumerate([r"a\0b", r"\ud800", "x" * 100_000]):
                handle = await engine.start(fails(text), id=f"f{number}")
                with pytest.raises(RunFailed):
                    await handle.result()
                assert await status_of(engine, f"f{number}") == Status.FAILED
                await handle.info()
            await works(engine)

    run(main)


class Picky(Wrapped):
    """Refuses what has an append of one run in it, as a store does whose tables somebody has tampered with."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.bad: int | None = None
        self.together = 0

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        if all(append.run != self.bad for append in batch):
            return self.inner.append(batch)
        self.together = max(self.together, len(batch))
        future: asyncio.Future[list[Appended | Stale]] = asyncio.get_running_loop().create_future()
        future.set_exception(StoreError("it refused a statement (a test says so)"))
        return future


@workflow
async def waits_and_says() -> str:
    await perdure.receive("go")
    return await says("there")


def test_what_a_store_refuses_of_one_run_keeps_no_other_waiting(memory: Place) -> None:
    stores: list[Picky] = []

    def picky(inner: Any) -> Picky:
        stores.append(Picky(inner))
        return stores[-1]

    async def main() -> None:
        async with memory.engine(picky, grace=0.1) as engine:
            handles = await engine.start_many([waits_and_says() for _ in range(10)])
            for handle in handles:
                await reaches(handle, "waiting")
            assert engine._worker is not None
            (store,) = stores
            store.bad = next(run for run, it in engine._worker.drivers.items() if it.id == handles[4].id)
            await asyncio.gather(*(handle.send("go", None) for handle in handles))
            assert (
                await asyncio.gather(*(h.result() for h in handles if h is not handles[4])) == ["there"] * 9
            )
            assert store.together > 1
            store.bad = None
            assert await handles[4].result() == "there"

    run(main)
