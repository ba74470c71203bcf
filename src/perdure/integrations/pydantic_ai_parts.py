"""The parts of pydantic-ai that aren't in every version of it, or aren't public; each is done without if it is missing.

replay_scope, record_durable_unit    public since 2.68: what a replay does leaves no spans and no metrics
external_event_scope                 public since 2.68: waiting inside of a run, for approvals say
set_agent_graph_sleep                public as `Agent.using_sleep`: waits between polls
disable_threads                      sync functions in workflow code are called where they are: it has no threads
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Generator
from typing import Any

import anyio
from pydantic_ai import _utils
from pydantic_ai.agent import Agent

from perdure.api.context import sleep
from perdure.api.inline import in_run

try:
    from pydantic_ai.durable_exec import record_durable_unit, replay_scope
except ImportError:
    record_durable_unit = replay_scope = None  # type: ignore[assignment]

try:
    from pydantic_ai.durable_exec import durable_unit_scope as in_unit
except ImportError:
    in_unit = contextlib.nullcontext  # type: ignore[assignment]

try:
    from pydantic_ai.durable_exec import conversation_id_from_run_id as conversation_of
except ImportError:

    def conversation_of(run_id: str) -> str:
        """The id of the conversation that a run begins."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, run_id))


try:
    from pydantic_ai.capabilities import ModelFallback
except ImportError:
    ModelFallback = None  # type: ignore[assignment, misc]

__all__ = ["conversation_of", "falls_back", "in_unit", "in_workflow", "record_unit", "threads_again"]

_no_threads: Any = getattr(_utils, "_disable_threads", None)


@contextlib.contextmanager
def in_workflow() -> Generator[None]:
    """Let an agent's run in workflow code sleep durably, use no threads, and not tell again of what is replayed."""
    with contextlib.ExitStack() as stack:
        if _no_threads is not None:
            token = _no_threads.set(True)
            stack.callback(_no_threads.reset, token)
        stack.enter_context(Agent.using_sleep(_sleep))
        if replay_scope is not None:
            stack.enter_context(replay_scope())
        yield


async def _sleep(seconds: float) -> None:
    """Sleep; where workflow code asks for it, by a timer that outlives this process."""
    if in_run():
        await sleep(max(seconds, 0))
    else:
        await anyio.sleep(max(seconds, 0))


def falls_back(capability: object) -> bool:
    """Whether it has another model answer if one can't."""
    return ModelFallback is not None and isinstance(capability, ModelFallback)


def threads_again() -> None:
    """In the body of a step, which has the context of the code that awaits it, threads are fine."""
    if _no_threads is not None:
        _no_threads.set(False)


def record_unit(*, executed: bool) -> None:
    """A step of the agent has ended. See `record_durable_unit`."""
    if record_durable_unit is not None:
        record_durable_unit(executed=executed)
