"""Tells spans to OpenTelemetry's SDK: under ids that are given, at times that have passed.

Its API makes a span's id by chance and takes the current time for the present. So a tracer of our own asks a generator
of ours for ids, and each span is begun and ended when its outcome is recorded, at the times that the record has.
Samplers, limits, processors and exporters are those of the provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    NoOpTracer,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from perdure.codec.redaction import mask
from perdure.core.events import Failure
from perdure.errors import ConfigurationError
from perdure.integrations.opentelemetry.ids import Place
from perdure.integrations.opentelemetry.story import Span, Value

SCOPE = "perdure"  #: what the spans are found by as their instrumentation


class _Given(IdGenerator):
    """Gives the ids that were made for the span which is begun."""

    trace = 0
    span = 0

    def generate_trace_id(self) -> int:
        return self.trace

    def generate_span_id(self) -> int:
        return self.span


class Teller:
    """Tells spans to a provider.

    Attributes:
        disabled: OTEL_SDK_DISABLED says that nothing is to be told.

    Raises:
        ConfigurationError: the provider isn't the SDK's, so ids can't be given.
    """

    def __init__(self, provider: Any) -> None:
        if not isinstance(provider, TracerProvider):  # Logfire's, say, which holds one
            provider = getattr(provider, "provider", provider)
        tracer: Any = provider.get_tracer(SCOPE, version("perdure"))
        sdk = isinstance(provider, TracerProvider)
        self.disabled = sdk and _tells_nothing(tracer)
        if not self.disabled and not (sdk and hasattr(tracer, "id_generator")):
            msg = (
                f"traces need a tracer provider of OpenTelemetry's SDK, not {type(provider).__qualname__}: their ids "
                "are made of what is recorded, so that nothing is told twice. Give one, as in Tracing(provider)"
            )
            raise ConfigurationError(msg)
        self.provider = provider
        known: Any = getattr(tracer, "id_generator", None)  # our tracer is the same, whoever asks for it
        self._ids = known if isinstance(known, _Given) else _Given()
        tracer.id_generator = self._ids
        self._tracer: Any = tracer

    def sampled(self, parent: Context, trace: int, name: str, links: Sequence[Link]) -> bool:
        """Whether a run is told at all. Samplers decide by the caller or the trace's id, so all workers agree."""
        told = self._tracer.sampler.should_sample(parent, trace, name, SpanKind.INTERNAL, {}, links)
        return bool(told.decision.is_sampled())

    def tell(
        self,
        span: Span,
        place: Place,
        parent: Context,
        attributes: Mapping[str, Value],
        links: Sequence[Link] = (),
    ) -> None:
        """Tell a span that is over."""
        self._ids.trace, self._ids.span = place.trace, place.span
        begun = self._tracer.start_span(
            span.name,
            context=parent,
            attributes={**attributes, **_shown(span.attributes)},
            links=links,
            start_time=_nanoseconds(span.start),
        )
        if not begun.is_recording():
            return
        for moment in span.moments:
            begun.add_event(moment.name, _shown(moment.attributes), _nanoseconds(moment.at))
        end = _nanoseconds(span.end)
        failure = span.failure
        if failure is not None:
            begun.set_attribute("error.type", _type(failure))
            begun.add_event("exception", _exception(failure), end)
        if span.failed:
            begun.set_status(Status(StatusCode.ERROR, None if failure is None else _summary(failure)))
        begun.end(end)


def _tells_nothing(tracer: object) -> bool:
    return isinstance(tracer, NoOpTracer)


def context_of(place: Place, *, remote: bool = True) -> Context:
    """A context in which what is begun belongs to a span."""
    return set_span_in_context(NonRecordingSpan(span_context(place, remote=remote)), Context())


def span_context(place: Place, *, remote: bool = True) -> SpanContext:
    """A span as others refer to it."""
    state = TraceState.from_header([place.state]) if place.state else None
    return SpanContext(place.trace, place.span, remote, TraceFlags(place.flags), state)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e6) * 1000  # a float of today has no more than microseconds


def _shown(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {key: mask(value) if isinstance(value, str) else value for key, value in attributes.items()}


def _type(failure: Failure) -> str:
    return failure.type.removeprefix("builtins.")


def _summary(failure: Failure) -> str:
    return mask(f"{_type(failure)}: {failure.message}")


def _exception(failure: Failure) -> dict[str, Value]:
    shown: dict[str, Value] = {"exception.type": _type(failure), "exception.message": mask(failure.message)}
    if failure.traceback:
        shown["exception.stacktrace"] = mask(failure.traceback)
    return shown
