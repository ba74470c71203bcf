"""Traces over HTTP: what a request stands in, its run stands in; and HttpClient says where it is asked from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from web_kit import BASE, run, serving

import perdure
from perdure import HttpClient, step, workflow
from perdure.core.events import RunStarted
from perdure.core.tracing import TraceContext, current_trace
from perdure.integrations.opentelemetry import Tracing
from perdure.web import Access, create_app

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@step
async def tiny() -> None: ...


@workflow(name="web.traced")
async def traced() -> None:
    await tiny()


async def started(engine: perdure.Engine, id: str) -> RunStarted:
    async for event in engine.get(id).history():
        assert isinstance(event, RunStarted)
        return event
    raise AssertionError


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ({"traceparent": PARENT, "tracestate": "a=b"}, TraceContext(PARENT, "a=b")),
        ({"traceparent": PARENT}, TraceContext(PARENT)),
        ({"traceparent": "00-zz-b7ad6b7169203331-01"}, None),
        ({"traceparent": f"{PARENT}; drop"}, None),
        ({"traceparent": PARENT, "tracestate": "x" * 600}, TraceContext(PARENT)),
        ({}, None),
    ],
)
def test_a_run_keeps_where_its_request_comes_from(headers: dict[str, str], kept: TraceContext | None) -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            body = {"workflow": "web.traced", "id": "r"}
            answer = await client.post("/api/v1/runs", json=body, headers=headers)
            assert answer.status_code < 300, answer.text
            assert (await started(engine, "r")).trace == kept
            assert current_trace.get() is None

    run(main)


@asynccontextmanager
async def remote(engine: perdure.Engine) -> AsyncIterator[HttpClient]:
    transport = httpx.ASGITransport(create_app(engine, Access()))
    async with HttpClient(BASE, transport=transport) as client:
        yield client


def test_the_clients_span_is_the_parent_of_the_run_that_it_starts() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def main() -> None:
        async with perdure.Engine("memory:", telemetry=Tracing(provider)) as engine, remote(engine) as client:
            with provider.get_tracer("test").start_as_current_span("caller"):
                handle = await client.start(traced(), id="r")
            await handle.result()

    run(main)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert {span.context.trace_id for span in spans.values()} == {spans["caller"].context.trace_id}
    root = spans["run web.traced"]
    assert root.parent is not None
    assert root.parent.span_id == spans["caller"].context.span_id
