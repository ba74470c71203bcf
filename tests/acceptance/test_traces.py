"""Traces of real workers, one of which is killed, as a receiver of OTLP gets them; and their log."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import traced
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from world import PERDURE, Process, World, until

from perdure.integrations import opentelemetry

pytestmark = pytest.mark.acceptance


class Receiver:
    """What takes traces by OTLP over HTTP.

    Attributes:
        spans: who has told it, and the span, in the order in which they came.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                receiver.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            given = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(given["service.name"], span) for span in scope.spans]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def worker(world: World, receiver: Receiver, name: str, queues: str) -> Process:
    return world.start(
        *PERDURE,
        *("worker", "traced", "--otel", "--log-format", "json", "--name", name, "--queues", queues),
        *("--url", world.url),
        TRACED_FOLDER=str(world.folder),
        OTEL_SERVICE_NAME=name,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )


def facts(span: Any) -> tuple[Any, ...]:
    return (span.name, span.start_time_unix_nano, span.end_time_unix_nano, span.trace_id, span.parent_span_id)


def test_one_trace_over_a_killed_worker_and_its_successor(world: World, receiver: Receiver) -> None:
    expected = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(expected))
    first = worker(world, receiver, "first", "default")

    async def main() -> None:
        async with world.client() as client:
            handle = await client.start(traced.journey(), id="j")

            async def waits() -> bool:
                return (world.folder / f"waits-{first.pid}").exists()

            # the first drives alone, so that it is the one to be killed; what it sends elsewhere waits for the second
            async def sent() -> bool:
                return any(span.name == "run traced.part" for _, span in receiver.spans)

            await until(sent)
            second = worker(world, receiver, "second", "others")
            await until(waits)
            third = worker(world, receiver, "third", "default")
            told = {"step traced.elsewhere", "step traced.stumble", "run traced.part"}

            async def exported() -> bool:
                return told <= {span.name for _, span in receiver.spans}

            await until(exported)
            first.kill()
            (world.folder / "go").touch()
            await handle.result(timeout=120)

            async def rooted() -> bool:
                return any(span.name == "run traced.journey" for _, span in receiver.spans)

            await until(rooted)
            async for run in client.runs(limit=None):
                await opentelemetry.tell(client, run.id, provider=provider)
            for process in (second, third):
                process.popen.terminate()
                assert process.wait() == 0
            lines = [json.loads(line) for line in third.log.read_text().splitlines() if line.startswith("{")]
            (line,) = [line for line in lines if line["message"] == "going on"]
            assert (line["run_id"], line["workflow"], line["worker"]) == ("j", traced.journey.name, "third")
            assert line["trace_id"] == receiver.spans[0][1].trace_id.hex()

    asyncio.run(main())
    wanted = {span.context.span_id.to_bytes(8, "big"): span for span in expected.get_finished_spans()}
    told: dict[bytes, set[Any]] = {}
    for _, span in receiver.spans:
        told.setdefault(span.span_id, set()).add(facts(span))
    assert set(told) == set(wanted), "a gap, or a span that no history tells of"
    assert all(len(ways) == 1 for ways in told.values()), "a span was told in two ways"
    assert len({span.trace_id for _, span in receiver.spans}) == 1
    assert {name for name, _ in receiver.spans} == {"first", "third"}
    names = sorted(span.name.replace("traced.", "") for span in wanted.values())
    assert names == sorted(
        ["run journey", "run part", "run part", "step elsewhere", "step wait_for_file"]
        + ["step look"] * 6
        + ["step stumble"] * 4
    )
    failed = [span for _, span in receiver.spans if span.status.code == 2]
    assert {span.name for span in failed} == {"step traced.stumble"}
    assert all(span.events[0].name == "exception" for span in failed)
    (root,) = {facts(span): span for _, span in receiver.spans if span.name == "run traced.journey"}.values()
    assert "perdure.run.recovered" in [event.name for event in root.events]
