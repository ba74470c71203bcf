"""The tracer provider: the application's, or one that is made by OpenTelemetry's standard environment variables.

OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES       who tells
OTEL_TRACES_EXPORTER                              otlp (the default), console, none; several with commas
OTEL_EXPORTER_OTLP_ENDPOINT, ..._HEADERS, ...     where to; see OpenTelemetry's own documentation
OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_SDK_DISABLED
"""

from __future__ import annotations

import os
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from perdure.errors import ConfigurationError

_made: TracerProvider | None = None


def provider_here() -> Any:
    """The process's tracer provider. If there is none, one is made by the environment, for all of the process."""
    global _made
    found = trace.get_tracer_provider()
    if not isinstance(found, trace.ProxyTracerProvider):
        return found
    if _made is None:
        _made = provider_of_environment()
        trace.set_tracer_provider(_made)
    return _made


def provider_of_environment() -> TracerProvider:
    """A tracer provider by the environment variables.

    Raises:
        ConfigurationError: they ask for an exporter that isn't known or isn't installed.
    """
    names = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "perdure"}
    provider = TracerProvider(resource=Resource.create(names))
    wanted = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    for name in wanted.split(","):
        exporter = _exporter(name.strip())
        if exporter is not None:
            provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporter(name: str) -> SpanExporter | None:
    if name == "none":
        return None
    if name == "console":
        return ConsoleSpanExporter()
    if name != "otlp":
        msg = f"OTEL_TRACES_EXPORTER={name!r}: otlp, console and none are known; give any other by Tracing(provider)"
        raise ConfigurationError(msg)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        msg = "exporting traces needs OpenTelemetry's exporter: pip install 'perdure[otel]'"
        raise ConfigurationError(msg) from error
    return OTLPSpanExporter()
