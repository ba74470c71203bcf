"""MCP servers of agents in workflows: what is asked of them is a step, connections are shared by steps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import Capability, DynamicCapability, Toolset
from pydantic_ai.exceptions import ModelRetry, UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai_kit import echo, play, played, run, until

import perdure
from perdure.integrations import pydantic_ai_sessions
from perdure.integrations.pydantic_ai import PerdureDurability

mcp = pytest.importorskip("pydantic_ai.mcp")
transports = pytest.importorskip("fastmcp.client.transports")
servers = pytest.importorskip("mcp.server.mcpserver")


class Server:
    """A server in this process.

    Attributes:
        asked: what its tools were called with.
        connections: how often somebody has connected.
    """

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.connections = 0
        server = servers.MCPServer("thermometer", instructions="Be cold.")

        @server.tool()
        def fahrenheit(celsius: float) -> float:
            """Converts."""
            self.asked.append(celsius)
            return celsius * 9 / 5 + 32

        books = self

        class Counted(transports.FastMCPTransport):  # type: ignore[misc,name-defined]
            def connect_session(self, **options: Any) -> Any:
                books.connections += 1
                return super().connect_session(**options)

        self.transport = Counted(server)

    def toolset(self, id: str | None = "mcp", **options: Any) -> Any:
        return mcp.MCPToolset(self.transport, id=id, **options)


def converts(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    parts = [part for message in messages for part in message.parts]
    for part in parts:
        if isinstance(part, ToolReturnPart):
            return ModelResponse(parts=[TextPart(f"it is {part.content}")])
    return ModelResponse(parts=[ToolCallPart("fahrenheit", {"celsius": 100}, tool_call_id="c-1")])


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydantic_ai_sessions, "IDLE", 30.0)


def test_what_is_asked_of_a_server_is_a_step(server: Server) -> None:
    seen: list[str] = []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.extend(m.instructions for m in messages if isinstance(m, ModelRequest) and m.instructions)
        return converts(messages, info)

    toolset = server.toolset(include_instructions=True)
    agent = Agent(FunctionModel(model), name="asks", toolsets=[toolset], capabilities=[PerdureDurability()])

    async def body() -> str:
        return (await agent.run("go")).output

    found = played(body)
    assert "212" in found.value
    assert server.asked == [100.0]
    assert "asks__mcp_server__mcp.call_tool:fahrenheit[c-1]" in found.steps
    for what in ("get_tools", "get_instructions"):
        assert f"asks__mcp_server__mcp.{what}" in found.names
    assert any("Be cold." in text for text in seen)


def test_steps_share_a_connection(server: Server) -> None:
    agent = Agent(
        FunctionModel(converts),
        name="shares",
        toolsets=[server.toolset()],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[str]:
        results = await asyncio.gather(*(agent.run(str(number)) for number in range(4)))
        return [result.output for result in results]

    found = played(body)
    assert len(set(found.value)) == 1
    assert server.asked == [100.0] * 4
    assert server.connections == 1


def test_a_connection_that_nobody_uses_is_closed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydantic_ai_sessions, "IDLE", 0.01)
    toolset = server.toolset()
    agent = Agent(
        FunctionModel(converts), name="idles", toolsets=[toolset], capabilities=[PerdureDurability()]
    )

    async def body() -> str:
        return (await agent.run("go")).output

    async def main() -> None:
        await play(body)
        await until(lambda: not pydantic_ai_sessions._sessions)
        assert not toolset.is_running

    run(main)
    assert server.asked == [100.0]


def test_a_server_that_isnt_there_is_the_steps_error() -> None:
    class Gone(transports.FastMCPTransport):  # type: ignore[misc,name-defined]
        def connect_session(self, **options: Any) -> Any:
            raise ValueError("it is gone")

    toolset = mcp.MCPToolset(Gone(servers.MCPServer("gone")), id="gone")
    agent = Agent(
        FunctionModel(converts), name="gone", toolsets=[toolset], capabilities=[PerdureDurability()]
    )

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(Exception, match="it is gone"):
        played(body)


def test_each_run_asks_for_itself(server: Server) -> None:
    """What another run of this process has found out isn't in this one's history: a replay elsewhere lacked it."""
    agent = Agent(
        FunctionModel(converts),
        name="cached",
        toolsets=[server.toolset()],
        capabilities=[PerdureDurability()],
    )

    async def body() -> str:
        return (await agent.run("go")).output

    for _ in range(2):
        assert played(body).names.count("cached__mcp_server__mcp.get_tools") == 1


def test_a_servers_retry_goes_to_the_model(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    toolset, calls = server.toolset(), []

    async def retries(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ModelRetry("again")
        return "good"

    monkeypatch.setattr(toolset, "call_tool", retries)
    retry: Any = {"retry": perdure.Retry(max_attempts=5, initial=0.0)}
    agent = Agent(
        TestModel(), name="retries", toolsets=[toolset], capabilities=[PerdureDurability(mcp=retry)]
    )

    async def body() -> str:
        return (await agent.run("go")).output

    assert played(body).value == '{"fahrenheit":"good"}'
    assert len(calls) == 2


def test_a_servers_hook_cant_enqueue(server: Server) -> None:
    async def enqueues(ctx: RunContext[Any], call: Any, name: str, args: dict[str, Any]) -> Any:
        ctx.enqueue("later")
        return await call(name, args)

    toolset = server.toolset(process_tool_call=enqueues)
    agent = Agent(
        FunctionModel(converts), name="hook", toolsets=[toolset], capabilities=[PerdureDurability()]
    )

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(UserError, match="enqueued messages would be dropped"):
        played(body)


def test_a_server_needs_an_id(server: Server) -> None:
    with pytest.raises(UserError, match=r"Toolsets that are 'leaves'.*unique `id`.*Perdure"):
        Agent(echo, name="idless", toolsets=[server.toolset(None)], capabilities=[PerdureDurability()])


def test_an_id_names_one_server(server: Server) -> None:
    two = [server.toolset("dup"), server.toolset("dup")]
    with pytest.raises(UserError, match="Two toolsets have the same `id` 'dup'"):
        Agent(echo, name="dup", toolsets=two, capabilities=[PerdureDurability()])


def test_a_server_may_be_there_twice(server: Server) -> None:
    shared = server.toolset("shared")
    agent = Agent(echo, name="shared", toolsets=[shared, shared], capabilities=[PerdureDurability()])
    assert PerdureDurability.from_agent(agent) is not None


def test_a_capabilitys_server_is_asked_in_steps(server: Server) -> None:
    capabilities: list[Any] = [Toolset(server.toolset("given")), PerdureDurability()]
    agent = Agent(FunctionModel(converts), name="given", capabilities=capabilities)

    async def body() -> str:
        return (await agent.run("go")).output

    assert "given__mcp_server__given.call_tool:fahrenheit" in played(body).names
    assert server.asked == [100.0]


def test_a_dynamic_capabilitys_server_is_asked_in_steps(server: Server) -> None:
    def factory(ctx: RunContext[Any]) -> Capability[Any]:
        return Capability(toolsets=[server.toolset("inner")])

    capabilities: list[Any] = [DynamicCapability(factory, id="dyn"), PerdureDurability()]
    agent = Agent(FunctionModel(converts), name="dynamic", capabilities=capabilities)

    async def body() -> str:
        return (await agent.run("go")).output

    found = played(body)
    assert {
        "dynamic__dynamic_toolset__dyn.get_tools",
        "dynamic__dynamic_toolset__dyn.call_tool:fahrenheit",
    } <= set(found.names)
    assert server.asked == [100.0]


def test_a_server_that_comes_with_a_run_is_refused(server: Server) -> None:
    agent = Agent(FunctionModel(converts), name="late", capabilities=[PerdureDurability()])

    async def in_run() -> None:
        await agent.run("go", toolsets=[server.toolset("late")])

    async def in_iter() -> None:
        async with agent.iter("go", toolsets=[server.toolset("late")]):
            raise AssertionError("it isn't reached")

    for body in (in_run, in_iter):
        with pytest.raises(UserError, match="MCPToolset 'late' cannot be added at runtime with Perdure"):
            played(body)


def test_a_server_cant_be_asked_by_workflow_code(server: Server) -> None:
    from pydantic_ai.capabilities import SetToolMetadata

    capabilities: list[Any] = [SetToolMetadata(perdure=False), PerdureDurability()]
    agent = Agent(
        FunctionModel(converts), name="inline", toolsets=[server.toolset()], capabilities=capabilities
    )

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(UserError, match="MCP tools perform I/O"):
        played(body)


def test_outside_of_runs_it_is_the_toolset_itself(server: Server) -> None:
    agent = Agent(
        FunctionModel(converts),
        name="outside",
        toolsets=[server.toolset()],
        capabilities=[PerdureDurability()],
    )

    async def main() -> None:
        assert "212" in (await agent.run("go")).output

    run(main)
