"""What identifies the steps of agents within a run, independent of how pydantic-ai arranges its tasks.

Each run of an agent has a label: how often the task that started it has started runs of that agent. Its steps are named
by that and by how many of their kind the run asked for; those of tools by the id of the call.

    helper__model.request[1.2]                           the second request of helper's first run
    helper__model.request[1.3/1.1]                       the first one, in the task 1.3
    helper__function_toolset__<agent>.call_tool:search[call_7]
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import Any

from perdure.core.machine import Machine

__all__ = ["AgentRun", "announced", "begin", "call_key", "current_run", "step_key"]


class AgentRun:
    """A run of an agent in a run.

    Attributes:
        label: tells it from others of the same agent in the run.
        begun: what executes is it, and not a later one.
    """

    __slots__ = ("_counts", "begun", "label")

    def __init__(self, label: str) -> None:
        self.label = label
        self.begun = False
        self._counts: dict[str, int] = {}

    def next_key(self, name: str) -> str:
        """The key of its next step of this name."""
        self._counts[name] = count = self._counts.get(name, 0) + 1
        return f"{self.label}.{count}"


#: The one that the executing task is about to begin.
_announced: ContextVar[AgentRun | None] = ContextVar("perdure_announced_agent_run", default=None)
#: The one whose code is executing.
_current: ContextVar[AgentRun | None] = ContextVar("perdure_agent_run", default=None)

#: By the loop of a run: how often the id of a tool call was used with a name. Few providers give one twice.
_used: weakref.WeakKeyDictionary[Any, dict[str, int]] = weakref.WeakKeyDictionary()


def announced(machine: Machine, agent: str, *, anew: bool) -> AgentRun:
    """The run of an agent that the executing task is about to begin.

    Args:
        anew: it is the first that is heard of it.
    """
    found = _announced.get()
    if anew or found is None or found.begun:
        path, _, number = machine.loop.scope().numbered(agent).rpartition(f"{agent}:")
        found = AgentRun(path + number)
        _announced.set(found)
    return found


def begin(machine: Machine, agent: str) -> AgentRun:
    """From here on the code of a run of an agent executes."""
    found = announced(machine, agent, anew=False)
    found.begun = True
    _current.set(found)
    return found


def current_run() -> AgentRun | None:
    """The run of an agent whose code is executing."""
    return _current.get()


def step_key(name: str) -> str | None:
    """The key of the next step of this name; None if no run of an agent has begun."""
    found = _current.get()
    return None if found is None else found.next_key(name)


def call_key(machine: Machine, name: str, call: str) -> str:
    """The key of the step of a tool call: its id. One that was used before is numbered."""
    counts = _used.get(machine.loop)
    if counts is None:
        counts = _used[machine.loop] = {}
    which = f"{name}[{call}]"
    counts[which] = count = counts.get(which, 0) + 1
    return call if count == 1 else f"{call}~{count}"
