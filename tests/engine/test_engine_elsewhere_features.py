"""Steps that are sent to a queue, together with all else that steps can be part of."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from elsewhere_kit import (
    BODIES,
    RELEASED,
    SEEN,
    begun,
    both,
    errand_of,
    fresh,
    gate,
    gated,
    here,
    sent,
    there,
    waits,
)
from engine_kit import Place, history, of_kind, reaches, recorded, redefine, run, until

import perdure
from perdure import Saga, events, step, workflow
from perdure.runtime import definitions
from perdure.runtime.packages import held_back


@pytest.fixture(autouse=True)
def fresh_tables() -> Any:
    fresh()
    yield
    RELEASED.set()


@step(queue="gpu", name="elsewhere.buys")
async def buys(what: str) -> int:
    BODIES[what] += 1
    SEEN.append(perdure.idempotency_key())
    perdure.emit("bought", [what, BODIES[what]])
    if f"no {what}" in SEEN:
        raise ValueError(f"no {what}")
    return len(what)


@workflow
async def shops() -> int:
    first = await buys("tea")
    return first + await buys("milk")


# -- people -----------------------------------------------------------------------------------------------


def test_a_failed_run_goes_on_from_its_failed_step(place: Place) -> None:
    async def main() -> None:
        SEEN.append("no milk")
        async with here(place) as engine, there(place):
            handle = await engine.start(shops(), id="r")
            with pytest.raises(perdure.RunFailed, match="no milk"):
                await handle.result()
            SEEN.remove("no milk")
            await handle.retry()
            assert await handle.result() == 7
            assert BODIES == {"tea": 1, "milk": 2}
            assert SEEN[-1] == SEEN[-2]  # a retry has the keys of what it retries
            done = await of_kind(handle, events.StepCompleted)
            assert [event.reused for event in done] == [True, False]
            items = [item.value async for item in handle.stream("bought")]
            assert items == [["tea", 1], ["milk", 2]]

    run(main)


def test_a_fork_does_nothing_again(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(shops(), id="r")
            assert await handle.result() == 7
            fork = await handle.fork(id="f", edits={f"{buys.name}#1": 100})
            assert await fork.result() == 104
            assert sum(BODIES.values()) == 2
            assert await sent(fork) == []

    run(main)


@workflow
async def waits_twice() -> str:
    return await gated("x") + await gated("y")


def test_a_paused_run_sends_nothing_new(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(waits_twice(), id="r")
            await begun("x")
            await handle.pause("look")
            await reaches(handle, "paused")
            gate("x").set()
            gate("y").set()
            await until(lambda: "x ended" in SEEN)
            await reaches(await errand_of(engine, handle), "completed")
            assert await handle.status() == "paused"
            assert len(await sent(handle)) == 1
            await handle.resume()
            assert await handle.result() == "xy"

    run(main)


# -- code that changes ------------------------------------------------------------------------------------


@step(queue="gpu", name="elsewhere.greets")
async def greets(name: str) -> str:
    BODIES[name] += 1
    await gate(name).wait()
    return f"hello {name}"


def test_other_arguments_after_it_was_sent_are_a_divergence(place: Place) -> None:
    async def first() -> str:
        return await greets("ann")

    async def second() -> str:
        return await greets("bob")

    async def main() -> None:
        async with there(place):
            async with here(place) as engine:
                await engine.start(redefine("elsewhere.changes", first)(), id="r")
                await begun("ann")
            gate("ann").set()  # what comes of it wakes the run
            redefine("elsewhere.changes", second)
            async with here(place) as engine:
                await reaches(engine.get("r"), "blocked")
                reason = (await engine.get("r").info()).reason or ""
                assert "was sent to queue 'gpu'" in reason
                assert "bob" in reason
            redefine("elsewhere.changes", first)
            async with here(place) as engine:
                assert await engine.get("r").result() == "hello ann"

    run(main)


def test_a_worker_whose_code_doesnt_fit_leaves_it_to_others(place: Place) -> None:
    """Its step takes other arguments. That is no failure of the step."""

    async def calls() -> str:
        return await greets("ann")

    async def main() -> None:
        async with here(place) as engine:
            handle = await engine.start(redefine("elsewhere.calls", calls)(), id="r")
            errand = await errand_of(engine, handle)

            @step(queue="gpu", name="elsewhere.other")
            async def other(name: int) -> str:
                return "never"

            known = definitions._steps[greets.name]
            definitions._steps[greets.name] = definitions._steps[other.name]
            async with there(place):
                await reaches(errand, "blocked")
                (cause,) = (await handle.why()).causes
                assert "int" in cause.what
                await reaches(handle, "waiting")
            definitions._steps[greets.name] = known
            async with there(place):
                gate("ann").set()
                assert await handle.result() == "hello ann"

    run(main)


# -- other kinds of steps, and of code --------------------------------------------------------------------


def test_a_step_in_a_process(place: Place, tmp_path: Path) -> None:
    import process_kit

    queued = process_kit.uses_its_context.with_options(queue="gpu")

    async def calls() -> Any:
        return await queued()

    async def main() -> None:
        async with here(place) as engine, there(place, processes=1):
            seen = await engine.run(redefine("elsewhere.in_a_process", calls)(), id="r")
            assert (seen["run"], seen["step"]) == ("r", f"{queued.name}#1")
            assert seen["attempt"] == 2
            assert seen["detail"] == ["half", 1]
            items = [item.value async for item in engine.get("r").stream("progress")]
            assert items == [{"attempt": 2}]

    run(main)


def test_a_transactional_step(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE sold (item TEXT)")
    definitions._steps.pop("elsewhere.sells", None)
    definitions._workflows.pop("step/elsewhere.sells", None)

    def opens() -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    @step(transaction=opens, queue="gpu", name="elsewhere.sells")
    def sells(connection: Any, item: str) -> str:
        connection.execute("INSERT INTO sold (item) VALUES (?)", [item])
        return f"sold {item}"

    async def calls() -> str:
        return await sells("book") + await sells("pen")

    async def main() -> None:
        async with here(place) as engine, there(place):
            assert await engine.run(redefine("elsewhere.shop", calls)(), id="r") == "sold booksold pen"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("SELECT run_id, step_id, result FROM perdure_steps").fetchall()
        assert sorted(rows) == [
            ("r", "elsewhere.sells#1", '"sold book"'),
            ("r", "elsewhere.sells#2", '"sold pen"'),
        ]

    run(main)


@perdure.entity(name="elsewhere.Counter")
class Counter:
    state: dict[str, int]
    key: str

    async def count(self, what: str) -> int:
        self.state["total"] = self.state.get("total", 0) + await buys(what)
        return self.state["total"]


def test_an_entity_s_call(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            counter = engine.entity(Counter, "c")
            assert [await counter.count("tea"), await counter.count("milk")] == [3, 7]

    run(main)


@workflow
async def maps() -> list[Any]:
    result = await perdure.map(buys, ["a", "bb", "ccc", "dddd"], concurrency=2, max_failures=1)
    return [*result.statuses]


@workflow
async def undoes() -> None:
    async with Saga() as saga:
        await buys("tea")
        saga.undo(buys("sells tea again"))
        await buys("milk")


def test_maps_and_sagas(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            SEEN.append("no ccc")
            assert await engine.run(maps()) == ["succeeded", "succeeded", "failed", "succeeded"]
            SEEN.append("no milk")
            with pytest.raises(perdure.RunFailed, match="no milk"):
                await engine.run(undoes())
            assert BODIES["sells tea again"] == 1

    run(main)


@workflow
async def goes_on(round: int) -> str:
    label = await gated(f"round {round}")
    if round < 3:
        perdure.continue_as(goes_on(round + 1))
    return label


def test_generations_don_t_meet_each_other_s_errands(place: Place) -> None:
    async def main() -> None:
        for number in (1, 2, 3):
            gate(f"round {number}").set()
        async with both(place) as engine:
            handle = await engine.start(goes_on(1), id="r")
            assert await handle.result() == "round 3"
            ids = {item.id async for item in engine.runs(errands=True)} - {"r"}
            assert len(ids) == 3
            assert any(id.startswith("r~3/") for id in ids)

    run(main)


@step(queue="gpu")
async def returns_much(size: int) -> str:
    return "x" * size


@workflow
async def much(size: int) -> int:
    return len(await returns_much(size))


def test_what_cannot_be_kept_fails_the_step(place: Place) -> None:
    async def main() -> None:
        async with here(place, max_payload=1000) as engine, there(place, max_payload=1000):
            assert await engine.run(much(500)) == 500
            with pytest.raises(perdure.RunFailed, match="result of step"):
                await engine.run(much(5000))

    run(main)


def test_heartbeats_are_seen_from_outside(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(redefine("elsewhere.beats", beats_until_let)(), id="r")
            await begun("beats")

            async def is_seen() -> bool:
                waiting = (await handle.info()).waiting_for
                return any(wait.heartbeat == b'{"page":7}' for wait in waiting)

            await until(is_seen)
            (wait,) = (await handle.info()).waiting_for
            assert "executes on worker there" in wait.detail
            (cause,) = (await handle.why()).causes
            assert "executes on worker there" in cause.what
            gate("beats").set()
            await handle.result()

    run(main)


@step(queue="gpu")
async def beats() -> None:
    BODIES["beats"] += 1
    perdure.heartbeat({"page": 7})
    await gate("beats").wait()


async def beats_until_let() -> None:
    await beats()


def test_many_at_once(place: Place) -> None:
    async def calls() -> int:
        return sum(await asyncio.gather(*(buys(f"{number:03}") for number in range(60))))

    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(redefine("elsewhere.many", calls)(), id="r")
            assert await handle.result() == 180
            assert len(await recorded(handle)) == 60
            assert set(BODIES.values()) == {1}

    run(main)


def test_what_is_reported_to_a_run_that_has_ended_is_passed_over(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(waits("x"), id="r")
            await begun("x")
            await handle.terminate()
            gate("x").set()
            await reaches(await errand_of(engine, handle), "completed", "cancelled")
            assert isinstance((await history(handle))[-1], events.RunTerminated)

    run(main)


@step(queue="gpu", once=True)
async def charges(label: str) -> str:
    BODIES[label] += 1
    return f"did {label}"


@workflow
async def pays(label: str) -> str:
    return await charges(label)


async def carried(place: Place, other: Place) -> None:
    """Export a run alone, and import it elsewhere, where it is held."""
    source, target = place.store(), other.store()
    await source.open()
    await target.open()
    (package,) = await source.moving.read(["r"])
    assert package is not None
    assert await target.moving.put([held_back(package, "it was imported", time.time())]) == [True]
    await source.close()
    await target.close()


@pytest.mark.parametrize("once", [False, True])
def test_a_run_that_came_without_its_errand_sends_it_again(place: Place, once: bool, tmp_path: Path) -> None:
    """As after an export without children. A step that mustn't happen twice waits for a person."""

    async def main() -> None:
        async with here(place) as engine:
            await engine.start(pays("x") if once else waits("x"), id="r")
            await errand_of(engine, engine.get("r"))
        gate("x").set()
        other = Place(tmp_path / "other.db")
        await carried(place, other)
        async with here(other) as engine, there(other):
            handle = engine.get("r")
            await handle.resume()
            if once:
                await reaches(handle, "blocked")
                assert "isn't in this database" in ((await handle.info()).reason or "")
                await handle.resolve(charges.name, rerun=True)
                assert await handle.result() == "did x"
            else:
                assert await handle.result() == "x"
            assert BODIES["x"] == 1
            assert len(await sent(handle)) == 2

    run(main)


