"""The MCP server, as an agent's client sees it: in process, and as the process that `perdure mcp` is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from test_api import adds, fails, talks

import perdure
from conftest import run
from perdure.web import Role

pytest.importorskip("mcp.server.mcpserver")

from mcp import Client, StdioServerParameters, stdio_client

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


def test_an_agent_answers_what_a_run_asks(tmp_path: Path) -> None:
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


@pytest.mark.acceptance
def test_perdure_mcp_speaks_over_stdio(tmp_path: Path) -> None:
    async def main() -> None:
        url = f"sqlite:///{tmp_path}/mcp.db"
        async with perdure.Engine(url) as engine:
            await engine.run(adds(1), id="r")
        code = "from perdure.cli import main; main()"
        server = StdioServerParameters(
            command=sys.executable, args=["-c", code, "mcp", "--url", url], env=dict(os.environ)
        )
        async with Client(stdio_client(server)) as client:
            assert [found["id"] for found in await call(client, "list_runs")] == ["r"]

    run(main)
