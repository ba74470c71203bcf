"""An engine used wrongly says so, naming what, why and what to do; and what it was used for isn't harmed."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest
from engine_kit import Place, greets, of_kind, run, says, works

import perdure
from perdure import Engine, events, workflow
from perdure.errors import ConfigurationError, EngineClosedError, PerdureError, UsageError


def test_an_engine_that_was_not_entered_says_how_to_enter_it(memory: Place) -> None:
    async def main() -> None:
        with pytest.raises(EngineClosedError, match=r"isn't open.*async with Engine"):
            await memory.engine().start(greets("x"))

    run(main)


def test_an_engine_can_be_entered_once_only(place: Place) -> None:
    async def main() -> None:
        engine = place.engine()
        async with engine:
            with pytest.raises(UsageError, match=r"entered already.*make a new one"):
                await engine.__aenter__()
            await works(engine)
        with pytest.raises(UsageError, match="entered already"):
            await engine.__aenter__()

    run(main)


def test_a_closed_engine_refuses_everything_and_closing_again_is_fine(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(greets("x"), id="a")
            await handle.result()
        await engine.close()
        for use in (engine.start(greets("x")), handle.result(), handle.status(), handle.cancel()):
            with pytest.raises(EngineClosedError, match="isn't open"):
                await use
        with pytest.raises(EngineClosedError):
            engine.get("a")
        with pytest.raises(EngineClosedError):
            await engine.start_many([greets("x")])

    run(main)


def test_an_engine_belongs_to_the_loop_that_entered_it(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:

            async def elsewhere() -> None:
                with pytest.raises(UsageError, match="another event loop"):
                    await engine.start(greets("x"))

            await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
            await works(engine)

    run(main)


_ENGINES: list[Engine] = []


@workflow
async def uses_an_engine() -> str:
    try:
        await _ENGINES[0].start(greets("x"))
    except UsageError as error:
        return str(error)
    return "it went through"


def test_an_engine_used_in_workflow_code_points_at_child_runs(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            _ENGINES[:] = [engine]
            assert "perdure.start(call)" in await engine.run(uses_an_engine())

    run(main)


def test_results_awaited_while_the_engine_closes_end_with_an_error_that_says_so(place: Place) -> None:
    @workflow(name="misuse.waits_long")
    async def waits_long() -> None:
        await asyncio.sleep(1000)

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits_long(), id="a")
            waiting = asyncio.ensure_future(handle.result())
            await asyncio.sleep(0.02)
        with pytest.raises(EngineClosedError, match="goes on when one is open"):
            await waiting

    run(main)


@pytest.mark.parametrize("ask", ["status", "info", "result", "cancel", "terminate"])
def test_an_unknown_run_id_is_named_with_where_to_look(place: Place, ask: str) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(
                perdure.UnknownRunError, match=r"no run has the id 'nobody'.*perdure ls"
            ) as info:
                await getattr(engine.get("nobody"), ask)()
            assert info.value.run_id == "nobody"
            with pytest.raises(perdure.UnknownRunError):
                [event async for event in engine.get("nobody").history()]

    run(main)


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "PERDURE_URL"),
        ("agents.db", "sqlite:///"),
        ("sqlite:agents.db", "sqlite:///"),
        ("sqlite:///", "sqlite:///"),
        ("sqlite:///:memory:", "memory:"),
        ("mysql://host/db", "mysql://host/db"),
    ],
)
def test_a_bad_url_is_refused_with_the_forms_there_are(url: str, word: str) -> None:
    with pytest.raises(ConfigurationError) as info:
        Engine(url)
    assert word in str(info.value)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 0},
        {"threads": -1},
        {"lease": 0},
        {"lease": float("nan")},
        {"evict_after": -0.1},
        {"evict_after": float("nan")},
        {"max_resident": 0},
        {"max_payload": 0},
        {"max_recoveries": -1},
        {"turn_limit": 0},
        {"turn_limit": float("nan")},
        {"grace": -1},
        {"queues": ()},
        {"queues": "default"},
    ],
    ids=str,
)
def test_a_bad_number_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Engine("memory:", **options)


@pytest.mark.parametrize("id", ["", "a\nb", "x" * 1001, "tab\t", 7])
def test_a_bad_run_id_is_refused_before_anything_is_written(place: Place, id: Any) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(UsageError, match="run id"):
                await engine.start(greets("x"), id=id)
            assert [item async for item in engine.runs()] == []
            await works(engine)

    run(main)


def test_only_the_call_of_a_workflow_can_be_started(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            given: list[Any] = [says("x"), greets, None]
            for wrong in given:
                with pytest.raises(UsageError, match="call of a workflow"):
                    await engine.start(wrong)
            with pytest.raises(UsageError, match="2 calls and 1 ids"):
                await engine.start_many([greets("a"), greets("b")], ids=["x"])
            with pytest.raises(UsageError, match="perhaps"):
                await engine.start(greets("a"), if_exists="perhaps")  # type: ignore[arg-type]
            for option in ("delay", "timeout"):
                with pytest.raises(PerdureError, match=option):
                    await engine.start(greets("a"), **{option: -1})  # type: ignore[arg-type]
            assert [item async for item in engine.runs()] == []

    run(main)


def test_a_call_nobody_awaits_warns(memory: Place) -> None:
    with pytest.warns(RuntimeWarning, match=r"says\('x'\).*never awaited"):
        says("x")

    @workflow(name="misuse.forgets")
    async def forgets() -> str:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            says("forgotten")
        return str(seen[0].message)

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(forgets(), id="a")
            assert "never awaited" in await handle.result()
            assert await of_kind(handle, events.StepCompleted) == []

    run(main)


def test_perdure_run_inside_a_running_loop_points_at_the_engine() -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match=r"await engine\.run"):
            perdure.run(greets("x"), url="memory:")

    run(main)
