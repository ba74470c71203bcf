"""What the tests of pydantic-ai agents share: workflows made of a function, executed and then replayed elsewhere.

The scenarios follow those by which pydantic-ai tests its own engines; here each is executed in a run, and replayed in
another engine afterwards: the code must come to the same, and nothing may execute again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, NamedTuple

from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

import perdure
from helpers.engines import Database, run, until
from perdure import Engine, events

__all__ = ["Played", "answers", "calls_tools", "echo", "play", "played", "run", "step_ids", "until"]

_numbers = count(1)


class Played(NamedTuple):
    """What came of a body in a run.

    Attributes:
        value: what it returned live.
        again: what it returned when it was replayed.
        steps: the ids of the run's steps, in the order in which they ended.
        executed: the attempts that the replay began; it should be none.
        history: all events.
        id: the run's.
        database: where it is.
    """

    value: Any
    again: Any
    steps: list[str]
    executed: list[str]
    history: list[events.Event]
    id: str
    database: Database

    @property
    def names(self) -> list[str]:
        """The names of the steps, without what tells them apart."""
        return [step.partition("[")[0].partition("#")[0].rpartition("/")[2] for step in self.steps]


async def step_ids(handle: perdure.Handle[Any]) -> list[str]:
    """The ids of a run's ended steps, in order."""
    ended = (events.StepCompleted, events.StepFailed)
    return [event.step async for event in handle.history() if isinstance(event, ended)]


async def play(body: Callable[[], Awaitable[Any]], **options: Any) -> Played:
    """Execute a body in a run, leave the engine while the run waits, and let another engine replay it."""
    database, number = Database(None), next(_numbers)
    outcomes: list[tuple[bool, Any]] = []

    async def main() -> None:
        try:
            outcomes.append((True, await body()))
        except Exception as error:
            outcomes.append((False, error))
        await perdure.receive("end")

    workflow: Any = perdure.workflow(name=f"played-{number}")(main)
    id = f"r{number}"
    async with database.engine(**options) as engine:
        await engine.start(workflow(), id=id)
        await until(lambda: bool(outcomes) or _is_over(engine, id))
        assert outcomes, (await engine.get(id).info()).reason
        before = await step_ids(engine.get(id))
    async with database.engine(**options) as engine:
        await engine.get(id).send("end", None)
        await until(lambda: _is_over(engine, id))
        assert await engine.get(id).status() == "completed", (await engine.get(id).info()).reason
        history = [event async for event in engine.get(id).history()]
        after = await step_ids(engine.get(id))
    assert len(outcomes) == 2, outcomes
    (lives, value), (survives, again) = outcomes
    if not lives:
        if survives or (type(again), str(again)) != (type(value), str(value)):
            raise AssertionError(f"the replay came to {again!r}") from value
        raise value
    assert survives, again
    return Played(value, again, before, after[len(before) :], history, id, database)


async def _is_over(engine: Engine, id: str) -> bool:
    return (await engine.get(id).status()) in ("blocked", "completed", "failed")


def played(body: Callable[[], Awaitable[Any]], **options: Any) -> Played:
    """`play`, for tests that do nothing else. What the body gives must be the same both times."""
    found: Played = run(lambda: play(body, **options))
    assert found.again == found.value
    assert not found.executed
    return found


# -- models -------------------------------------------------------------------------------------------


def _echoes(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    for message in reversed(messages):
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                return ModelResponse(parts=[TextPart(f"Echo: {part.content}")])
    raise AssertionError("no prompt")


#: Says what it was told.
echo = FunctionModel(_echoes, model_name="echo")


def answers(text: str, name: str = "answers") -> FunctionModel:
    """A model that says this, whatever it was asked."""
    return FunctionModel(lambda messages, info: ModelResponse(parts=[TextPart(text)]), model_name=name)


def calls_tools(*calls: ToolCallPart, then: str = "done") -> FunctionModel:
    """A model that calls these tools at once, and says something when it has what they return."""

    def respond(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        if any(isinstance(part, ToolReturnPart) for message in messages for part in message.parts):
            return ModelResponse(parts=[TextPart(then)])
        return ModelResponse(parts=list(calls))

    return FunctionModel(respond, model_name="calls-tools")
