"""The metrics of `perdure.Metrics` by OpenTelemetry, over OTLP or whatever the application's meter provider does.

    from perdure.integrations.opentelemetry.metrics import export_metrics

    metrics = perdure.Metrics()
    export_metrics(metrics)                     # by the OTEL_* environment variables
    async with perdure.Engine(url, telemetry=metrics) as engine: ...

Counters and gauges are read when the provider wants them, from what is counted anyway. Histograms are told each
observation, since OpenTelemetry has no other way for them. Names are by its conventions; a collector that makes
Prometheus' names of them makes those of the catalogue.

OTEL_METRICS_EXPORTER                             otlp (the default), console, none; several with commas
OTEL_METRIC_EXPORT_INTERVAL, OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_..., OTEL_SDK_DISABLED, ...
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from opentelemetry import metrics as otel
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource

from perdure.api.metrics import Metrics
from perdure.errors import ConfigurationError
from perdure.runtime.metrics.catalogue import CATALOGUE, Metric
from perdure.runtime.metrics.registry import Labels

_ONE_LOOK: Final = 0.5  # seconds for which one reading of all numbers serves all instruments

_made: MeterProvider | None = None


def export_metrics(metrics: Metrics, provider: otel.MeterProvider | None = None) -> None:
    """Tell metrics by OpenTelemetry, too. To be called before an engine is entered that they count.

    Args:
        provider: a meter provider. By default the process's; if it has none, one is made by the OTEL_* environment
            variables.

    Raises:
        ConfigurationError: the environment asks for an exporter that isn't known or isn't installed.

    Example:
        >>> export_metrics(metrics)  # doctest: +SKIP
    """
    meter = (provider or meter_provider_here()).get_meter("perdure")
    told = _Told(metrics)
    histograms: dict[str, Any] = {}
    for metric in CATALOGUE.values():
        given: dict[str, Any] = {"unit": metric.unit, "description": metric.help}
        if metric.kind == "histogram":
            histograms[metric.name] = meter.create_histogram(
                metric.otel_name, explicit_bucket_boundaries_advisory=metric.buckets, **given
            )
        elif metric.kind == "counter":
            meter.create_observable_counter(metric.otel_name, [told.reader_of(metric)], **given)
        else:
            meter.create_observable_gauge(metric.otel_name, [told.reader_of(metric)], **given)

    def also(metric: Metric, labels: Labels) -> Callable[[float], None]:
        record = histograms[metric.name].record
        attributes = dict(zip(metric.labels, labels, strict=True))
        return lambda value: record(value, attributes)

    metrics.tell(also)


class _Told:
    """What is told to the instruments that ask, all of them at once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._observed: dict[str, list[Observation]] = {}

    def reader_of(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """What an instrument calls when it is asked, in a thread of the reader's."""

        def read(_: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                if time.monotonic() > self._read_at + _ONE_LOOK:
                    self._observed = self._read()
                    self._read_at = time.monotonic()
                return self._observed.get(metric.name, ())

        return read

    def _read(self) -> dict[str, list[Observation]]:
        sums: dict[tuple[str, Labels], float] = {}
        for sample in self._metrics.samples():
            if sample.metric.kind != "histogram":
                key = sample.metric.name, sample.labels
                sums[key] = sums.get(key, 0.0) + sample.value
        found: dict[str, list[Observation]] = {}
        for (name, labels), value in sums.items():
            attributes = dict(zip(CATALOGUE[name].labels, labels, strict=True))
            found.setdefault(name, []).append(Observation(value, attributes))
        return found


def meter_provider_here() -> otel.MeterProvider:
    """The process's meter provider. If there is none, one is made by the environment, for all of the process."""
    global _made
    found = otel.get_meter_provider()
    if isinstance(found, MeterProvider):
        return found
    if _made is None:
        names = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "perdure"}
        wanted = (os.environ.get("OTEL_METRICS_EXPORTER") or "otlp").split(",")
        exporters = [exporter for name in wanted if (exporter := _exporter(name.strip())) is not None]
        readers = [PeriodicExportingMetricReader(exporter) for exporter in exporters]
        _made = MeterProvider(readers, resource=Resource.create(names))
        otel.set_meter_provider(_made)
    return _made


def _exporter(name: str) -> MetricExporter | None:
    if name == "none":
        return None
    if name == "console":
        return ConsoleMetricExporter()
    if name != "otlp":
        msg = (
            f"OTEL_METRICS_EXPORTER={name!r}: otlp, console and none are known; give any other by a provider"
        )
        raise ConfigurationError(msg)
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    except ImportError as error:
        msg = "exporting metrics needs OpenTelemetry's exporter: pip install 'perdure[otel]'"
        raise ConfigurationError(msg) from error
    return OTLPMetricExporter()
