"""Messages: durable when sent, received once, in order, by whoever waits for them, however long after."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Any

import pytest
from engine_kit import Place, history, of_kind, reaches, run, says, until

import perdure
from perdure import Message, events, workflow
from perdure.errors import (
    NotSerializableError,
    PayloadTooLargeError,
    RunConflictError,
    RunEndedError,
    UnknownRunError,
    UsageError,
)
from perdure.runtime.mailroom import hand_out


@dataclass
class Order:
    item: str
    count: int


@workflow
async def takes(name: str, count: int = 1) -> list[Any]:
    return [await perdure.receive(name) for _ in range(count)]


@workflow
async def takes_orders(count: int) -> list[Order]:
    return [await perdure.receive("order", Order) for _ in range(count)]


@workflow
async def takes_late(name: str, count: int) -> list[Any]:
    """Doesn't look before it is told to."""
    await perdure.receive("go")
    return [await perdure.receive(name) for _ in range(count)]


@workflow
async def waits(timeout: float) -> str:
    try:
        return str(await perdure.receive("m", timeout=timeout))
    except TimeoutError as error:
        return f"late: {error}"


# -- sending ------------------------------------------------------------------------------------------


def test_a_message_reaches_the_code_that_waits(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(takes("m"), id="a")
            await reaches(handle, "waiting")
            await handle.send("m", {"x": [1, None]})
            assert await handle.result() == [{"x": [1, None]}]
            (event,) = await of_kind(handle, events.MessageReceived)
            assert (event.name, event.payload, event.key) == ("m", b'{"x":[1,null]}', None)

    run(main)


def test_messages_wait_for_their_receiver(place: Place) -> None:
    """Sent before the run is ever driven, and before the code asks for them; in the order of sending."""

    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await client.start(takes_late("m", 50), id="a")
            for number in range(50):
                await handle.send("m", number)
            await handle.send("go", None)
        async with place.engine() as engine:
            assert await engine.get("a").result() == list(range(50))

    run(main)


def test_names_are_lines_of_their_own(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(takes_late("b", 2), id="a")
            for name, value in (("b", 1), ("c", 2), ("b", 3), ("go", 0)):
                await handle.send(name, value)
            assert await handle.result() == [1, 3]
            assert [(item.name, item.value) for item in (await handle.info()).undelivered] == [("c", 2)]

    run(main)


def test_what_two_looks_have_brought_is_taken_once(place: Place) -> None:
    """The second look began before the first one's mail was written down."""

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(takes("n", 2), id="a")
            await until(lambda: waits_in(engine))
            worker = engine._worker
            assert worker is not None
            worker._mailroom._closed = True
            await handle.send("n", 1)
            (item,) = await engine._store.mail(worker.id)
            driver = next(iter(worker.drivers.values()))
            hand_out(driver, [item])
            hand_out(driver, [item])
            worker._mailroom._closed = False
            await handle.send("n", 2)
            assert await handle.result() == [1, 2]
            assert len(await of_kind(handle, events.MessageReceived)) == 2

    run(main)


def waits_in(engine: perdure.Engine) -> bool:
    """Whether a run is in memory, and at rest."""
    assert engine._worker is not None
    return any(driver.idle() for driver in engine._worker.drivers.values())


def test_values_are_read_as_the_type_asked_for(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(takes_orders(2), id="a")
            await handle.send("order", Order("tea", 3))
            await handle.send("order", {"item": "milk", "count": 1})
            assert await handle.result() == [Order("tea", 3), Order("milk", 1)]

    run(main)


def test_a_key_makes_sending_idempotent(place: Place) -> None:
    """Also after the message was received, after the run was restarted elsewhere, and after its end."""

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(takes("m", 3), id="a")
            for value, key in ((1, "k"), (2, "k"), (3, "l")):
                await handle.send("m", value, key=key)
            await until(lambda: of_kind(handle, events.MessageReceived))
            await handle.send("m", 4, key="k")
        async with place.engine() as engine:
            handle = engine.get("a")
            await handle.send("m", 5, key="l")
            await handle.send("m", 6)
            assert await handle.result() == [1, 3, 6]
            await handle.send("m", 7, key="k")
            with pytest.raises(RunEndedError):
                await handle.send("m", 8, key="new")
            keys = [event.key for event in await of_kind(handle, events.MessageReceived)]
            assert keys == ["k", "l", None]

    run(main)


def test_a_key_counts_for_one_name(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(takes_late("m", 1), id="a")
            await handle.send("m", 1, key="k")
            await handle.send("go", 2, key="k")
            assert await handle.result() == [1]

    run(main)


def test_what_cant_be_sent(place: Place) -> None:
    async def main() -> None:
        async with place.engine(max_payload=1000) as engine:
            handle = await engine.start(takes("m"), id="a")
            for name in ("", "x" * 201, "a\nb", 7):
                with pytest.raises(UsageError, match="can't be a message's name"):
                    await handle.send(name, 1)  # type: ignore[arg-type]
            with pytest.raises(UsageError, match="can't be a message's key"):
                await handle.send("m", 1, key="")
            with pytest.raises(NotSerializableError, match=r"message 'm'"):
                await handle.send("m", object())
            with pytest.raises(NotSerializableError, match=r"\$\.a\[1\]"):
                await handle.send("m", {"a": [0.0, math.nan]})
            with pytest.raises(PayloadTooLargeError, match=r"message 'm' has 1,002 bytes"):
                await handle.send("m", "x" * 1000)
            with pytest.raises(UnknownRunError, match="nobody"):
                await engine.get("nobody").send("m", 1)
            await handle.send("m", "good")
            assert await handle.result() == ["good"]
            with pytest.raises(RunEndedError, match="'a' has ended: message 'm' wasn't delivered"):
                await handle.send("m", 1)

    run(main)


def test_receive_needs_a_run_a_name_and_a_type(memory: Place) -> None:
    @workflow(name="misuses")
    async def misuses() -> list[str]:
        told = []
        for name, type in (("", None), ("m", complex), ("m", lambda: None)):
            try:
                await perdure.receive(name, type)
            except perdure.PerdureError as error:
                told.append(type_name(error))
        return told

    def type_name(error: Exception) -> str:
        return type(error).__name__

    async def main() -> None:
        with pytest.raises(UsageError, match="only in workflow code"):
            await perdure.receive("m")
        with pytest.raises(UsageError, match=r"engine\.get"):
            await perdure.send("a", "m", 1)
        async with memory.engine() as engine:
            told = await engine.run(misuses(), id="a")
            assert told == ["UsageError", "NotSerializableError", "NotSerializableError"]

    run(main)


# -- starting with messages ---------------------------------------------------------------------------


def test_a_start_brings_messages(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(takes("m", 3), id="a", messages=[("m", 1), Message("m", 2, "k")])
            again = await engine.start(takes("m", 3), id="a", messages=[Message("m", 2, "k"), ("m", 3)])
            assert await handle.result() == await again.result() == [1, 2, 3]
            assert await engine.run(takes("m"), id="b", messages=[("m", "hello")]) == ["hello"]

    run(main)


def test_many_starts_bring_messages(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            calls = [takes("m") for _ in range(5)]
            handles = await engine.start_many(calls, messages=[("m", "hello")])
            assert [await handle.result() for handle in handles] == [["hello"]] * 5

    run(main)


def test_a_start_without_a_worker_brings_messages(place: Place) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as client:
            await client.start(takes("m", 2), id="a", messages=[("m", 1)])
            await client.start(takes("m", 2), id="a", messages=[("m", 2)])
        async with place.engine() as engine:
            assert await engine.get("a").result() == [1, 2]

    run(main)


def test_a_start_that_fails_brings_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(takes("m"), id="a")
            with pytest.raises(RunConflictError, match="other input"):
                await engine.start(takes("n"), id="a", messages=[("m", "wrong")])
            with pytest.raises(RunConflictError, match="exists already"):
                await engine.start(takes("m"), id="a", messages=[("m", "wrong")], if_exists="fail")
            with pytest.raises(UsageError, match="messages= takes tuples"):
                await engine.start(takes("m"), messages=["m"])  # type: ignore[list-item]
            await handle.send("m", "right")
            assert await handle.result() == ["right"]
            with pytest.raises(RunEndedError, match="the messages that came with the start"):
                await engine.start(takes("m"), id="a", messages=[("m", "late")])
            assert await (await engine.start(takes("m"), id="a")).result() == ["right"]

    run(main)


def test_a_message_leaves_a_delay_as_it_is(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(takes("m"), id="a", delay=3600, messages=[("m", 1)])
            await handle.send("m", 2)
            info = await handle.info()
            assert info.status == "queued"
            assert info.wake_at is not None
            assert (info.wake_at - info.created_at).total_seconds() == 3600

    run(main)


# -- waiting ------------------------------------------------------------------------------------------


def test_a_wait_has_its_time(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            told = await engine.run(waits(0.02), id="a")
            assert told == "late: no message 'm' has come within 0.02 s"
            assert await engine.run(waits(0), id="b") == "late: no message 'm' has come within 0 s"
            handle = await engine.start(waits(0), id="c", messages=[("m", "there")])
            assert await handle.result() in ("there", "late: no message 'm' has come within 0 s")
            handle = await engine.start(waits(3600), id="d")
            await handle.send("m", "soon")
            assert await handle.result() == "soon"
            assert await of_kind(engine.get("a"), events.TimerFired)

    run(main)


def test_people_see_what_a_run_waits_for(place: Place) -> None:
    """Also once it has left memory, and in any process."""

    async def main() -> None:
        async with place.engine(evict_after=0.2) as engine:
            handle = await engine.start(takes_late("m", 2), id="a")

            async def waits_for(*names: str) -> None:
                await until(lambda: waiting(*names))

            async def waiting(*names: str) -> bool:
                info = await handle.info()
                found = [(wait.kind, wait.id) for wait in info.waiting_for]
                return found == [("message", name) for name in names] and info.status == "waiting"

            await waits_for("go")
            await handle.send("go", 0)
            await waits_for("m")
            assert engine._worker is not None
            await until(lambda: not engine._worker.drivers)  # type: ignore[union-attr]
            await waits_for("m")
            await handle.send("m", 1)
            await waits_for("m")
            await handle.send("m", 2)
            assert await handle.result() == [1, 2]
            assert (await handle.info()).waiting_for == ()

    run(main)


@workflow
async def gives_up() -> list[Any]:
    """A receiver that is cancelled in the turn in which its message comes leaves it to the next."""
    seen: list[Any] = []

    async def first() -> None:
        seen.append(await perdure.receive("m"))

    async def watches(task: asyncio.Task[None]) -> None:
        await perdure.until(lambda: bool(seen) or task.done())

    task = asyncio.create_task(first())
    other = asyncio.create_task(perdure.receive("m"))
    task.cancel()
    seen.append(await other)
    seen.append(task.cancelled())
    return seen


def test_a_cancelled_receiver_loses_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(gives_up(), id="a", messages=[("m", 1)])
            assert await handle.result() == [1, True]

    run(main)


# -- endings ------------------------------------------------------------------------------------------


@workflow
async def ignores(how: str) -> str:
    await perdure.receive("go")
    if how == "fails":
        raise ValueError(how)
    return await says(how)


@pytest.mark.parametrize("how", ["returns", "fails", "cancelled", "terminated"])
def test_what_nobody_received_is_shown(place: Place, how: str) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(ignores(how), id="a")
            await handle.send("early", 1, key="k")
            await until(lambda: of_kind(handle, events.MessageReceived))
            if how == "cancelled":
                await handle.cancel()
            elif how == "terminated":
                await handle.terminate()
            else:
                await handle.send("go", None)
            with_end = {"returns": "completed", "fails": "failed"}.get(how, how)
            await reaches(handle, with_end)
            info = await handle.info()
            if how != "terminated":  # nobody knows what its code had received
                (stray,) = info.undelivered
                assert (stray.name, stray.value, stray.key, stray.why) == ("early", 1, "k", None)
                kinds = [
                    type(event) for event in await history(handle)
                ]  # the wait for "go" may be noted first
                assert stray.number == kinds.index(events.MessageReceived) + 1
            assert (await engine.get("a").info()).set_aside == ()

    run(main)


@workflow
async def ends_at_once(step: bool) -> int:
    count = 0
    if step:
        await says("x")
    else:
        count = await perdure.receive("m", int)
    while True:
        try:
            count += await perdure.receive("m", int, timeout=0)
        except TimeoutError:
            return count


@pytest.mark.parametrize("step", [False, True])
def test_a_message_that_races_the_end_is_never_lost(place: Place, step: bool) -> None:
    """Each of many is received, or kept as undelivered, or its sender is told."""

    async def main() -> None:
        fates = {"received": 0, "undelivered": 0, "refused": 0}
        async with place.engine() as engine, place.engine(worker=False) as client:
            for number in range(60):
                handle = await engine.start(ends_at_once(step), id=f"r{number}")
                sender = client if number % 2 else engine
                sent = 0
                refused = 0
                for pause in range(8):
                    for _ in range(pause * (number % 7)):
                        await asyncio.sleep(0)
                    try:
                        await sender.get(handle.id).send("m", 1)
                        sent += 1
                    except RunEndedError:
                        refused += 1
                received = await handle.result()
                left = len((await handle.info()).undelivered)
                assert received + left == sent
                fates["received"] += received
                fates["undelivered"] += left
                fates["refused"] += refused
        assert fates["refused"] > 0
        assert step or fates["received"] > 0

    run(main)


def test_an_end_takes_no_mail_with_it(place: Place) -> None:
    """A message that is on its way into the history when the code ends stays where it is."""

    @workflow(name="ends_late")
    async def ends_late() -> str:
        return await says("done")

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(ends_late(), id="a", messages=[("m", 1), ("m", 2)])
            await handle.result()
            info = await handle.info()
            assert [stray.value for stray in info.undelivered] == [1, 2]
            final = (await history(handle))[-1]
            assert isinstance(final, events.RunCompleted)
            in_history = await of_kind(handle, events.MessageReceived)
            assert len(final.unread) == len(in_history)

    run(main)
