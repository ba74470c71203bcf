"""Steps in processes: what they are given and give, what they can use, and where they can't be had."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import process_kit as kit
import pytest
from engine_kit import (
    Place,
    history,
    of_kind,
    run,
    until,
    works,
)
from process_runs import alive, catches, grows, many, one, pid_in, pool, result_of

import perdure
from perdure import Engine, RunFailed, events
from perdure.errors import ConfigurationError, NotSerializableError, PayloadTooLargeError
from perdure.runtime import definitions
from perdure.runtime.attempt import Attempt
from perdure.runtime.doorway import Doorway

# -- in and out ---------------------------------------------------------------------------------------


def test_arguments_and_results_are_decoded_by_their_types(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(grows(1, 2), id="a") == [3, 6]
        async with place.engine() as engine:  # a replay gives the same
            assert await engine.run(grows(1, 2), id="a") == [3, 6]

    run(main)


def test_there_are_no_more_processes_than_allowed_and_they_are_used_again(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine(processes=2) as engine:
            pids = await engine.run(many(12))
            assert os.getpid() not in pids
            assert 1 <= len(set(pids)) <= 2
            assert len(pool(engine)._idle) <= 2
        await until(lambda: not any(map(alive, pids)))

    run(main)


def test_no_process_is_started_before_a_step_needs_one(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            await works(engine)
            assert engine._worker is not None
            assert engine._worker.steps.calls._process_calls is None

    run(main)


def test_a_step_that_holds_its_interpreter_holds_nobody_else(memory: Place, tmp_path: Path) -> None:
    async def main() -> None:
        async with memory.engine(processes=2, grace=0) as engine:
            await engine.start(one("holds_its_interpreter", [str(tmp_path)]), id="a")
            pid = await pid_in(tmp_path)
            for _ in range(5):
                await works(engine)
            assert await engine.run(many(2))
            assert alive(pid)
        await until(lambda: not alive(pid))

    run(main)


def test_nothing_of_the_input_is_on_the_command_line(memory: Place) -> None:
    assert run(lambda: result_of(memory, "shows_its_command_line", "very-secret")) is False


# -- failures -----------------------------------------------------------------------------------------


def test_an_exception_comes_back_as_what_it_was(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(catches(7)) == ["no", 7, "KeyError('the reason')", 1, True]

    run(main)


def test_a_policy_decides_by_the_class_that_was_raised(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(one("declines_twice", []))
            with pytest.raises(RunFailed, match="KeyError: 3"):
                await handle.result()
            assert len(await of_kind(handle, events.StepAttemptFailed)) == 2

    run(main)


def test_a_policy_decides_by_a_class_that_cannot_be_rebuilt(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(one("answers", [400]))
            with pytest.raises(RunFailed, match="400 it is"):
                await handle.result()
            (failed,) = await of_kind(handle, events.StepAttemptFailed)
            assert failed.failure.type == "process_kit.StatusError"
            assert "process_kit.py" in failed.failure.traceback

    run(main)


@pytest.mark.parametrize(("status", "again"), [(503, True), (429, True), (404, False)])
def test_an_http_status_decides_whether_it_is_tried_again(memory: Place, status: int, again: bool) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(one("is_busy_once", [status]))
            if again:
                assert await handle.result() == 2
            else:
                with pytest.raises(RunFailed, match="404 it is"):
                    await handle.result()

    run(main)


def test_what_ends_the_interpreter_properly_is_a_failure_of_the_step(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine(processes=1) as engine:
            with pytest.raises(RunFailed, match="enough"):
                await engine.run(one("exits_properly", []))
            await works(engine)

    run(main)


def test_a_result_that_cannot_be_kept_fails_at_once(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(one("returns_what_cannot_be_kept", []))
            with pytest.raises(RunFailed) as caught:
                await handle.result()
            assert isinstance(caught.value.__cause__, NotSerializableError)
            assert not await of_kind(handle, events.StepAttemptFailed)

    run(main)


def test_large_results_pass_and_too_large_ones_are_refused(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine(max_payload=300_000) as engine:
            assert len(await engine.run(one("returns_much", [200_000]))) == 200_000
            with pytest.raises(RunFailed) as caught:
                await engine.run(one("returns_much", [400_000]))
            assert isinstance(caught.value.__cause__, PayloadTooLargeError)

    run(main)


# -- what a step can use ------------------------------------------------------------------------------


def test_it_knows_itself_beats_emits_and_logs(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(one("uses_its_context", []), id="a")
            seen = await handle.result()
            step = "process_kit.uses_its_context#1"
            assert {name: seen[name] for name in ("run", "step", "attempt")} == {
                "run": "a",
                "step": step,
                "attempt": 2,
            }
            assert seen["detail"] == ["half", 1]
            assert seen["beaten"]
            assert len(seen["key"]) == 32
            items = [(item.kind, item.value, item.attempt) async for item in handle.stream("progress")]
            assert items == [("item", {"attempt": 2}, 2)]  # the first attempt's doesn't count any more
            spoken = [record for record in caplog.records if record.name == "perdure.run"]
            assert [record.getMessage() for record in spoken] == ["attempt 1 speaks", "attempt 2 speaks"]
            facts = vars(spoken[0])
            assert (facts["run_id"], facts["step_id"], facts["attempt"]) == ("a", step, 1)
            assert facts["process"] != os.getpid()

    with caplog.at_level(logging.INFO):
        run(main)


# -- where it can't be done ---------------------------------------------------------------------------


def test_what_another_process_could_not_find_is_refused() -> None:
    def local() -> None: ...

    async def waits() -> None: ...

    with pytest.raises(ConfigurationError, match="defined inside a function"):
        perdure.step(process=True)(local)
    with pytest.raises(ConfigurationError, match="it is async"):
        perdure.step(process=True)(waits)
    with pytest.raises(ConfigurationError, match="transaction= works on a connection"):
        perdure.step(process=True, transaction=lambda: None)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="processes=0"):
        Engine("memory:", processes=0)


def made_later() -> None:
    """Made a step by a test only, so that no other process has it."""


def test_a_step_that_is_not_in_its_module_fails_at_once_with_advice(memory: Place) -> None:
    made_later.__module__ = "process_kit"
    late = perdure.step(process=True, name="made_later", retry=perdure.Retry(initial=0.001))(made_later)
    kit.made_later = late  # type: ignore[attr-defined]
    try:

        async def main() -> None:
            async with memory.engine() as engine:
                handle = await engine.start(one("made_later", []))
                with pytest.raises(RunFailed, match="can't find it in the module process_kit") as caught:
                    await handle.result()
                assert isinstance(caught.value.__cause__, ConfigurationError)
                assert not [
                    kind for kind in await history(handle) if isinstance(kind, events.StepAttemptFailed)
                ]

        run(main)
    finally:
        del definitions._steps["made_later"]


def test_outside_of_an_engine_it_is_a_plain_function() -> None:
    async def main() -> int:
        return await kit.tells()

    assert asyncio.run(main()) == os.getpid()


# -- rate limits ------------------------------------------------------------------------------------------


def test_a_step_in_a_process_is_under_rate_limits(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine(processes=1) as engine:
            assert await engine.run(one("metered", [500, 30])) == 30

            async def settled() -> bool:
                info = await engine.limits.get(kit.METER)
                return info is not None and info.units["units"].free >= 869

            await until(settled)
            handle = await engine.start(one("metered", [10, 0]))
            assert await handle.result() == 0
            delays = [event.failure for event in await of_kind(handle, events.StepDelayed) if event.failure]
            assert [failure.type for failure in delays] == ["perdure.errors.RateLimited"]
            with pytest.raises(RunFailed, match="isn't under the rate limit 'other'; it is under 'meter'"):
                await engine.run(one("settles_another", []))

    run(main)


def test_a_body_in_a_process_does_not_begin_after_its_permission(
    memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process comes up so slowly that the permission has run out: it is asked for again."""
    monkeypatch.setattr("perdure.runtime.gate.Pass.until", lambda self: 0.0 if not late else 1e12)
    late: list[str] = []
    real = Doorway._ask_again

    def noted(self: Doorway, attempt: Attempt) -> None:
        late.append("late")
        real(self, attempt)

    monkeypatch.setattr(Doorway, "_ask_again", noted)

    async def main() -> None:
        async with memory.engine(processes=1) as engine:
            assert await engine.run(one("metered", [5, 5])) == 5
            assert late == ["late"]

    run(main)
