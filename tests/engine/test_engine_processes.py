"""Steps in processes: what they are given and give, what they can use, and every way in which they end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import process_kit as kit
import pytest
from engine_kit import (
    Ledger,
    Mortal,
    Place,
    bury,
    crash,
    history,
    of_kind,
    reaches,
    recorded,
    run,
    until,
    works,
)

import perdure
from perdure import Engine, RunCancelled, RunFailed, Status, events, workflow
from perdure.errors import ConfigurationError, NotSerializableError, PayloadTooLargeError, StepProcessDied
from perdure.runtime import definitions


@workflow
async def one(name: str, args: list[Any]) -> Any:
    return await getattr(kit, name)(*args)


@workflow
async def grows(x: int, y: int) -> list[int]:
    point = await kit.doubles(kit.Point(x, y), by=3)
    assert isinstance(point, kit.Point)
    return [point.x, point.y]


@workflow
async def many(count: int) -> list[int]:
    return list(await asyncio.gather(*(kit.tells() for _ in range(count))))


@workflow
async def catches(number: int) -> list[Any]:
    try:
        await kit.declines(number)
    except kit.Declined as error:
        failure = perdure.failure(error)
        assert failure is not None
        return [*error.args, repr(error.__cause__), failure.attempts, "process_kit.py" in failure.traceback]
    return []


@workflow
async def tells_of_death(code: int) -> list[Any]:
    try:
        await kit.exits(code)
    except StepProcessDied as error:
        return [error.exit_code, error.signal]
    return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def pid_in(folder: Path) -> int:
    await until((folder / "pid").exists)
    return int((folder / "pid").read_text())


def pool(engine: Engine) -> Any:
    assert engine._worker is not None
    calls: Any = engine._worker.steps.calls._process_calls
    return calls._processes


async def result_of(place: Place, name: str, *args: Any, **options: Any) -> Any:
    async with place.engine(**options) as engine:
        return await engine.run(one(name, list(args)), id="a")


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


# -- deaths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_step_whose_process_is_killed_is_tried_again(memory: Place, by: signal.Signals) -> None:
    async def main() -> None:
        async with memory.engine(processes=1) as engine:
            handle = await engine.start(one("dies", [int(by), 3]))
            assert await handle.result() == 3
            for failed in await of_kind(handle, events.StepAttemptFailed):
                assert failed.failure.type == "perdure.errors.StepProcessDied"
                assert f"was killed by {by.name}" in failed.failure.message

    run(main)


def test_a_poisonous_step_fails_and_the_pool_lives_on(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine(processes=2) as engine:
            poison = [await engine.start(tells_of_death(3)) for _ in range(3)]
            assert len(await engine.run(many(5))) == 5
            for handle in poison:
                assert await handle.result() == [3, ""]
            with pytest.raises(RunFailed, match="was killed by SIGKILL"):
                await engine.run(one("closes_everything", []))
            assert len(set(await engine.run(many(5)))) <= 2
            assert not pool(engine)._busy

    run(main)


def test_without_a_policy_it_is_tried_again_too(memory: Place) -> None:
    assert run(lambda: result_of(memory, "dies_by_default_policy")) == 2


def test_others_don_t_notice_a_death(memory: Place, tmp_path: Path) -> None:
    async def main() -> None:
        async with memory.engine(processes=2) as engine:
            calm = await engine.start(one("waits", [str(tmp_path)]))
            pid = await pid_in(tmp_path)
            assert await engine.run(one("dies", [int(signal.SIGKILL), 3])) == 3
            assert alive(pid)
            (tmp_path / "go").touch()
            assert await calm.result() == "done"

    run(main)


def test_an_idle_process_that_died_is_replaced(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine(processes=1) as engine:
            (pid,) = await engine.run(many(1))
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not alive(pid))
            (other,) = await engine.run(many(1))
            assert other != pid

    run(main)


def test_a_time_out_kills_the_process_and_what_it_has_started(memory: Place, tmp_path: Path) -> None:
    async def main() -> None:
        async with memory.engine(processes=1) as engine:
            with pytest.raises(RunFailed, match=r"longer than its timeout of 0.2 s"):
                await engine.run(one("spins_with_a_child", [str(tmp_path)]))
            pids = [int((tmp_path / name).read_text()) for name in ("pid", "grandchild")]
            await until(lambda: not any(map(alive, pids)))
            assert len(await engine.run(many(2))) == 2

    run(main)


def test_after_a_time_out_it_is_tried_again(memory: Place) -> None:
    assert run(lambda: result_of(memory, "is_slow_at_first")) == 2


def test_a_step_that_falls_silent_is_killed(memory: Place) -> None:
    assert run(lambda: result_of(memory, "falls_silent", processes=1)) == [2, {"page": 7}]


# -- cancellation and closing -------------------------------------------------------------------------


def test_a_cancelled_run_kills_its_process(place: Place, tmp_path: Path) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(one("waits", [str(tmp_path)]))
            pid = await pid_in(tmp_path)
            await handle.cancel()
            with pytest.raises(RunCancelled):
                await handle.result()
            await until(lambda: not alive(pid))
            assert await recorded(handle) == []

    run(main)


def test_a_step_that_is_to_end_may_end(memory: Place, tmp_path: Path) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(one("waits_to_the_end", [str(tmp_path)]))
            pid = await pid_in(tmp_path)
            await handle.cancel()
            await works(engine)
            assert alive(pid)
            (tmp_path / "go").touch()
            with pytest.raises(RunCancelled):
                await handle.result()
            assert len(await of_kind(handle, events.StepCompleted)) == 1

    run(main)


def test_an_abandoned_step_goes_on(memory: Place, tmp_path: Path) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(one("is_abandoned", [str(tmp_path)]))
            await pid_in(tmp_path)
            await handle.cancel()
            with pytest.raises(RunCancelled):
                await handle.result()
            (tmp_path / "go").touch()
            await until((tmp_path / "reached").exists)

    run(main)


def test_a_closing_engine_kills_what_takes_too_long_and_the_next_one_does_it(
    place: Place, tmp_path: Path
) -> None:
    async def main() -> None:
        async with place.engine(grace=0) as engine:
            await engine.start(one("waits", [str(tmp_path)]), id="a")
            pid = await pid_in(tmp_path)
        await until(lambda: not alive(pid))
        (tmp_path / "go").touch()
        async with place.engine() as engine:
            assert await engine.get("a").result() == "done"

    run(main)


def test_a_closing_engine_gives_its_steps_time(place: Place, tmp_path: Path) -> None:
    async def main() -> None:
        async with place.engine(grace=kit.PATIENCE) as engine:
            await engine.start(one("waits", [str(tmp_path)]), id="a")
            await pid_in(tmp_path)
            asyncio.get_running_loop().call_later(0.05, (tmp_path / "go").touch)
        (tmp_path / "go").unlink()
        async with place.engine() as engine:
            assert await engine.get("a").result() == "done"
            assert await recorded(engine.get("a")) == ["process_kit.waits#1"]

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


# -- once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("does", "result", "bodies"), [(True, "it did", ["1"]), (False, "done again", ["1", "2"])]
)
def test_a_probe_tells_whether_a_killed_step_happened(
    place: Place, tmp_path: Path, does: bool, result: str, bodies: list[str]
) -> None:
    if does:
        (tmp_path / "does").touch()
    assert run(lambda: result_of(place, "once_with_probe", str(tmp_path))) == result
    assert (tmp_path / "bodies").read_text().split() == bodies


def test_without_a_probe_a_person_has_to_tell(place: Place, tmp_path: Path) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(one("once_without", [str(tmp_path)]))
            await reaches(handle, Status.BLOCKED)
            reason = (await handle.info()).reason
            assert reason is not None
            assert "was killed by SIGKILL" in reason
            assert (tmp_path / "bodies").read_text().split() == ["1"]

    run(main)


# -- crashes ------------------------------------------------------------------------------------------


@workflow
async def squares(folder: str) -> int:
    first = await kit.counts(folder, 2)
    rest = await asyncio.gather(kit.counts(folder, first), kit.counts(folder, first + 1))
    return sum(rest)


def test_an_engine_that_dies_at_any_append_repeats_nothing_recorded(tmp_path: Path) -> None:
    async def dies(dies_at: int, commits: bool) -> bool:
        folder = tmp_path / f"{dies_at}-{commits}"
        folder.mkdir()
        place, ledger = Place(folder / "runs.db"), Ledger()
        mortal: list[Mortal] = []

        def wrap(store: Any) -> Mortal:
            mortal.append(Mortal(store, dies_at, commits, ledger))
            return mortal[0]

        engine = place.engine(wrap, processes=2)
        await engine.__aenter__()
        handle = await engine.start(squares(str(folder)), id="a")
        result = asyncio.ensure_future(handle.result())
        death = asyncio.ensure_future(mortal[0].dead.wait())
        await asyncio.wait([result, death], return_when=asyncio.FIRST_COMPLETED)
        survived = result.done()
        for task in (result, death):
            task.cancel()
        await asyncio.gather(result, death, return_exceptions=True)
        if survived:
            await engine.close()
            return False
        processes = pool(engine) if engine._worker and engine._worker.steps.calls._process_calls else None
        await crash(engine)
        if processes is not None:
            await processes.close()
        known = {name.partition(":")[2] for name in ledger.recorded}
        (folder / "bodies").unlink(missing_ok=True)
        await bury(place)
        async with place.engine(processes=2) as engine:
            assert await engine.get("a").result() == 16 + 25
            assert len(await recorded(engine.get("a"))) == 3
        again = (folder / "bodies").read_text().split() if (folder / "bodies").exists() else []
        assert not known & set(again)
        return True

    async def main() -> None:
        deaths = 0
        for dies_at in range(1, 12):
            died = [await dies(dies_at, commits) for commits in (False, True)]
            deaths += sum(died)
            if not any(died):
                break
        assert deaths >= 6

    asyncio.run(main())


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
