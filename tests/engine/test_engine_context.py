"""What runs know and do: time, chance, log, starting in bulk and late, looking from outside."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from engine_kit import Place, bury, crash, greets, of_kind, reaches, run, says, until

import perdure
from perdure import Engine, RunFailed, Status, events, step, workflow
from perdure.errors import UsageError


@workflow
async def looks_around(pause: float) -> list[str]:
    told = [perdure.now().isoformat(), repr(perdure.random()), str(perdure.uuid4())]
    assert perdure.now().tzinfo is UTC
    context = perdure.info()
    told += [context.id, context.workflow, context.started_at.isoformat(), str(context.parent)]
    perdure.log.warning("before %s", "the pause")
    await asyncio.sleep(pause)
    perdure.log.warning("after the pause")
    told += [perdure.now().isoformat(), repr(perdure.random()), str(perdure.uuid4())]
    return [*told, await says("-".join(told[:3]))]


def test_time_and_chance_are_the_same_on_replay_and_the_log_speaks_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> list[str]:
        async with place.engine() as engine:
            handle = await engine.start(looks_around(0.3), id="a")

            async def noted() -> bool:
                return bool(await of_kind(handle, events.TimerStarted))

            await until(noted)
            await crash(engine)
        await bury(place)
        async with place.engine() as engine:
            handle = engine.get("a")
            told: list[str] = await handle.result()
            (made,) = await of_kind(handle, events.StepCompleted)
            assert "-".join(told[:3]).encode() in made.input
            assert told[1] != told[8]
            assert told[2] != told[9]
            assert told[0] < told[7]
            return told

    with caplog.at_level(logging.WARNING, logger="perdure.run"):
        told = run(main)
    assert told[3:7] == ["a", "test_engine_context.looks_around", told[5], "None"]
    spoken = [record for record in caplog.records if record.name == "perdure.run"]
    assert [record.getMessage() for record in spoken] == ["before the pause", "after the pause"]
    assert {getattr(record, "run_id") for record in spoken} == {"a"}


def test_two_runs_have_different_chances(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            one, two = await asyncio.gather(engine.run(looks_around(0)), engine.run(looks_around(0)))
            assert one[1] != two[1]
            assert one[2] != two[2]

    run(main)


@step
def speaks() -> None:
    perdure.log.warning("in a step")


@workflow
async def speaks_in_a_step() -> None:
    await speaks()


def test_the_log_in_a_step_tells_run_step_and_attempt(
    memory: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            await engine.run(speaks_in_a_step(), id="a")

    with caplog.at_level(logging.WARNING, logger="perdure.run"):
        run(main)
    (record,) = [record for record in caplog.records if record.name == "perdure.run"]
    told = record.__dict__
    assert (told["run_id"], told["step_id"].rpartition(".")[2], told["attempt"]) == ("a", "speaks#1", 1)


@workflow
async def sleeps() -> list[Any]:
    start = perdure.now()
    await perdure.sleep(timedelta(milliseconds=20))
    first = perdure.now()
    await perdure.sleep_until(first + timedelta(milliseconds=20))
    second = perdure.now()
    await perdure.sleep_until(start)  # past already
    await perdure.sleep(0)
    assert perdure.now() == second
    told: list[Any] = [(first - start).total_seconds(), (second - first).total_seconds()]
    try:
        await perdure.sleep_until(datetime(2030, 1, 1))
    except UsageError as error:
        told.append(str(error))
    for wrong in (-1, float("nan")):
        try:
            await perdure.sleep(wrong)
        except perdure.PerdureError as error:
            told.append(str(error))
    return told


def test_sleeping_never_ends_early(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            first, second, zone, negative, nan = await engine.run(sleeps())
            assert first >= 0.02
            assert second >= 0.02
            assert "time zone" in zone
            assert "-1" in negative
            assert "nan" in nan

    run(main)


def test_perdure_run_is_a_sync_one_liner_that_does_no_work_twice(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    assert perdure.run(greets("you"), url=url, id="r-1") == "hello you"
    assert perdure.run(greets("you"), url=url, id="r-1") == "hello you"

    async def main() -> None:
        async with Engine(url) as engine:
            assert len(await of_kind(engine.get("r-1"), events.StepCompleted)) == 1

    run(main)
    with pytest.raises(perdure.RunConflictError):
        perdure.run(greets("them"), url=url, id="r-1")
    with pytest.raises(perdure.StoreError):
        perdure.run(greets("you"), url=f"sqlite:///{tmp_path}/missing/runs.db")


def test_the_environment_names_the_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERDURE_URL", f"sqlite:///{tmp_path / 'env.db'}")
    assert perdure.run(greets("you")) == "hello you"
    assert os.path.exists(tmp_path / "env.db")


def test_a_file_named_by_the_environment_names_the_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So that an orchestrator can hand a password over without the environment showing it."""
    secret = tmp_path / "url"
    monkeypatch.setenv("PERDURE_URL_FILE", str(secret))
    with pytest.raises(perdure.errors.ConfigurationError, match="which can't be read"):
        perdure.Engine()
    secret.write_text("\n")
    with pytest.raises(perdure.errors.ConfigurationError, match="which is empty"):
        perdure.Engine()
    secret.write_text(f"sqlite:///{tmp_path / 'file.db'}\n")
    assert perdure.run(greets("you")) == "hello you"
    assert os.path.exists(tmp_path / "file.db")
    monkeypatch.setenv("PERDURE_URL", f"sqlite:///{tmp_path / 'env.db'}")
    assert perdure.Engine().url.endswith("env.db"), "which says more directly what is meant"


