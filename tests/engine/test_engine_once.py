"""Steps that mustn't happen twice: in doubt a probe or a person decides, and nothing is done again."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, Places, bury, crash, history, of_kind, reaches, run, says, until

import perdure
from perdure import Done, Handle, OutcomeUnknown, Retry, events, step, workflow
from perdure.errors import NothingToDecideError, UsageError
from perdure.storage.records import BlockCode

EFFECTS: Counter[str] = Counter()
ASKED: Counter[str] = Counter()


def key() -> str:
    return perdure.idempotency_key()


async def looks(label: str) -> Done[str] | None:
    ASKED[label] += 1
    await asyncio.sleep(0)
    return Done(f"saw {label}") if EFFECTS[key()] else None


def looks_in_a_thread(label: str) -> Done[str] | None:
    ASKED[label] += 1
    return Done(label) if EFFECTS[key()] else None


@step(once=True, verify=looks)
async def charges(label: str) -> str:
    await asyncio.sleep(0)
    EFFECTS[key()] += 1
    return f"did {label}"


@step(once=True, verify=looks_in_a_thread)
def charges_in_a_thread(label: str) -> str:
    EFFECTS[key()] += 1
    return label


@step(once=True)
async def charges_blindly(label: str) -> str:
    EFFECTS[key()] += 1
    return f"did {label}"


@step(once=True, retry=Retry(initial=0.001, jitter=False))
async def comes_second(label: str) -> str:
    if perdure.step_info().attempt == 1:
        raise ValueError("known not to have happened")
    EFFECTS[key()] += 1
    return f"did {label}"


@workflow
async def verified() -> str:
    return (await charges("a"))[-1] + await charges_in_a_thread("b") + await says("c")


@workflow
async def blind() -> str:
    return (await charges_blindly("a"))[-1] + await says("b")


@workflow
async def retried() -> str:
    return await comes_second("a")


@workflow
async def branches() -> list[str]:
    first, second = await asyncio.gather(charges_blindly("a"), goes_on())
    return [first[-1], second]


async def goes_on() -> str:
    first = await says("x")
    await asyncio.sleep(0.01)
    return first + await says("y")


async def decides(handle: Handle[Any]) -> Any:
    """Wait for the end as an operator does: what waits for a decision is decided by what really happened."""
    waiting = asyncio.ensure_future(handle.result())
    while not waiting.done():
        await asyncio.wait([waiting], timeout=0.005)
        if not waiting.done() and await handle.status() == "blocked":
            parked = [wait.id for wait in (await handle.info()).waiting_for if wait.kind == "decision"]
            for op_id in parked:
                happened = EFFECTS[perdure.StepInfo(handle.id, op_id, "", 1).idempotency_key()]
                with suppress(NothingToDecideError):  # it is on its way already
                    await handle.resolve(op_id, **({"result": "did a"} if happened else {"rerun": True}))
    return await waiting


async def disturbed(place: Place, shape: Any, dies_at: int, commits: bool) -> tuple[Any, bool]:
    ledger = Ledger()
    engine = place.engine(lambda inner: Mortal(inner, dies_at, commits, ledger))
    await engine.__aenter__()
    store: Any = engine._store
    handle = await engine.start(shape(), id="a")
    driving = asyncio.ensure_future(decides(handle))
    dying = asyncio.ensure_future(store.dead.wait())
    await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
    died = store.dead.is_set()
    for task in (driving, dying):
        task.cancel()
    with suppress(asyncio.CancelledError, perdure.PerdureError):
        await driving
    await crash(engine)
    await bury(place)
    async with place.engine() as engine:
        ended = await decides(engine.get("a") if died else await engine.start(shape(), id="a"))
    return ended, died


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
@pytest.mark.parametrize(
    "shape", [verified, blind, retried, branches], ids=lambda s: s.name.rpartition(".")[2]
)
def test_a_crash_at_any_append_does_nothing_twice(shape: Any, commits: bool, make_place: Places) -> None:
    async def main() -> None:
        EFFECTS.clear()
        async with make_place().engine() as engine:
            expected = await engine.run(shape(), id="a")
            once = set(EFFECTS)
        number, died = 0, True
        while died:
            number += make_place.stride
            EFFECTS.clear()
            ended, died = await disturbed(make_place(), shape, number, commits)
            assert ended == expected, f"died at append {number}"
            assert EFFECTS == dict.fromkeys(once, 1), f"died at append {number}"
        assert number > 3

    run(main)


async def interrupted(place: Place, shape: Any, *, effect: bool = True) -> None:
    """Leave a run behind whose once step has begun and, with `effect`, happened."""
    EFFECTS.clear()
    ledger = Ledger()
    engine = place.engine(
        lambda inner: Mortal(inner, 2, False, ledger)
    )  # dies before the outcome is recorded
    await engine.__aenter__()
    store: Any = engine._store
    await engine.start(shape(), id="a")
    await store.dead.wait()
    await crash(engine)
    await bury(place)
    if not effect:
        EFFECTS.clear()


def test_the_start_is_durable_before_the_body_runs(place: Place) -> None:
    seen: list[list[str]] = []

    @step(once=True)
    async def looks_at_itself(id: str) -> None:
        async with place.engine(worker=False) as client:
            seen.append([type(event).__name__ for event in await history(client.get(id))])

    @workflow
    async def main_(id: str) -> None:
        await looks_at_itself(id)

    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(main_("a"), id="a")
        assert seen == [["RunStarted", "StepStarted"]]

    run(main)


def test_without_a_probe_an_ambiguous_step_blocks_its_run(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, blind)
        async with place.engine() as engine:
            handle = engine.get("a")
            await reaches(handle, "blocked")
            info = await handle.info()
            assert info.reason is not None
            assert info.reason.startswith(
                "outcome unknown: step 'test_engine_once.charges_blindly#1' was started at"
            )
            for way in ("--result JSON", "--rerun", "--fail"):
                assert f"perdure resolve a 'test_engine_once.charges_blindly#1' {way}" in info.reason
            (wait,) = info.waiting_for
            assert (wait.kind, wait.id) == ("decision", "test_engine_once.charges_blindly#1")
            (row,) = await engine._store.get(["a"])
            assert row is not None
            assert row.block_code == BlockCode.STEP
            await handle.resolve("charges_blindly", result="did a", by="ann", why="the bank has it")
            assert await handle.result() == "ab"
            done = [
                event for event in await of_kind(handle, events.StepCompleted) if event.decision is not None
            ]
            assert [event.decision for event in done] == [events.Decision("ann", "the bank has it")]
        assert sum(EFFECTS.values()) == 1

    run(main)


def test_a_blocked_run_survives_the_engine_and_is_woken_by_the_decision(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, blind, effect=False)
        async with place.engine() as engine:
            await reaches(engine.get("a"), "blocked")
        async with place.engine(worker=False) as client:
            assert await client.get("a").status() == "blocked"
            await client.get("a").resolve("test_engine_once.charges_blindly#1", rerun=True)
            with pytest.raises(NothingToDecideError, match="on its way"):
                await client.get("a").resolve("charges_blindly", result="x")
        async with place.engine() as engine:
            assert await engine.get("a").result() == "ab"
            assert await engine.get("a").info()
        assert sum(EFFECTS.values()) == 1

    run(main)


def test_closing_the_engine_amid_the_body_leaves_doubt(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        begun = asyncio.Event()
        BEGUN[:] = [begun]
        async with place.engine(grace=0.05) as engine:
            await engine.start(does_one("never_ends"), id="a")
            await begun.wait()
        async with place.engine() as engine:
            await reaches(engine.get("a"), "blocked")
        told = [record.getMessage() for record in caplog.records if record.name == "perdure.worker"]
        assert any(text.startswith("run a is blocked: outcome unknown: step") for text in told)

    run(main)


BEGUN: list[asyncio.Event] = []


@step(once=True)
async def never_ends() -> str:
    BEGUN[0].set()
    await asyncio.sleep(60)
    return "never"


def test_a_person_lets_it_fail(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, blind)
        async with place.engine() as engine:
            await reaches(engine.get("a"), "blocked")
            await engine.get("a").resolve("charges_blindly", fail="the card was stolen")
            with pytest.raises(perdure.RunFailed, match="the card was stolen") as caught:
                await engine.get("a").result()
            assert isinstance(caught.value.__cause__, perdure.StepFailed)

    run(main)


def test_what_cant_be_decided_is_told(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, branches)
        async with place.engine() as engine:
            handle = engine.get("a")
            await reaches(handle, "blocked")
            with pytest.raises(NothingToDecideError, match=r"these do: .*charges_blindly#1"):
                await handle.resolve("says", rerun=True)
            with pytest.raises(UsageError):
                await handle.resolve("charges_blindly")
            with pytest.raises(UsageError):
                await handle.resolve("charges_blindly", rerun=True, result=None)
            with pytest.raises(perdure.NotSerializableError, match="charges_blindly"):
                await handle.resolve("charges_blindly", result=7)
            with pytest.raises(perdure.UnknownRunError):
                await engine.get("nobody").resolve("charges_blindly", rerun=True)
            await handle.resolve("charges_blindly", result="did a")
            assert await handle.result() == ["a", "xy"]
            with pytest.raises(NothingToDecideError):
                await handle.resolve("charges_blindly", rerun=True)

    run(main)


def test_a_result_that_doesnt_fit_leaves_the_step_waiting(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client without the code can't check it, so the worker does."""

    async def main() -> None:
        await interrupted(place, blind)
        async with place.engine() as engine:
            handle = engine.get("a")
            await reaches(handle, "blocked")
            with monkeypatch.context() as patch:
                patch.setattr("perdure.api.decisions.step_named", lambda name: None)
                await handle.resolve("charges_blindly", result=7)

            async def told() -> bool:
                return "The result 7 was given for it, and doesn't fit" in (
                    (await handle.info()).reason or ""
                )

            await until(told)
            assert await handle.status() == "blocked"
            await handle.resolve("charges_blindly", result="did a")
            assert await handle.result() == "ab"

    run(main)


