"""Observers hear what is durable, once, and harm nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from engine_kit import Place, run

import perdure
from perdure import events as ev
from perdure import step, workflow
from perdure.runtime import observing
from perdure.runtime.observing import Driven, Observer, Watched


@step
async def double(number: int) -> int:
    return 2 * number


@workflow
async def doubles(count: int) -> int:
    total = 0
    for number in range(count):
        total += await double(number)
    await perdure.receive("go")
    return total


class Hearing(Observer):
    def __init__(self) -> None:
        self.told: list[Any] = []
        self.engines: list[Watched] = []
        self.closed = 0

    def watch(self, engine: Watched) -> Observer:
        self.engines.append(engine)
        return self

    async def close(self) -> None:
        self.closed += 1

    def born(self, run: Driven, started: ev.RunStarted) -> None:
        self.told.append(("born", run.id, started.workflow))

    def recalled(self, run: Driven, history: Sequence[bytes], *, recovered: bool) -> None:
        self.told.append(("recalled", run.id, len(history), recovered))

    def recorded(self, run: Driven, events: Sequence[ev.Event], append: Any) -> None:
        self.told += [type(event).__name__ for event in events]

    def let_go(self, run: Driven) -> None:
        self.told.append(("let go", run.id))

    def begins(self, attempt: Any) -> None:
        self.told.append(("begins", attempt.info.step_id, attempt.info.attempt))

    def ended_outside(self, id: str) -> None:
        self.told.append(("ended outside", id))


def test_each_event_is_heard_once_and_none_on_replay() -> None:
    place, hearing = Place(), Hearing()

    async def main() -> None:
        async with place.engine(telemetry=hearing, name="one") as engine:
            handle = await engine.start(doubles(2), id="r")
            while await handle.status() != "waiting":
                await asyncio.sleep(0.01)
        assert hearing.told[0] == ("born", "r", doubles.name)
        assert [item for item in hearing.told if item[0] == "begins"] == [
            ("begins", "test_engine_observing.double#1", 1),
            ("begins", "test_engine_observing.double#2", 1),
        ]
        assert hearing.told[-1] == ("let go", "r")
        assert hearing.told.count("StepCompleted") == 2
        assert hearing.closed == 1
        assert hearing.engines[0].name == "one"

        hearing.told.clear()
        async with place.engine(telemetry=[hearing]) as engine:
            await engine.get("r").send("go", None)
            assert await engine.get("r").result() == 2
        assert hearing.told[0][:2] == ("recalled", "r")
        assert hearing.told[0][3] is False
        assert "StepCompleted" not in hearing.told
        assert hearing.told.count("RunCompleted") == 1
        assert hearing.told[-1] == ("let go", "r")

    run(main)


def test_what_observers_raise_is_logged_once_and_harms_no_run(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Observer):
        def watch(self, engine: Watched) -> Observer:
            return self

        def recorded(self, run: Driven, events: Sequence[ev.Event], append: Any) -> None:
            raise RuntimeError("no")

        def begins(self, attempt: Any) -> None:
            raise RuntimeError("no")

    hearing, failing = Hearing(), Failing()
    observing.install(failing)
    try:

        async def main() -> None:
            async with Place().engine(telemetry=hearing) as engine:
                handle = await engine.start(doubles(3), id="r")
                await handle.send("go", None)
                assert await handle.result() == 6

        with caplog.at_level(logging.ERROR, "perdure.telemetry"):
            run(main)
    finally:
        observing.uninstall(failing)
    assert hearing.told.count("StepCompleted") == 3  # the others are told all the same
    assert sorted(record.getMessage() for record in caplog.records) == [
        "Failing.begins() failed; runs go on",
        "Failing.recorded() failed; runs go on",
    ]


def test_a_run_that_is_terminated_is_heard_of_where_that_was_done() -> None:
    hearing = Hearing()

    async def main() -> None:
        async with Place().engine(telemetry=hearing) as engine:
            handle = await engine.start(doubles(1), id="r")
            await handle.terminate("enough")
            while ("let go", "r") not in hearing.told:
                await asyncio.sleep(0.01)

    run(main)
    assert ("ended outside", "r") in hearing.told
