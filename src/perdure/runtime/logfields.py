"""What a line of the log is about: the fields by which lines of one run, step or worker are found."""

from __future__ import annotations

from typing import Any, Protocol

from perdure.core.errands import step_of
from perdure.core.machine import Machine
from perdure.core.namespaces import namespace_of, short
from perdure.core.tracing import TraceContext, current_trace
from perdure.runtime.attempt import Attempt
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.observing import Observer
from perdure.runtime.stepcontext import StepInfo, current_attempt, current_step

#: Their names, in the order in which they are shown.
FIELDS = ("run_id", "namespace", "workflow", "step_id", "attempt", "worker", "trace_id", "span_id")


class Host(Protocol):
    """The worker that drives it."""

    observer: Observer | None

    @property
    def name(self) -> str: ...


class Driven(Protocol):
    """The driver of a run."""

    id: str
    machine: Machine
    definition: WorkflowDefinition

    @property
    def host(self) -> Host: ...


def about_run(run: Driven) -> dict[str, Any]:
    """The fields of a line that the engine writes about a run it drives; for `extra=`."""
    host, started = run.host, run.machine.started
    fields = _run(run.id) | {"workflow": run.definition.name, "worker": host.name}
    if host.observer is not None and started is not None:
        fields |= _traced(host.observer.carried((run.id, started)))
    return fields


def about_step(info: StepInfo, attempt: Attempt | None) -> dict[str, Any]:
    """The fields of a line that the body of a step writes, or the engine about its attempt."""
    fields = _run(info.known_as) | {"step_id": info.step_id, "attempt": info.attempt}
    run: Any = None if attempt is None else attempt.run
    if (host := getattr(run, "host", None)) is not None:
        fields["worker"] = host.name
        if step_of(run.definition.name) is None:  # an errand doesn't know of which workflow its step is
            fields["workflow"] = run.definition.name
    return fields | _traced(current_trace.get())


def about_here() -> dict[str, Any]:
    """The fields of what a step's body logs right now; {} outside of any."""
    info = current_step.get()
    if info is not None:
        return about_step(info, current_attempt.get())
    return _traced(current_trace.get())


def _run(stored: str) -> dict[str, Any]:
    namespace = namespace_of(stored)
    return (
        {"run_id": short(stored)} if namespace is None else {"run_id": short(stored), "namespace": namespace}
    )


def _traced(where: TraceContext | None) -> dict[str, Any]:
    if where is None:
        return {}
    _, trace, span, _ = where.parent.split("-")
    return {"trace_id": trace, "span_id": span}
