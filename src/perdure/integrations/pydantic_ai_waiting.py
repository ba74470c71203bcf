"""How an agent's run waits for somebody outside to answer.

`RequestInput` and whatever else waits for an event from outside gets the token of a callback: whoever has it answers
with `engine.callbacks.complete(token, answer)`, in any process, today or next month.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from pydantic_ai.durable_exec import ExternalEventError, ExternalEventWaiter

from perdure.api.callbacks import open_callback
from perdure.api.context import run_machine
from perdure.api.inline import inline_step
from perdure.core.scope import keyed_operation
from perdure.errors import CallbackFailed
from perdure.integrations.pydantic_ai_backend import step_name
from perdure.integrations.pydantic_ai_keys import step_key
from perdure.integrations.pydantic_ai_parts import threads_again
from perdure.runtime.definitions import StepOptions

__all__ = ["Waiter"]


class Waiter(ExternalEventWaiter):
    """Waits by a callback, whose token `ask` hands to whoever is to answer, in a step of its own.

    Args:
        agent: the name of the agent that asks.
    """

    def __init__(self, agent: str) -> None:
        self._agent = agent

    async def wait(
        self, name: str, *, ask: Callable[[str], Awaitable[Any]], timeout: timedelta | None
    ) -> Any:
        machine = run_machine("an agent's wait for an event")
        asks = step_name(f"{self._agent}__ask.{name}")
        key = step_key(asks)
        op_id = (
            machine.loop.scope().numbered("callback")
            if key is None
            else keyed_operation("callback", f"{asks} {key}")
        )
        promise = open_callback(machine, op_id, timeout=timeout)

        async def body(_: Any) -> Any:
            threads_again()
            return await ask(promise.token)

        answer = await inline_step(asks, body, options=StepOptions(key=key))
        if answer is not None:
            return answer
        try:
            return await promise
        except CallbackFailed as error:
            raise ExternalEventError(str(error)) from error
        except TimeoutError as error:
            raise ExternalEventError(f"No answer came within {timeout}.") from error