SCARCE = perdure.RateLimit("scarce", requests=perdure.Rate(1, per=3600))


@step(queue="gpu", limit=SCARCE, retry=perdure.Retry(max_attempts=5, initial=0.001), deadline=86_400.0)
async def calls(label: str) -> str:
    BODIES[label] += 1
    raise KeyError(label)


@workflow
async def calls_in_time() -> str:
    try:
        return await calls.with_options(deadline=60.0)("x")
    except KeyError as error:
        return f"no {error.args[0]}"


def test_a_limit_under_which_it_would_begin_after_its_deadline_fails_it(place: Place) -> None:
    """At once, by the deadline of the call, which isn't that of the decorator."""

    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(calls_in_time(), id="r")
            assert await handle.result() == "no x"
            assert BODIES == {"x": 1}
            (failed,) = await of_kind(handle, events.StepFailed)
            assert failed.attempt == 1

    run(main)


NARROW = perdure.Queue("narrow-steps", concurrency=2)
AT_ONCE: list[int] = []


@step(queue=NARROW)
async def passes(number: int) -> int:
    BODIES["in"] += 1
    AT_ONCE.append(BODIES["in"])
    await asyncio.sleep(0.005)
    BODIES["in"] -= 1
    return number


@workflow
async def passes_many() -> int:
    return sum(await asyncio.gather(*(passes(number) for number in range(12))))


def test_a_queue_s_limits_count_for_steps(place: Place) -> None:
    """Over all workers, also for the one that drives the run."""

    async def main() -> None:
        AT_ONCE.clear()
        async with (
            place.engine(queues=("default", NARROW)) as engine,
            place.engine(queues=(NARROW,)),
        ):
            assert await engine.run(passes_many()) == sum(range(12))
        assert len(AT_ONCE) == 12
        assert max(AT_ONCE) <= 2

    run(main)
