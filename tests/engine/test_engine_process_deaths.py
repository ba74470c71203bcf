"""Steps in processes: every way in which they end before their time, and what comes after it."""

from __future__ import annotations

import asyncio
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
    of_kind,
    reaches,
    recorded,
    run,
    until,
    works,
)
from process_runs import alive, many, one, pid_in, pool, result_of, tells_of_death

from perdure import RunCancelled, RunFailed, Status, events, workflow

SOAK = os.environ.get("PERDURE_SOAK") == "1"

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
    assert run(lambda: result_of(memory, "is_slow_at_first")) >= 2  # the next ones may be late by themselves


def test_a_step_that_falls_silent_is_killed(memory: Place) -> None:
    attempt, detail = run(lambda: result_of(memory, "falls_silent", processes=1))
    assert (attempt >= 2, detail) == (True, {"page": 7})


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


def test_it_can_be_cancelled_at_any_moment_and_leaves_nothing_behind(memory: Place, tmp_path: Path) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def main() -> None:
        async with memory.engine(processes=2) as engine:
            await engine.run(many(2))  # the pool is there
            processes = pool(engine)
            for process in list(processes._idle):
                os.kill(process.pid, signal.SIGKILL)
            before = open_files()
            for turns in range(24):
                handle = await engine.start(one("waits", [str(tmp_path)]))
                for _ in range(turns):
                    await asyncio.sleep(0.005 if turns % 8 == 7 else 0)
                await handle.cancel()
                with pytest.raises(RunCancelled):
                    await handle.result()
            await until(lambda: not processes._busy and not processes._ending)
            assert open_files() <= before
            assert len(await engine.run(many(3))) == 3

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
        async with place.engine(processes=2 if SOAK else 1) as engine:
            assert await engine.get("a").result() == 16 + 25
            assert len(await recorded(engine.get("a"))) == 3
        again = (folder / "bodies").read_text().split() if (folder / "bodies").exists() else []
        assert not known & set(again)
        return True

    async def main() -> None:
        deaths = 0
        for dies_at in range(1, 12):
            died = [
                await dies(dies_at, commits) for commits in ((False, True) if SOAK else (dies_at % 2 == 0,))
            ]
            deaths += sum(died)
            if not any(died):
                break
        assert deaths >= (6 if SOAK else 3)

    asyncio.run(main())