def test_other_branches_go_on(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, branches)
        async with place.engine(evict_after=0.05) as engine:
            handle = engine.get("a")

            async def went_on() -> bool:
                return any(
                    event.step.endswith("says#2") for event in await of_kind(handle, events.StepCompleted)
                )

            await until(went_on)
            await reaches(handle, "blocked")
            assert engine._worker is not None
            await until(lambda: not engine._worker.drivers)  # type: ignore[union-attr]
            await handle.resolve("charges_blindly", result="did a")
            assert await handle.result() == ["a", "xy"]

    run(main)


def test_a_blocked_run_can_be_cancelled(place: Place) -> None:
    async def main() -> None:
        await interrupted(place, blind)
        async with place.engine(evict_after=0.05) as engine:
            handle = engine.get("a")
            await reaches(handle, "blocked")
            await handle.cancel("enough")
            with pytest.raises(perdure.RunCancelled):
                await handle.result()

    run(main)


@step(once=True, timeout=0.02)
async def hangs() -> str:
    EFFECTS[key()] += 1
    await asyncio.sleep(60)
    return "never"


@step(once=True, timeout=0.02, verify=lambda: Done("it did"))
async def hangs_and_is_asked() -> str:
    EFFECTS[key()] += 1
    await asyncio.sleep(60)
    return "never"


