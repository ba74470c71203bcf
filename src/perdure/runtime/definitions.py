"""What was decorated: the steps and workflows this process has code for.

Names are what histories refer to, so they must outlive a process: they default to `module.qualname`, and
code in a script's `__main__` is named after its file, so that `python app.py` and `perdure worker app`
mean the same workflow.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from perdure.codec.arguments import Arguments
from perdure.codec.values import ValueCodec
from perdure.core.accounts import Terms
from perdure.core.bounds import NAME_MAX
from perdure.core.events import RunStarted
from perdure.core.retention import Rule
from perdure.core.retry import DEFAULT_RETRY, Retry
from perdure.core.subscribing import Event
from perdure.core.usage import Spend
from perdure.errors import ConfigurationError, DuplicateNameError
from perdure.runtime.before import Before
from perdure.runtime.budgets import Budgets, terms_of
from perdure.runtime.checks import check_retry
from perdure.runtime.limits import Limited, check_costs
from perdure.runtime.responses import returns_response
from perdure.runtime.retention import Kept, rules_of

#: What a step says of its spending: whether it does, how much at most, or a function of (some of) its arguments.
Spends: TypeAlias = bool | Spend | Callable[..., Spend]

#: Whether a step changes anything outside.
EffectClass: TypeAlias = Literal["read", "write"]

#: Inputs up to this many bytes are recorded whole; of larger ones only a fingerprint.
RECORD_INPUTS_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """How a step is executed.

    Attributes:
        retry: which failures are tried again, and when.
        timeout: seconds one attempt may take, None = any.
        deadline: seconds from the first attempt's start in which attempts may start, None = any.
        key: names the step within its run instead of its position.
        record_inputs: largest input in bytes that the history keeps whole.
        on_cancel: what a cancellation of the code that waits for it does: "try" to interrupt it, "wait" for its
            end, "abandon" it to its end.
        heartbeat_timeout: seconds without a heartbeat after which an attempt fails, None = any.
        queue: where its attempts are executed, by workers that serve it; None = where its run is driven.
        limits: rate limits under which it is, and what it costs of each.
        spends: whether, and what at most, an attempt may spend; None = what earlier ones and its type tell.
        effect: its effect class; None = it doesn't say.
        before: what comes before it, each time that code asks for it; None = nothing does.
    """

    retry: Retry = DEFAULT_RETRY
    timeout: float | None = None
    deadline: float | None = None
    key: str | None = None
    record_inputs: int = RECORD_INPUTS_MAX
    on_cancel: str = "try"
    heartbeat_timeout: float | None = None
    queue: str | None = None
    limits: tuple[Limited, ...] = ()
    spends: Spends | None = None
    effect: EffectClass | None = None
    before: Before | None = None

    def __post_init__(self) -> None:
        check_retry(self.retry)


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """A decorated step.

    Attributes:
        function: what was decorated.
        run: what executes it: the function itself, or what gives it an open transaction as first argument.
        once: it mustn't happen twice: its start is durable before its body runs.
        verify: tells whether an attempt of unknown outcome happened, called with the step's arguments.
        process: its body executes in a process of its own.
        returns_response: what a client of language models returns; None if that can't be told beforehand.
        stub: takes its place in counterfactual runs, called with the step's arguments.
    """

    name: str
    function: Callable[..., Any]
    options: StepOptions
    arguments: Arguments = field(compare=False)
    result: ValueCodec[Any] = field(compare=False)
    is_async: bool
    run: Callable[..., Any]
    once: bool = False
    verify: Callable[..., Any] | None = None
    process: bool = False
    returns_response: bool | None = False
    stub: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True)
class WorkflowDefinition:
    """A decorated workflow."""

    name: str
    function: Callable[..., Any]
    arguments: Arguments = field(compare=False)
    result: ValueCodec[Any] = field(compare=False)
    guard: bool
    pinned: bool = False
    singleton: bool = False  #: one run of it is live at a time
    entity: bool = False  #: it only takes calls, each of which is summed up (see entities.py)
    on: Event | None = None  #: what is published and starts it
    budgets: tuple[Terms, ...] = ()  #: how much its runs may spend
    retention: tuple[Rule, ...] = ()  #: how long its runs are kept

    def begin(self, started: RunStarted) -> Coroutine[Any, Any, Any]:
        """The coroutine of a run that starts with this event."""
        args, kwargs = self.arguments.decode(started.input)
        return self.function(*args, **kwargs)  # type: ignore[no-any-return]


_workflows: dict[str, WorkflowDefinition] = {}
_steps: dict[str, StepDefinition] = {}
_queues_of: dict[str, set[str]] = {}  # of errands, by their workflow


def durable_name(function: Callable[..., Any], name: str | None) -> str:
    """The name under which histories will know this function.

    Raises:
        ConfigurationError: the name is empty, too long or holds characters that op ids use.
    """
    if name is None:
        module = function.__module__
        if module in ("__main__", "__mp_main__"):  # the second is what a process started by this one calls it
            module = main_module(module)
        return f"{module}.{function.__qualname__}"
    if not name or len(name) > NAME_MAX or any(char in name for char in "#[]/\n") or not name.isprintable():
        msg = (
            f"{name!r} can't name a workflow or step: a name has 1 to 255 printable characters "
            "and none of # [ ] /"
        )
        raise ConfigurationError(msg)
    return name


def main_module(name: str = "__main__") -> str:
    """What the code of the script that was started calls its module, in histories and where it is imported."""
    main = sys.modules.get(name)
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name.removesuffix(".__main__"))
    path = getattr(main, "__file__", None)
    return os.path.splitext(os.path.basename(path))[0] if path else "__main__"


def define_step(
    function: Callable[..., Any],
    name: str | None,
    options: StepOptions,
    *,
    run: Callable[..., Any] | None = None,
    once: bool = False,
    verify: Callable[..., Any] | None = None,
    process: bool = False,
    stub: Callable[..., Any] | None = None,
) -> StepDefinition:
    """Make and register a step.

    Args:
        run: what is called with the step's arguments, if it isn't the function itself.

    Raises:
        ConfigurationError: it isn't a plain function, or its options don't fit it.
        DuplicateNameError: another function has this name.
    """
    _check_function(function, "@step")
    check_costs(options.limits, run or function)
    if process:
        _check_found_elsewhere(function)
    durable = durable_name(function, name)
    definition = StepDefinition(
        name=durable,
        function=function,
        options=options,
        arguments=Arguments(run or function, f"step {durable}"),
        result=ValueCodec(_returned(function), f"result of step {durable}", owner=function),
        is_async=inspect.iscoroutinefunction(function),
        run=run or function,
        once=once,
        verify=verify,
        process=process,
        returns_response=returns_response(function),
        stub=stub,
    )
    _register(_steps, definition, "step")
    return definition


def define_workflow(
    function: Callable[..., Any],
    name: str | None,
    guard: bool,
    pinned: bool = False,
    on: Event | None = None,
    singleton: bool = False,
    budget: Budgets | None = None,
    retention: Kept | None = None,
) -> WorkflowDefinition:
    """Make and register a workflow.

    Raises:
        ConfigurationError: it isn't an async function, or can't be started by an event.
        DuplicateNameError: another function has this name.
    """
    _check_function(function, "@workflow")
    if not inspect.iscoroutinefunction(function):
        msg = f"@workflow needs an `async def` function; {function.__qualname__} isn't one"
        raise ConfigurationError(msg)
    if on is not None:
        _check_started_by(on, function)
        if singleton:
            msg = (
                f"@workflow can't take {function.__qualname__}: each published event starts a run, and of a singleton "
                "only one may be live. Leave out on= or singleton=, or give it a queue with concurrency=1"
            )
            raise ConfigurationError(msg)
    durable = durable_name(function, name)
    definition = WorkflowDefinition(
        name=durable,
        function=function,
        arguments=Arguments(function, f"workflow {durable}"),
        result=ValueCodec(_returned(function), f"result of workflow {durable}", owner=function),
        guard=guard,
        pinned=pinned,
        on=on,
        singleton=singleton,
        budgets=terms_of(budget, name=durable, workflow=durable),
        retention=rules_of(retention, durable),
    )
    _register(_workflows, definition, "workflow")
    return definition


def _check_started_by(on: object, function: Callable[..., Any]) -> None:
    """Whether an event can start this workflow: it has one argument for it."""
    if not isinstance(on, Event):
        msg = f'@workflow(on={on!r}): give an event, as in on=perdure.Event("order.paid")'
        raise ConfigurationError(msg)
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        msg = (
            f"@workflow(on={on!r}) can't take {function.__qualname__}: it is called with one argument, what was "
            f"published ({error})"
        )
        raise ConfigurationError(msg) from None


def _returned(function: Callable[..., Any]) -> Any:
    return inspect.signature(function).return_annotation


def _check_function(function: Callable[..., Any], decorator: str) -> None:
    if not inspect.isfunction(function):
        msg = (
            f"{decorator} decorates a plain function; got {function!r}. For a method, decorate a module-level "
            "function that takes the data it needs"
        )
        raise ConfigurationError(msg)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        msg = f"{decorator} can't take the generator {function.__qualname__}: return one value instead of yielding"
        raise ConfigurationError(msg)


def _check_found_elsewhere(function: Callable[..., Any]) -> None:
    """Whether another process can find the function by importing its module."""
    name = function.__qualname__
    main = sys.modules["__main__"]
    if not hasattr(os, "fork"):
        why = "this system isn't POSIX"
    elif inspect.iscoroutinefunction(function):
        why = "it is async: a process is for work that computes, and async steps wait"
    elif "<locals>" in name:
        why = "it is defined inside a function, where a new process can't find it: define it at the top level"
    elif function.__module__ == "__main__" and not os.path.exists(getattr(main, "__file__", None) or ""):
        why = (
            "it is defined in a notebook or a shell, where a new process can't find it: put it into a module"
        )
    else:
        return
    msg = f"@step(process=True) can't take {name}: {why}. Or leave out process=True, and it runs in a thread"
    raise ConfigurationError(msg)


def register_workflow(definition: WorkflowDefinition) -> None:
    """Let this process drive runs of a workflow.

    Raises:
        DuplicateNameError: another one has its name.
    """
    _register(_workflows, definition, "workflow")


def _register(table: dict[str, Any], definition: Any, kind: str) -> None:
    """Defining the same function again (a reload, a notebook cell) replaces it; another one is refused."""
    known = table.get(definition.name)
    if known is not None:
        old, new = known.function, definition.function
        if (old.__module__, old.__qualname__) != (new.__module__, new.__qualname__):
            msg = (
                f"two {kind}s are named {definition.name!r}: {old.__module__}.{old.__qualname__} and "
                f"{new.__module__}.{new.__qualname__}. Histories couldn't tell them apart: give one of them "
                f'another name with @{kind}(name="...")'
            )
            raise DuplicateNameError(msg)
    table[definition.name] = definition


def step_named(name: str) -> StepDefinition | None:
    """The step this process has under that name."""
    return _steps.get(name)


def step_names() -> list[str]:
    """All steps this process has code for."""
    return sorted(_steps)


def workflow_named(name: str) -> WorkflowDefinition | None:
    """The workflow this process has under that name."""
    return _workflows.get(name)


def stays_pinned(workflow: str) -> bool:
    """Whether runs of this workflow stay with the version that begins them, as far as this process knows."""
    definition = _workflows.get(workflow)
    return definition is not None and definition.pinned


def is_singleton(workflow: str) -> bool:
    """Whether one run of this workflow may be live at a time, as far as this process knows."""
    return workflow in _workflows and _workflows[workflow].singleton


def is_entity(name: str) -> bool:
    """Whether this process knows the workflow of that name as an entity's."""
    return name in _workflows and _workflows[name].entity


def defined_workflows() -> list[WorkflowDefinition]:
    """All workflows this process has code for, by name."""
    return [_workflows[name] for name in sorted(_workflows)]


def workflow_names() -> list[str]:
    """All workflows this process has code for."""
    return sorted(_workflows)


def sent_to(workflow: str, queue: str) -> None:
    """Runs of this workflow, which are errands, are sent to this queue."""
    _queues_of.setdefault(workflow, set()).add(queue)


def drivable(queues: Sequence[str]) -> list[str]:
    """The workflows whose runs this process drives in these queues: of errands those that are sent there."""
    return [
        name for name in workflow_names() if name not in _queues_of or not _queues_of[name].isdisjoint(queues)
    ]


def registered() -> int:
    """It grows when there is more that this process drives: a module with new workflows was imported, for instance."""
    return len(_workflows) + sum(map(len, _queues_of.values()))
