"""Agents of the OpenAI Agents SDK in runs: each model and tool is called once, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent, Runner
from agents_kit import (
    CITIES,
    Brain,
    backwards,
    calls,
    dies_everywhere,
    flaky,
    forecaster,
    hopeless,
    says,
    team,
    wants,
)
from engine_kit import Place, of_kind, recorded, run

import perdure
from perdure.integrations.openai_agents import DurableRunner, DurableSettings, StepSettings


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@perdure.workflow
async def forecast(question: str) -> list[Any]:
    result = await DurableRunner.run(forecaster(), question)
    usage = result.context_wrapper.usage
    return [
        result.final_output,
        usage.requests,
        usage.input_tokens,
        len(result.new_items),
        result.last_agent.name,
    ]


EXPECTED = ["it is sunny in Ulm and hot in Bonn", 2, 200, 5, "Forecaster"]


def test_models_and_tools_are_called_once(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(forecast("how is it?"), id="r") == EXPECTED
            steps = await recorded(engine.get("r"))
            assert sorted(steps) == [
                "1/Forecaster.model#1",
                "Forecaster.model#1",
                "in_a_thread[call-2]",
                "weather[call-1]",
            ]
        assert calls == {"brain-1": 2, "weather Ulm": 1, "thread Bonn": 1}
        async with place.engine() as engine:
            forked = await engine.get("r").fork()
            assert await forked.result() == EXPECTED
            usage = await engine.get("r").usage()
            assert usage.input_tokens == 200
        assert calls.total() == 4

    run(main)


def test_outside_of_runs_the_runner_is_the_sdks() -> None:
    async def main() -> None:
        plain = await Runner.run(forecaster(), "how is it?")
        ours = await DurableRunner.run(forecaster(), "how is it?")
        assert plain.final_output == ours.final_output == EXPECTED[0]

    run(main)


def test_a_fork_with_another_result_asks_the_model_again(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(forecast("how is it?"), id="r")
            calls.clear()
            forked = await engine.get("r").fork(edits={"weather[call-1]": "rain in Ulm"})
            assert (await forked.result())[0] == "it is rain in Ulm and hot in Bonn"
        assert calls == {"brain-1": 1}

    run(main)


# -- crashes --------------------------------------------------------------------------------------------


@perdure.workflow
async def teamwork(question: str) -> list[Any]:
    result = await DurableRunner.run(team(), question)
    return [result.final_output, result.context_wrapper.usage.requests, result.last_agent.name]


@perdure.workflow
async def all_at_once(question: str) -> list[Any]:
    def think(call: Any, answered: int) -> Any:
        if answered == 0:
            return [wants("backwards", f"call-{number}", number=number) for number in range(len(CITIES))]
        return says(str([item["output"] for item in call.input if "output" in item]))

    result = await DurableRunner.run(Agent("Many", model=Brain("many", think), tools=[backwards]), question)
    return [result.final_output]


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_a_team_survives_a_crash_at_any_append(commits: bool, make_place: Callable[[], Place]) -> None:
    async def main() -> None:
        assert await dies_everywhere(make_place, lambda: teamwork("what happens?"), commits) > 8

    run(main)


def test_a_team_does_what_it_would_do_without_a_run(memory: Place) -> None:
    async def main() -> None:
        plain = await Runner.run(team(), "what happens?")
        expected = [plain.final_output, plain.context_wrapper.usage.requests, plain.last_agent.name]
        asked = calls.copy()
        calls.clear()
        async with memory.engine() as engine:
            assert await engine.run(teamwork("what happens?"), id="r") == expected
            names = set(await recorded(engine.get("r")))
            assert {"weather[fact-Ulm]", "weather[fact-Bonn]", "in_a_thread[ask-2]"} <= names
            assert not any(name.startswith("find_facts") for name in names), "an agent as a tool is no step"
        assert calls == asked

    run(main)


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_ten_tools_at_once_that_end_in_reverse_order(commits: bool, make_place: Callable[[], Place]) -> None:
    async def main() -> None:
        assert await dies_everywhere(make_place, lambda: all_at_once("go"), commits) >= 4
        place = make_place()
        async with place.engine() as engine:
            await engine.run(all_at_once("go"), id="r")
            ended = [
                event.step
                for event in await of_kind(engine.get("r"), perdure.events.StepCompleted)
                if event.step.startswith("backwards")
            ]
            assert ended == [f"backwards[call-{number}]" for number in reversed(range(len(CITIES)))]

    run(main)


# -- errors ---------------------------------------------------------------------------------------------


@perdure.workflow
async def troubled(question: str) -> str:
    def think(call: Any, answered: int) -> Any:
        if answered == 0:
            return [wants("flaky", "call-1", city="Ulm"), wants("hopeless", "call-2", city="Bonn")]
        return says("; ".join(item["output"] for item in call.input if "output" in item))

    settings = DurableSettings(tools=StepSettings(retry=perdure.Retry(initial=0.001, never=(ValueError,))))
    agent = Agent("Troubled", model=Brain("troubled", think), tools=[flaky, hopeless])
    return str((await DurableRunner.run(agent, question, durable=settings)).final_output)


def test_a_tool_is_tried_again_before_the_model_is_told_of_its_error(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            told = await engine.run(troubled("go"), id="r")
        assert told.startswith("cold in Ulm; An error occurred while running the tool.")
        assert calls == {"troubled": 2, "flaky Ulm": 3, "hopeless Bonn": 1}

    run(main)
