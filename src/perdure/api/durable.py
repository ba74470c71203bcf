"""What the decorators make: steps and workflows, which are called like the functions they were made from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, get_args

from perdure.api.call import Call, WorkflowCall, step_call
from perdure.core.retry import Retry, seconds
from perdure.core.scope import checked_key as checked_key
from perdure.errors import ConfigurationError
from perdure.runtime.checks import checked_effect, checked_spends
from perdure.runtime.definitions import EffectClass, Spends, StepDefinition, StepOptions, WorkflowDefinition
from perdure.runtime.limits import Limits, check_costs, limits_of
from perdure.runtime.queues import Queue, checked_queue, queue_name

if TYPE_CHECKING:
    from perdure.api.approving import Approves, NeedsApproval

P = ParamSpec("P")
R = TypeVar("R")

#: What a cancellation of the code that waits for a step does to the step.
OnCancel = Literal["try", "wait", "abandon"]


class Step(Generic[P, R]):
    """A durable step. Calling it makes a Call; awaiting that in a workflow executes it, once.

    Attributes:
        name: what histories call it.
        function: the plain function.
    """

    def __init__(self, definition: StepDefinition, options: StepOptions) -> None:
        self.definition = definition
        self.options = options
        functools.update_wrapper(self, definition.run)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        return step_call(self.definition, self.options, args, kwargs)

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def function(self) -> Callable[P, Any]:
        return self.definition.function

    def with_options(
        self,
        *,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        deadline: float | timedelta | None = None,
        record_inputs: int | None = None,
        on_cancel: OnCancel | None = None,
        heartbeat_timeout: float | timedelta | None = None,
        queue: str | Queue | None = None,
        limit: Limits | None = None,
        spends: Spends | None = None,
        effect: EffectClass | None = None,
        approval: Approves = None,
    ) -> Step[P, R]:
        """The same step with other options, for the calls made through it.

        Args:
            key: names the step within its run, instead of its position: use an id that comes with the
                data (a tool call's, an order's), and the order of calls may change between versions.
            retry: as for `@step`; the options not given stay as they are.
            timeout: seconds per attempt.
            deadline: seconds for all attempts.
            record_inputs: largest input in bytes that the history keeps whole.
            on_cancel: as for `@step`.
            heartbeat_timeout: seconds without a heartbeat after which an attempt fails.
            queue: as for `@step`. Workers that serve the queue learn of the step a second or two later, unless they
                do this, too, when they import their code.
            limit: as for `@step`; an empty list takes the step's limits away.
            spends: as for `@step`.
            effect: as for `@step`: of a step that calls whatever tool it is told to, say which kind this one is.
            approval: as for `@step`; False takes away that it needs one.

        Raises:
            ConfigurationError: an option is out of range.

        Example:
            >>> await fetch.with_options(key="call-7", timeout=5)("https://example.org")  # doctest: +SKIP
        """
        changes: dict[str, Any] = {
            "key": checked_key(key),
            "retry": retry,
            "timeout": time_limit(timeout, "timeout"),
            "deadline": time_limit(deadline, "deadline"),
            "record_inputs": record_inputs,
            "on_cancel": None if on_cancel is None else checked_on_cancel(on_cancel),
            "heartbeat_timeout": time_limit(heartbeat_timeout, "heartbeat_timeout"),
            "queue": queue_of(queue),
            "limits": None if limit is None else limits_of(limit),
            "spends": checked_spends(spends),
            "effect": checked_effect(effect),
        }
        check_costs(changes["limits"] or (), self.definition.run)
        given = {name: value for name, value in changes.items() if value is not None}
        if approval is not None:
            given["before"] = asked_before(approval)
        if queue is not None:
            from perdure.runtime.errands import offer

            offer(self.definition, queue_name(queue))
        return Step(self.definition, dataclasses.replace(self.options, **given))

    def __repr__(self) -> str:
        return f"<step {self.name}>"


class Workflow(Generic[P, R]):
    """A durable workflow. Calling it makes a Call, to hand to an engine or to await as a child run.

    Attributes:
        name: what histories call it.
        function: the plain function.
    """

    def __init__(self, definition: WorkflowDefinition) -> None:
        self.definition = definition
        functools.update_wrapper(self, definition.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        return WorkflowCall(self.definition, args, kwargs)

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def function(self) -> Callable[P, Coroutine[Any, Any, R]]:
        return self.definition.function

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"


def time_limit(value: float | timedelta | None, what: str) -> float | None:
    """A limit in seconds, None if there is none."""
    if value is None:
        return None
    number = seconds(value, what)
    if number == 0:
        msg = f"{what}=0 would fail every attempt before it starts: give a time, or leave it out"
        raise ConfigurationError(msg)
    return number


def queue_of(queue: str | Queue | None) -> str | None:
    """The name of the queue that a step is sent to."""
    return None if queue is None else checked_queue(queue_name(queue))


def checked_on_cancel(on_cancel: str) -> str:
    """What a cancellation does to a step, if that is one of the things it can do."""
    if on_cancel not in get_args(OnCancel):
        msg = f'on_cancel={on_cancel!r} must be "try", "wait" or "abandon"'
        raise ConfigurationError(msg)
    return on_cancel


def asked_before(approval: Approves) -> NeedsApproval | None:
    """What `approval=` means. Raises ConfigurationError if that is nothing."""
    if approval is None or approval is False:
        return None
    from perdure.api.approving import approval_of

    return approval_of(approval)
