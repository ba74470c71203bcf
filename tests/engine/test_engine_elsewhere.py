"""Steps that are executed in a queue: to the workflow, and in its history, they are steps like all others."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from elsewhere_kit import (
    BODIES,
    QUICK,
    RELEASED,
    SEEN,
    begun,
    both,
    bury_all_but,
    errand_of,
    fresh,
    gate,
    gated,
    here,
    sent,
    there,
    waits,
)
from engine_kit import (
    Place,
    crash,
    history,
    of_kind,
    reaches,
    recorded,
    run,
    says,
    until,
)

import perdure
from perdure import Done, Engine, Handle, Retry, events, step, workflow
from perdure.errors import ConfigurationError, RunCancelled, RunTerminated
from perdure.runtime import definitions
from perdure.runtime.errands import ErrandDriver


@pytest.fixture(autouse=True)
def fresh_tables() -> Any:
    fresh()
    yield
    RELEASED.set()


@step(queue="gpu")
async def doubles(number: int) -> int:
    info = perdure.step_info()
    SEEN.append((info.run_id, info.step_id, info.attempt, perdure.idempotency_key()))
    return 2 * number


@step(queue="gpu")
def triples_in_a_thread(number: int) -> int:
    SEEN.append(threading.current_thread().name)
    return 3 * number


@workflow
async def computes(number: int) -> int:
    first, second = await asyncio.gather(doubles(number), triples_in_a_thread(number))
    return first + second


# -- a step in every respect ----------------------------------------------------------------------------


def test_a_step_is_executed_by_a_worker_of_its_queue(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place) as other:
            handle = await engine.start(computes(2), id="a")
            assert await handle.result() == 10
            kinds = [type(event).__name__ for event in await history(handle)]
            assert kinds[0] == "RunStarted"
            assert kinds[1:3] == ["StepSent", "StepSent"]
            assert kinds[3:] == ["StepCompleted", "StepCompleted", "RunCompleted"]
            ids = [event.run for event in await sent(handle)]
            assert other._worker is not None
            for errand in ids:
                assert (await engine.get(errand).info()).queue == "gpu"
            completed = (await of_kind(handle, events.StepCompleted))[0]
            assert completed.input is not None
            assert [item.id async for item in engine.runs()] == ["a"]
            assert {item.id async for item in engine.runs(errands=True)} == {"a", *ids}

    run(main)


def test_a_step_knows_of_itself_what_it_would_know_here(place: Place) -> None:
    async def main() -> None:
        async with both(place) as engine:
            await engine.run(computes(2), id="a")
        step_id = f"{doubles.name}#1"
        key = perdure.StepInfo("a", step_id, doubles.name, 1).idempotency_key()
        assert ("a", step_id, 1, key) in SEEN
        assert any(isinstance(name, str) and name.startswith("perdure-step") for name in SEEN)

    run(main)


class Declined(Exception):
    """What a workflow catches."""


@step(queue="gpu", retry=Retry(max_attempts=3, initial=0.001, on=(Declined,)))
async def declines(upto: int) -> int:
    attempt = perdure.step_info().attempt
    BODIES["declines"] += 1
    if attempt <= upto:
        raise Declined("no", attempt)
    return attempt


@workflow
async def is_declined(upto: int) -> Any:
    try:
        return await declines(upto)
    except Declined as error:
        failure = perdure.failure(error)
        assert failure is not None
        return [*error.args, failure.attempts, "in declines" in failure.traceback]


def test_attempts_are_those_of_the_policy_and_the_original_exception_is_raised(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            assert await engine.run(is_declined(2), id="a") == 3
            failed = await of_kind(engine.get("a"), events.StepAttemptFailed)
            assert [event.attempt for event in failed] == [1, 2]
            assert len({event.run for event in await sent(engine.get("a"))}) == 3
            assert await engine.run(is_declined(9), id="b") == ["no", 3, 3, True]
            assert BODIES["declines"] == 6

    run(main)


@step(queue="gpu", retry=Retry(max_attempts=9, initial=0.001))
async def says_when(upto: int) -> int:
    attempt = perdure.step_info().attempt
    if attempt <= upto:
        raise perdure.Retryable("not yet", after=0.001)
    if attempt == 5:
        raise perdure.Permanent("never")
    return attempt


@workflow
async def is_told_when(upto: int) -> Any:
    try:
        return await says_when(upto)
    except perdure.Permanent as error:
        return str(error)


def test_retryable_and_permanent_overrule_the_policy(memory: Place) -> None:
    async def main() -> None:
        async with both(memory) as engine:
            assert await engine.run(is_told_when(2)) == 3
            assert await engine.run(is_told_when(4)) == "never"

    run(main)


@step(queue="gpu", timeout=0.05, retry=Retry(max_attempts=2, initial=0.001))
async def hangs() -> None:
    BODIES["hangs"] += 1
    await asyncio.sleep(60)


@step(queue="gpu", heartbeat_timeout=0.1, retry=QUICK)
async def falls_silent() -> Any:
    info = perdure.step_info()
    SEEN.append(info.detail)
    if info.attempt < 3:
        perdure.heartbeat({"page": info.attempt})
        await asyncio.sleep(60)
    return info.detail


@workflow
async def runs_out_of_time() -> Any:
    try:
        await hangs()
    except TimeoutError as error:
        return [str(error), await falls_silent()]


def test_time_limits_and_heartbeats(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            told, detail = await engine.run(runs_out_of_time(), id="a")
            assert "timeout of 0.05 s" in told
            assert BODIES["hangs"] == 2
            assert SEEN == [None, {"page": 1}, {"page": 2}]
            assert detail == {"page": 2}
            (whole,) = await engine._store.load([(await engine._store.get(["a"]))[0].run])  # type: ignore[union-attr]
            assert list(whole.details) == []

    run(main)


@step(queue="gpu", retry=Retry(max_attempts=9, initial=0.05), deadline=0.001)
async def is_late() -> None:
    BODIES["late"] += 1
    raise ValueError("again")


@workflow
async def hurries() -> None:
    await is_late()


def test_a_deadline_bounds_all_attempts(memory: Place) -> None:
    async def main() -> None:
        async with both(memory) as engine:
            with pytest.raises(perdure.RunFailed):
                await engine.run(hurries())
            assert BODIES["late"] == 1

    run(main)


@step(queue="gpu", retry=QUICK)
async def emits() -> str:
    attempt = perdure.step_info().attempt
    perdure.emit("progress", attempt)
    perdure.emit("progress", attempt * 10)
    if attempt < 3:
        raise ValueError("again")
    return "done"


@workflow
async def emits_elsewhere() -> str:
    perdure.emit("progress", "begins")
    return await emits()


def test_what_a_step_emits_goes_into_its_run_s_streams(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(emits_elsewhere(), id="a")
            assert await handle.result() == "done"
            items = [item.value async for item in handle.stream("progress")]
            assert items == ["begins", 3, 30]

    run(main)


@step(queue="gpu")
async def emits_and_waits(label: str) -> str:
    BODIES[label] += 1
    perdure.emit("progress", BODIES[label])
    if BODIES[label] == 1:
        await asyncio.sleep(60)
    return label


@workflow
async def emits_twice() -> str:
    return await emits_and_waits("x")


def test_items_of_a_lost_worker_are_void(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine:
            lost = there(place)
            await lost.__aenter__()
            handle = await engine.start(emits_twice(), id="a")
            await begun("x")

            async def is_out() -> bool:
                return ("progress", 1) in await engine._store.streams.names("a")

            await until(is_out)
            await crash(lost)
            await bury_all_but(engine)
            async with there(place):
                assert await handle.result() == "x"
            items = [item.value async for item in handle.stream("progress")]
            assert items == [2]

    run(main)


def test_a_run_that_was_evicted_meanwhile_goes_on(place: Place) -> None:
    async def main() -> None:
        async with here(place, evict_after=0.0) as engine, there(place):
            handle = await engine.start(waits("x"), id="a")
            await begun("x")
            assert engine._worker is not None
            await until(lambda: not engine._worker.drivers)  # type: ignore[union-attr]
            assert await handle.status() == "waiting"
            (wait,) = (await handle.info()).waiting_for
            assert (wait.kind, wait.id) == ("step", f"{gated.name}#1")
            gate("x").set()
            assert await handle.result() == "x"
            assert await recorded(handle) == [f"{gated.name}#1"]
            assert BODIES["x"] == 1

    run(main)


def test_a_worker_that_serves_the_queue_itself_sends_all_the_same(place: Place) -> None:
    async def main() -> None:
        async with both(place) as engine:
            handle = await engine.start(waits("x"), id="a")
            await begun("x")
            errand = await errand_of(engine, handle)
            assert (await errand.info()).queue == "gpu"
            assert engine._worker is not None
            assert any(isinstance(driver, ErrandDriver) for driver in engine._worker.drivers.values())
            gate("x").set()
            assert await handle.result() == "x"

    run(main)


def test_another_worker_takes_the_step_over(place: Place) -> None:
    """With the same attempt, and so the same idempotency key; it is recorded once."""

    async def main() -> None:
        async with here(place) as engine:
            lost = there(place)
            await lost.__aenter__()
            handle = await engine.start(waits("x"), id="a")
            await begun("x")
            await crash(lost)
            await bury_all_but(engine)
            async with there(place):
                await begun("x", 2)
                gate("x").set()
                assert await handle.result() == "x"
            assert await recorded(handle) == [f"{gated.name}#1"]
            (completed,) = await of_kind(handle, events.StepCompleted)
            assert completed.attempt == 1
            assert len(await sent(handle)) == 1

    run(main)


def test_the_run_s_own_worker_may_die_meanwhile(place: Place) -> None:
    async def main() -> None:
        async with there(place):
            lost = here(place)
            await lost.__aenter__()
            await lost.start(waits("x"), id="a")
            await begun("x")
            await crash(lost)
            gate("x").set()
            await until(lambda: "x ended" in SEEN)
            async with here(place) as engine:
                await bury_all_but_these(place, {"here", "there"}, lost)
                assert await engine.get("a").result() == "x"
                assert BODIES["x"] == 1

    run(main)


async def bury_all_but_these(place: Place, names: set[str], lost: Engine) -> None:
    assert lost._worker is not None
    dead = lost._worker.id
    store = place.store()
    await store.open()
    try:
        for worker in await store.workers():
            if worker.id == dead:
                await store.bury(worker.id, worker.lease_until, now=time.time(), max_recoveries=10)
    finally:
        await store.close()


# -- which workers do it --------------------------------------------------------------------------------


def test_a_step_that_nobody_offers_waits_and_says_for_what(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine:
            handle = await engine.start(waits("x"), id="a")
            errand = await errand_of(engine, handle)
            await reaches(errand, "blocked")
            (cause,) = (await handle.why()).causes
            assert "no worker" in cause.what
            assert "'gpu'" in cause.what
            assert gated.name in cause.what
            assert "--queues gpu" in cause.todo
            assert (await errand.info()).status == "blocked"
            async with there(place):
                await begun("x")
                gate("x").set()
                assert await handle.result() == "x"

    run(main)


@step
async def quiet(label: str) -> str:
    BODIES[label] += 1
    return label


@workflow
async def chooses_its_queue(label: str) -> str:
    return await quiet.with_options(queue="gpu", key="k")(label)


def test_a_queue_given_with_the_call_is_learned_of(place: Place) -> None:
    """By a worker that has never seen the step with a queue."""

    async def main() -> None:
        async with here(place) as engine:
            handle = await engine.start(chooses_its_queue("x"), id="a")
            errand = await errand_of(engine, handle)
            await reaches(errand, "blocked")
            definitions._workflows.pop(f"step/{quiet.name}")  # as in a process that hasn't run this workflow
            async with there(place):
                assert await handle.result() == "x"
                assert BODIES["x"] == 1
            assert await recorded(handle) == [f"{quiet.name}[k]"]

    run(main)


def test_without_an_engine_it_is_a_function(memory: Place) -> None:
    async def main() -> None:
        assert await quiet.with_options(queue="gpu")("plain") == "plain"

    run(main)


@pytest.mark.parametrize("queue", ["", "a\nb", 7])
def test_a_queue_needs_a_name(queue: Any) -> None:
    with pytest.raises(ConfigurationError, match="queue"):
        step(queue=queue)(says.function)
    with pytest.raises(ConfigurationError, match="queue"):
        says.with_options(queue=queue)


# -- once, and people's decisions -----------------------------------------------------------------------


async def looks(label: str) -> Done[str] | None:
    return Done(f"saw {label}") if "effect" in SEEN else None


@step(queue="gpu", once=True, verify=looks)
async def charges(label: str) -> str:
    BODIES[label] += 1
    if BODIES[label] == 1:
        await gate(label).wait()
    return f"did {label}"


@step(queue="gpu", once=True)
async def charges_blindly(label: str) -> str:
    BODIES[label] += 1
    if BODIES[label] == 1:
        await gate(label).wait()
    return f"did {label}"


@workflow
async def pays(label: str) -> str:
    return await charges(label)


@workflow
async def pays_blindly(label: str) -> str:
    return await charges_blindly(label)


async def lose_amid(place: Place, engine: Engine, call: Any, label: str) -> Handle[Any]:
    """Lose the worker of the queue while it executes a step of a new run."""
    lost = there(place)
    await lost.__aenter__()
    handle = await engine.start(call, id="a")
    await begun(label)
    await crash(lost)
    await bury_all_but(engine)
    return handle


@pytest.mark.parametrize("happened", [False, True])
def test_after_a_lost_worker_a_probe_tells_whether_it_happened(place: Place, happened: bool) -> None:
    async def main() -> None:
        async with here(place) as engine:
            handle = await lose_amid(place, engine, pays("x"), "x")
            if happened:
                SEEN.append("effect")
            async with there(place):
                assert await handle.result() == ("saw x" if happened else "did x")
            assert BODIES["x"] == (1 if happened else 2)

    run(main)


def test_without_a_probe_a_person_decides(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine:
            handle = await lose_amid(place, engine, pays_blindly("x"), "x")
            async with there(place):
                await reaches(handle, "blocked")
                assert "outcome unknown" in ((await handle.info()).reason or "")
                (parked,) = await of_kind(handle, events.StepParked)
                assert parked.unknown
                await handle.resolve(charges_blindly.name, rerun=True)
                assert await handle.result() == "did x"
            assert BODIES["x"] == 2
            assert len(await sent(handle)) == 2

    run(main)


@step(queue="gpu", retry=Retry(max_attempts=2, initial=0.001, on_exhausted="block"))
async def needs_help() -> str:
    BODIES["help"] += 1
    raise ValueError("broken")


@workflow
async def is_helped() -> str:
    return await needs_help()


def test_used_up_attempts_can_wait_for_a_person(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(is_helped(), id="a")
            await reaches(handle, "blocked")
            assert "attempts used up" in ((await handle.info()).reason or "")
            assert BODIES["help"] == 2
            await handle.resolve(needs_help.name, rerun=True)
            await until(lambda: BODIES["help"] == 4)
            await reaches(handle, "blocked")
            await handle.resolve(needs_help.name, result="by hand")
            assert await handle.result() == "by hand"

    run(main)


@pytest.mark.parametrize("once", [False, True])
def test_an_errand_can_be_ended_from_outside(place: Place, once: bool) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(pays_blindly("x") if once else waits("x"), id="a")
            await begun("x")
            await (await errand_of(engine, handle)).terminate("it hangs")
            if once:
                await reaches(handle, "blocked")
                assert "terminated from outside" in ((await handle.info()).reason or "")
                await handle.resolve(charges_blindly.name, result="by hand")
                assert await handle.result() == "by hand"
            else:
                with pytest.raises(perdure.RunFailed) as raised:
                    await handle.result()
                assert isinstance(raised.value.__cause__, RunTerminated)

    run(main)


def test_a_step_that_takes_its_workers_down_is_set_aside(place: Place) -> None:
    """Its run, which only waits, isn't: it says what it waits for, and goes on when somebody has decided."""

    async def main() -> None:
        async with here(place) as engine:
            handle = await engine.start(waits("x"), id="a")
            for times in (1, 2):
                lost = there(place)
                await lost.__aenter__()
                await begun("x", times)
                await crash(lost)
                await bury_all_but(engine, max_recoveries=1)
            errand = await errand_of(engine, handle)
            await reaches(errand, "blocked")
            (cause,) = (await handle.why()).causes
            assert "died 2 times in a row" in cause.what
            assert cause.todo == f"find out what kills its workers, then: perdure terminate '{errand.id}'"
            assert await handle.status() in ("waiting", "running")
            await errand.terminate("it kills")
            with pytest.raises(perdure.RunFailed) as raised:
                await handle.result()
            assert isinstance(raised.value.__cause__, RunTerminated)

    run(main)


