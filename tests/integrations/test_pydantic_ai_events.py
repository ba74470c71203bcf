"""Events and streams of agents in workflows, and telemetry."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent, RunContext
from pydantic_ai._run_context import get_current_run_context
from pydantic_ai.capabilities import Instrumentation, ProcessEventStream
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    AgentStreamEvent,
    FinalResultEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    PartDeltaEvent,
    PartStartEvent,
    TextPartDelta,
    ToolCallPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel
from pydantic_ai_kit import calls_tools, echo, play, played, run

import perdure
from perdure.api.inline import in_run
from perdure.integrations.pydantic_ai import PerdureDurability, emit_events
from perdure.runtime.stepcontext import current_step


async def chunks(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str]:
    yield "Stream"
    yield "ed "
    yield "answer"


streams = FunctionModel(stream_function=chunks, model_name="streams")


class Heard:
    """A handler of events that notes where it was called."""

    def __init__(self) -> None:
        self.events: list[AgentStreamEvent] = []
        self.in_step: list[bool] = []

    async def __call__(self, ctx: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            self.events.append(event)
            self.in_step.append(not in_run() and current_step.get() is not None)

    def texts(self) -> list[str]:
        found = [event.delta for event in self.events if isinstance(event, PartDeltaEvent)]
        return [delta.content_delta for delta in found if isinstance(delta, TextPartDelta)]

    def count(self, kind: type) -> int:
        return sum(isinstance(event, kind) for event in self.events)


async def handled() -> str:
    """A tool."""
    return "handled"


def test_a_capability_that_hears_events_hears_them_in_the_workflow() -> None:
    heard = Heard()
    capabilities: list[Any] = [ProcessEventStream(heard), PerdureDurability()]
    agent = Agent(streams, name="in-workflow", capabilities=capabilities)

    async def body() -> str:
        return (await agent.run("go")).output

    found = played(body)
    assert found.value == "Streamed answer"
    assert found.names == ["in-workflow__model.request_stream"]
    assert not any(heard.in_step)
    assert heard.count(PartStartEvent) == 2  # once more for the replay: it is workflow code


def test_callers_get_streams_of_what_was_recorded() -> None:
    agent = Agent(
        TestModel(custom_output_text="hello world"), name="buffered", capabilities=[PerdureDurability()]
    )

    async def body() -> list[Any]:
        async with agent.run_stream("go") as stream:
            texts = [text async for text in stream.stream_text(debounce_by=None)]
            output = await stream.get_output()
        async with agent.run_stream_events("go") as stream:
            events = [event async for event in stream]
        deltas = [event.delta for event in events if isinstance(event, PartDeltaEvent)]
        return [
            texts[-1],
            output,
            "".join(d.content_delta for d in deltas if isinstance(d, TextPartDelta)) != "",
        ]

    found = played(body)
    assert found.value[:2] == ["hello world", "hello world"]
    assert found.names == ["buffered__model.request_stream"] * 2


def test_a_handler_hears_in_steps_and_once() -> None:
    heard = Heard()
    durability = PerdureDurability[Any](event_stream_handler=heard)
    agent = Agent(TestModel(), name="handler", tools=[handled], capabilities=[durability])

    async def body() -> str:
        return (await agent.run("go")).output

    found = played(body)
    assert all(heard.in_step)
    assert heard.count(FunctionToolCallEvent) == heard.count(FunctionToolResultEvent) == 1
    assert heard.count(PartStartEvent) == 2
    assert heard.count(FinalResultEvent) == 1
    assert found.names.count("handler__event_stream_handler") == 2
    assert found.names.count("handler__model.request_stream") == 2


def test_a_handler_gets_a_models_text_as_it_comes() -> None:
    heard = Heard()
    agent = Agent(streams, name="live", capabilities=[PerdureDurability(event_stream_handler=heard)])

    async def body() -> str:
        return (await agent.run("go")).output

    assert played(body).value == "Streamed answer"
    assert heard.texts() == ["ed ", "answer"]


def test_a_handler_cant_enqueue() -> None:
    refused: list[str] = []

    async def handler(ctx: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for _ in events:
            for context in (ctx, get_current_run_context()):
                assert context is not None
                with pytest.raises(UserError, match="enqueued messages would be dropped"):
                    context.enqueue("later")
                refused.append("")

    durability = PerdureDurability[Any](event_stream_handler=handler)
    agent = Agent(TestModel(), name="enqueues", tools=[handled], capabilities=[durability])

    async def body() -> str:
        return (await agent.run("go")).output

    played(body)
    assert len(refused) > 2


def test_a_handler_hears_outside_of_runs_as_well() -> None:
    heard = Heard()
    agent = Agent(streams, name="outside", capabilities=[PerdureDurability(event_stream_handler=heard)])

    async def main() -> None:
        await agent.run("go")

    run(main)
    assert heard.texts() == ["ed ", "answer"]
    assert not any(heard.in_step)


def test_without_a_handler_nothing_is_streamed() -> None:
    assert PerdureDurability[Any]().has_wrap_run_event_stream is False


def test_a_handler_of_one_run_hears_what_was_recorded() -> None:
    heard = Heard()
    agent = Agent(streams, name="of-one-run", capabilities=[PerdureDurability()])

    async def body() -> str:
        return (await agent.run("go", event_stream_handler=heard)).output

    assert played(body).value == "Streamed answer"
    assert heard.count(PartStartEvent) == 2
    assert not any(heard.in_step)


def test_a_handler_that_fails_is_tried_again_by_its_own_options() -> None:
    calls: list[str] = []

    async def handler(ctx: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            if isinstance(event, FunctionToolCallEvent):
                calls.append("")
                if len(calls) < 3:
                    raise ValueError("not yet")

    event: Any = {"retry": perdure.Retry(max_attempts=3, initial=0.001)}
    durability = PerdureDurability[Any](event_stream_handler=handler, event=event)
    agent = Agent(TestModel(), name="fails", tools=[handled], capabilities=[durability])

    async def body() -> str:
        return (await agent.run("go")).output

    played(body)
    assert len(calls) == 3


def test_events_can_be_a_stream_of_the_run() -> None:
    durability = PerdureDurability[Any](event_stream_handler=emit_events("events"))
    agent = Agent(TestModel(), name="emits", tools=[handled], capabilities=[durability])

    async def body() -> str:
        return (await agent.run("go")).output

    async def main() -> list[Any]:
        found = await play(body)
        async with found.database.engine(worker=False) as engine:
            return [item.value async for item in engine.get(found.id).stream("events")]

    items = run(main)
    kinds = [item["event_kind"] for item in items]
    assert kinds.count("function_tool_call") == kinds.count("function_tool_result") == 1
    assert kinds.count("part_start") == 2
    assert "".join(item["delta"]["content_delta"] for item in items if item["event_kind"] == "part_delta")


# -- telemetry ----------------------------------------------------------------------------------------


def test_a_replay_leaves_no_spans() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings = InstrumentationSettings(tracer_provider=provider)
    capabilities: list[Any] = [Instrumentation(settings=settings), PerdureDurability()]
    agent = Agent(
        calls_tools(ToolCallPart("handled", {}, tool_call_id="h")),
        name="spans",
        tools=[handled],
        capabilities=capabilities,
    )

    async def body() -> str:
        return (await agent.run("go")).output

    played(body)
    names = sorted(span.name for span in exporter.get_finished_spans())
    assert names == ["chat calls-tools", "chat calls-tools", "execute_tool handled", "invoke_agent spans"]


def test_what_executes_after_a_replay_leaves_its_spans() -> None:
    """Half is replayed, half executes: the agent's span is told, and those of the new half."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings = InstrumentationSettings(tracer_provider=provider)
    capabilities: list[Any] = [Instrumentation(settings=settings), PerdureDurability()]
    agent = Agent(echo, name="halves", capabilities=capabilities)

    async def main() -> None:
        from helpers.engines import Database, until

        database = Database(None)

        @perdure.workflow(name="halves")
        async def halves() -> str:
            first = await agent.run("a")
            await perdure.receive("go")
            return first.output + (await agent.run("b")).output

        async with database.engine() as engine:
            await engine.start(halves(), id="h")
            await until(lambda: len(exporter.get_finished_spans()) == 2)
        async with database.engine() as engine:
            await engine.get("h").send("go", None)
            assert await engine.get("h").result() == "Echo: aEcho: b"
        assert len(exporter.get_finished_spans()) == 4

    run(main)
