"""No value of a secret is found in anything that is stored, logged or shown; and a value that is planted there is."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import canary_app as app
import httpx
import nicegui
import pytest
from fastapi.routing import APIRoute
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import perdure
from helpers.canaries import of_files, of_postgres, sung
from helpers.postgres import lent_database
from perdure import Engine, Queue, Status
from perdure.codec.redaction import forget_all
from perdure.integrations.opentelemetry import Tracing
from perdure.web import create_app

PATIENCE = 120.0
AWAY = Queue("canary-away")
SOAK = os.environ.get("PERDURE_SOAK") == "1"
#: What is looked at with `perdure`, the first three always.
COMMANDS = (
    ["show", "all", "--full"],
    ["show", "failed", "--json"],
    ["why", "stuck"],
    ["show", "all", "--json", "--generation", "1"],
    ["show", "stuck", "--full"],
    ["ls", "--json"],
    ["logs", "all"],
    ["stream", "all", "failures"],
)


@pytest.fixture
def secrets_folder() -> Iterator[str]:
    with TemporaryDirectory(prefix="perdure-canary-") as folder:  # apart from what is searched
        yield folder
    forget_all()


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Everything that anybody logs, at DEBUG."""
    out = io.StringIO()
    handler, as_json = logging.StreamHandler(out), logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    as_json.setFormatter(perdure.logs.JsonFormatter({"service": "canary"}))
    kept = perdure.StepLogHandler(logging.DEBUG)
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    level = root.level
    for each in (handler, as_json, kept):
        root.addHandler(each)
    root.setLevel(logging.DEBUG)
    yield out
    for each in (handler, as_json, kept):
        root.removeHandler(each)
    root.setLevel(level)
    logging.setLogRecordFactory(factory)


