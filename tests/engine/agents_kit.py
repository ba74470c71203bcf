"""What the tests of the OpenAI Agents SDK share: models that answer by what they are asked, tools that are counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    Runner,
    function_tool,
    input_guardrail,
    output_guardrail,
)
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call
from agents.usage import Usage
from engine_kit import Ledger, Mortal, Place, Places, bury, crash, recorded

import perdure
from perdure.runtime.stepcontext import current_step

USAGE = Usage(requests=1, input_tokens=100, output_tokens=10, total_tokens=110)

#: What was called, since the last `calls.clear()`.
calls: Counter[str] = Counter()

#: What bodies tell that they begin, if anything.
ledgers: list[Ledger] = []


def counts(what: str) -> None:
    """What every body does first."""
    calls[what] += 1
    step = current_step.get()
    if step is not None and ledgers:
        ledgers[-1].begins(step.run_id, step.step_id)


class Brain(ScriptedModel):
    """Answers with what `think` makes of a call, so that any engine's copy of it answers the same.

    Args:
        think: gets the call and how often tools have answered in it.
    """

    def __init__(self, name: str, think: Callable[[ModelCall, int], Any], usage: Usage = USAGE) -> None:
        super().__init__([])
        self.model = name
        self.think = think
        self.usage = usage

    def _next(self, call: ModelCall) -> Any:
        counts(self.model)
        answered = [item for item in call.input if isinstance(item, dict) and "output" in item]
        return self.think(call, len(answered))

    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        self._steps.append(ModelStep.respond(self._answer))
        return await super().get_response(*args, **kwargs)

    async def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        self._steps.append(ModelStep.respond(self._answer))
        async for event in super().stream_response(*args, **kwargs):
            yield event

    def _answer(self, call: ModelCall) -> ModelStep:
        answer = self._next(call)
        if isinstance(answer, Exception):
            raise answer
        items = answer if isinstance(answer, list) else [answer]
        return ModelStep(output=items, usage=self.usage, response_id=f"resp-{self.model}")


def says(text: str) -> Any:
    return assistant_message(text)


def wants(tool: str, id: str, **arguments: Any) -> Any:
    return function_call(tool, arguments, call_id=id)


@function_tool
async def weather(city: str) -> str:
    """The weather in a city."""
    counts(f"weather {city}")
    await asyncio.sleep(0)
    return f"sunny in {city}"


@function_tool
def in_a_thread(city: str) -> str:
    """The same, sync."""
    counts(f"thread {city}")
    return f"hot in {city}"


CITIES = [f"c{number}" for number in range(10)]


@function_tool
async def backwards(number: int) -> dict[str, int]:
    """Ends the later the smaller the number."""
    counts(f"backwards {number}")
    for _ in range(3 * (len(CITIES) - number)):
        await asyncio.sleep(0)
    return {"number": number}


def forecaster(name: str = "Forecaster") -> Agent[Any]:
    """Asks for the weather of two cities at once, then says it."""

    def think(call: ModelCall, answered: int) -> Any:
        if answered == 0:
            return [wants("weather", "call-1", city="Ulm"), wants("in_a_thread", "call-2", city="Bonn")]
        return says("it is " + " and ".join(str(i["output"]) for i in call.input if "output" in i))

    return Agent(
        name, instructions="Tell the weather.", model=Brain("brain-1", think), tools=[weather, in_a_thread]
    )


# -- crashes --------------------------------------------------------------------------------------------


async def _life(place: Place, call: Callable[[], Any], dies_at: int, commits: bool, drive: Any) -> bool:
    """Let an engine drive until it dies at its n-th append, or is done. Returns whether it died."""

    engine = place.engine(lambda inner: Mortal(inner, dies_at, commits, ledgers[-1]))
    await engine.__aenter__()
    store: Any = engine._store
    driving = asyncio.ensure_future(drive(engine, call))
    dying = asyncio.ensure_future(store.dead.wait())
    await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
    died = bool(store.dead.is_set())
    driving.cancel()
    dying.cancel()
    with suppress(asyncio.CancelledError, perdure.PerdureError):
        await driving
    await crash(engine)
    await bury(place)
    return died


async def drives(engine: perdure.Engine, call: Callable[[], Any]) -> Any:
    return await engine.run(call(), id="a")


async def dies_everywhere(
    make_place: Places, call: Callable[[], Any], commits: bool, drive: Any = drives
) -> int:
    """Die at the n-th append, for each n, and take over: nothing is recorded twice, or executed once recorded.

    Returns how many appends an undisturbed run makes.
    """
    place = make_place()
    ledgers.append(Ledger())
    async with place.engine() as engine:
        expected = await drive(engine, call), sorted(await recorded(engine.get("a")))
    number, died = 0, True
    while died:
        number += make_place.stride
        place = make_place()
        ledgers.append(Ledger())
        died = await _life(place, call, number, commits, drive)
        async with place.engine() as engine:
            found = await drive(engine, call), sorted(await recorded(engine.get("a")))
        assert found == expected, f"died at append {number}"
        assert ledgers[-1].repeated == [], f"died at append {number}"
    ledgers.clear()
    return number - 1


# -- a team ---------------------------------------------------------------------------------------------


def _triage(call: ModelCall, answered: int) -> Any:
    return wants("transfer_to_writer", "hand-1")


def _fact_finder(call: ModelCall, answered: int) -> Any:
    if answered == 0:
        return [wants("weather", f"fact-{city}", city=city) for city in ("Ulm", "Bonn")]
    return says("facts: " + ", ".join(str(item["output"]) for item in call.input if "output" in item))


def _writer(call: ModelCall, answered: int) -> Any:
    texts = [
        str(item["output"]) for item in call.input if item.get("call_id") == "ask-1" and "output" in item
    ]
    if not texts:
        return [wants("find_facts", "ask-1", input="weather"), wants("in_a_thread", "ask-2", city="Rome")]
    return says(f"a report on {texts[0]}")


def team() -> Agent[Any]:
    """Triage hands over to a writer, who asks another agent as a tool, and has a guardrail that asks a model."""
    finder = Agent("Finder", model=Brain("finder", _fact_finder), tools=[weather])
    judge = Agent("Judge", model=Brain("judge", lambda call, answered: says("harmless")))

    @output_guardrail
    async def harmless(context: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
        judged = await Runner.run(judge, str(output))
        return GuardrailFunctionOutput(output_info=judged.final_output, tripwire_triggered=False)

    @input_guardrail
    async def polite(context: Any, agent: Any, input: Any) -> GuardrailFunctionOutput:
        judged = await Runner.run(judge, str(input))
        return GuardrailFunctionOutput(output_info=judged.final_output, tripwire_triggered=False)

    writer = Agent(
        "Writer",
        model=Brain("writer", _writer),
        tools=[finder.as_tool("find_facts", "Finds facts."), in_a_thread],
        output_guardrails=[harmless],
    )
    triage = Agent("Triage", model=Brain("triage", _triage), handoffs=[writer], input_guardrails=[polite])
    writer.handoffs.append(triage)  # agents may know each other
    return triage


@function_tool
async def flaky(city: str) -> str:
    """Fails at first."""
    counts(f"flaky {city}")
    if perdure.step_info().attempt < 3:
        raise OSError("the wire broke")
    return f"cold in {city}"


@function_tool
async def hopeless(city: str) -> str:
    """Always fails."""
    counts(f"hopeless {city}")
    raise ValueError(f"nothing is known of {city}")