def test_an_errand_that_is_cancelled_from_outside_fails_its_step(place: Place) -> None:
    async def main() -> None:
        async with here(place) as engine, there(place):
            handle = await engine.start(waits("x"), id="a")
            await begun("x")
            await (await errand_of(engine, handle)).cancel("it hangs")
            with pytest.raises(perdure.RunFailed) as raised:
                await handle.result()
            assert isinstance(raised.value.__cause__, RunCancelled)
            assert "x interrupted" in SEEN

    run(main)


# -- how much a worker takes ----------------------------------------------------------------------------


@step(queue="gpu")
def holds(label: str) -> str:
    BODIES[label] += 1
    RELEASED.wait()
    return label


@workflow
async def many(kind: str, count: int) -> int:
    body = gated if kind == "loop" else holds
    return len(await asyncio.gather(*(body(f"{kind} {number}") for number in range(count))))


@pytest.mark.parametrize("kind", ["loop", "thread"])
def test_a_worker_takes_no_more_than_it_can_execute(place: Place, kind: str) -> None:
    """So that the others of the queue get their part, and one that comes later, too."""

    async def main() -> None:
        limits: dict[str, Any] = {"concurrency": 2} if kind == "loop" else {"threads": 2}
        async with here(place) as engine, there(place, **limits) as first:
            handle = await engine.start(many(kind, 7), id="a")
            await until(lambda: len(BODIES) == 2)

            async def waiting() -> int:
                return len([run async for run in engine.runs(status="queued", errands=True)])

            assert await waiting() == 5
            async with there(place, **limits) as second:
                await until(lambda: len(BODIES) == 4)
                assert await waiting() == 3
                for worker in (first._worker, second._worker):
                    assert worker is not None
                    assert len(worker.drivers) == 2
                for number in range(7):
                    gate(f"{kind} {number}").set()
                RELEASED.set()
                assert await handle.result() == 7
            assert set(BODIES.values()) == {1}

    run(main)
