"""A run's past over HTTP: as data with a shape, by the client, and for agents."""

from __future__ import annotations

import httpx
import pytest
from web_kit import run, serving

import perdure
from helpers import travel_programs as programs
from perdure.web import create_app


def test_a_run_is_looked_at_after_an_event() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            await engine.run(programs.collects(3), id="a/b")
            told = (await client.get("/api/v1/runs/a/b/at/2")).json()
            assert (told["run"], told["seq"], told["events"], told["stop"]) == ("a/b", 2, 5, None)
            assert told["event"]["kind"] == "step_completed"
            assert told["event"]["seq"] == 2
            (task,) = told["tasks"]
            (frame,) = task["frames"]
            assert task["operation"] == "helpers.travel_programs.double#2"
            found = {variable["name"]: variable["text"] for variable in frame["variables"]}
            assert found == {"count": "3", "found": "[0]", "number": "1"}
            source = told["sources"][frame["source"]]
            assert source["lines"][frame["line"] - source["first"]].endswith("# collects")
            assert [operation["kind"] for operation in told["operations"]] == ["step"]
            asked = {"name": "found", "seq": 2}
            assert (await client.get("/api/v1/runs/a/b/changes", params=asked)).json() == {"seq": 3}

    run(main)


def test_what_cannot_be_shown_is_a_problem_with_its_reason() -> None:
    @perdure.workflow(name="travel.web.local")
    async def local() -> int:
        return 1

    async def main() -> None:
        async with serving() as (engine, client):
            await engine.run(local(), id="r")
            missing = await client.get("/api/v1/runs/r/at/1")
            assert missing.status_code == 409
            assert missing.json()["type"] == "urn:perdure:error:NoCodeError"
            assert "top level of a module" in missing.json()["detail"]
            assert (await client.get("/api/v1/runs/r/at/9")).status_code == 422
            assert (await client.get("/api/v1/runs/r/at/0")).status_code == 422
            assert (await client.get("/api/v1/runs/nobody/at/1")).status_code == 404

    run(main)


def test_the_client_looks_back_too() -> None:
    async def main() -> None:
        async with perdure.Engine("memory:") as engine:
            await engine.run(programs.collects(3), id="r")
            transport = httpx.ASGITransport(create_app(engine))
            async with perdure.HttpClient("http://127.0.0.1:8700", transport=transport) as client:
                handle = client.get("r")
                assert (await handle.at(3))["tasks"][0]["awaits"] == "step helpers.travel_programs.double#3"
                assert await handle.change_of("found", 3, direction="previous") == 2

    run(main)


def test_an_agent_looks_back_too() -> None:
    pytest.importorskip("mcp.server.mcpserver")
    from mcp import Client

    from perdure.web.agents import mcp_server

    async def main() -> None:
        async with perdure.Engine("memory:") as engine:
            await engine.run(programs.collects(3), id="r")
            async with Client(mcp_server(engine)) as agent:
                told = (await agent.call_tool("look_back", {"id": "r", "seq": 2})).structured_content
                assert told is not None
                assert told["tasks"][0]["frames"][0]["variables"][1]["text"] == "[0]"

    run(main)
