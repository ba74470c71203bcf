"""Tools of MCP servers as durable steps: over stdio, over HTTP, and through the Agents SDK."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent
from agents.mcp import MCPServerStdio
from agents_kit import Brain, dies_everywhere, says, wants
from engine_kit import Place, Places, of_kind, recorded, run, until
from mcp import Client, StdioServerParameters

import perdure
from perdure.integrations.mcp import DurableMCPSession, durable_session, mcp_tools
from perdure.integrations.openai_agents import DurableRunner, close_mcp_servers

SERVER = str(Path(__file__).parents[1] / "helpers" / "mcp_tools.py")


class Servers:
    """Where servers write what they do, and the sessions with them."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.sessions: list[DurableMCPSession] = []

    def seen(self) -> Counter[str]:
        return Counter(self.log.read_text().split("\n")[:-1]) if self.log.exists() else Counter()

    @property
    def stdio(self) -> StdioServerParameters:
        return StdioServerParameters(command=sys.executable, args=[SERVER, str(self.log)])

    def session(self, server: Any = None, **options: Any) -> DurableMCPSession:
        self.sessions.append(durable_session("tools", server or self.stdio, **options))
        return self.sessions[-1]


SERVERS: list[Servers] = []


@pytest.fixture
def servers(tmp_path: Path) -> Servers:
    SERVERS.append(Servers(tmp_path / "mcp.log"))
    return SERVERS[-1]


@perdure.workflow
async def uses_tools() -> list[Any]:
    session = SERVERS[-1].sessions[-1]
    tools = await mcp_tools(session)
    added = await tools["add"]({"a": 1, "b": 2}, key="call-1")
    weather = await asyncio.gather(
        *(session.call_tool("forecast", {"city": c}, key=c) for c in ("Ulm", "Bonn"))
    )
    failed = await session.call_tool("fails", {"why": "rain"})
    page: Any = (await session.read_resource("note://today")).contents[0]
    prompt: Any = (await session.get_prompt("greeting", {"name": "Ann"})).messages[0].content
    return [
        sorted(tools),
        tools["add"].describe()["input_schema"]["required"],
        added.structured_content,
        [result.content[0].text for result in weather if result.content[0].type == "text"],
        failed.is_error,
        page.text,
        prompt.text,
    ]


EXPECTED = [
    ["add", "dies_at_first", "fails", "forecast"],
    ["a", "b"],
    {"result": 3},
    ["sunny in Ulm", "sunny in Bonn"],
    True,
    "a fine day",
    "Greet Ann.",
]


def test_tools_are_called_once_and_the_connection_is_kept(servers: Servers, place: Place) -> None:
    async def main() -> None:
        session = servers.session()
        async with place.engine() as engine:
            assert await engine.run(uses_tools(), id="r") == EXPECTED
            seen = servers.seen()
            assert set(seen.values()) == {1}
            assert seen["start"] == 1
            assert {"tools.add[call-1]", "tools.forecast[Ulm]"} <= set(await recorded(engine.get("r")))
            forked = await engine.get("r").fork(id="again")
            assert await forked.result() == EXPECTED
            assert servers.seen() == seen
        await session.close()
        outside = await session.call_tool("add", {"a": 2, "b": 2})
        assert outside.structured_content == {"result": 4}
        assert servers.seen()["start"] == 2
        await session.close()

    run(main)


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_a_crash_at_any_append_repeats_at_most_what_was_in_flight(
    commits: bool, servers: Servers, tmp_path: Path
) -> None:
    logs = iter(range(1000))

    def make() -> Place:
        if SERVERS[-1].log.exists():
            assert all(times <= 2 for what, times in SERVERS[-1].seen().items() if what != "start")
            assert sum(times - 1 for what, times in SERVERS[-1].seen().items() if what != "start") <= 2
        servers.log = tmp_path / f"mcp{next(logs)}.log"
        servers.session()
        return Place(None)

    async def main() -> None:
        assert await dies_everywhere(Places("memory", make), uses_tools, commits) > 4
        await asyncio.gather(*(session.close() for session in servers.sessions))

    with pytest.MonkeyPatch.context() as patch:
        # A server for each of them would take long: one, told where to write, is enough here.
        patch.setattr(Servers, "stdio", property(lambda self: _in_process(self)))
        run(main)


def _in_process(servers: Servers) -> Any:
    from mcp.server import MCPServer

    server = MCPServer("tools", log_level="CRITICAL")
    log = servers.log

    def note(what: str) -> None:
        with log.open("a") as file:
            file.write(what + "\n")

    @server.tool()
    def add(a: int, b: int) -> int:
        note(f"add {a} {b}")
        return a + b

    @server.tool()
    def forecast(city: str) -> str:
        note(f"forecast {city}")
        return f"sunny in {city}"

    @server.tool()
    def fails(why: str) -> str:
        note("fails")
        raise ValueError(why)

    @server.resource("note://today")
    def today() -> str:
        return "a fine day"

    @server.prompt()
    def greeting(name: str) -> str:
        return f"Greet {name}."

    return lambda: Client(server)


