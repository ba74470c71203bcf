"""`@step` and `@workflow`: from functions to durable ones, with their types kept.

A decorated function is called as before and returns a Call of the same result type. The plain function
stays reachable as `.function`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload

from perdure.api.durable import (
    OnCancel,
    Step,
    Workflow,
    asked_before,
    checked_on_cancel,
    queue_of,
    time_limit,
)
from perdure.core.retry import DEFAULT_RETRY, TRANSACTION_RETRY, Retry
from perdure.core.subscribing import Event
from perdure.errors import ConfigurationError
from perdure.runtime.budgets import Budgets
from perdure.runtime.checks import checked_effect, checked_spends
from perdure.runtime.databases import UserDatabase
from perdure.runtime.definitions import (
    RECORD_INPUTS_MAX,
    EffectClass,
    Spends,
    StepOptions,
    define_step,
    define_workflow,
)
from perdure.runtime.limits import Limits, limits_of
from perdure.runtime.queues import Queue
from perdure.runtime.retention import Kept
from perdure.runtime.transactions import transactional

if TYPE_CHECKING:
    from perdure.api.approving import Approves

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Nature:
    """What a step is whoever calls it, as against its options, which a call may change."""

    name: str | None
    once: bool
    verify: Callable[..., Any] | None
    process: bool
    stub: Callable[..., Any] | None
    transaction: Any

    def __post_init__(self) -> None:
        if self.stub is not None and not callable(self.stub):
            msg = (
                f"stub={self.stub!r}: give a function that is called in the step's place, with its arguments"
            )
            raise ConfigurationError(msg)
        if self.verify is not None and not self.once:
            msg = "verify= tells what became of a step that mustn't happen twice: give it together with once=True"
            raise ConfigurationError(msg)

    def check_transactional(self, options: StepOptions) -> None:
        """Raises ConfigurationError for what doesn't go with transaction=."""
        if self.once:
            msg = "a step with transaction= happens exactly once already: leave out once= and verify="
            raise ConfigurationError(msg)
        if options.effect == "read":
            msg = (
                'a step with transaction= writes its record into that database, so it can\'t be effect="read": read in '
                "a step without transaction="
            )
            raise ConfigurationError(msg)
        if self.process:
            msg = (
                "a step with transaction= works on a connection that this process has opened, which process=True can't "
                "reach: compute in one step, and write its result in another"
            )
            raise ConfigurationError(msg)

    def define(
        self, function: Callable[..., Any], options: StepOptions, run: Callable[..., Any] | None = None
    ) -> Step[..., Any]:
        definition = define_step(
            function,
            self.name,
            options,
            run=run,
            once=self.once,
            verify=self.verify,
            process=self.process,
            stub=self.stub,
        )
        if options.queue is not None:
            from perdure.runtime.errands import offer

            offer(definition, options.queue)
        return Step(definition, options)


class _StepDecorator:
    """What `@step(...)` returns: keeps the types of async and of sync functions apart."""

    def __init__(self, options: StepOptions, nature: _Nature) -> None:
        self._options = options
        self._nature = nature

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Step[..., Any]:
        return self._nature.define(function, self._options)