async def until(status: Status, handle: perdure.Handle[Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while await handle.status() is not status:
            await asyncio.sleep(0.02)


async def drive(engine: Engine, keys: app.Keys) -> None:
    """Everything at once, twice, with people who take part."""
    blocked = await engine.start(app.stuck(keys), id="stuck")
    handle = await engine.start(app.everything(keys, app.Order(number=7, key=keys.api)), id="all")
    await engine.schedules.create("canary-nightly", app.child(keys), cron="0 2 * * *")
    assert await handle.update("change", keys.api) is not None
    for number in range(2):
        await handle.send("keys", keys, key=f"keys-{number}")
    answered: set[str] = set()
    async with asyncio.timeout(PATIENCE):
        while not (await handle.status()).final:
            async for question in engine.questions():
                if question.id not in answered:
                    answered.add(question.id)
                    with pytest.raises(perdure.InvalidAnswerError) as refused:
                        await engine.answer(question.id, app.FROM_FILE)
                    assert app.FROM_FILE not in str(refused.value)
                    await engine.answer(question.id, {"from": "env", "name": "CANARY_KEY"})
            await asyncio.sleep(0.02)
    assert await handle.result() == keys
    assert await handle.query("current") == keys.api
    await until(Status.BLOCKED, blocked)
    failed = await engine.start(app.child(keys), id="failed")
    with pytest.raises(perdure.RunFailed) as error:
        await failed.result(timeout=PATIENCE)
    assert not sung(app.ALL, [("RunFailed", "".join(_formatted(error.value)).encode())])
    await failed.retry()
    with pytest.raises(perdure.RunFailed):
        await failed.result(timeout=PATIENCE)


def _formatted(error: BaseException) -> list[str]:
    import traceback

    return traceback.format_exception(error)


@asynccontextmanager
async def browsing(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(engine), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8700", timeout=60) as client:
        yield client


async def pages(engine: Engine) -> list[tuple[str, bytes]]:
    """What each GET route of the API and each page answers, for every run."""
    infos = [run async for run in engine.runs()]
    runs = ["all", "stuck", "failed", *[run.id for run in infos if "/" in run.id][:2]]
    open_ones = tuple(f"/{run.id}/events" for run in infos if not run.status.final)
    questions = [question.id async for question in engine.questions(open=False)]
    found: list[tuple[str, bytes]] = []
    async with browsing(engine) as client:
        described = (await client.get("/api/v1/openapi.json")).json()["paths"]
        paths = [path for path, methods in described.items() if "get" in methods]
        paths += [
            route.path.replace(":path", "")
            for route in nicegui.app.routes
            if isinstance(route, APIRoute)
            and "GET" in route.methods
            and not route.path.startswith("/_nicegui")
        ]
        for path in paths:
            for place in places(path, runs, questions):
                if place.endswith(open_ones):
                    continue  # it would go on for as long as the run
                async with asyncio.timeout(PATIENCE):
                    answer = await client.get(place, params=query(place))
                assert answer.status_code < 500, f"{place}: {answer.text[:500]}"
                found.append((place, answer.content))
    assert len({place for place, _ in found}) > 60
    return found


def places(path: str, runs: list[str], questions: list[str]) -> Iterator[str]:
    if "{" not in path:
        yield path
    elif path.startswith(("/api/v1/runs/", "/runs/")):
        for run in runs:
            for name in ("progress", "failures", "perdure:log"):
                for seq in ("3", "12"):
                    filled = path.replace("{id}", run).replace("{name}", name).replace("{seq}", seq)
                    yield filled
                    if "{seq}" not in path:
                        break
                if "{name}" not in path:
                    break
    elif "question" in path:
        for question in questions:
            yield path.replace("{id}", question)
    else:
        yield re.sub(r"{\w+}", "canary_app.Wallet" if "entities" in path else "canary-nightly", path)


def query(place: str) -> dict[str, str]:
    if "/streams/" in place:
        return {"follow": "false"}
    if place.endswith("/changes"):
        return {"name": "keys", "seq": "1"}
    if place.endswith("/diff"):
        return {"a": "all", "b": "failed"}
    return {"generation": "1"} if place.endswith("/history") and "/all/" in place else {}


def told_by_commands(url: str, folder: Path) -> list[tuple[str, bytes]]:
    """What the command line shows and writes, in another process that has revealed nothing."""
    found = []
    for arguments in COMMANDS if SOAK else COMMANDS[:3]:
        done = subprocess.run(
            [sys.executable, "-c", "from perdure.cli import main; main()", *arguments, "--url", url],
            capture_output=True,
            cwd=folder,
            check=False,
            timeout=PATIENCE,
        )
        assert b"Usage:" not in done.stderr, done.stderr
        found.append((f"perdure {' '.join(arguments)}", done.stdout + done.stderr))
    return found


@pytest.mark.leaks
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_no_value_of_a_secret_is_found_anywhere(
    kind: str, tmp_path: Path, secrets_folder: str, logged: io.StringIO
) -> None:
    async def main(url: str) -> None:
        keys = app.prepare(secrets_folder)
        spans, metrics = InMemorySpanExporter(), perdure.Metrics()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        watching = [Tracing(provider), metrics]
        blobs = perdure.Blobs(str(tmp_path / "blobs"), above=4096)
        async with Engine(url, queues=("default", AWAY), telemetry=watching, blobs=blobs) as engine:
            await drive(engine, keys)
            shown = await pages(engine) if kind == "sqlite" or SOAK else []
            shown.append(("/metrics", (await metrics.text(engine))[1]))
            traced = "".join(span.to_json() for span in spans.get_finished_spans()).encode()
            shown.append(("spans", traced))
            assert b"[secret env:CANARY_KEY]" in traced
            stored = [*of_files(tmp_path), *(of_postgres(url) if kind == "postgres" else ())]
            if kind == "sqlite" or SOAK:
                shown += await asyncio.to_thread(told_by_commands, url, tmp_path)
            assert sung(app.ALL, shown) == []
            assert sung(app.ALL, stored) == []
            # the places that had to be masked were reached
            everything = b"".join(data for _, data in [*stored, *shown])
            for source in (b"env:CANARY_KEY", b"canary-vault:db/main", b"file:"):
                assert b"[secret " + source in everything
            assert await planted(engine, url)
        log = logged.getvalue().encode()
        assert sung(app.ALL, [("log", log)]) == []
        assert b"[secret env:CANARY_KEY]" in log
        assert b"canary.app DEBUG sending POST" in log

    async def planted(engine: Engine, url: str) -> bool:
        """A leak on purpose is found in the database, by the API, on the page and by the command."""
        await engine.run(app.planted(), id="planted")
        stored = list(of_files(tmp_path)) if kind == "sqlite" else list(of_postgres(url))
        assert sung(app.ALL, stored), "the search of the database finds nothing"
        forget_all()  # else it is masked where it is shown
        async with browsing(engine) as client:
            for place in ("/api/v1/runs/planted/history", "/api/v1/runs/planted/result"):
                assert sung(app.ALL, [(place, (await client.get(place)).content)]), place
        return True

    if kind == "sqlite":
        asyncio.run(main(f"sqlite:///{tmp_path}/canary.db"))
    else:
        with lent_database() as url:
            asyncio.run(main(url))


def test_the_search_finds_what_is_hidden_a_little() -> None:
    for value in app.ALL:
        for text in (value, json.dumps({"a": value}), repr([value]), value.encode().hex()):
            assert sung([value], [("here", b"before " + text.encode() + b" after")]), text
    assert not sung(app.ALL, [("here", b"canary-env")])
