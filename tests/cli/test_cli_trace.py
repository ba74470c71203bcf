"""`perdure trace` and the log of workers: what they tell, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace as api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from perdure.integrations.opentelemetry import setup


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The process's provider, as if the environment had made it."""
    made, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(made))
    monkeypatch.setattr(setup, "_made", provider)
    monkeypatch.setattr(api, "get_tracer_provider", api.ProxyTracerProvider)
    monkeypatch.setattr(api, "set_tracer_provider", lambda provider: None)
    return made


def test_a_run_is_told_once_more_under_the_same_ids(cli: Any, exporter: InMemorySpanExporter) -> None:
    cli("run", "flows:parent", "--input", '"a"', "--id", "r")
    told = cli("trace", "r").err
    first = [span.context.span_id for span in exporter.get_finished_spans()]
    assert f"Told {len(first)} spans of run r, in trace " in told
    exporter.clear()
    cli("trace", "r")
    assert [span.context.span_id for span in exporter.get_finished_spans()] == first


def test_what_cannot_be_told_is_said(cli: Any, exporter: InMemorySpanExporter) -> None:
    cli("run", "flows:parent", "--input", '"a"', "--id", "r")
    assert "'q'" in cli.fails("trace", "q")
    assert "has no generation 7" in cli.fails("trace", "r", "--generation", "7")


def test_a_log_format_that_is_not_known_is_refused(cli: Any) -> None:
    assert '"text" or "json"' in cli.fails("worker", "flows", "--log-format", "xml")


def test_an_exporter_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(setup.ConfigurationError, match="otlp, console and none are known"):
        setup.provider_of_environment()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert setup.provider_of_environment().resource.attributes["service.name"] == "perdure"
