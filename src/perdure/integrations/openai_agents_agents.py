"""Agents whose models, tools and MCP servers are durable: copies, made for one call of the runner.

An agent leads to others, by handoffs that may go in circles; each has one copy. The copies are of a class of their own,
so that what an agent finds out only when it runs (the tools of its MCP servers) comes out durable, too, and so that a
copy can tell which agent it is a copy of.
"""

from __future__ import annotations

import copy
import dataclasses
import weakref
from functools import lru_cache
from typing import Any, cast

from agents import Agent, Handoff
from agents.model_settings import ModelSettings
from agents.models.interface import Model

from perdure.api.inline import in_run
from perdure.errors import ConfigurationError
from perdure.integrations.openai_agents_mcp import durable_server
from perdure.integrations.openai_agents_models import DurableModel, Scene
from perdure.integrations.openai_agents_tools import durable_tool


class Copies:
    """The copies of agents that belong to one scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._copies: dict[int, tuple[Any, Any]] = {}  # with the original, so that its id stays its own

    def of(self, agent: Agent[Any]) -> Agent[Any]:
        """The agent's copy; of a copy, the original's.

        Raises:
            ConfigurationError: it can't be durable.
        """
        agent = original_of(agent)
        if id(agent) in self._copies:
            return cast("Agent[Any]", self._copies[id(agent)][1])
        if type(agent).__name__ == "SandboxAgent":
            msg = (
                f"agent {agent.name!r} works in a sandbox, whose state no history can bring back. Run it within one "
                "step: call the plain Runner.run(...) in a @step"
            )
            raise ConfigurationError(msg)
        made: Any = copy.copy(agent)
        made.__class__ = _durable_class(cast("Any", type(agent)))
        self._copies[id(agent)] = (agent, made)
        made._perdure_original, made._perdure_copies = agent, self
        if isinstance(agent.model, Model):
            made.model = DurableModel(_plain(agent.model), self._scene)
        made.model_settings = self._settings(agent.model_settings)
        made.tools = [durable_tool(tool, self._scene) for tool in agent.tools]
        made.mcp_servers = [durable_server(server, self._scene) for server in agent.mcp_servers]
        made.handoffs = [self._handoff(handoff) for handoff in agent.handoffs]
        return cast("Agent[Any]", made)

    def _settings(self, settings: ModelSettings) -> ModelSettings:
        """The time that a call may take is its step's to watch: the runner would count waiting for a limit, too."""
        if settings.timeout is None:
            return settings
        if self._scene.timeout is None:
            self._scene.timeout = settings.timeout
        return dataclasses.replace(settings, timeout=None)

    def _handoff(self, handoff: Any) -> Any:
        if not isinstance(handoff, Handoff):
            return self.of(handoff)
        given = cast("Any", handoff)
        made, invoke = copy.copy(given), given.on_invoke_handoff

        async def hand_off(context: Any, input: str) -> Any:
            return self.of(await invoke(context, input))

        made.on_invoke_handoff = hand_off
        reference: Any = getattr(given, "_agent_ref", None)
        target: Any = reference() if reference is not None else None
        if target is not None:
            made._agent_ref = weakref.ref(self.of(target))
        return made

    def enter(self, agent: Any) -> None:
        """It is this agent's turn."""
        self._scene.agent = agent.name

    def tool(self, tool: Any) -> Any:
        """The durable copy of a tool that an agent has found."""
        return durable_tool(tool, self._scene)


def original_of(agent: Agent[Any]) -> Agent[Any]:
    """The agent that a copy is one of; the agent itself if it is none."""
    return cast("Agent[Any]", getattr(agent, "_perdure_original", agent))


def _plain(model: Model) -> Model:
    return model.original if isinstance(model, DurableModel) and model.original is not None else model


@lru_cache(maxsize=256)
def _durable_class(kind: Any) -> type[Any]:
    async def get_system_prompt(self: Any, run_context: Any) -> Any:
        self._perdure_copies.enter(self)
        return await kind.get_system_prompt(self, run_context)

    async def get_mcp_tools(self: Any, run_context: Any) -> list[Any]:
        tools = await kind.get_mcp_tools(self, run_context)
        return [self._perdure_copies.tool(tool) for tool in tools] if in_run() else tools

    members = {
        "get_system_prompt": get_system_prompt,
        "get_mcp_tools": get_mcp_tools,
        "__module__": kind.__module__,
    }
    return type(kind.__name__, (kind,), members)
