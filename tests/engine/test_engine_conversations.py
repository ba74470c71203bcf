"""Runs that send messages to one another, what is set aside, and crashes at any append amid all this."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from engine_kit import (
    Ledger,
    Mortal,
    Place,
    Places,
    bury,
    crash,
    history,
    of_kind,
    reaches,
    recorded,
    redefine,
    run,
    until,
)

import perdure
from perdure import Engine, Handle, events, step, workflow
from perdure.errors import RunEndedError, UnknownRunError, UsageError

LEDGERS: list[Ledger] = []


@step
async def does(label: str) -> str:
    info = perdure.step_info()
    LEDGERS[-1].begins(info.run_id, info.step_id)
    await asyncio.sleep(0)
    return label


@pytest.fixture(autouse=True)
def ledger() -> None:
    LEDGERS.append(Ledger())


# -- sending from workflow code -----------------------------------------------------------------------


@workflow
async def echoes(count: int) -> list[Any]:
    """Answers each message to whoever is named in it."""
    seen = []
    for _ in range(count):
        sender, value = await perdure.receive("ask", tuple[str, int])
        seen.append(value)
        await perdure.send(sender, "answer", value * 2)
    return seen


@workflow
async def asks(whom: str, count: int) -> list[int]:
    answers = []
    for number in range(count):
        await perdure.send(whom, "ask", (perdure.info().id, number))
        answers.append(await perdure.receive("answer", int))
    return answers


@workflow
async def has_a_child() -> list[Any]:
    child = await perdure.start(echoes(3), id="child")
    for number in range(3):
        await child.send("ask", (perdure.info().id, number))
    answers = [await perdure.receive("answer", int) for _ in range(3)]
    return [answers, await child.result()]


def test_runs_talk_to_one_another(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            echo = await engine.start(echoes(5), id="echo")
            assert await engine.run(asks("echo", 5), id="asker") == [0, 2, 4, 6, 8]
            assert await echo.result() == [0, 1, 2, 3, 4]
            assert await engine.run(has_a_child(), id="parent") == [[0, 2, 4], [0, 1, 2]]
            (first, *_) = await of_kind(echo, events.MessageReceived)
            assert (first.name, first.sender) == ("ask", "asker")
            (sent, *_) = await of_kind(engine.get("asker"), events.MessageSent)
            assert (sent.message, sent.run, sent.name, sent.payload) == (
                "send:1",
                "echo",
                "ask",
                b'["asker",0]',
            )

    run(main)


def test_runs_on_different_workers_talk(place: Place) -> None:
    async def main() -> None:
        async with place.engine(queues=["left"]) as left, place.engine(queues=["right"]) as right:
            await right.start(echoes(5), id="echo", queue="right")
            assert await left.run(asks("echo", 5), id="asker", queue="left") == [0, 2, 4, 6, 8]

    run(main)


def test_a_message_wakes_a_run_that_has_left_memory(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.05) as engine:
            echo = await engine.start(echoes(1), id="echo")
            worker = engine._worker
            assert worker is not None
            await until(lambda: not worker.drivers)
            assert await engine.run(asks("echo", 1), id="asker") == [0]
            assert await echo.result() == [0]

    run(main)


@workflow
async def sends_to(whom: str) -> list[str]:
    told = []
    for send in (
        lambda: perdure.send(whom, "m", 1),
        lambda: perdure.send("nobody", "m", 1),
        lambda: perdure.send("ended", "m", 1),
        lambda: perdure.send(whom, "", 1),
        lambda: perdure.send(whom, "m", object()),
    ):
        try:
            await send()
            told.append("sent")
        except perdure.PerdureError as error:
            told.append(type(error).__name__)
    return told


@workflow
async def ends() -> None:
    pass


def test_a_sender_is_told_what_cant_be_delivered(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(ends(), id="ended")
            receiver = await engine.start(echoes(1), id="r")
            handle = await engine.start(sends_to("r"), id="s")
            expected = ["sent", "UnknownRunError", "RunEndedError", "UsageError", "NotSerializableError"]
            assert await handle.result() == expected
            refused = await of_kind(handle, events.MessageRefused)
            assert [(event.run, event.why) for event in refused] == [
                ("nobody", "unknown_run"),
                ("ended", "run_ended"),
            ]
            await until(lambda: of_kind(receiver, events.MessageReceived))

    run(main)


def test_a_message_to_itself(place: Place) -> None:
    @workflow(name="talks_to_itself")
    async def talks_to_itself() -> Any:
        await perdure.send(perdure.info().id, "m", "me")
        return await perdure.receive("m")

    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(talks_to_itself(), id="a") == "me"

    run(main)


def test_a_plain_child_takes_no_messages() -> None:
    async def main() -> None:
        child = await perdure.start(ends())
        with pytest.raises(UsageError, match="plain function"):
            await child.send("m", 1)
        await child.result()

    run(main)


# -- set aside ----------------------------------------------------------------------------------------


async def takes_numbers() -> list[Any]:
    return [await perdure.receive("m", int), await perdure.receive("m", int)]


async def takes_anything() -> list[Any]:
    return [await perdure.receive("m"), await perdure.receive("m")]


async def takes_texts() -> list[Any]:
    return [await perdure.receive("m", str), await perdure.receive("m", str)]


def test_a_message_of_another_type_blocks_nothing(place: Place) -> None:
    """It is set aside and shown; also after the run was driven anew, and by code that could read it."""

    async def main() -> None:
        takes = redefine("typed", takes_numbers)
        async with place.engine() as engine:
            handle = await engine.start(takes(), id="a", messages=[("m", "x"), ("m", 1), ("m", None)])
            await until(lambda: aside(handle, 2))
            info = await handle.info()
            assert [(item.value, item.why is not None) for item in info.set_aside] == [
                ("x", True),
                (None, True),
            ]
            await until(lambda: waiting(handle))
        takes = redefine("typed", takes_anything)
        async with place.engine() as engine:
            handle = engine.get("a")
            await handle.send("m", "now this is fine")
            assert await handle.result() == [1, "now this is fine"]
            assert [item.value for item in (await handle.info()).set_aside] == ["x", None]

    async def waiting(handle: Handle[Any]) -> bool:
        return [(wait.kind, wait.id) for wait in (await handle.info()).waiting_for] == [("message", "m")]

    async def aside(handle: Handle[Any], count: int) -> bool:
        return len(await of_kind(handle, events.MessageSetAside)) == count

    run(main)


def test_a_received_message_that_cant_be_read_any_more_blocks(place: Place) -> None:
    """What was received can't be skipped: the code has gone on with it."""

    async def gets_and_works() -> list[Any]:
        return [await perdure.receive("m", int), await does("x"), await perdure.receive("m", int)]

    async def gets_text_and_works() -> list[Any]:
        return [await perdure.receive("m", str), await does("x"), await perdure.receive("m", str)]

    async def main() -> None:
        takes = redefine("changing", gets_and_works)
        async with place.engine() as engine:
            handle = await engine.start(takes(), id="a", messages=[("m", 1)])
            await until(lambda: recorded(handle))
        redefine("changing", gets_text_and_works)
        async with place.engine() as engine:
            handle = engine.get("a")
            await handle.send("m", 2)
            await reaches(handle, "blocked")
            reason = (await handle.info()).reason
            assert reason is not None
            assert "message 'm' (event 2) was received by this run" in reason
            assert "can't be read as `str`" in reason
        redefine("changing", gets_and_works)
        async with place.engine() as engine:
            assert await engine.get("a").result() == [1, "x", 2]
            assert await of_kind(engine.get("a"), events.MessageSetAside) == []

    run(main)


