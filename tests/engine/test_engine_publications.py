"""Published events: runs wait for them, each gets each once, in order, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from engine_kit import Place, bury, crash, of_kind, reaches, redefine, run, until
from publication_kit import Order, all_settled, listening, loops, waiting_rows, waits

import perdure
from perdure import Engine, Status, events, step, workflow

# -- waiting --------------------------------------------------------------------------------------------


def test_a_waiting_run_gets_what_is_published(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            one = await engine.start(waits("paid"), id="one")
            two = await engine.start(waits("paid", {"id": ["o-1", "o-2"]}), id="two")
            other = await engine.start(waits("refunded"), id="other")
            for id in ("one", "two", "other"):
                await listening(engine, id)
            assert await engine.publish("paid", Order("o-1"))
            assert await one.result() == await two.result() == {"id": "o-1", "total": 0}
            assert await other.status() in (Status.RUNNING, Status.WAITING)
            await engine.publish("refunded")
            assert await other.result() is None

    run(main)


def test_what_was_published_since_the_run_began_is_not_missed(place: Place) -> None:
    @workflow(name="pub.late")
    async def late() -> list[Any]:
        await perdure.receive("go")
        return [await perdure.event("paid") for _ in range(2)]

    async def main() -> None:
        async with place.engine() as engine:
            await engine.publish("paid", "before the run")
            handle = await engine.start(late(), id="r")
            await engine.publish("paid", 1)
            await engine.publish("paid", 2)
            await until(lambda: all_settled(engine))
            await handle.send("go", None)
            assert await handle.result() == [1, 2]

    run(main)


def test_a_retry_gets_what_came_before_its_run_was_first_driven(place: Place) -> None:
    broken = [True]

    @step(name="pub.breaks_late")
    async def breaks() -> None:
        if broken:
            raise ValueError

    @workflow(name="pub.tries_late")
    async def tries() -> Any:
        await breaks()
        return await perdure.event("paid")

    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await client.start(tries(), id="r")
            await client.publish("paid", 1)
            async with place.engine() as engine:
                await reaches(engine.get("r"), "failed")
                broken.clear()
                await handle.retry()
                assert await handle.result(timeout=20) == 1
                assert await (await handle.fork(id="f")).result(timeout=20) == 1

    run(main)


def test_a_loop_gets_each_once_and_in_order(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handles = [await engine.start(loops("n", 20), id=f"r{number}") for number in range(3)]
            odd = await engine.start(loops("n", 10, {"odd": True}), id="odd")
            for number in range(20):
                await engine.publish("n", {"n": number, "odd": number % 2 == 1})
                if number % 7 == 0:
                    await asyncio.sleep(0.02)
            for handle in handles:
                assert [one["n"] for one in await handle.result()] == list(range(20))
            assert [one["n"] for one in await odd.result()] == list(range(1, 20, 2))

    run(main)


def test_how_far_to_look_back(place: Place) -> None:
    @workflow(name="pub.since")
    async def since(value: float, timeout: float = 60) -> Any:
        try:
            return await perdure.event("paid", since=value, timeout=timeout)
        except TimeoutError as error:
            return str(error)

    @workflow(name="pub.since_moment")
    async def since_moment(value: datetime) -> Any:
        return await perdure.event("paid", since=value)

    @workflow(name="pub.since_delta")
    async def since_delta() -> Any:
        return await perdure.event("paid", since=timedelta(minutes=5))

    async def main() -> None:
        async with place.engine() as engine:
            begun = datetime.now(UTC)
            await engine.publish("paid", "old")
            assert await engine.run(since(60)) == "old"
            assert await engine.run(since_moment(begun)) == "old"
            assert await engine.run(since_delta()) == "old"
            assert await engine.run(since(0, 0.05)) == "no event 'paid' has come within 0.05 s"

    run(main)


def test_values_are_read_as_the_type(place: Place) -> None:
    @workflow(name="pub.typed")
    async def typed() -> int:
        order = await perdure.event("paid", Order)
        assert type(order) is Order
        return order.total

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(typed(), id="r")
            await listening(engine, "r")
            await engine.publish("paid", {"id": 7})
            await engine.publish("paid", "nonsense")
            await listening(engine, "r", 3)
            await engine.publish("paid", Order("x", 12))
            assert await handle.result() == 12
            arrived = await of_kind(handle, events.PublicationArrived)
            assert [bool(event.unread) for event in arrived] == [True, True, False]
        async with place.engine() as engine:
            assert await engine.get("r").result() == 12

    run(main)


def test_a_time_out_loses_nothing(place: Place) -> None:
    """The event that comes with the time-out, or after it, is the next wait's."""

    @workflow(name="pub.patient")
    async def patient(count: int) -> list[int]:
        got: list[int] = []
        patience = 0.001
        while len(got) < count:
            try:
                got.append(await perdure.event("n", timeout=patience))
                patience = 0.001
            except TimeoutError:
                patience *= 2
        return got

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(patient(25), id="r")
            for number in range(25):
                await asyncio.sleep(0.003)
                await engine.publish("n", number)
            assert await handle.result() == list(range(25))
            gone = [wait for wait in await waiting_rows(place) if wait[0] == "n"]
            assert gone == []

    run(main)


def test_waits_for_the_same_get_one_each(place: Place) -> None:
    @workflow(name="pub.both")
    async def both() -> list[Any]:
        async def third() -> Any:
            return await perdure.event("n", where={"x": 1})

        waits = (perdure.event("n"), perdure.event("n"), third())
        return list(await asyncio.gather(*waits))

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(both(), id="r")
            await listening(engine, "r", 2)
            await engine.publish("n", {"x": 1})
            await engine.publish("n", {"x": 2})
            assert await handle.result() == [{"x": 1}, {"x": 2}, {"x": 1}]

    run(main)


