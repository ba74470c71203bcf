"""`perdure serve`, `perdure dev` and `perdure mcp` as processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from world import PERDURE

import perdure

pytestmark = pytest.mark.acceptance

MODULE = """
import perdure

@perdure.step
async def doubled(x: int) -> int:
    return x * 2

@perdure.workflow(name="served.doubles")
async def doubles(x: int) -> int:
    return await doubled(x)

@perdure.workflow(name="served.echoes")
async def echoes() -> str:
    words = []
    for number in range(2):
        perdure.emit("asked", number)
        words.append(await perdure.receive("word", str))
    return " ".join(words)
"""


@contextmanager
def process(folder: Path, *command: str, reload: bool = False) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server, and the address at which it is."""
    once = ["--no-reload"] if command[0] == "dev" and not reload else []
    started = subprocess.Popen(
        [*PERDURE, *command, *once, "--port", "0"],
        cwd=folder,
        env={
            **os.environ,
            "PERDURE_URL": "sqlite:///served.db",
            "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stderr is not None
        for line in started.stderr:
            if match := re.search(r"served at (http://\S+)", line):
                yield started, match[1]
                break
        else:
            pytest.fail("the server didn't start")
    finally:
        started.kill()
        started.communicate()


async def followed(url: str) -> str:
    """What a run puts out while it goes on, as its client sees it: each item asks for the next message."""
    async with perdure.HttpClient(url) as client:
        handle = await client.start("served.echoes", id="e")
        async for item in handle.stream("asked"):
            await handle.send("word", ("two", "words")[item["value"]])
        told = [event["seq"] async for event in handle.history(after=1, follow=True)]
        assert told == list(range(2, len(told) + 2))
        return str(await handle.result())


def call(method: str, url: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_dev_drives_and_serves_and_stops(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(MODULE)
    with process(tmp_path, "dev", "served") as (server, url):
        api = f"{url}/api/v1"
        started = {"workflow": "served.doubles", "args": [21], "id": "r"}
        assert call("POST", f"{api}/runs", started) == (201, {"id": "r"})
        status, told = call("GET", f"{api}/runs/r/result?wait=20")
        assert (status, told["result"]) == (200, 42)
        assert call("GET", f"{api}/openapi.json")[0] == 200
        assert asyncio.run(followed(url)) == "two words"
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    with process(tmp_path, "serve") as (server, url):
        assert call("GET", f"{url}/api/v1/runs/r/result")[1]["result"] == 42
        server.kill()


def named(url: str) -> set[str]:
    """The workflows that the server's worker has."""
    (worker,) = [each for each in call("GET", f"{url}/api/v1/workers")[1] if each["state"] == "alive"]
    return set(worker["workflows"])


def told_until(server: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Read what a server says until it says this."""
    assert server.stderr is not None
    for line in server.stderr:
        if match := re.search(pattern, line):
            return match
    pytest.fail(f"it ended without saying {pattern}")


def test_dev_starts_again_when_a_file_changes_and_tells_of_mistakes(tmp_path: Path) -> None:
    module = tmp_path / "served.py"
    module.write_text(MODULE)
    with process(tmp_path, "dev", "served", reload=True) as (server, url):
        assert named(url) == {"served.doubles", "served.echoes"}
        module.write_text(MODULE + "\nnonsense(\n")
        told_until(server, r"served\.py changed: starting again")
        told_until(server, r"SyntaxError")
        told_until(server, r"It has ended with \d+. It is started again when a file changes")
        module.write_text(MODULE.replace("served.doubles", "served.twice"))
        url = told_until(server, r"served at (http://\S+)")[1]
        assert named(url) == {"served.twice", "served.echoes"}
        pid = json.loads(json.dumps(call("GET", f"{url}/api/v1/workers")[1]))[-1]["pid"]
        server.kill()  # nobody watches any more: the child ends by itself
        assert gone(pid)


def gone(pid: int) -> bool:
    """Wait until a process has ended."""
    for _ in range(600):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


def test_others_need_a_token(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(MODULE)
    made = subprocess.run(
        [*PERDURE, "token", "new", "ci", "--role", "operator"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    token = made.stdout.strip()
    refused = subprocess.run(
        [
            *PERDURE,
            "dev",
            "served",
            "--no-reload",
            "--host",
            "0.0.0.0",
            "--url",
            "sqlite:///x.db",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0
    assert "perdure token new" in refused.stderr
    command = ("dev", "served", "--host", "0.0.0.0", "--tokens", "perdure-tokens.json")
    with process(tmp_path, *command) as (_, url):
        api = url.replace("0.0.0.0", "127.0.0.1") + "/api/v1"
        assert call("GET", f"{api}/runs")[0] == 401
        assert call("GET", f"{api}/runs", token=token)[0] == 200
        body = {"workflow": "served.doubles", "args": [1], "id": "t"}
        assert call("POST", f"{api}/runs", body, token)[0] == 201
        assert call("POST", f"{api}/queues/default/pause", None, token)[0] == 403


def test_a_proxy_says_who_asks_and_the_audit_log_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(MODULE)
    roles = ("--proxy-role", "alice=admin", "--proxy-role", "*=viewer")
    command = ("dev", "served", "--proxy-header", "X-User", *roles, "--audit-log", "audit.jsonl")
    with process(tmp_path, *command) as (_, url):

        def asked(method: str, path: str, **headers: str) -> int:
            request = urllib.request.Request(f"{url}/api/v1{path}", headers=headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert asked("GET", "/runs") == 401
        assert asked("GET", "/runs", **{"X-User": "bob"}) == 200
        assert asked("GET", "/runs", **{"X-User": "bob", "X-Forwarded-For": "203.0.113.9"}) == 200
        assert asked("POST", "/queues/default/pause", **{"X-User": "bob", "Origin": url}) == 403
        assert asked("POST", "/queues/default/pause", **{"X-User": "alice", "Origin": url}) == 200
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(line["who"], line["status"]) for line in lines] == [("bob", 403), ("alice", 200)]
    nobody = subprocess.run(
        [*PERDURE, "serve", "--proxy-header", "X-User"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert nobody.returncode != 0
    assert "--proxy-role" in nobody.stderr


def test_an_agent_is_served_over_standard_input_and_output(tmp_path: Path) -> None:
    mcp = pytest.importorskip("mcp")
    (tmp_path / "served.py").write_text(MODULE)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run(
        [*PERDURE, "run", "served:doubles", "--input", "[4]", "--id", "r", "--url", "sqlite:///mcp.db"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
    )

    async def listed() -> list[str]:
        server = mcp.StdioServerParameters(
            command=PERDURE[0],
            args=[*PERDURE[1:], "mcp", "--url", f"sqlite:///{tmp_path}/mcp.db"],
            env=environment,
        )
        async with mcp.Client(mcp.stdio_client(server)) as client:
            answer = await client.call_tool("list_runs", {})
            return [run["id"] for run in answer.structured_content["result"]]

    assert asyncio.run(listed()) == ["r"]
