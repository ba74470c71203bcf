"""Requests drawn from the API's own schema: none brings a 500, and every answer is as the schema says."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from test_api import adds, fails

import perdure
from perdure.web import create_app

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 200 if os.environ.get("PERDURE_SOAK") == "1" else 5


class Server(threading.Thread):
    """The application in a thread of its own, with an engine that holds a few runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ready = threading.Event()
        self.port = 0
        self._server: uvicorn.Server | None = None

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        async with perdure.Engine("memory:") as engine:
            await engine.run(adds(1), id="r")
            with pytest.raises(perdure.RunFailed):
                await engine.run(fails(1), id="f")
            await engine.schedules.create("hourly", adds(1), every=3600)
            config = uvicorn.Config(create_app(engine), port=0, log_level="error", lifespan="off")
            self._server = uvicorn.Server(config)
            serving = asyncio.create_task(self._server.serve())
            while not self._server.started:
                await asyncio.sleep(0.01)
            self.port = self._server.servers[0].sockets[0].getsockname()[1]
            self.ready.set()
            await serving

    def stop(self) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self.join(10)


@pytest.fixture(scope="module")
def api() -> Iterator[schemathesis.BaseSchema]:
    server = Server()
    server.start()
    assert server.ready.wait(30)
    yield schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/api/v1/openapi.json")
    server.stop()


def test_each_operation_says_what_its_problems_look_like(api: schemathesis.BaseSchema) -> None:
    schema = api.raw_schema
    assert schema["components"]["schemas"]["ProblemOut"]["required"] == ["type", "title", "status", "detail"]
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemOut"}}}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/api/v1/"):
                told = {status: found.get("content") for status, found in operation["responses"].items()}
                assert told["404"] == told["503"] == content, (path, method)


def test_no_request_brings_what_the_schema_doesnt_say(
    api: schemathesis.BaseSchema, record_property: Callable[[str, object], None]
) -> None:
    tried = 0
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) > 30
    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def holds(case: schemathesis.Case) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(checks=CHECKS, timeout=20)

        holds()
    record_property(
        "figure", f"{tried} requests to {len(operations)} operations as the schema says, none a 500"
    )