@step(once=True, timeout=0.05, retry=Retry(max_attempts=2, initial=0.001), verify=lambda: None)
async def hangs_in_vain() -> str:
    await asyncio.sleep(60)
    return "never"


@step(once=True)
async def loses_the_answer(how: str) -> str:
    raise {"reset": ConnectionResetError("reset"), "unknown": OutcomeUnknown("no receipt")}[how]


@step(once=True)
async def is_refused() -> str:
    raise ConnectionRefusedError("nobody listens")


@workflow
async def does_one(which: str, argument: str | None = None) -> str:
    chosen: Any = globals()[which]
    return await (chosen() if argument is None else chosen(argument))


@pytest.mark.parametrize(
    ("which", "argument", "told"),
    [
        ("hangs", None, "TimeoutError"),
        ("loses_the_answer", "reset", "reset"),
        ("loses_the_answer", "unknown", "receipt"),
    ],
)
def test_no_answer_is_no_failure(place: Place, which: str, argument: str | None, told: str) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(does_one(which, argument))
            await reaches(handle, "blocked")
            reason = (await handle.info()).reason
            assert reason is not None
            assert reason.startswith("outcome unknown: ")
            assert told in reason
            (parked,) = await of_kind(handle, events.StepParked)
            assert parked.failure is not None
            await handle.resolve(which, fail=True)
            with pytest.raises(perdure.RunFailed, match=told):
                await handle.result()

    run(main)


