"""`@step` and `@workflow`: from functions to durable ones, with their types kept.

A decorated function is called as before and returns a Call of the same result type. The plain function
stays reachable as `.function`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
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
    StepDefinition,
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


def _step(definition: StepDefinition, options: StepOptions) -> Step[..., Any]:
    if options.queue is not None:
        from perdure.runtime.errands import offer

        offer(definition, options.queue)
    return Step(definition, options)


class _StepDecorator:
    """What `@step(...)` returns: keeps the types of async and of sync functions apart."""

    def __init__(
        self,
        name: str | None,
        options: StepOptions,
        once: bool = False,
        verify: Callable[..., Any] | None = None,
        process: bool = False,
        stub: Callable[..., Any] | None = None,
    ) -> None:
        self._name = name
        self._options = options
        self._once = once
        self._verify = verify
        self._process = process
        self._stub = stub

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Step[..., Any]:
        definition = define_step(
            function,
            self._name,
            self._options,
            once=self._once,
            verify=self._verify,
            process=self._process,
            stub=self._stub,
        )
        return _step(definition, self._options)


class _TransactionalDecorator:
    """What `@step(transaction=...)` returns: callers don't give the connection, which is the first parameter."""

    def __init__(
        self,
        name: str | None,
        options: StepOptions,
        database: UserDatabase,
        stub: Callable[..., Any] | None,
    ) -> None:
        self._name = name
        self._options = options
        self._database = database
        self._stub = stub

    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Step[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Step[..., Any]:
        run = transactional(function, self._database)
        definition = define_step(function, self._name, self._options, run=run, stub=self._stub)
        return _step(definition, self._options)


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

    An async function runs on the engine's event loop, a sync one in a thread, or in a process.

    Args:
        name: durable name; `module.qualname` by default. Give one if the function may move.
        retry: when a failure is tried again; by default transient errors only, up to 10 attempts.
        timeout: seconds one attempt may take.
        deadline: seconds from the first attempt in which attempts may start.
        record_inputs: largest encoded input in bytes that the history keeps whole; of larger ones it keeps
            a fingerprint.
        on_cancel: what happens when the code that waits for it is cancelled. "try": its attempt is interrupted
            (sync ones are told by `step_info().cancelled`) and the code goes on at once. "wait": the attempt goes
            on, and the code gets its CancelledError when the outcome is recorded. "abandon": the code goes on
            at once and the attempt goes on to its end.
        heartbeat_timeout: seconds without a `perdure.heartbeat()` after which an attempt fails with TimeoutError.
        queue: where it is executed: by workers that serve this queue, and have its code. The run can leave memory
            meanwhile. Without one it is executed where its run is driven.
        limit: a `RateLimit`, or what its `cost(...)` returns, or a list of these: no attempt begins before all of them
            allow it. While it has to wait, the run may leave memory. The first one is the other side's: it is
            blocked for all workers when an attempt fails with an HTTP 429 or 529.
        spends: that attempts are paid for, as calls of language models are: True, or a `Spend` that says how much one
            may cost at most, or a function that makes one from arguments of the step, which it gets by their names.
            Such an attempt is in the ledger before its body runs, so that after a crash it shows as unknown spend.
            Without it that holds for steps that return a response of a model, or that have recorded usage before in
            this process; False says that it needn't hold.
        effect: its effect class: "read" if it changes nothing outside, as searches and calls of models do, or "write".
            In a counterfactual fork (`handle.fork(effects="reuse")`) reads execute and writes don't. A step that
            doesn't say counts as a write, unless it returns the response of a model.
        stub: takes the step's place in counterfactual forks, if it isn't a read: a function, sync or async, called
            with the step's arguments, that returns what the step would.
        approval: a person has to approve each call before the body runs: True, the question as a text, or a
            `NeedsApproval`. Without approval `ApprovalRejected` is raised. Outside of runs nobody is asked.
        once: it mustn't happen twice. Its start is durable before its body runs; an attempt of which nobody knows
            whether it happened isn't repeated: `verify` is asked, or the step waits for a person.
        verify: called with the step's arguments, sync or async: `perdure.Done(result)` = it happened, None = it
            didn't, an exception = that can't be told.
        process: for sync functions that compute: it executes in one of the engine's worker processes, so that it
            neither holds this process's interpreter nor survives its time-out or cancellation, which kill it. That
            process imports the module in which the function is defined.
        transaction: the database that the step works on: a psycopg pool, a SQLAlchemy engine or sessionmaker, or
            a function that opens a connection. The step's function gets an open connection (or session) as its
            first argument, which callers don't give; its effect and its record are committed together there.

    Raises:
        ConfigurationError: it isn't a plain function, an option is out of range, or with process=True another
            process couldn't find it: it is async, or defined inside a function, in a notebook or a shell.
        DuplicateNameError: another step has this name.

    Example:
        >>> @step(retry=Retry(max_attempts=3), timeout=30)
        ... async def fetch(url: str) -> str: ...
    """
    if transaction is not None and retry is DEFAULT_RETRY:
        retry = TRANSACTION_RETRY
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
    if stub is not None and not callable(stub):
        msg = f"stub={stub!r}: give a function that is called in the step's place, with its arguments"
        raise ConfigurationError(msg)
    if verify is not None and not once:
        msg = "verify= tells what became of a step that mustn't happen twice: give it together with once=True"
        raise ConfigurationError(msg)
    if transaction is None:
        decorator = _StepDecorator(name, options, once, verify, process, stub)
        return decorator if function is None else decorator(function)
    if once:
        msg = "a step with transaction= happens exactly once already: leave out once= and verify="
        raise ConfigurationError(msg)
    if effect == "read":
        msg = (
            'a step with transaction= writes its record into that database, so it can\'t be effect="read": read in '
            "a step without transaction="
        )
        raise ConfigurationError(msg)
    if process:
        msg = (
            "a step with transaction= works on a connection that this process has opened, which process=True can't "
            "reach: compute in one step, and write its result in another"
        )
        raise ConfigurationError(msg)
    return _TransactionalDecorator(name, options, UserDatabase(transaction), stub)


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
