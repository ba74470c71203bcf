"""Lets code stand in a trace: what it starts and asks for belongs there.

`current_trace` is ours, and needs nothing. Instrumented clients ask OpenTelemetry, of which only the API is needed, and
only where it is in use already.
"""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from typing import Any

from perdure.core.tracing import TraceContext, current_trace, trace_context


def enter(where: TraceContext) -> None:
    """From now on the current context (of contextvars) stands there."""
    current_trace.set(where)
    if "opentelemetry.trace" in sys.modules:
        _enter_opentelemetry(where)


def enter_alone(where: TraceContext) -> None:
    """As `enter`, in a process for steps: there nobody else may have imported OpenTelemetry so far."""
    with contextlib.suppress(ImportError):  # it is an extra
        import_module("opentelemetry.trace")
    enter(where)


def here() -> TraceContext | None:
    """Where what is executing stands: in OpenTelemetry's current span, if it is in use, else in `current_trace`."""
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry import trace

        found = trace.get_current_span().get_span_context()
        if found.is_valid:
            header = f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags & 3:02x}"
            return trace_context(header, found.trace_state.to_header())
    return current_trace.get()


def _enter_opentelemetry(where: TraceContext) -> None:
    from opentelemetry import context, trace

    _, number, span, flags = where.parent.split("-")
    state: Any = trace.TraceState.from_header([where.state]) if where.state else None
    place = trace.SpanContext(int(number, 16), int(span, 16), True, trace.TraceFlags(int(flags, 16)), state)
    context.attach(trace.set_span_in_context(trace.NonRecordingSpan(place), context.Context()))
