"""The commands that look at streams, attributes, versions, workers, and at why a run doesn't go on."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

import perdure
from perdure import Engine, step, workflow


@step(name="clistreams.says", retry=perdure.Retry(initial=0.001))
async def says(word: str) -> str:
    perdure.emit("words", word)
    if perdure.step_info().attempt == 1:
        raise OSError("once more")
    return word


@workflow(name="clistreams.tells")
async def tells() -> str:
    perdure.set_attributes(customer="ada", total=12.5, order="42")
    perdure.emit("words", {"begin": True})
    await says("x")
    return "new" if perdure.patched("a change") else "old"


@workflow(name="clistreams.inner")
async def inner() -> bool:
    return await perdure.receive("approval", bool)


@workflow(name="clistreams.outer")
async def outer() -> bool:
    return await inner()


@workflow(name="clistreams.stuck")
async def stuck() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def driven(cli: Any) -> Callable[[Callable[[Engine], Any]], Any]:
    """Does something with an engine that drives runs."""

    def drive(action: Callable[[Engine], Any]) -> Any:
        async def act() -> Any:
            async with Engine(cli.url, version="v7", name="the worker") as engine:
                return await action(engine)

        return asyncio.run(act())

    return drive


def test_stream_prints_what_counts(cli: Any, driven: Any) -> None:
    driven(lambda engine: engine.run(tells(), id="a"))
    assert cli("stream", "a", "words").out == '{"begin": true}\n"x"\n'
    assert cli("stream", "a", "words", "--follow", "--after", "1").out.splitlines()[-1] == '"x"'
    told = cli("stream", "a", "words", "--superseded").out.splitlines()
    assert told[1] == '"x"'
    assert "void" in told[2]
    assert "clistreams.says#1" in told[2]
    (line,) = cli("stream", "a", "words", "--after", "3", "--json").out.splitlines()
    assert '"offset": 4' in line
    assert '"attempt": 2' in line
    outcome = cli("stream", "a", "nothing")
    assert (outcome.code, outcome.out) == (0, "")
    assert "nothing" in outcome.err
    assert "No run has the id 'nobody'" in cli.fails("stream", "nobody", "words")


def test_show_tells_of_streams_attributes_and_patches(cli: Any, driven: Any) -> None:
    driven(lambda engine: engine.run(tells(), id="a"))
    told = cli("show", "a").out
    for part in ("stream words", '{"begin":true}', "attributes", "patched", "a change", "v7"):
        assert part in told
    assert 'customer = "ada"' in told
    facts = cli("show", "a", "--json").json
    assert facts["attributes"] == {"customer": "ada", "order": "42", "total": 12.5}
    assert facts["version"] == "v7"
    assert {"emitted", "attributes_set", "patched"} <= {event["kind"] for event in facts["history"]}


def test_ls_finds_by_attributes(cli: Any, driven: Any) -> None:
    driven(lambda engine: engine.run(tells(), id="a"))
    driven(lambda engine: engine.start(stuck(), id="b", attributes={"order": 42, "urgent": True}))

    def found(*arguments: str) -> list[str]:
        return sorted(run["id"] for run in cli("ls", "--json", *arguments).json)

    assert found("--attr", "customer=ada") == ["a"]
    assert found("--attr", "order=42") == ["a", "b"]
    assert found("--attr", "total>=12.5", "--attr", "total<13") == ["a"]
    assert found("--attr", "urgent=true") == ["b"]
    assert found("--attr", "customer!=ada") == []
    assert found("--unpatched", "a change") == ["b"]
    assert "asks nothing" in cli.fails("ls", "--attr", "customer")


def test_why_follows_the_chain(cli: Any, driven: Any) -> None:
    async def starts(engine: Engine) -> None:
        handle = await engine.start(outer(), id="a")
        while not (await engine.get("a/clistreams.inner#1").info()).waiting_for:
            await asyncio.sleep(0.01)
        assert await handle.status() != "blocked"

    async def begins(engine: Engine) -> None:
        await engine.start(outer(), id="a")
        while not [run async for run in engine.runs(workflow="clistreams.inner")]:
            await asyncio.sleep(0.01)
        await starts(engine)

    driven(begins)
    told = cli("why", "a").out
    assert "a/clistreams.inner#1" in told
    assert "waits for the message 'approval'" in told
    assert "perdure send 'a/clistreams.inner#1' approval JSON" in told
    facts = cli("why", "a", "--json").json
    assert facts["causes"][0]["child"]["causes"][0]["kind"] == "message"
    assert "No run has the id 'nobody'" in cli.fails("why", "nobody")


def test_ls_blocked_tells_what_to_do(cli: Any, driven: Any) -> None:
    async def unknown_here(engine: Engine) -> None:
        await engine.start(tells(), id="a", queue="elsewhere")
        while await engine.get("a").status() != "blocked":
            await asyncio.sleep(0.01)

    driven(unknown_here)
    told = cli("ls", "--blocked").out
    assert "no worker knows" in told
    assert "perdure worker clistreams --queues elsewhere" in told
    (run,) = cli("ls", "--blocked", "--json").json
    assert run["why"][0]["kind"] == "worker"


def test_workers_are_listed_with_their_versions(cli: Any, driven: Any) -> None:
    async def lists(engine: Engine) -> list[str]:
        (found,) = await engine.workers()
        assert (found.name, found.version) == ("the worker", "v7")
        code = "from perdure.cli import main; main()"
        told: list[str] = []
        for form in ([], ["--json"]):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, "workers", "--url", cli.url, *form, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            told.append(out.decode())
        return told

    table, as_json = driven(lists)
    assert "the worker" in table
    assert "v7" in table
    assert "clistreams.tells" in json.loads(as_json)[0]["workflows"]
    outcome = cli("workers")
    assert "No worker is running" in outcome.err
    assert cli("workers", "--json").json == []


@step(name="clistreams.logs", retry=perdure.Retry(initial=0.001))
async def writes_a_log() -> None:
    logging.getLogger("clistreams").warning("\x1b[31mdanger in attempt %d", perdure.step_info().attempt)


@workflow(name="clistreams.logging")
async def logs_something() -> None:
    await writes_a_log()


def test_logs_prints_what_steps_have_logged(cli: Any, driven: Any) -> None:
    handler = perdure.StepLogHandler()
    logging.getLogger("clistreams").addHandler(handler)
    try:
        driven(lambda engine: engine.run(logs_something(), id="a"))
    finally:
        logging.getLogger("clistreams").removeHandler(handler)
    assert "WARNING clistreams.logs#1 \\x1b[31mdanger in attempt 1" in cli("logs", "a").out
    (line,) = cli("logs", "a", "--json").out.splitlines()
    assert json.loads(line)["level"] == "WARNING"
    outcome = cli("logs", "a", "--step", "other")
    assert (outcome.code, outcome.out) == (0, "")
    assert "StepLogHandler" in outcome.err
    assert "No run has the id 'nobody'" in cli.fails("logs", "nobody")
