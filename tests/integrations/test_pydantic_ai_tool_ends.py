"""How tools of agents end in workflows: results, errors, retries, approvals, and what they can't do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from pydantic_ai import Agent, DeferredToolRequests, FunctionToolset, RunContext, Tool, ToolReturn
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, ToolFailed, UserError
from pydantic_ai.messages import BinaryContent, ModelRequest, RetryPromptPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import DeferredToolResults, ToolDefinition
from pydantic_ai.toolsets import DynamicToolset, ExternalToolset
from pydantic_ai_kit import calls_tools, played, run, until

import perdure
from helpers.engines import Database
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
