"""`on_query` and `on_update`: what workflow code lets others call while it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from perdure.api.call import current_machine
from perdure.core.machine import Machine
from perdure.errors import UsageError
from perdure.runtime.handlers import Query, Update
from perdure.runtime.stepcontext import current_step

F = TypeVar("F", bound=Callable[..., Any])


def on_query(fn: F) -> F:
    """Let others ask about this run: register a query handler, named after the function.

    The handler is a plain function that looks at the run's state, mostly through the variables around it, and
    returns a value. It awaits and starts nothing; if it tries, the asker gets a ReadOnlyError. Register it before
    the workflow's first await, and it can be asked from the beginning on. Registering another function of the same
    name takes its place. Outside of any run this does nothing.

    Args:
        fn: its arguments and its result are carried by their annotations.

    Returns:
        The function, so that this is a decorator, too.

    Raises:
        UsageError: the function is async, or has no name; or it is called inside a step.

    Example:
        >>> @perdure.on_query
        ... def progress() -> int:
        ...     return len(done)
    """
    name = _checked(fn, "on_query")
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        msg = f"query handler {name!r} is async, but queries only look: make it a plain function, or use on_update"
        raise UsageError(msg)
    machine = _run("on_query")
    if machine is not None:
        machine.handle_queries(name, Query(fn, machine.max_payload))
    return fn


@overload
def on_update(fn: F, validator: Callable[..., object] | None = None) -> F: ...
@overload
def on_update(fn: None = None, *, validator: Callable[..., object] | None) -> Callable[[F], F]: ...


def on_update(fn: F | None = None, validator: Callable[..., object] | None = None) -> F | Callable[[F], F]:
    """Let others change this run and get an answer: register an update handler, named after the function.

    The handler may do all that workflow code may: await steps, timers and children, change variables, start tasks.
    Each call runs in a task of its own beside the workflow's. An exception in it is its caller's, and fails only
    this update. A run that ends cancels those that still go on. Register handlers before the workflow's first
    await; an update that comes earlier waits for that, one that comes later is refused if its name isn't known.
    Outside of any run this does nothing.

    Args:
        fn: async or plain; its arguments and its result are carried by their annotations.
        validator: takes the same arguments and raises to reject the call, which then leaves no trace in the
            history. It only looks, and isn't called again on replay.

    Returns:
        The function, so that this is a decorator, too: `@on_update`, or `@on_update(validator=check)`.

    Raises:
        UsageError: the function has no name, or the validator is async; or it is called inside a step.

    Example:
        >>> @perdure.on_update
        ... async def add(item: str) -> int:
        ...     items.append(await reserve(item))
        ...     return len(items)
    """
    if fn is None:
        return lambda function: on_update(function, validator)
    name = _checked(fn, "on_update")
    if validator is not None and inspect.iscoroutinefunction(validator):
        msg = f"the validator of update {name!r} is async, but validators only look: make it a plain function"
        raise UsageError(msg)
    machine = _run("on_update")
    if machine is not None:
        machine.handle_updates(name, Update(fn, validator, machine.max_payload))
    return fn


def _checked(fn: Any, what: str) -> str:
    name = getattr(fn, "__name__", None)
    if not callable(fn) or not isinstance(name, str) or not name.isidentifier():
        msg = f"{what}() takes a function with a name, by which others call it; got {fn!r}"
        raise UsageError(msg)
    return name


def _run(what: str) -> Machine | None:
    """The run whose code registers a handler; None outside of runs."""
    machine = current_machine()
    if machine is None and current_step.get() is not None:
        msg = f"{what}() was called inside a step: handlers belong to workflow code"
        raise UsageError(msg)
    return machine
