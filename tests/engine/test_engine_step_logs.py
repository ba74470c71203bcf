"""What steps log is kept with their runs, if somebody wants that; and costs nothing otherwise."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import process_kit as kit
import pytest
from engine_kit import Place, run

import perdure
from perdure import Engine, LogLine, Retry, StepLogHandler, step, workflow
from perdure.api import steplogs

logger = logging.getLogger("steplogs.app")


@pytest.fixture
def kept() -> Iterator[None]:
    handler = StepLogHandler(logging.INFO)
    mine = [logging.getLogger("steplogs"), logging.getLogger("perdure.run")]
    levels = [each.level for each in mine]
    for each in mine:
        each.addHandler(handler)
        each.setLevel(logging.DEBUG)
    yield
    for each, level in zip(mine, levels, strict=True):
        each.removeHandler(handler)
        each.setLevel(level)


@step(name="steplogs.falters", retry=Retry(max_attempts=2, initial=0.001))
async def falters() -> int:
    attempt = perdure.step_info().attempt
    logger.info("attempt %d", attempt)
    logger.debug("not kept")
    if attempt == 1:
        try:
            raise OSError("no route")
        except OSError:
            logger.exception("trouble")
            raise
    return attempt


@step(name="steplogs.in_thread")
def in_thread() -> None:
    perdure.log.warning("from a thread")


@step(name="steplogs.chatters")
async def chatters(lines: int) -> None:
    for number in range(lines):
        logger.info("line %d", number)
    logger.info("x" * 10_000)


@workflow(name="steplogs.story")
async def story() -> int:
    perdure.log.info("of the workflow, which isn't kept")
    await in_thread()
    return await falters()


@workflow(name="steplogs.chat")
async def chat(lines: int) -> None:
    await chatters(lines)


async def lines_of(engine: Engine, id: str) -> list[LogLine]:
    return [line async for line in engine.get(id).step_logs()]


@pytest.mark.usefixtures("kept")
def test_lines_tell_their_step_and_attempt_also_those_that_failed(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(story(), id="a") == 2
            found = await lines_of(engine, "a")
            assert [(line.step, line.attempt, line.level, line.text) for line in found] == [
                ("steplogs.in_thread#1", 1, "WARNING", "from a thread"),
                ("steplogs.falters#1", 1, "INFO", "attempt 1"),
                ("steplogs.falters#1", 1, "ERROR", "trouble"),
                ("steplogs.falters#1", 2, "INFO", "attempt 2"),
            ]
            assert "OSError: no route" in found[2].error
            assert found[1].logger == "steplogs.app"
            assert [line.offset for line in found] == sorted({line.offset for line in found})
            rest = [line async for line in engine.get("a").step_logs(found[1].offset)]
            assert rest == found[2:]

    run(main)


@pytest.mark.usefixtures("kept")
def test_lines_are_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steplogs, "LINES_MAX", 5)

    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(chat(100), id="many")
            await engine.run(chat(2), id="few")
            many, few = await lines_of(engine, "many"), await lines_of(engine, "few")
            assert [line.text for line in many[:5]] == [f"line {number}" for number in range(5)]
            assert len(many) == 6
            assert many[5].text.startswith("5 lines of this attempt are kept")
            assert few[2].text.endswith("… 6,000 more characters")

    run(main)


def test_half_a_surrogate_pair_is_told_as_such() -> None:
    assert steplogs._cut("half a pair: \ud800", 100) == "half a pair: \\ud800"


def test_without_a_handler_nothing_is_kept(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(story(), id="a")
            assert await lines_of(engine, "a") == []

    run(main)


@workflow(name="steplogs.in_process")
async def in_process() -> dict[str, object]:
    return await kit.uses_its_context()


@pytest.mark.usefixtures("kept")
def test_lines_of_steps_in_processes_are_kept(place: Place) -> None:
    async def main() -> None:
        async with place.engine(processes=1) as engine:
            await engine.run(in_process(), id="a")
            found = await lines_of(engine, "a")
            assert found
            assert all(line.step == "process_kit.uses_its_context#1" for line in found)
            assert f"attempt {found[0].attempt} speaks" == found[0].text

    run(main)