def test_a_time_out_is_looked_into(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(does_one("hangs_and_is_asked")) == "it did"

    run(main)


def test_what_is_known_not_to_have_happened_is_a_failure(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(perdure.RunFailed, match="timeout"):
                await engine.run(does_one("hangs_in_vain"), id="a")
            assert len(await of_kind(engine.get("a"), events.StepAttemptFailed)) == 1
            handle = await engine.start(does_one("is_refused"), id="b")

            async def failed() -> list[Any]:
                return await of_kind(handle, events.StepAttemptFailed)

            await until(failed)  # transient, and tried again
            assert await of_kind(handle, events.StepParked) == []

    run(main)


ENDS = threading.Event()


@step(once=True, timeout=0.05, verify=lambda: None)
def goes_on_in_its_thread() -> str:
    ENDS.wait(30)
    return "late"


def test_nobody_believes_a_probe_while_the_body_still_runs(place: Place) -> None:
    async def main() -> None:
        ENDS.clear()
        try:
            async with place.engine() as engine:
                handle = await engine.start(does_one("goes_on_in_its_thread"))
                await reaches(handle, "blocked")
                assert "still runs in a thread" in ((await handle.info()).reason or "")
        finally:
            ENDS.set()

    run(main)


async def fails_to_look(label: str) -> Done[str] | None:
    raise RuntimeError("the bank's site is down")


@step(once=True, verify=fails_to_look)
async def charges_with_a_broken_probe(label: str) -> str:
    return label


@step(once=True, verify=lambda label: Done(7))
async def charges_with_a_wrong_probe(label: str) -> str:
    return label


@step(once=True, verify=lambda label: True)
async def charges_with_a_talking_probe(label: str) -> str:
    return label


@workflow
async def broken_probe() -> str:
    return await charges_with_a_broken_probe("a")


@workflow
async def wrong_probe() -> str:
    return await charges_with_a_wrong_probe("a")


@workflow
async def talking_probe() -> str:
    return await charges_with_a_talking_probe("a")


@pytest.mark.parametrize(
    ("shape", "told"),
    [(broken_probe, "the bank's site is down"), (wrong_probe, "7"), (talking_probe, "return perdure.Done")],
)
def test_a_probe_that_cant_tell_leaves_it_to_a_person(place: Place, shape: Any, told: str) -> None:
    async def main() -> None:
        await interrupted(place, shape)
        async with place.engine() as engine:
            handle = engine.get("a")
            await reaches(handle, "blocked")
            assert told in ((await handle.info()).reason or "")
            (wait,) = (await handle.info()).waiting_for
            await handle.resolve(wait.id, result="by hand")
            assert await handle.result() == "by hand"

    run(main)


# -- on_exhausted -------------------------------------------------------------------------------------

MENDED = threading.Event()


@step(retry=Retry(max_attempts=2, initial=0.001, on_exhausted="block"))
async def needs_mending(label: str) -> str:
    if not MENDED.is_set():
        raise ValueError(f"broken {perdure.step_info().attempt}")
    return label


@workflow
async def mended() -> str:
    return await needs_mending("a") + await says("b")


def test_used_up_attempts_wait_for_a_person(place: Place) -> None:
    async def main() -> None:
        MENDED.clear()
        async with place.engine() as engine:
            handle = await engine.start(mended(), id="a")
            await reaches(handle, "blocked")
            reason = (await handle.info()).reason or ""
            assert reason.startswith("attempts used up: step 'test_engine_once.needs_mending#1'")
            assert "broken 2" in reason
            await handle.resolve("needs_mending", rerun=True)

            async def parked_again() -> bool:
                return len(await of_kind(handle, events.StepParked)) == 2

            await until(parked_again)
            assert len(await of_kind(handle, events.StepAttemptFailed)) == 2  # fresh attempts
            await reaches(handle, "blocked")
        MENDED.set()
        async with place.engine() as engine:
            await engine.get("a").resolve("needs_mending", rerun=True)
            assert await engine.get("a").result() == "ab"

    run(main)


def test_without_a_message_it_fails_with_its_last_error(place: Place) -> None:
    async def main() -> None:
        MENDED.clear()
        async with place.engine() as engine:
            handle = await engine.start(mended())
            await reaches(handle, "blocked")
            await handle.resolve("needs_mending", fail=True)
            with pytest.raises(perdure.RunFailed) as caught:
                await handle.result()
            assert isinstance(caught.value.__cause__, ValueError)

    run(main)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(perdure.errors.ConfigurationError, match="once=True"):
        step(verify=looks)
    with pytest.raises(ValueError, match="on_exhausted"):
        Retry(on_exhausted="panic")  # type: ignore[arg-type]
