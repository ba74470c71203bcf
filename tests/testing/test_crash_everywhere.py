"""`crash_everywhere` lets sound workflows pass, and has a report for each way in which one isn't sound."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

import perdure
from perdure import Handle, step, workflow
from perdure.testing import CrashReport, Environment, StuckError, crash_everywhere
from perdure.testing.crash_report import CrashFailure

#: What steps have done to the world.
DONE: list[str] = []
CACHE: dict[str, int] = {}


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    reset()
    yield
    reset()


def reset() -> None:
    DONE.clear()
    CACHE.clear()


def tried(call: Any, **options: Any) -> CrashReport:
    async def main() -> CrashReport:
        async with asyncio.timeout(60):
            return await crash_everywhere(call, setup=reset, **options)

    return asyncio.run(main())


def report_of(call: Any, **options: Any) -> CrashReport:
    with pytest.raises(CrashFailure) as failed:
        tried(call, **options)
    assert str(failed.value) == str(failed.value.report)
    return failed.value.report


@step(effect="read")
async def price(item: str) -> int:
    return len(item)


@step
async def charges(amount: int) -> str:
    DONE.append(f"charged {amount}")
    return "receipt"


@step
def charges_with_key(amount: int) -> str:
    key = perdure.idempotency_key()
    if key not in DONE:
        DONE.append(key)
    return "receipt"


@step(once=True)
async def charges_once(amount: int) -> str:
    DONE.append(f"charged {amount}")
    return "receipt"


@step(once=True, verify=lambda amount: perdure.Done("receipt") if DONE else None)
async def charges_verified(amount: int) -> str:
    DONE.append(f"charged {amount}")
    return "receipt"


@step(effect="read")
async def counts() -> int:
    DONE.append("counted")
    return len(DONE)


@workflow
async def sound(items: list[str]) -> str:
    prices = await asyncio.gather(*(price(item) for item in items))
    await asyncio.sleep(86_400)
    try:
        async with asyncio.timeout(60):
            await perdure.receive("never")
    except TimeoutError:
        pass
    return f"{await charges_with_key(sum(prices))} {await charges_verified(1)} {perdure.random()} {perdure.now()}"


@workflow
async def careless(amount: int) -> str:
    return await charges(await price("x" * amount))


@workflow
async def cautious() -> str:
    return await charges_once(7)


@workflow
async def counting() -> int:
    return await counts()


@workflow
async def throws_dice() -> int:
    return await price(str(random.random()))


@workflow
async def caches() -> int:
    if "a" not in CACHE:
        CACHE["a"] = await price("a")
    return CACHE["a"] + await price("bb")


@workflow
async def child(item: str) -> int:
    return await price(item)


@workflow
async def has_children() -> int:
    handle = await perdure.start(child("abc"), id="the child")
    return await child("ab") + await handle.result()


@step(effect="read", queue="a queue of its own")
async def weighs(item: str) -> int:
    return len(item)


@workflow
async def goes_far(generations: int) -> list[int | None]:
    if generations:
        await asyncio.sleep(60)
        return await perdure.continue_as(goes_far(generations - 1))
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(30))
        weight = group.create_task(weighs("abc"))
    perdure.emit("weights", weight.result())
    mapped = await perdure.map(price, ["a", "bb"])
    return [weight.result(), *mapped.results]


@workflow
async def fails() -> str:
    await price("a")
    raise ValueError("it is sold out")


@workflow
async def asks() -> str:
    said = await perdure.receive("approval", bool, timeout=86_400)
    return f"{said}: {await charges_with_key(1)}"


@workflow
async def waits_for_ever() -> None:
    await perdure.receive("company")


@pytest.mark.parametrize(
    "call", [sound(["a", "bcd"]), has_children(), goes_far(1), fails()], ids=lambda call: call.name
)
def test_a_sound_workflow_survives_every_crash(call: Any) -> None:
    report = tried(call)
    assert report.findings == ()
    assert report.crashes == 2 * report.commits > 2
    assert f"{report.crashes} crashes" in str(report)


def test_recovery_may_crash_as_well() -> None:
    report = tried(asks(), drive=approves, twice=True)
    assert report.crashes > 4 * report.commits


def test_a_step_that_runs_twice() -> None:
    report = report_of(careless(3))
    (finding,) = report.findings
    assert (finding.kind, finding.subject) == ("ran twice", charges.name)
    assert finding.crashes == (f"before write 2 (step '{charges.name}#1' completed)",)
    text = str(report)
    assert "1 of 4 crashes changed something" in text or "1 of 6 crashes changed something" in text
    assert "began again after it, with the arguments (3)" in text
    assert "idempotency_key()" in text


def test_a_step_that_runs_twice_may_be_declared_harmless() -> None:
    assert tried(careless(3), idempotent=[charges]).findings == ()


def test_the_world_outside_is_compared() -> None:
    report = report_of(careless(3), idempotent=["charges"], look=lambda: list(DONE))
    (finding,) = report.findings
    assert (finding.kind, finding.subject) == ("differs", "what look() sees")
    assert "it found ['charged 3', 'charged 3']" in str(report)


def test_a_result_that_differs() -> None:
    report = report_of(counting())
    (finding,) = report.findings
    assert (finding.kind, finding.subject) == ("differs", "the result")
    assert "without a crash it returned 1\n   after it, it returned 2" in str(report)
    assert tried(counting(), same=lambda one, other: other >= one).findings == ()


@pytest.mark.parametrize("flow", [throws_dice, caches], ids=lambda flow: flow.name)
def test_code_that_diverges_without_a_crash(flow: Any) -> None:
    report = report_of(flow())
    (finding,) = report.findings
    assert finding.kind == "diverged"
    assert finding.crashes == ()
    assert "its history and its code disagree at event 2" in str(report)
    assert "can't be replayed" in str(report)


def test_code_that_diverges_after_a_crash() -> None:
    unwound: list[int] = []

    @workflow(name="remembers that it was unwound")
    async def remembers() -> int:
        try:
            return await price("a") + await price("b" * (1 + len(unwound)))
        except BaseException:
            unwound.append(1)
            raise

    report = report_of(remembers, look=unwound.clear, same=lambda one, other: True)
    (finding,) = report.findings
    assert finding.kind == "diverged"
    assert finding.crashes == (f"after write 2 (step '{price.name}#2' completed)",)
    assert 'called with [["b"],{}]' in str(report)


def test_a_run_that_sticks() -> None:
    report = report_of(cautious())
    (finding,) = report.findings
    assert finding.kind == "stuck"
    assert "waits for a person" in str(report)
    assert "verify=" in str(report)


def test_a_run_that_sticks_without_a_crash() -> None:
    with pytest.raises(StuckError, match=r"(?s)doesn't end even without a crash.*company"):
        tried(waits_for_ever())


async def approves(env: Environment, handle: Handle[Any]) -> None:
    await env.advance(hours=2)
    await env.send(handle, "approval", True, key="once")


def test_the_world_outside_is_played_and_survives() -> None:
    report = tried(asks(), drive=approves)
    assert report.findings == ()
    assert report.crashes > 3


def test_mocks_are_those_of_an_environment() -> None:
    async def main() -> CrashReport:
        env = Environment(unmocked="refuse")
        env.mock(price, side_effect=[3, 4])
        env.mock(charges_verified, returns="paid")
        mock = env.mock(charges_with_key, returns="kept")
        report = await crash_everywhere(lambda: sound(["a", "bcd"]), env=env)
        mock.assert_not_called()  # scenarios have their own books
        return report

    assert asyncio.run(main()).findings == ()


def test_a_mocked_step_is_judged_by_its_own_code() -> None:
    async def main() -> None:
        env = Environment()
        env.mock(charges, returns="receipt")
        await crash_everywhere(careless(3), env=env)

    with pytest.raises(CrashFailure, match="charges"):
        asyncio.run(main())
