"""Synchronous code in workflow code: its requests become durable steps, for which the run waits.

A function that isn't async can't await. As a greenlet it can be left in the middle of a request, for as long as the
run waits for the step, and gone on with; that is also how it replays. It must do no other I/O than such requests, as
all workflow code.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, ParamSpec, TypeVar

from perdure.api.inline import in_run
from perdure.errors import ConfigurationError, ForbiddenInWorkflowError

P = ParamSpec("P")
R = TypeVar("R")


async def call_sync(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a synchronous function in a workflow, whose requests by `durable_http` are durable steps.

    For programs that use the synchronous clients of providers: `openai.OpenAI`, `anthropic.Anthropic`,
    `genai.Client`. Anywhere else than in workflow code it just calls the function. Needs the package greenlet.

    Args:
        function: what to call. What else it does has to replay, as everything in workflow code.
        args, kwargs: its arguments.

    Raises:
        ConfigurationError: greenlet isn't installed.

    Example:
        >>> @perdure.workflow  # doctest: +SKIP
        ... async def answer(question: str) -> str:
        ...     return await perdure.ai.call_sync(agent, question)
    """
    if not in_run():
        return function(*args, **kwargs)
    bridge = _bridge_class()(function)
    result = bridge.switch(*args, **kwargs)
    while not bridge.dead:
        try:
            value = await result
        except BaseException:  # noqa: BLE001 - whatever it is, the function is to see it
            result = bridge.throw(*sys.exc_info())
        else:
            result = bridge.switch(value)
    done: R = result
    return done


def wait_for(awaitable: Awaitable[R], what: str) -> R:
    """In a function that `call_sync` has called: await something.

    Raises:
        ForbiddenInWorkflowError: it wasn't called so.
    """
    bridge = _current()
    if bridge is None:
        getattr(awaitable, "close", lambda: None)()
        msg = (
            f"workflow code sends {what} with a synchronous client, which would hold up everything else: use the "
            "asynchronous one (AsyncOpenAI, AsyncAnthropic, client.aio); or call the function that does it by `await "
            "perdure.ai.call_sync(function, ...)`, or in a @step"
        )
        raise ForbiddenInWorkflowError(msg)
    result: R = bridge.driver.switch(awaitable)
    return result


def _current() -> Any:
    greenlet = sys.modules.get("greenlet")
    current = None if greenlet is None else greenlet.getcurrent()
    return current if hasattr(current, "driver") else None


@cache
def _bridge_class() -> Any:
    try:
        greenlet: Any = importlib.import_module("greenlet")
    except ImportError:
        msg = "perdure.ai.call_sync() needs the package greenlet: pip install 'perdure[ai]'"
        raise ConfigurationError(msg) from None

    class Bridge(greenlet.greenlet):  # type: ignore[misc]
        """The function while it is left in the middle.

        Attributes:
            driver: what awaits for it.
        """

        def __init__(self, function: Callable[..., Any]) -> None:
            self.driver = greenlet.getcurrent()
            greenlet.greenlet.__init__(self, function, self.driver)
            self.gr_context = self.driver.gr_context

    return Bridge
