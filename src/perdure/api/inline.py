"""Durable steps whose bodies are made on the spot: what bindings to clients and frameworks turn their calls into.

A decorated step's input is its arguments, and its code is found by its name. A call of a framework's model or tool
carries live objects (a client, dependencies, a context) that have no JSON form, and is only known as a closure while
its code runs. As a step it is identified by a name and, best, by a key that comes with the data; `given` is what its
outcome depends on, as data: histories keep it (or its fingerprint), replays and forks compare it.

The body executes in the contextvars of the code that awaits it, as frameworks keep their state there; all else is as
for any step.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Protocol, TypeVar, cast

from perdure.api.call import StepCall, current_machine, step_call
from perdure.codec.arguments import Arguments
from perdure.codec.values import ValueCodec
from perdure.core.donor import Donor
from perdure.core.tracing import current_trace
from perdure.errors import ConfigurationError
from perdure.runtime.definitions import StepDefinition, StepOptions, durable_name
from perdure.runtime.stepcontext import current_attempt, current_outlet, current_step, current_store
from perdure.runtime.tracecontext import enter

R = TypeVar("R")


class Carrier(Protocol):
    """Carries results as bytes, where a type alone can't say how. A `ValueCodec` is one."""

    def record(self, value: Any) -> tuple[bytes, Any]:
        """The bytes, and the decoded value, with which live code goes on, as replay will."""
        ...

    def decode(self, data: bytes) -> Any:
        """The value that was recorded."""
        ...


def in_run() -> bool:
    """Whether workflow code is executing: where a call would be durable, neither in a step nor outside of runs."""
    return current_machine() is not None


class InlineCall(StepCall[R]):
    """A step that is its body, awaited once."""

    __slots__ = ("_editable",)

    _editable: bool

    @property
    def takes_edits(self) -> bool:
        return self._editable

    def _edited(self, donor: Donor, op_id: str, data: bytes) -> bytes:
        edited = super()._edited(donor, op_id, data)
        if edited is not data and not self._editable:
            msg = (
                f"the fork changes the input of {op_id!r}, which is a call that {self.definition.name!r} made of live "
                "objects: it can't be made again from data. Edit its result, or the input of the run"
            )
            raise ConfigurationError(msg)
        return edited


def inline_step(
    name: str,
    body: Callable[[Any], Awaitable[R]],
    *,
    given: object = None,
    result: Any = Any,
    options: StepOptions | None = None,
    editable: bool = False,
    returns_response: bool | None = False,
    in_thread: bool = False,
) -> InlineCall[R]:
    """Make a call of a durable step whose body is at hand. Await it in workflow code.

    Args:
        name: its durable name, of at most 255 printable characters without # [ ] /
        body: what it does, called with a copy of `given`; it may hold live objects. It isn't called on replay.
        given: what its outcome depends on, as data. A replay that gives something else is a divergence; a fork
            executes it anew.
        result: the type of what the body returns, or a carrier of it.
        options: as for any step; `StepOptions(key=...)` names it within its run instead of its position.
        editable: the body makes its call from what it is given, so that a fork may change that.
        returns_response: the body returns what a client of language models does, so that it spends; None if only
            the value will tell.
        in_thread: the body is a plain function, to be called in a thread, as sync steps are.

    Raises:
        ConfigurationError: the name can't be one.
        DurableCallInStepError: (awaited in a step) a step is a leaf.

    Example:
        >>> async def ask(given: dict[str, str]) -> str:
        ...     return (await client.complete(**given)).text  # doctest: +SKIP
        >>> answer = await inline_step("ask", ask, given={"prompt": "why?"}, result=str)  # doctest: +SKIP
    """
    durable = durable_name(body, name)
    context = contextvars.copy_context()

    def mine() -> contextvars.Context:
        # Attempts may overlap in an entered context, and one mustn't see what another has set: each has its own.
        own = context.copy()
        for variable in (current_step, current_attempt, current_outlet, current_store):
            own.run(cast(contextvars.ContextVar[Any], variable).set, variable.get())
        if (where := current_trace.get()) is not None:
            own.run(enter, where)
        return own

    def run_sync(given: Any) -> Any:
        return mine().run(body, given)

    async def run_async(given: Any) -> Any:
        return await asyncio.get_running_loop().create_task(_awaited(body, given), context=mine())

    run: Callable[[Any], Any] = run_sync if in_thread else run_async

    definition = StepDefinition(
        name=durable,
        function=run,
        options=options or StepOptions(),
        arguments=_arguments(durable),
        result=result if hasattr(result, "record") else _codec(durable, result),
        is_async=not in_thread,
        run=run,
        returns_response=returns_response,
    )
    made = step_call(definition, definition.options, (given,), {}, InlineCall)
    call = cast("InlineCall[R]", made)
    call._editable = editable
    return call


async def _awaited(body: Callable[[Any], Any], given: Any) -> Any:
    return await body(given)


def _shape(given: Any) -> None: ...


@lru_cache(maxsize=1024)
def _arguments(name: str) -> Arguments:
    return Arguments(_shape, f"step {name}")


def _codec(name: str, annotation: Any) -> ValueCodec[Any]:
    try:
        return _codec_of(name, annotation)
    except TypeError:  # an annotation that can't be hashed
        return ValueCodec[Any](annotation, f"result of step {name}")


@lru_cache(maxsize=1024)
def _codec_of(name: str, annotation: Any) -> ValueCodec[Any]:
    return ValueCodec[Any](annotation, f"result of step {name}")