@perdure.workflow
async def outlives_its_server() -> list[Any]:
    session = SERVERS[-1].sessions[-1]
    before: Any = await session.call_tool("forecast", {"city": "Ulm"})
    result: Any = await session.call_tool("dies_at_first")
    return [before.content[0].text, result.content[0].text]


def test_a_server_that_dies_is_started_again(servers: Servers, memory: Place) -> None:
    async def main() -> None:
        session = servers.session(retry=perdure.Retry(initial=0.01, on=(ConnectionError,)))
        async with memory.engine() as engine:
            assert await engine.run(outlives_its_server(), id="r") == ["sunny in Ulm", "alive"]
            (failed,) = await of_kind(engine.get("r"), perdure.events.StepAttemptFailed)
            assert "connection to the MCP server is gone" in failed.failure.message
        assert servers.seen() == {"start": 2, "forecast Ulm": 1, "dies_at_first": 2}
        await session.close()

    run(main)


def test_an_idle_connection_is_closed(servers: Servers) -> None:
    async def main() -> None:
        session = servers.session(keep=0.05)
        await session.call_tool("add", {"a": 1, "b": 1})
        await until(lambda: all(connection.over for connection in session._connections._open.values()))
        await session.call_tool("add", {"a": 1, "b": 1})
        assert servers.seen()["start"] == 2
        await session.close()

    run(main)


@perdure.workflow
async def cant_start() -> None:
    await SERVERS[-1].sessions[-1].list_tools()


def test_a_server_that_cant_be_started_fails_the_step(servers: Servers, memory: Place) -> None:
    async def main() -> None:
        servers.session(StdioServerParameters(command="/nonexistent/server"))
        async with memory.engine() as engine:
            with pytest.raises(perdure.RunFailed, match="nonexistent"):
                await engine.run(cant_start(), id="r")

    run(main)


def test_what_is_no_server_is_refused() -> None:
    with pytest.raises(perdure.errors.ConfigurationError, match="no MCP server"):
        durable_session("s", 7)  # type: ignore[arg-type]


# -- over HTTP ------------------------------------------------------------------------------------------


@pytest.fixture
def url(servers: Servers) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving = subprocess.Popen(
        [sys.executable, SERVER, str(servers.log), str(port)], stderr=subprocess.DEVNULL, env={**os.environ}
    )
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        serving.kill()
        serving.wait()


def test_tools_over_http(url: str, servers: Servers, memory: Place) -> None:
    async def main() -> None:
        # It may not listen yet: the step's retries see to that.
        session = servers.session(url, retry=perdure.Retry(max_attempts=1000, initial=0.1, max_interval=0.1))
        async with memory.engine() as engine:
            assert await engine.run(uses_tools(), id="r") == EXPECTED
            forked = await engine.get("r").fork(id="again")
            assert await forked.result() == EXPECTED
        assert set(servers.seen().values()) == {1}
        await session.close()

    run(main)


# -- servers of the Agents SDK --------------------------------------------------------------------------


def agent_with_tools() -> Agent[Any]:
    def think(call: Any, answered: int) -> Any:
        if answered == 0:
            return [wants("forecast", f"call-{city}", city=city) for city in ("Ulm", "Bonn")]
        return says(str([item["output"] for item in call.input if "output" in item]))

    server = MCPServerStdio(
        {"command": sys.executable, "args": [SERVER, str(SERVERS[-1].log)]},
        name="tools",
        client_session_timeout_seconds=60,
    )
    return Agent("Caller", model=Brain("caller", think), mcp_servers=[server])


AGENTS: list[Agent[Any]] = []


@perdure.workflow
async def agent_calls() -> str:
    return str((await DurableRunner.run(AGENTS[-1], "go")).final_output)


def test_an_agents_mcp_servers_are_durable(servers: Servers, memory: Place) -> None:
    async def main() -> None:
        AGENTS.append(agent_with_tools())
        async with memory.engine() as engine:
            said = await engine.run(agent_calls(), id="r")
            assert "sunny in Ulm" in said
            assert "sunny in Bonn" in said
            names = await recorded(engine.get("r"))
            assert {"forecast[call-Ulm]", "forecast[call-Bonn]", "tools.list_tools#1"} <= set(names)
            seen = servers.seen()
            assert seen == {"start": 1, "forecast Ulm": 1, "forecast Bonn": 1}
            AGENTS.append(agent_with_tools())
            forked = await engine.get("r").fork(id="again")
            assert await forked.result() == said
            assert servers.seen() == seen, "a replay needs no server"
        await close_mcp_servers()

    run(main)


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_an_agent_with_a_server_survives_a_crash_at_any_append(commits: bool, servers: Servers) -> None:
    async def main() -> None:
        AGENTS.append(agent_with_tools())
        assert await dies_everywhere(Places("memory", Place), agent_calls, commits) >= 3
        await close_mcp_servers()

    run(main)
