"""The MCP server, as an agent's client sees it, in process."""

from __future__ import annotations

from typing import Any

import pytest
from test_api import fails, talks
from web_kit import run

import perdure
from perdure.web import Role

pytest.importorskip("mcp.server.mcpserver")

from mcp import Client

from perdure.web.agents import mcp_server


async def call(client: Any, tool: str, **arguments: Any) -> Any:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    found = answer.structured_content
    return found["result"] if set(found) == {"result"} else found


def test_an_agent_starts_explains_and_ends_runs() -> None:
    async def main() -> None:
        async with perdure.Engine("memory:") as engine, Client(mcp_server(engine, Role.OPERATOR)) as client:
            assert (await call(client, "start_run", workflow="web.adds", args=[20], id="r"))["id"] == "r"
            assert (await call(client, "get_result", id="r", wait=20))["result"] == 40
            await engine.start(talks(), id="t")
            explained = await call(client, "explain_run", id="t")
            assert explained["run"] == "t"
            await call(client, "send_message", id="t", name="word", value="hi")
            assert (await engine.get("t").result()).startswith("hi")
            with pytest.raises(perdure.RunFailed):
                await engine.run(fails(1), id="f")
            (failed,) = await call(client, "list_runs", status=["failed"])
            assert failed["id"] == "f"
            kinds = [event["kind"] for event in await call(client, "get_history", id="f", after=1)]
            assert kinds[-1] == "run_failed"
            made = await call(client, "fork_run", id="r", new_id="r-2")
            assert (await call(client, "get_result", id=made["id"], wait=20))["result"] == 40
            wrong = await client.call_tool("get_run", {"id": "none"})
            assert wrong.is_error
            assert "perdure ls" in repr(wrong.content), "the error says what to do"

    run(main)


def test_a_viewer_has_no_tool_that_acts() -> None:
    async def main() -> None:
        async with perdure.Engine("memory:") as engine, Client(mcp_server(engine)) as client:
            tools = (await client.list_tools()).tools
            assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
            names = {tool.name for tool in tools}
            assert {"list_runs", "explain_run"} <= names
            assert names.isdisjoint({"start_run", "cancel_run", "fork_run", "answer_question"})

    run(main)


def test_an_agent_answers_what_a_run_asks() -> None:
    async def main() -> None:
        async with perdure.Engine("memory:") as engine:
            handle = await engine.start(asks(), id="a")
            async with Client(mcp_server(engine, Role.OPERATOR, by="the assistant")) as client:
                while not (found := await call(client, "list_questions")):
                    pass
                await call(client, "answer_question", question=found[0]["id"], value=True)
            assert await handle.result() is True
            assert (await engine.question(found[0]["id"])).answered_by == "the assistant"

    run(main)


@perdure.workflow(name="web.asks")
async def asks() -> bool:
    return await perdure.ask("Go on?")
