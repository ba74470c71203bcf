"""Traces of agents that are replayed: every span is told once.

A replay goes through the same spans again. Their ids are made of the run's id and their place in it, so they are the
same ones, and processors hear only of what happens after the replay. Spans of work within steps (a model's generation)
are ordinary ones: a step's body isn't executed on replay.

Processors may start threads and open files, as exporters do; the guard of workflow code lets them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from agents.tracing import TracingProcessor, get_trace_provider, set_trace_provider
from agents.tracing.provider import TraceProvider

from perdure.api.call import current_machine
from perdure.runtime import guard


def install() -> None:
    """Let the current provider of traces know replays. More than once does nothing."""
    provider = get_trace_provider()
    if not isinstance(provider, ReplayedTraces):
        set_trace_provider(ReplayedTraces(provider))


class ReplayedTraces(TraceProvider):
    """A provider of traces that passes everything on, and in workflow code tells each span once."""

    def __init__(self, inner: TraceProvider) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def register_processor(self, processor: TracingProcessor) -> None:
        self.inner.register_processor(processor)

    def set_processors(self, processors: list[TracingProcessor]) -> None:
        self.inner.set_processors(processors)

    def get_current_trace(self) -> Any:
        return self.inner.get_current_trace()

    def get_current_span(self) -> Any:
        return self.inner.get_current_span()

    def set_disabled(self, disabled: bool) -> None:
        self.inner.set_disabled(disabled)

    def time_iso(self) -> str:
        machine = current_machine()
        if machine is None:
            return self.inner.time_iso()
        return datetime.fromtimestamp(machine.loop.now, UTC).isoformat()

    def gen_trace_id(self) -> str:
        return _id("trace", 16) or self.inner.gen_trace_id()

    def gen_span_id(self) -> str:
        return _id("span", 12) or self.inner.gen_span_id()

    def gen_group_id(self) -> str:
        return _id("group", 12) or self.inner.gen_group_id()

    def create_trace(
        self,
        name: str,
        trace_id: str | None = None,
        group_id: str | None = None,
        metadata: dict[str, Any] | None = None,
        disabled: bool = False,
        tracing: Any = None,
    ) -> Any:
        trace_id = trace_id or _id("trace", 16)
        return _once(self.inner.create_trace(name, trace_id, group_id, metadata, disabled, tracing))

    def create_span(
        self, span_data: Any, span_id: str | None = None, parent: Any = None, disabled: bool = False
    ) -> Any:
        return _once(self.inner.create_span(span_data, span_id or _id("span", 12), parent, disabled))

    def force_flush(self) -> None:
        self.inner.force_flush()

    def shutdown(self) -> None:
        self.inner.shutdown()


def _id(kind: str, size: int) -> str | None:
    """In workflow code, the id of what is made here: the same on each replay."""
    machine = current_machine()
    if machine is None or machine.started is None or machine.inert:
        return None
    text = f"{machine.run_id}\n{machine.started.seed.hex()}\n{machine.loop.scope().numbered(kind)}"
    return f"{kind}_{blake2b(text.encode(), digest_size=size).hexdigest()}"


def _once(made: Any) -> Any:
    """A trace or span of workflow code, whose processors hear of it once."""
    if current_machine() is not None and isinstance(
        processor := getattr(made, "_processor", None), TracingProcessor
    ):
        made._processor = _Once(processor)
    return made


class _Once(TracingProcessor):
    """Passes on what isn't a replay."""

    def __init__(self, inner: TracingProcessor) -> None:
        self._inner = inner

    def on_trace_start(self, trace: Any) -> None:
        if _new():
            with guard.lifted():
                self._inner.on_trace_start(trace)

    def on_trace_end(self, trace: Any) -> None:
        if _new():
            with guard.lifted():
                self._inner.on_trace_end(trace)

    def on_span_start(self, span: Any) -> None:
        if _new():
            with guard.lifted():
                self._inner.on_span_start(span)

    def on_span_end(self, span: Any) -> None:
        if _new():
            with guard.lifted():
                self._inner.on_span_end(span)

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self) -> None:
        self._inner.force_flush()


def _new() -> bool:
    machine = current_machine()
    return machine is None or not (machine.replaying or machine.inert)
