"""Metrics in the text formats that Prometheus and those like it read; `prometheus-client` writes them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

from perdure.errors import ConfigurationError
from perdure.runtime.metrics.catalogue import Metric
from perdure.runtime.metrics.registry import Sample


def text_of(samples: Iterable[Sample], accept: str) -> tuple[str, bytes]:
    """A content type, and the samples in that format.

    Raises:
        ConfigurationError: prometheus-client isn't installed.
    """
    try:
        core: Any = importlib.import_module("prometheus_client.core")
        exposition: Any = importlib.import_module("prometheus_client.exposition")
        registry: Any = importlib.import_module("prometheus_client.registry")
    except ImportError as error:
        msg = f"metrics need a package that isn't installed ({error.name}): pip install 'perdure[metrics]'"
        raise ConfigurationError(msg) from error
    encode, content_type = exposition.choose_encoder(accept)
    families = list(_families(core, samples))

    class Given:
        def collect(self) -> Iterator[Any]:
            return iter(families)

    given = registry.CollectorRegistry(auto_describe=False)
    given.register(Given())
    text: bytes = encode(given)
    return str(content_type), text


def _families(core: Any, samples: Iterable[Sample]) -> Iterator[Any]:
    grouped: dict[str, list[Sample]] = {}
    for sample in samples:
        grouped.setdefault(sample.metric.name, []).append(sample)
    for group in grouped.values():
        metric = group[0].metric
        kinds = {
            "counter": core.CounterMetricFamily,
            "gauge": core.GaugeMetricFamily,
            "histogram": core.HistogramMetricFamily,
        }
        family = kinds[metric.kind](
            metric.name.removesuffix("_total"), metric.help, labels=metric.labels, unit=_unit(metric)
        )
        if metric.kind == "histogram":
            for sample in group:
                family.add_metric(sample.labels, list(_bars(sample)), sample.value)
        else:
            merged: dict[tuple[str, ...], float] = {}
            for sample in group:
                merged[sample.labels] = merged.get(sample.labels, 0.0) + sample.value
            for labels, value in merged.items():
                family.add_metric(labels, value)
        yield family


def _bars(sample: Sample) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip([*sample.metric.buckets, float("inf")], sample.bars, strict=True):
        total += count
        yield ("+Inf" if bound == float("inf") else str(float(bound))), total


def _unit(metric: Metric) -> str:
    """The unit that the name ends with, as OpenMetrics has it."""
    last = metric.name.removesuffix("_total").rpartition("_")[2]
    return last if last in ("seconds", "bytes", "ratio") else ""
