"""What the tests of traces share: a provider that keeps spans in memory, and how a trace is told as a tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from perdure.integrations.opentelemetry import Tracing


class Collected:
    """A provider, and the spans that it was told."""

    def __init__(self, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def telemetry(self, **options: Any) -> Tracing:
        return Tracing(self.provider, **options)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name.endswith(name)]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def tree(self) -> list[Any]:
        """Names under names, siblings by their start; each span once."""
        spans = {span.context.span_id: span for span in self.spans}
        assert len(spans) == len(self.spans), "a span was told twice"

        def below(parent: int | None) -> list[Any]:
            children = [
                span
                for span in spans.values()
                if (span.parent.span_id if span.parent and span.parent.span_id in spans else None) == parent
            ]
            told: list[Any] = []
            for span in sorted(children, key=lambda span: span.start_time or 0):
                inner = below(span.context.span_id)
                short = span.name.replace("test_engine_traces.", "")
                told.append((short, inner) if inner else short)
            return told

        return below(None)


def moments(span: ReadableSpan) -> list[str]:
    """The events of a span, by their names."""
    return [event.name for event in span.events]