class _TransactionalDecorator:
    """What `@step(transaction=...)` returns: callers don't give the connection, which is the first parameter."""

    def __init__(self, options: StepOptions, nature: _Nature) -> None:
        nature.check_transactional(options)
        if options.retry is DEFAULT_RETRY:
            options = replace(options, retry=TRANSACTION_RETRY)
        self._options = options
        self._nature = nature
        self._database = UserDatabase(nature.transaction)

    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Step[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Step[..., Any]:
        return self._nature.define(function, self._options, transactional(function, self._database))


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: float | timedelta | None = None,
    deadline: float | timedelta | None = None,
    record_inputs: int = RECORD_INPUTS_MAX,
    on_cancel: OnCancel = "try",
    heartbeat_timeout: float | timedelta | None = None,
    queue: str | Queue | None = None,
    limit: Limits | None = None,
    spends: Spends | None = None,
    effect: EffectClass | None = None,
    stub: Callable[..., Any] | None = None,
    approval: Approves = None,
    once: bool = False,
    verify: Callable[..., Any] | None = None,
    process: bool = False,
) -> _StepDecorator: ...
@overload
def step(
    *,
    transaction: Any,
    name: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: float | timedelta | None = None,
    deadline: float | timedelta | None = None,
    record_inputs: int = RECORD_INPUTS_MAX,
    on_cancel: OnCancel = "try",
    heartbeat_timeout: float | timedelta | None = None,
    queue: str | Queue | None = None,
    limit: Limits | None = None,
    spends: Spends | None = None,
    effect: EffectClass | None = None,
    stub: Callable[..., Any] | None = None,
    approval: Approves = None,
) -> _TransactionalDecorator: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry: Retry = DEFAULT_RETRY,
    timeout: float | timedelta | None = None,
    deadline: float | timedelta | None = None,
    record_inputs: int = RECORD_INPUTS_MAX,
    on_cancel: OnCancel = "try",
    heartbeat_timeout: float | timedelta | None = None,
    queue: str | Queue | None = None,
    limit: Limits | None = None,
    spends: Spends | None = None,
    effect: EffectClass | None = None,
    stub: Callable[..., Any] | None = None,
    approval: Approves = None,
    once: bool = False,
    verify: Callable[..., Any] | None = None,
    process: bool = False,
    transaction: Any = None,
) -> Any:
    """Make a function a durable step: it does I/O, is retried, and its outcome is recorded once.

    An async function runs on the engine's event loop, a sync one in a thread. The guide has a page on most options.

    Args:
        name: durable name; `module.qualname` by default. Give one if the function may move.
        retry: when a failure is tried again; by default transient errors only, up to 10 attempts.
        timeout, deadline: seconds one attempt may take; seconds from the first one in which attempts may start.
        record_inputs: largest encoded input in bytes that is kept whole; larger ones leave a fingerprint.
        on_cancel: when who awaits it is cancelled: "try" to interrupt it, "wait" for its end, or "abandon" it to that.
        heartbeat_timeout: seconds without a `perdure.heartbeat()` after which an attempt fails with TimeoutError.
        queue: workers that serve this queue execute it; by default the one that drives the run.
        limit: a `RateLimit`, what its `cost(...)` returns, or a list of these: all have to allow an attempt.
        spends: attempts are paid for: True, a `Spend` (how much at most), or a function of its arguments to one.
        effect: "read" if it changes nothing outside, else "write": a counterfactual fork executes reads only.
        stub: called with the step's arguments, takes its place in such forks.
        approval: a person approves each call first: True, the question as a text, or a `NeedsApproval`.
        once: it mustn't happen twice: an attempt that may have happened isn't repeated, `verify` or a person is asked.
        verify: called with its arguments: `perdure.Done(result)` = it happened, None = it didn't, an error = unknown.
        process: for sync functions that compute: executes it in another process, where it can be killed.
        transaction: a pool, engine or function that opens connections: it gets one as its first argument, which
            callers don't give, and what it writes there is committed together with its outcome.

    Raises:
        ConfigurationError: it isn't a plain function, or an option can't be used, or not with it.
        DuplicateNameError: another step has this name.

    Example:
        >>> @step(retry=Retry(max_attempts=3), timeout=30)
        ... async def fetch(url: str) -> str: ...
    """
    options = StepOptions(
        retry=retry,
        timeout=time_limit(timeout, "timeout"),
        deadline=time_limit(deadline, "deadline"),
        record_inputs=record_inputs,
        on_cancel=checked_on_cancel(on_cancel),
        heartbeat_timeout=time_limit(heartbeat_timeout, "heartbeat_timeout"),
        queue=queue_of(queue),
        limits=limits_of(limit),
        spends=checked_spends(spends),
        effect=checked_effect(effect),
        before=asked_before(approval),
    )
    nature = _Nature(name, once, verify, process, stub, transaction)
    decorator = _TransactionalDecorator if transaction is not None else _StepDecorator
    return decorator(options, nature) if function is None else decorator(options, nature)(function)


@overload
def workflow(function: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    guard: bool = True,
    pinned: bool = False,
    on: Event | None = None,
    singleton: bool = False,
    budget: Budgets | None = None,
    retention: Kept | None = None,
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Workflow[P, R]]: ...
def workflow(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    guard: bool = True,
    pinned: bool = False,
    on: Event | None = None,
    singleton: bool = False,
    budget: Budgets | None = None,
    retention: Kept | None = None,
) -> Any:
    """Make an async function a durable workflow: orchestration only, no I/O of its own.

    Args:
        name: durable name; `module.qualname` by default. Give one if the function may move.
        guard: turn I/O in the workflow's code into ForbiddenInWorkflowError.
        pinned: a run stays with workers of the version that began it, see `Engine(version=...)`. By default
            it moves on to whatever code is there.
        on: the event that starts it, whenever one is published; it is called with what was published. A
            subscription begins when a worker that has it first signs up, and ends when it is removed.
        singleton: at most one run is live at a time; another start means that one, whatever its id and input. A child
            run that isn't the one fails with RunConflictError; a schedule leaves the slot out.
        budget: how much its runs, and all that they start, may spend: a `Budget`, or a list of these.
        retention: how long its runs are kept after their end: a length of time, a `Retention`, or a list of these; by
            default for ever. Workers remove them then.

    Raises:
        ConfigurationError: it isn't an async function; or `on` is given, and it doesn't take one argument, or is a
            singleton.
        DuplicateNameError: another workflow has this name.

    Example:
        >>> @workflow
        ... async def greet(name: str) -> str:
        ...     return f"hello {name}"
    """

    def decorate(function: Callable[..., Any]) -> Workflow[..., Any]:
        return Workflow(define_workflow(function, name, guard, pinned, on, singleton, budget, retention))

    return decorate if function is None else decorate(function)
