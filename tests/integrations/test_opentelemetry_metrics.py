"""Metrics by OpenTelemetry: the same numbers as Prometheus gets, by the SDK and over OTLP."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk.metrics", reason="OpenTelemetry isn't installed")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader

import perdure
from perdure import Engine, Metrics, step, workflow
from perdure.errors import ConfigurationError
from perdure.integrations.opentelemetry import metrics as exporting
from perdure.integrations.opentelemetry.metrics import export_metrics
from perdure.runtime.metrics.catalogue import CATALOGUE


@step(name="otel.one")
async def one() -> int:
    return 1


@workflow(name="otel.ones")
async def ones(count: int) -> int:
    return sum([await one() for _ in range(count)])


def points(reader: InMemoryMetricReader) -> dict[str, dict[tuple[str, ...], Any]]:
    """By the metric's name, the value (or the number of observations) by the labels' values."""
    data: Any = reader.get_metrics_data()
    found: dict[str, dict[tuple[str, ...], Any]] = {}
    by_name = {metric.otel_name: metric for metric in CATALOGUE.values()}
    for each in data.resource_metrics[0].scope_metrics[0].metrics:
        metric = by_name[each.name]
        assert (each.unit, each.description) == (metric.unit, metric.help)
        for point in each.data.data_points:
            labels = tuple(point.attributes[label] for label in metric.labels)
            value = point.count if metric.kind == "histogram" else point.value
            found.setdefault(metric.name, {})[labels] = value
            if metric.kind == "histogram":
                assert tuple(point.explicit_bounds) == metric.buckets
    return found


def test_the_sdk_gets_what_prometheus_gets() -> None:
    metrics, reader = Metrics(), InMemoryMetricReader()
    export_metrics(metrics, MeterProvider([reader]))

    async def main() -> None:
        async with Engine("memory:", telemetry=metrics) as engine:
            assert await engine.run(ones(5)) == 5
            async with asyncio.timeout(60):
                while not any(sample.metric.name == "perdure_db_up" for sample in metrics.samples()):
                    await asyncio.sleep(0.01)
            told = points(reader)
            assert told["perdure_steps_ended_total"] == {("otel.one", "completed"): 5}
            assert told["perdure_step_duration_seconds"] == {("otel.one", "completed"): 5}
            assert told["perdure_runs_ended_total"] == {("otel.ones", "completed"): 1}
            assert told["perdure_db_up"] == {(): 1}
            assert told["perdure_db_workers"]["alive",] == 1
            for sample in metrics.samples():
                if sample.metric.kind == "histogram" and sum(sample.bars):
                    assert told[sample.metric.name][sample.labels] == sum(sample.bars)

    asyncio.run(main())


def test_it_goes_over_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    arrived: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    metrics = Metrics(database=False)
    provider = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(), 3_600_000)])
    export_metrics(metrics, provider)

    async def main() -> None:
        async with Engine("memory:", telemetry=metrics) as engine:
            await engine.run(ones(2))

    asyncio.run(main())
    provider.shutdown()
    server.shutdown()
    server.server_close()
    together = b"".join(arrived)
    assert b"perdure.steps.ended" in together
    assert b"otel.one" in together
    assert b"perdure.step.duration" in together


def test_the_environment_chooses_the_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exporting._exporter("none") is None
    assert exporting._exporter("console") is not None
    with pytest.raises(ConfigurationError, match="OTEL_METRICS_EXPORTER='carrier-pigeon'"):
        exporting._exporter("carrier-pigeon")
    assert perdure.Metrics is Metrics
