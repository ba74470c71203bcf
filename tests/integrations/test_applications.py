"""Engines within applications: FastAPI's lifespan, Flask and Django by a thread, a notebook's running loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import perdure
from perdure.errors import ConfigurationError, EngineClosedError, UsageError
from perdure.integrations.blocking import BlockingEngine
from perdure.integrations.fastapi import EngineDep, lifespan


@perdure.step
async def doubled(number: int) -> int:
    return number * 2


@perdure.workflow(name="applications.quadruple")
async def quadruple(number: int) -> int:
    return await doubled(await doubled(number))


@perdure.workflow(name="applications.waits")
async def waits() -> str:
    words: list[str] = []

    def heard() -> list[str]:
        return words

    def hear(word: str) -> int:
        words.append(word)
        return len(words)

    perdure.on_query(heard)
    perdure.on_update(hear)
    return await perdure.receive("word", str)


@perdure.workflow(name="applications.fails")
async def fails() -> None:
    raise ValueError("no")


def application(engine: perdure.Engine, inner: Any = None) -> FastAPI:
    app = FastAPI(lifespan=lifespan(engine, inner))

    @app.post("/runs/{id}")
    async def begin(id: str, engine: EngineDep) -> int:
        return await engine.run(quadruple(3), id=id)

    return app


def test_an_application_opens_and_closes_its_engine() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def inner(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        seen.append("begins")
        yield {"other": 1}
        seen.append("ends")

    engine = perdure.Engine("memory:")
    with TestClient(application(engine, inner)) as client:
        assert client.post("/runs/r-1").json() == 12
        assert seen == ["begins"]
    assert seen == ["begins", "ends"]
    with pytest.raises(EngineClosedError):
        asyncio.run(engine.get("r-1").status())


def test_an_application_without_an_engine_says_what_to_do() -> None:
    app = FastAPI()

    @app.get("/")
    async def use(engine: EngineDep) -> None: ...

    with TestClient(app) as client, pytest.raises(ConfigurationError, match="lifespan"):
        client.get("/")


def test_code_that_isnt_async_starts_runs_and_talks_to_them(tmp_path: Path) -> None:
    with BlockingEngine(f"sqlite:///{tmp_path}/runs.db") as engine:
        assert engine.run(quadruple(3), id="r-1") == 12
        assert engine.get("r-1").status() == "completed"
        waiting = engine.start(waits(), id="w")
        assert waiting.update("hear", "a") == 1
        assert waiting.query("heard") == ["a"]
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.01)
        waiting.send("word", "hello")
        assert waiting.result() == "hello"
        with pytest.raises(perdure.RunFailed, match="no"):
            engine.run(fails())
        waiting = engine.start(waits())
        waiting.cancel("enough")
        with pytest.raises(perdure.RunCancelled):
            waiting.result()
        assert engine.call(engine.engine.workers)[0].state == "alive"
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda n=n: results.append(engine.run(quadruple(n)))) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == [4 * n for n in range(8)]

        async def inside() -> None:
            engine.run(quadruple(1))

        with pytest.raises(UsageError, match="event loop"):
            asyncio.run(inside())
    with pytest.raises(EngineClosedError):
        engine.run(quadruple(1))
    with pytest.raises(ConfigurationError):
        BlockingEngine("nonsense://").open()


def test_flask_and_django_views_start_runs(tmp_path: Path) -> None:
    flask = pytest.importorskip("flask")
    django = pytest.importorskip("django")
    with BlockingEngine(f"sqlite:///{tmp_path}/runs.db") as engine:
        app = flask.Flask("shop")

        @app.post("/orders/<id>")
        def order(id: str) -> dict[str, int]:
            return {"result": engine.run(quadruple(2), id=id)}

        assert app.test_client().post("/orders/o-1").get_json() == {"result": 8}

        from django.conf import settings
        from django.http import JsonResponse
        from django.test import RequestFactory

        if not settings.configured:
            settings.configure(ALLOWED_HOSTS=["*"])
            django.setup()

        def view(request: Any, id: str) -> JsonResponse:
            return JsonResponse({"result": engine.run(quadruple(2), id=id)})

        answer = view(RequestFactory().post("/orders/o-1"), "o-1")
        assert answer.content == b'{"result": 8}'


def test_a_notebook_awaits_at_its_top_level(tmp_path: Path) -> None:
    """Cells of a notebook share one running loop, and a module that isn't a file."""
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    cells = [
        "import asyncio, perdure",
        "@perdure.step\nasync def look(n: int) -> int:\n    return n + 1",
        "@perdure.workflow\nasync def count(n: int) -> int:\n    return await look(await look(n))",
        f"engine = await perdure.Engine('sqlite:///{tmp_path}/cells.db').__aenter__()",
        "result = await engine.run(count(1), id='cell-1')",
        "@perdure.step\nasync def look(n: int) -> int:\n    return n + 10",  # a cell that is executed again
        "again = await engine.run(count(1), id='cell-2')",
        "await engine.close()",
    ]
    for cell in cells:
        done = shell.run_cell(cell, store_history=False)
        done.raise_error()
    assert (shell.user_ns["result"], shell.user_ns["again"]) == (3, 21)