# -- together with handlers and other waits -----------------------------------------------------------


@workflow
async def auction(bids: int) -> list[str]:
    """Its state is changed by updates and messages; queries look at it."""
    offers: list[str] = []

    @perdure.on_update
    def bid(who: str) -> int:
        offers.append(who)
        return len(offers)

    @perdure.on_query
    def peeks() -> Any:
        return perdure.receive("bid").send(None)

    async def letters() -> None:
        while True:
            offers.append(await perdure.receive("bid", str))

    reading = asyncio.create_task(letters())
    await perdure.until(lambda: len(offers) >= bids)
    reading.cancel()
    return offers


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_until_sees_what_updates_and_messages_change(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(auction(3), id="a")
            assert await handle.update("bid", "Ada") == 1
            with pytest.raises(perdure.errors.ReadOnlyError, match="received a message"):
                await handle.query("peeks")
            await handle.send("bid", "Bob")
            await until(lambda: received(handle))
        async with place.engine() as engine:
            handle = engine.get("a")
            assert await handle.update("bid", "Cid") == 3
            assert await handle.result() == ["Ada", "Bob", "Cid"]

    async def received(handle: Handle[Any]) -> bool:
        return len(await of_kind(handle, events.MessageReceived)) == 1

    run(main)


@workflow
async def races() -> list[str]:
    """The first of a message, a timer and a child, again and again."""
    won = []
    for name in ("a", "b", "c"):
        waits: dict[str, asyncio.Future[Any]] = {
            "message": asyncio.create_task(perdure.receive(name)),
            "timer": asyncio.create_task(asyncio.sleep(0.03 if name == "b" else 3600)),
            "child": asyncio.ensure_future(slow(0.005 if name == "c" else 3600)),
        }
        done, rest = await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
        won += [kind for kind, wait in waits.items() if wait in done]
        for wait in rest:
            wait.cancel()
        await asyncio.wait(rest)
    return won


@workflow
async def slow(seconds: float) -> None:
    await asyncio.sleep(seconds)


def test_the_first_of_message_timer_and_child(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.05) as engine:
            handle = await engine.start(races(), id="a", messages=[("a", 1)])
            assert await handle.result() == ["message", "timer", "child"]

    run(main)


# -- crashes ------------------------------------------------------------------------------------------


@workflow
async def basket(patience: float) -> list[Any]:
    """Takes messages of several kinds while it works, waits for its own state, and gives up after a while."""
    items = [await does(await perdure.receive("item", str))]
    closed = False

    async def collects() -> None:
        while True:
            items.append(await does(await perdure.receive("item", str)))

    async def closes() -> None:
        nonlocal closed
        await perdure.receive("close")
        closed = True

    tasks = [asyncio.create_task(collects()), asyncio.create_task(closes())]
    try:
        await perdure.until(lambda: closed and len(items) >= 3, timeout=patience)
    except TimeoutError:
        items.append("late")
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return [*items, await does("paid")]


async def fills(engine: Engine) -> Any:
    handle = await engine.start(
        basket(3600), id="a", messages=[perdure.Message("item", "tea", "1"), perdure.Message("item", 5, "2")]
    )
    for value, key in (("milk", "3"), ([], "4"), ("bread", "5")):
        await told(handle.send("item", value, key=key))
    await told(handle.send("close", None, key="6"))
    return await handle.result()


async def lets_it_wait(engine: Engine) -> Any:
    start = await engine.start(basket(0.02), id="a", messages=[perdure.Message("item", "tea", "1")])
    return await start.result()


async def talks(engine: Engine) -> Any:
    await engine.start(echoes(3), id="echo")
    answers = await (await engine.start(asks("echo", 3), id="asker")).result()
    return [answers, await engine.get("echo").result()]


async def parents(engine: Engine) -> Any:
    return await (await engine.start(has_a_child(), id="parent")).result()


async def told(sending: Awaitable[None]) -> None:
    """A repeated send may find that the run has ended; its message had been delivered then."""
    with suppress(RunEndedError):
        await sending


async def facts(engine: Engine) -> dict[str, Any]:
    """Of each run: its recorded steps, the messages it has had, and those it has set aside."""
    found = {}
    async for item in engine.runs(limit=None):
        handle = engine.get(item.id)
        past = await history(handle)
        received = [(e.name, e.payload, e.sender) for e in past if isinstance(e, events.MessageReceived)]
        sent = [(e.message, e.run, e.payload) for e in past if isinstance(e, events.MessageSent)]
        info = await handle.info()
        found[item.id] = [
            sorted(await recorded(handle)),
            received,
            sent,
            [(stray.name, stray.value) for stray in info.set_aside],
            [(stray.name, stray.value) for stray in info.undelivered],
        ]
    return found


Script = Callable[[Engine], Awaitable[Any]]


async def undisturbed(place: Place, script: Script) -> tuple[Any, dict[str, Any]]:
    LEDGERS.append(Ledger())
    async with place.engine() as engine:
        return await script(engine), await facts(engine)


async def disturbed(
    place: Place, script: Script, dies_at: int, commits: bool
) -> tuple[Any, dict[str, Any], bool]:
    """Die at the n-th append, take over, send everything again, and tell how it ended."""
    ledger = Ledger()
    LEDGERS.append(ledger)
    engine = place.engine(lambda inner: Mortal(inner, dies_at, commits, ledger))
    await engine.__aenter__()
    store: Any = engine._store
    driving = asyncio.ensure_future(script(engine))
    dying = asyncio.ensure_future(store.dead.wait())
    await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
    died = store.dead.is_set()
    driving.cancel()
    dying.cancel()
    with suppress(asyncio.CancelledError, perdure.PerdureError):
        await driving
    await crash(engine)
    await bury(place)
    async with place.engine() as engine:
        ended, found = await script(engine), await facts(engine)
    assert ledger.repeated == []
    return ended, found, died


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
@pytest.mark.parametrize("script", [fills, lets_it_wait, talks, parents], ids=lambda script: script.__name__)
def test_a_crash_at_any_append_loses_and_repeats_no_message(
    script: Script, commits: bool, make_place: Places
) -> None:
    async def main() -> None:
        expected = await undisturbed(make_place(), script)
        number, died = 0, True
        while died:
            number += make_place.stride
            *found, died = await disturbed(make_place(), script, number, commits)
            assert tuple(found) == expected, f"died at append {number}"
        assert number > 3

    run(main)


def test_a_send_that_finds_no_run_at_a_crash(make_place: Places) -> None:
    """The refusal is recorded once, and the code hears of it after a crash, too."""

    @workflow(name="is_refused")
    async def is_refused() -> str:
        try:
            await perdure.send("nobody", "m", 1)
        except UnknownRunError:
            return await does("refused")
        return "sent"

    async def script(engine: Engine) -> Any:
        return await (await engine.start(is_refused(), id="a")).result()

    async def main() -> None:
        expected = await undisturbed(make_place(), script)
        assert expected[0] == "refused"
        for commits in (False, True):
            number, died = 0, True
            while died:
                number += make_place.stride
                *found, died = await disturbed(make_place(), script, number, commits)
                assert tuple(found) == expected

    run(main)
