"""Connections of toolsets, to MCP servers say, that last longer than a step.

Workflow code can't enter a toolset, as it can't open connections; a step can, and alone that would be a connection, or
a process, for each call. So a task of the engine's loop holds a toolset entered as long as steps ask for it, and for a
while after. Steps of all runs in the process that have the same toolset share it.

pydantic-ai has a run hold the toolsets that its steps enter, and would leave them in workflow code; what it passes to
the steps is replaced by what is held here.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pydantic_ai.tools import RunContext
from pydantic_ai.toolsets import AbstractToolset

__all__ = ["CAN_HOLD", "IDLE", "holding"]

IDLE = 60.0  #: seconds for which a toolset stays entered when no step uses it any more

_FIELD = "_run_held_toolsets"
#: Whether this version of pydantic-ai has runs hold what their steps enter.
CAN_HOLD = any(field.name == _FIELD for field in dataclasses.fields(RunContext))


class _Session:
    """A toolset that a task holds entered.

    Attributes:
        failure: why it couldn't be entered.
    """

    def __init__(self, toolset: AbstractToolset[Any]) -> None:
        self.toolset = toolset
        self.loop = asyncio.get_running_loop()
        self.failure: Exception | None = None
        self._users = 0
        self._changed = asyncio.Event()
        self._tried = asyncio.Event()
        self._task = asyncio.create_task(self._hold())

    @property
    def over(self) -> bool:
        """It can't be used any more."""
        return self._task.done() or self.failure is not None

    async def _hold(self) -> None:
        try:
            async with self.toolset:
                self._tried.set()
                await self._no_longer_used()
        except Exception as error:  # it is told to the steps that ask  # noqa: BLE001
            self.failure = error
        finally:
            self._tried.set()
            self._forget()

    async def _no_longer_used(self) -> None:
        while True:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), None if self._users else IDLE)
            except TimeoutError:
                self._forget()  # whoever comes while it is left enters it anew
                return

    def _forget(self) -> None:
        if _sessions.get(id(self.toolset)) is self:
            del _sessions[id(self.toolset)]

    @contextlib.asynccontextmanager
    async def used(self) -> AsyncGenerator[None]:
        """Hold it while a step uses it."""
        self._users += 1
        self._changed.set()
        try:
            yield
        finally:
            self._users -= 1
            self._changed.set()

    async def entered(self) -> AbstractToolset[Any]:
        """The toolset, once it is entered. What pydantic-ai asks for in a step."""
        await self._tried.wait()
        if self.failure is not None:
            raise self.failure
        return self.toolset


#: By the id of the toolset, which its session keeps.
_sessions: dict[int, _Session] = {}


@contextlib.asynccontextmanager
async def holding(ctx: RunContext[Any]) -> AsyncGenerator[RunContext[Any]]:
    """In a step: the context with the toolsets of its run as they are held here."""
    wanted: Mapping[str, Any] | None = getattr(ctx, _FIELD, None)
    if not wanted:
        yield ctx
        return
    held = {name: _session(one.toolset) for name, one in wanted.items()}
    async with contextlib.AsyncExitStack() as stack:
        for session in held.values():
            await stack.enter_async_context(session.used())
        changed: Any = {_FIELD: held}
        yield dataclasses.replace(ctx, **changed)


def _session(toolset: AbstractToolset[Any]) -> _Session:
    found = _sessions.get(id(toolset))
    if found is None or found.over or found.loop is not asyncio.get_running_loop():
        found = _sessions[id(toolset)] = _Session(toolset)
    return found