def test_many_runs_are_started_in_one_commit(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            calls = [greets(str(number)) for number in range(200)]
            handles = await engine.start_many(calls, ids=[f"r-{number}" for number in range(200)])
            assert [handle.id for handle in handles] == [f"r-{number}" for number in range(200)]
            results = await asyncio.gather(*(handle.result() for handle in handles))
            assert results == [f"hello {number}" for number in range(200)]
            assert await engine.start_many([]) == []
            again = await engine.start_many([greets("0"), greets("new")], ids=["r-0", "r-new"])
            assert [await handle.result() for handle in again] == ["hello 0", "hello new"]
            twice = await engine.start_many([greets("x"), greets("x")], ids=["same", "same"])
            assert [await handle.result() for handle in twice] == ["hello x", "hello x"]

    run(main)


def test_a_delayed_run_is_queued_until_its_time(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(looks_around(0), id="a", delay=3600)
            assert await handle.status() == Status.QUEUED
        place.ahead += 3600
        async with place.engine() as engine:
            handle = engine.get("a")
            told = await handle.result()
            row = await handle.info()
            begun = datetime.fromisoformat(told[0])
            assert (begun - row.created_at).total_seconds() >= 3600

    run(main)


@workflow
async def fails() -> None:
    raise ValueError("no good")


def test_runs_are_found_by_status_workflow_text_and_time(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:

            async def ids(**filters: Any) -> list[str]:
                return [item.id async for item in engine.runs(**filters)]

            for number in range(5):
                await engine.run(greets(str(number)), id=f"g-{number}")
            with pytest.raises(RunFailed):
                await engine.run(fails(), id="f-1")
            await engine.start(looks_around(0), id="late", delay=60)
            assert await ids() == ["late", "f-1", "g-4", "g-3", "g-2", "g-1", "g-0"]
            assert await ids(limit=2) == ["late", "f-1"]
            assert await ids(status="failed") == ["f-1"]
            assert await ids(status=["failed", Status.QUEUED]) == ["late", "f-1"]
            assert await ids(workflow="fails") == ["f-1"]
            assert await ids(workflow=fails.name) == ["f-1"]
            assert await ids(text="g-", limit=None) == ["g-4", "g-3", "g-2", "g-1", "g-0"]
            since = (await engine.get("f-1").info()).created_at
            assert await ids(since=since) == ["late", "f-1"]
            assert await ids(since=datetime.now(UTC) + timedelta(days=1)) == []
            assert await ids(limit=0) == []

    run(main)


@step
async def hangs() -> None:
    await asyncio.sleep(60)


@workflow
async def waits_for_much() -> None:
    child = await perdure.start(waits(), id="inner")
    await asyncio.gather(hangs(), asyncio.sleep(60), child.result())


@workflow
async def waits() -> None:
    await asyncio.sleep(60)


def test_info_tells_what_a_run_waits_for(place: Place) -> None:
    async def main() -> None:
        async with place.engine(grace=0.05) as engine:
            handle = await engine.start(waits_for_much(), id="a")

            async def all_noted() -> bool:
                return len((await handle.info()).waiting_for) == 3

            await until(all_noted)
            info = await handle.info()
            by_kind = {wait.kind: wait for wait in info.waiting_for}
            assert sorted(by_kind) == ["child", "step", "timer"]
            assert by_kind["child"].detail == "inner"
            assert by_kind["timer"].until is not None
            assert by_kind["timer"].until - by_kind["timer"].since > 50
            assert "attempt 1" in by_kind["step"].detail
            assert info.status == Status.RUNNING
            inner = engine.get("inner")
            await reaches(inner, "waiting")
            assert (await inner.info()).parent == "a"
            await handle.terminate()
            assert (await handle.info()).waiting_for == ()

    run(main)


def test_a_result_can_be_waited_for_with_a_limit(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits(), id="a")
            with pytest.raises(TimeoutError, match=r"'a' hasn't ended within 0\.01 s; it goes on"):
                await handle.result(timeout=0.01)
            assert not (await handle.status()).final
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result(timeout=timedelta(seconds=10))

    run(main)