def test_waits_that_are_cancelled_are_given_up(place: Place) -> None:
    @workflow(name="pub.first")
    async def first() -> list[Any]:
        tasks = [asyncio.create_task(perdure.event(name)) for name in ("a", "b", "a")]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        got = [task.result() for task in done]
        await perdure.receive("go")
        return [*got, await perdure.event("a")]

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(first(), id="r")
            await listening(engine, "r", 2)
            await engine.publish("b", "b")
            await until(lambda: given_up(engine, "r"))
            assert await waiting_rows(place) == []
            await engine.publish("a", 1)
            await handle.send("go", None)
            assert await handle.result() == ["b", 1]

    async def given_up(engine: Engine, id: str) -> bool:
        return bool(await of_kind(engine.get(id), events.PublicationGivenUp))

    run(main)


def test_a_cancelled_run_waits_for_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits("paid"), id="r")
            await listening(engine, "r")
            await handle.cancel()
            await reaches(handle, Status.CANCELLED)
            terminated = await engine.start(waits("paid"), id="t")
            await listening(engine, "t")
            await terminated.terminate()
            assert await waiting_rows(place) == []

    run(main)


# -- out of memory, to other workers --------------------------------------------------------------------


def test_a_run_that_waits_leaves_memory_and_comes_back(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.05) as engine:
            handle = await engine.start(loops("n", 3), id="r")
            for number in range(3):
                await listening(engine, "r", number + 1)
                await until(lambda: not engine._worker.drivers)  # type: ignore[union-attr]
                await engine.publish("n", number)
            assert await handle.result() == [0, 1, 2]

    run(main)


def test_another_worker_goes_on(place: Place) -> None:
    async def main() -> None:
        first = place.engine()
        await first.__aenter__()
        handle = await first.start(loops("n", 4), id="r")
        await first.publish("n", 0)
        await listening(first, "r", 2)
        await crash(first)
        await bury(place)
        async with place.engine(worker=False) as client:
            await client.publish("n", 1)  # while nobody drives it
        async with place.engine() as engine:
            handle = engine.get("r")
            await listening(engine, "r", 3)
            await engine.publish("n", 2)
            await engine.publish("n", 3)
            assert await handle.result() == [0, 1, 2, 3]

    run(main)


def test_the_next_generation_goes_on_where_this_one_stood(place: Place) -> None:
    @workflow(name="pub.chain")
    async def chain(got: list[int]) -> list[int]:
        if len(got) == 2:  # meanwhile two more are published, one of them before the next wait
            await perdure.receive("go")
        got = [*got, await perdure.event("n")]
        return got if len(got) == 4 else perdure.continue_as(chain(got))

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(chain([]), id="r")
            for number in range(4):
                await engine.publish("n", number)
            await until(lambda: all_settled(engine))
            await handle.send("go", None)
            assert await handle.result() == [0, 1, 2, 3]

    run(main)


def test_a_retry_takes_over_what_came_and_goes_on_behind(place: Place) -> None:
    broken = [True]

    @step(name="pub.breaks", retry=perdure.Retry(max_attempts=1))
    async def breaks() -> None:
        if broken[0]:
            raise ValueError("broken")

    @workflow(name="pub.retried")
    async def retried() -> list[int]:
        first = await perdure.event("n")
        await breaks()
        return [first, await perdure.event("n")]

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(retried(), id="r")
            await listening(engine, "r")
            await engine.publish("n", 1)
            await reaches(handle, Status.FAILED)
            await engine.publish("n", 2)  # while it isn't going
            broken[0] = False
            await handle.retry()
            assert await handle.result() == [1, 2]

    run(main)


def test_a_paused_run_gets_it_afterwards(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(loops("n", 2), id="r")
            await listening(engine, "r")
            await handle.pause()
            await reaches(handle, Status.PAUSED)
            await engine.publish("n", 1)
            await engine.publish("n", 2)
            await until(lambda: all_settled(engine))
            assert await handle.status() == Status.PAUSED
            await handle.resume()
            assert await handle.result() == [1, 2]

    run(main)


def test_code_that_waits_for_something_else_blocks_the_run(place: Place) -> None:
    async def main() -> None:
        async def one() -> Any:
            return await perdure.event("a", where={"x": 1})

        async def other() -> Any:
            return await perdure.event("a", where={"x": 2})

        changing = redefine("pub.changing", one)
        async with place.engine() as engine:
            await engine.start(changing(), id="r")
            await listening(engine, "r")
        redefine("pub.changing", other)
        async with place.engine() as engine:
            await engine.publish("a", {"x": 1})  # which wakes it
            await reaches(engine.get("r"), Status.BLOCKED)
            reason = (await engine.get("r").info()).reason or ""
            assert "PublicationAwaited 'event:1'" in reason
            assert '{"x":1}' in reason
        redefine("pub.changing", one)
        async with place.engine() as engine:
            assert await engine.get("r").result() == {"x": 1}

    run(main)


@perdure.entity(name="pub.Ear")
class Ear:
    state: int

    def __init__(self) -> None:
        self.state = 0

    async def hear(self) -> int:
        self.state += 1
        return await perdure.event("n", int)

    async def tell(self, word: str) -> None:
        perdure.publish("told", word)


def test_entities_hear_what_comes_and_tell(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            ear: Any = engine.entity(Ear, "e")
            await engine.publish("n", -1)  # before it exists
            for number in range(3):
                call = asyncio.create_task(ear.hear())
                await until(lambda: waiting_rows(place))
                await engine.publish("n", number)
                assert await call == number
                await ear.tell("again")
        async with place.engine() as engine:
            await engine.entity(Ear, "e").tell("again")
            assert [one.payload async for one in engine.publications("told")] == ["again"] * 4

    run(main)
