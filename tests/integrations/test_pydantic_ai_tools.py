"""Tools of agents in workflows: parallel ones, how they end, what they can't do, which toolsets are refused."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, FunctionToolset, RunContext, Tool, ToolReturn
from pydantic_ai.capabilities import Capability, DynamicCapability, SetToolMetadata, Toolset
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, ToolFailed, UserError
from pydantic_ai.messages import BinaryContent, ModelRequest, RetryPromptPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import DeferredToolResults, ToolDefinition
from pydantic_ai.toolsets import DynamicToolset, ExternalToolset
from pydantic_ai_kit import calls_tools, echo, played, run, until

import perdure
from helpers.engines import Database
from perdure.errors import ConfigurationError
from perdure.integrations.pydantic_ai import PerdureDurability

done: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


def returns(result: Any) -> list[Any]:
    """What tools have returned, by the id of their call."""
    parts = [part for message in result.all_messages() for part in message.parts]
    return [(part.tool_call_id, part.content) for part in parts if isinstance(part, ToolReturnPart)]


async def square(number: int) -> int:
    """Squares."""
    done[f"square {number}"] += 1
    return number * number


# -- parallel tools -----------------------------------------------------------------------------------


def test_a_tool_is_a_step_known_by_its_call() -> None:
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="call-1")),
        name="squares",
        tools=[square],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    found = played(body)
    assert found.value == [("call-1", 9)]
    assert found.steps == [
        "squares__model.request[1.1]",
        "squares__function_toolset__<agent>.call_tool:square[call-1]",
        "squares__model.request[1.2]",
    ]
    assert done == {"square 3": 1}


def test_parallel_tools_end_in_any_order_and_replay() -> None:
    """Ten tools that end in reverse order: each gets its own result back."""
    turns = [asyncio.Event() for _ in range(11)]

    async def nth(number: int) -> int:
        await asyncio.wait_for(turns[number + 1].wait(), 60)
        turns[number].set()
        done["nth"] += 1
        return number * 10

    turns[10].set()
    calls = [ToolCallPart("nth", {"number": number}, tool_call_id=f"c{number}") for number in range(10)]
    agent = Agent(calls_tools(*calls), name="reversed", tools=[nth], capabilities=[PerdureDurability()])

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    found = played(body)
    assert found.value == [(f"c{number}", number * 10) for number in range(10)]
    ended = [step for step in found.steps if "call_tool" in step]
    assert [step[-3:-1] for step in ended] == [f"c{number}" for number in reversed(range(10))]
    assert done["nth"] == 10


def test_after_a_crash_only_the_missing_tools_execute() -> None:
    """Half of the tools are recorded when the engine goes: the other half, and no model, is asked again."""
    database, hold = Database(None), asyncio.Event
    gate: list[asyncio.Event] = []

    async def nth(number: int) -> int:
        done[f"nth {number}"] += 1
        if number >= 5 and len(gate) == 1:
            await gate[0].wait()
        return number

    calls = [ToolCallPart("nth", {"number": number}, tool_call_id=f"c{number}") for number in range(10)]
    model = calls_tools(*calls)
    agent = Agent(model, name="half", tools=[nth], capabilities=[PerdureDurability()])

    @perdure.workflow(name="half-done")
    async def half_done() -> list[tuple[str, int]]:
        return returns(await agent.run("go"))

    async def main() -> None:
        gate.append(hold())
        async with database.engine() as engine:
            handle = await engine.start(half_done(), id="h")

            async def half() -> bool:
                ended = [
                    event
                    async for event in handle.history()
                    if isinstance(event, perdure.events.StepCompleted)
                ]
                return len(ended) == 6

            await until(half)
            await until(lambda: sum(done.values()) == 10)
        gate.append(hold())  # what comes now doesn't wait
        async with database.engine() as engine:
            assert await engine.get("h").result() == [(f"c{number}", number) for number in range(10)]
        assert done == {f"nth {number}": 1 if number < 5 else 2 for number in range(10)}

    run(main)


def test_a_call_id_that_is_used_again_gets_a_number() -> None:
    agent = Agent(TestModel(), name="again", tools=[Tool(square)], capabilities=[PerdureDurability()])

    async def body() -> list[str]:
        return [(await agent.run("a")).output, (await agent.run("b")).output]

    found = played(body)
    assert done == {"square 0": 2}
    assert [step.partition("[")[2] for step in found.steps if "call_tool" in step] == [
        "pyd_ai_tool_call_id__square]",
        "pyd_ai_tool_call_id__square~2]",
    ]


def test_agents_run_at_the_same_time() -> None:
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 2}, tool_call_id="same")),
        name="at-once",
        tools=[square],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return [returns(result) for result in await asyncio.gather(*(agent.run(str(i)) for i in range(5)))]

    found = played(body)
    assert found.value == [[("same", 4)]] * 5
    assert len(set(found.steps)) == 15


# -- sync functions, dependencies ---------------------------------------------------------------------


def test_sync_tools_run_in_threads_and_sync_functions_of_the_workflow_dont() -> None:
    import threading

    main_thread = threading.get_ident()
    where: list[bool] = []

    def in_thread(number: int) -> int:
        where.append(threading.get_ident() != main_thread)
        return number

    agent = Agent(
        calls_tools(ToolCallPart("in_thread", {"number": 1}, tool_call_id="t")),
        name="threads",
        tools=[in_thread],
        capabilities=[PerdureDurability()],
    )

    @agent.instructions
    def instructions() -> str:
        return "be quick"

    @agent.output_validator
    def validates(text: str) -> str:
        return text.upper()

    async def body() -> str:
        return (await agent.run("go")).output

    assert played(body).value == "DONE"
    assert where == [True]


@dataclass
class Deps:
    """What no history could hold."""

    client: Any = field(default_factory=object)
    seen: list[str] = field(default_factory=list)


def test_dependencies_are_passed_as_they_are() -> None:
    deps = Deps()

    async def look(ctx: RunContext[Deps], what: str) -> str:
        assert ctx.deps.client is deps.client
        ctx.deps.seen.append(what)
        return what

    agent = Agent(
        calls_tools(ToolCallPart("look", {"what": "this"}, tool_call_id="l")),
        name="deps",
        deps_type=Deps,
        tools=[look],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go", deps=deps))

    assert played(body).value == [("l", "this")]
    assert deps.seen == ["this"]


class City(BaseModel):
    name: str
    size: int


@dataclass
class Answer:
    city: City
    why: str


def test_structured_output_and_arguments_are_typed() -> None:
    async def grows(city: City) -> City:
        assert isinstance(city, City)
        return City(name=city.name, size=city.size + 1)

    async def scripted(messages: Any, info: Any) -> Any:
        from pydantic_ai.messages import ModelResponse

        if len(messages) == 1:
            return ModelResponse(
                parts=[ToolCallPart("grows", {"city": {"name": "Ulm", "size": 1}}, tool_call_id="g")]
            )
        output = info.output_tools[0].name
        answer = {"city": {"name": "Ulm", "size": 2}, "why": "it grew"}
        return ModelResponse(parts=[ToolCallPart(output, answer, tool_call_id="o")])

    from pydantic_ai.models.function import FunctionModel

    agent = Agent(
        FunctionModel(scripted),
        name="typed",
        output_type=Answer,
        tools=[grows],
        capabilities=[PerdureDurability()],
    )

    async def body() -> Answer:
        result = await agent.run("go")
        assert returns(result)[0] == ("g", {"name": "Ulm", "size": 2})
        return result.output

    assert played(body).value == Answer(City(name="Ulm", size=2), "it grew")


# -- how tools end ------------------------------------------------------------------------------------


def test_a_retry_goes_to_the_model_and_not_to_the_engine() -> None:
    async def fussy(number: int) -> str:
        done["fussy"] += 1
        if done["fussy"] == 1:
            raise ModelRetry("another one, please")
        return "good"

    retry = perdure.Retry(max_attempts=5, initial=0.0)
    agent = Agent(
        TestModel(), name="fussy", tools=[fussy], capabilities=[PerdureDurability(tool={"retry": retry})]
    )

    async def body() -> list[str]:
        result = await agent.run("go")
        parts = [part for message in result.all_messages() for part in message.parts]
        told = [str(part.content) for part in parts if isinstance(part, RetryPromptPart | ToolReturnPart)]
        return [text for text in told if "another" in text]

    assert len(played(body).value) == 1
    assert done["fussy"] == 2


def test_a_failed_tool_tells_the_model() -> None:
    async def fails() -> str:
        done["fails"] += 1
        raise ToolFailed("there is none")

    agent = Agent(
        calls_tools(ToolCallPart("fails", {}, tool_call_id="f")),
        name="fails",
        tools=[fails],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    assert played(body).value == [("f", "there is none")]
    assert done["fails"] == 1


def test_an_error_of_a_tool_is_raised_with_its_own_class() -> None:
    class Broken(Exception):
        pass

    async def breaks() -> str:
        done["breaks"] += 1
        raise LookupError("broken")

    agent = Agent(
        calls_tools(ToolCallPart("breaks", {}, tool_call_id="b")),
        name="breaks",
        tools=[breaks],
        capabilities=[PerdureDurability()],
    )

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(LookupError, match="broken"):
        played(body)
    assert done["breaks"] == 1


def test_a_transient_error_of_a_tool_is_tried_again_by_the_engine() -> None:
    async def flickers() -> str:
        done["flickers"] += 1
        if done["flickers"] < 3:
            raise ConnectionResetError("not yet")
        return "there"

    durability = PerdureDurability[Any](tool={"retry": perdure.Retry(max_attempts=3, initial=0.001)})
    agent = Agent(
        calls_tools(ToolCallPart("flickers", {}, tool_call_id="f")),
        name="flickers",
        tools=[flickers],
        capabilities=[durability],
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    assert played(body).value == [("f", "there")]
    assert done["flickers"] == 3


def test_the_model_hears_of_wrong_arguments() -> None:
    calls = [ToolCallPart("square", {"number": "many"}, tool_call_id="w")]
    agent = Agent(
        calls_tools(*calls, then="unused"),
        name="wrong",
        tools=[Tool(square, max_retries=0)],
        capabilities=[PerdureDurability()],
    )

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(Exception, match="retries"):
        played(body)
    assert not done


def test_validators_of_arguments_are_steps() -> None:
    async def checks(ctx: RunContext[Any], number: int) -> None:
        done["checks"] += 1
        if number < 0:
            raise ModelRetry("not negative")

    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 5}, tool_call_id="v")),
        name="checked",
        tools=[Tool(square, args_validator=checks)],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    found = played(body)
    assert found.value == [("v", 25)]
    assert done == {"checks": 1, "square 5": 1}
    assert "checked__function_toolset__<agent>.validate_args:square[v]" in found.steps


def test_rich_results_come_back() -> None:
    async def picture() -> ToolReturn:
        done["picture"] += 1
        content: Any = ["see", BinaryContent(b"\x89PNG", media_type="image/png")]
        return ToolReturn(
            return_value={"kind": "tool-return", "ok": True}, content=content, metadata={"a": 1}
        )

    agent = Agent(
        calls_tools(ToolCallPart("picture", {}, tool_call_id="p")),
        name="picture",
        tools=[picture],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        result = await agent.run("go")
        contents: list[Any] = []
        for message in result.all_messages():
            if isinstance(message, ModelRequest):
                contents += [getattr(part, "content", None) for part in message.parts]
        assert any(
            isinstance(item, BinaryContent) and item.data == b"\x89PNG"
            for c in contents
            if isinstance(c, list)
            for item in c
        )
        return returns(result)

    assert played(body).value == [("p", {"kind": "tool-return", "ok": True})]
    assert done["picture"] == 1


def test_a_result_that_cant_be_recorded_says_so_at_once() -> None:
    async def endless() -> Any:
        done["endless"] += 1
        return object()

    agent = Agent(
        calls_tools(ToolCallPart("endless", {}, tool_call_id="n")),
        name="endless",
        tools=[endless],
        capabilities=[PerdureDurability()],
    )

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(perdure.errors.NotSerializableError, match="call_tool:endless"):
        played(body)
    assert done["endless"] == 1


def test_a_record_that_doesnt_fit_any_more_blocks_the_run() -> None:
    """It isn't an error of the tool's: the model would call it again, and what it does would happen twice."""
    from perdure.integrations import pydantic_ai_records

    database = Database(None)
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="call-1")),
        name="unfit",
        tools=[square],
        capabilities=[PerdureDurability()],
    )

    @perdure.workflow(name="unfit-run")
    async def unfit() -> list[tuple[str, int]]:
        found = returns(await agent.run("go"))
        await perdure.receive("end")
        return found

    def refuses(self: Any, payload: Any) -> Any:
        raise ValueError("another shape")

    async def main(monkeypatch: pytest.MonkeyPatch) -> None:
        async with database.engine() as engine:
            handle = await engine.start(unfit(), id="u")
            await until(lambda: done["square 3"] == 1)

            async def waits() -> bool:
                return await handle.status() == "waiting"

            await until(waits)
        with monkeypatch.context() as patch:
            patch.setattr(pydantic_ai_records.ToolRecord, "value", refuses)
            async with database.engine() as engine:
                await engine.get("u").send("end", None)

                async def blocked() -> bool:
                    return await engine.get("u").status() == "blocked"

                await until(blocked)
                reason = (await engine.get("u").info()).reason
                assert reason is not None
                assert "another shape" in reason
                assert "call_tool:square" in reason
        async with database.engine() as engine:
            assert await engine.get("u").result() == [("call-1", 9)]
        assert done == {"square 3": 1}

    with pytest.MonkeyPatch.context() as monkeypatch:
        run(lambda: main(monkeypatch))


# -- approval and deferral ----------------------------------------------------------------------------


def approves(ctx: RunContext[Any], path: str) -> str:
    """Deletes, if somebody has approved it."""
    if not ctx.tool_call_approved:
        raise ApprovalRequired(metadata={"path": path})
    done["deleted"] += 1
    return f"deleted {path}"


def test_a_tool_may_need_approval_that_ends_the_agents_run() -> None:
    agent = Agent(
        calls_tools(ToolCallPart("approves", {"path": "x"}, tool_call_id="a")),
        name="approves",
        tools=[approves],
        output_type=[str, DeferredToolRequests],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        first = await agent.run("delete x")
        assert isinstance(first.output, DeferredToolRequests)
        assert first.output.metadata["a"] == {"path": "x"}
        results = DeferredToolResults(approvals={call.tool_call_id: True for call in first.output.approvals})
        second = await agent.run(message_history=first.all_messages(), deferred_tool_results=results)
        return [second.output, *returns(second)]

    found = played(body)
    assert found.value == ["done", ("a", "deleted x")]
    assert done["deleted"] == 1
    assert [step.partition("[")[2] for step in found.steps if "call_tool" in step] == ["a]", "a~2]"]


def test_tools_marked_for_approval_are_deferred() -> None:
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="a")),
        name="marked",
        tools=[Tool(square, requires_approval=True)],
        output_type=[str, DeferredToolRequests],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[str]:
        first = await agent.run("go")
        assert isinstance(first.output, DeferredToolRequests)
        return [call.tool_call_id for call in first.output.approvals]

    assert played(body).value == ["a"]
    assert not done


def test_a_tool_may_be_executed_elsewhere() -> None:
    async def defers(number: int) -> str:
        done["defers"] += 1
        raise CallDeferred(metadata={"number": number})

    agent = Agent(
        calls_tools(ToolCallPart("defers", {"number": 3}, tool_call_id="d")),
        name="defers",
        tools=[defers],
        output_type=[str, DeferredToolRequests],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        first = await agent.run("go")
        assert isinstance(first.output, DeferredToolRequests)
        assert first.output.metadata["d"] == {"number": 3}
        results = DeferredToolResults(calls={call.tool_call_id: "from afar" for call in first.output.calls})
        return returns(await agent.run(message_history=first.all_messages(), deferred_tool_results=results))

    assert played(body).value == [("d", "from afar")]
    assert done["defers"] == 1


def test_external_tools_may_come_with_a_run() -> None:
    agent = Agent(
        calls_tools(ToolCallPart("external", {}, tool_call_id="e")),
        name="external",
        output_type=[str, DeferredToolRequests],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[str]:
        toolset = ExternalToolset[Any]([ToolDefinition(name="external")], id="outside")
        result = await agent.run("go", toolsets=[toolset])
        assert isinstance(result.output, DeferredToolRequests)
        return [call.tool_name for call in result.output.calls]

    assert played(body).value == ["external"]


# -- what can't be done in a step ---------------------------------------------------------------------


def test_a_tool_cant_enqueue_messages_in_a_run() -> None:
    async def enqueues(ctx: RunContext[Any]) -> str:
        ctx.enqueue("later")
        return "done"

    agent = Agent(TestModel(), name="enqueues", tools=[enqueues], capabilities=[PerdureDurability()])

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(UserError, match="enqueued messages would be dropped"):
        played(body)

    async def outside() -> None:
        await agent.run("go")

    run(outside)


def test_a_tool_of_a_dynamic_toolset_cant_either() -> None:
    async def enqueues(ctx: RunContext[Any]) -> str:
        ctx.enqueue("later")
        return "done"

    toolset = DynamicToolset[Any](lambda ctx: FunctionToolset([enqueues]), id="dynamic")
    agent = Agent(TestModel(), name="dyn-enqueues", toolsets=[toolset], capabilities=[PerdureDurability()])

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(UserError, match="enqueued messages would be dropped"):
        played(body)


def test_a_tool_cant_cancel_its_run() -> None:
    async def cancels(ctx: RunContext[Any]) -> str:
        ctx.cancel()
        return "done"

    agent = Agent(TestModel(), name="cancels", tools=[cancels], capabilities=[PerdureDurability()])

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(UserError, match="`cancel` is not supported inside a durable step"):
        played(body)


# -- options ------------------------------------------------------------------------------------------


def test_a_tools_metadata_counts_more_than_what_holds_for_all() -> None:
    async def flickers() -> str:
        done["flickers"] += 1
        raise ValueError("never")

    durability = PerdureDurability[Any](tool={"retry": perdure.Retry(max_attempts=2, initial=0.001)})
    metadata = {"perdure": {"retry": perdure.Retry(max_attempts=4, initial=0.001)}}
    agent = Agent(
        calls_tools(ToolCallPart("flickers", {}, tool_call_id="f")),
        name="metadata",
        tools=[Tool(flickers, metadata=metadata)],
        capabilities=[durability],
    )

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(ValueError, match="never"):
        played(body)
    assert done["flickers"] == 4


def test_metadata_can_be_set_by_a_capability() -> None:
    capabilities: list[Any] = [SetToolMetadata(perdure=False), PerdureDurability()]
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="a")),
        name="set",
        tools=[square],
        capabilities=capabilities,
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    found = played(body)
    assert found.value == [("a", 9)]
    assert found.names == ["set__model.request"] * 2


def test_a_tool_may_be_workflow_code() -> None:
    """Then it can do what workflows can: wait for weeks, start children, ask people."""

    async def waits() -> str:
        done["waits"] += 1
        await perdure.sleep(0.01)
        return str(perdure.info().id)

    agent = Agent(
        calls_tools(ToolCallPart("waits", {}, tool_call_id="w")),
        name="inline",
        tools=[Tool(waits, metadata={"perdure": False})],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    found = played(body)
    assert found.value == [("w", found.id)]
    assert found.names == ["inline__model.request"] * 2
    assert done["waits"] == 2  # once more for the replay


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no tries"):
        PerdureDurability(tool={"tries": 3})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(ConfigurationError, match="on_refusal"):
        PerdureDurability(on_refusal="never")  # type: ignore[arg-type]

    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="a")),
        name="odd",
        tools=[Tool(square, metadata={"perdure": "yes"})],
        capabilities=[PerdureDurability()],
    )

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(ConfigurationError, match="give a StepConfig, or False"):
        played(body)


# -- toolsets -----------------------------------------------------------------------------------------


def test_tools_of_a_dynamic_capability_are_steps() -> None:
    def factory(ctx: RunContext[Any]) -> Capability[Any]:
        return Capability(tools=[square])

    capabilities: list[Any] = [DynamicCapability(factory, id="dyn"), PerdureDurability()]
    agent = Agent(TestModel(), name="dynamic", capabilities=capabilities)

    async def body() -> str:
        return (await agent.run("go")).output

    found = played(body)
    assert found.value == '{"square":0}'
    assert done == {"square 0": 1}
    assert "dynamic__dynamic_toolset__dyn.get_tools" in found.names
    assert "dynamic__dynamic_toolset__dyn.call_tool:square" in found.names


def test_a_dynamic_tools_retry_goes_to_the_model() -> None:
    async def fussy() -> str:
        done["fussy"] += 1
        if done["fussy"] == 1:
            raise ModelRetry("again")
        return "good"

    toolset = DynamicToolset[Any](lambda ctx: FunctionToolset([fussy]), id="dyn")
    agent = Agent(TestModel(), name="dyn-retry", toolsets=[toolset], capabilities=[PerdureDurability()])

    async def body() -> str:
        return (await agent.run("go")).output

    assert played(body).value == '{"fussy":"good"}'
    assert done["fussy"] == 2


def test_a_dynamic_toolset_may_be_made_once_for_a_run() -> None:
    made: list[int] = []

    def factory(ctx: RunContext[Any]) -> FunctionToolset[Any]:
        made.append(1)
        return FunctionToolset([square])

    toolset = DynamicToolset[Any](factory, id="once", per_run_step=False)
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="a")),
        name="once",
        toolsets=[toolset],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    assert played(body).value == [("a", 9)]
    assert done == {"square 3": 1}


def test_a_dynamic_capability_needs_an_id() -> None:
    def factory(ctx: RunContext[Any]) -> Capability[Any]:
        return Capability()

    with pytest.raises(UserError, match=r"DynamicCapability\(\.\.\., id='user-tools'\)"):
        Agent(TestModel(), name="idless", capabilities=[DynamicCapability(factory), PerdureDurability()])
    with pytest.raises(UserError, match="wrap it explicitly"):
        Agent(TestModel(), name="bare", capabilities=[factory, PerdureDurability()])


def test_a_toolset_needs_an_id() -> None:
    with pytest.raises(UserError, match=r"Toolsets that are 'leaves'.*unique `id`.*Perdure"):
        Agent(
            TestModel(),
            name="idless",
            toolsets=[FunctionToolset([square])],
            capabilities=[PerdureDurability()],
        )


def test_an_id_names_one_toolset() -> None:
    two = [FunctionToolset[Any]([square], id="dup"), FunctionToolset[Any](id="dup")]
    with pytest.raises(UserError, match="Two toolsets have the same `id` 'dup'"):
        Agent(TestModel(), name="dup", toolsets=two, capabilities=[PerdureDurability()])


def test_a_toolset_may_be_there_twice() -> None:
    shared = FunctionToolset[Any](id="shared")
    agent = Agent(TestModel(), name="shared", toolsets=[shared, shared], capabilities=[PerdureDurability()])
    assert PerdureDurability.from_agent(agent) is not None


def test_toolsets_of_capabilities_are_steps() -> None:
    capabilities: list[Any] = [Toolset(FunctionToolset([square], id="given")), PerdureDurability()]
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="a")),
        name="given",
        capabilities=capabilities,
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    found = played(body)
    assert found.value == [("a", 9)]
    assert "given__function_toolset__given.call_tool:square" in found.names


@pytest.mark.parametrize(
    "toolset",
    [
        FunctionToolset[Any]([square], id="late"),
        DynamicToolset[Any](lambda ctx: FunctionToolset([square]), id="late"),
    ],
    ids=["function", "dynamic"],
)
def test_toolsets_that_come_with_a_run_are_refused_in_runs(toolset: Any) -> None:
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="a")),
        name="late",
        capabilities=[PerdureDurability()],
    )
    refused = f"{type(toolset).__name__} 'late' cannot be added at runtime with Perdure"

    async def in_run() -> None:
        await agent.run("go", toolsets=[toolset])

    async def in_iter() -> None:
        async with agent.iter("go", toolsets=[toolset]):
            raise AssertionError("it isn't reached")

    async def by_capability() -> None:
        await agent.run("go", capabilities=[Toolset(toolset)])

    for body in (in_run, in_iter, by_capability):
        with pytest.raises(UserError, match=refused):
            played(body)

    async def outside() -> None:
        assert returns(await agent.run("go", toolsets=[toolset])) == [("a", 9)]

    run(outside)
    assert done == {"square 3": 1}


def test_one_with_an_id_that_is_taken_is_refused() -> None:
    agent = Agent(
        echo, name="taken", toolsets=[FunctionToolset[Any](id="mine")], capabilities=[PerdureDurability()]
    )

    async def body() -> None:
        await agent.run("go", toolsets=[ExternalToolset[Any]([], id="mine")])

    with pytest.raises(UserError, match="same `id` 'mine'"):
        played(body)


def test_a_tools_timeout_is_kept() -> None:
    async def hangs() -> str:
        done["hangs"] += 1
        await asyncio.sleep(3600)
        return "never"

    agent = Agent(
        calls_tools(ToolCallPart("hangs", {}, tool_call_id="h"), then="gave up"),
        name="hangs",
        tools=[Tool(hangs, timeout=0.02, max_retries=0)],
        capabilities=[PerdureDurability()],
    )

    async def body() -> str:
        return (await agent.run("go")).output

    with pytest.raises(Exception, match=r"retries|imed out"):
        played(body)
    assert done["hangs"] == 1
