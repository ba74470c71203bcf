"""The Agents SDK's MCP servers, whose tools are durable.

The SDK makes function tools of a server's tools, and those are steps as all tools are: what is left here is the list of
tools, which is recorded, and the connection. A server that nobody has connected yet is connected by the first step that
needs it, and kept in the worker's process for a while; one that the program has connected itself is used as it is.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

from agents.mcp import MCPServer

from perdure.api.inline import in_run, inline_step
from perdure.integrations.data import PydanticCarrier, step_name
from perdure.integrations.mcp_connections import Connections
from perdure.integrations.openai_agents_models import Scene

#: The connections of servers that this module opens.
_connections: WeakKeyDictionary[Any, Connections] = WeakKeyDictionary()

_tools: PydanticCarrier | None = None


def durable_server(server: Any, scene: Scene) -> Any:
    """The server as workflow code can use it."""
    if isinstance(server, DurableMCPServer):
        server = server.original
    return DurableMCPServer(server, scene)


class DurableMCPServer(MCPServer):
    """An MCP server of the Agents SDK, used from workflow code by steps.

    Args:
        server: the SDK's; connected or not.
        scene: knows how steps are executed.
    """

    def __init__(self, server: MCPServer, scene: Scene) -> None:
        vars(self).update(vars(server))  # policies: approvals, guardrails, filters, what is told of errors
        self.original = server
        self._scene = scene

    @property
    def name(self) -> str:
        """The server's name."""
        return self.original.name

    async def connect(self) -> None:
        """Does nothing: steps connect."""

    async def cleanup(self) -> None:
        """Does nothing: connections belong to the worker's process."""

    async def list_tools(self, run_context: Any = None, agent: Any = None) -> list[Any]:
        """See `agents.mcp.MCPServer`. In a run the list is recorded."""

        async def ask(_: Any) -> Any:
            return await self._ask(lambda server: server.list_tools(run_context, agent))

        if not in_run():
            return cast("list[Any]", await ask(None))
        step = inline_step(
            step_name(self.name, "list_tools"),
            ask,
            result=_carrier(),
            options=self._scene.settings.tool_options(self.name),
        )
        return cast("list[Any]", await step)

    async def call_tool(
        self, tool_name: str, arguments: dict[str, Any] | None, meta: dict[str, Any] | None = None
    ) -> Any:
        """See `agents.mcp.MCPServer`. It is called from within the step that is the tool's call."""
        more = {} if meta is None else {"meta": meta}
        return await self._ask(lambda server: server.call_tool(tool_name, arguments, **more))

    async def list_prompts(self) -> Any:
        """See `agents.mcp.MCPServer`."""
        return await self._ask(lambda server: server.list_prompts())

    async def get_prompt(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """See `agents.mcp.MCPServer`."""
        return await self._ask(lambda server: server.get_prompt(name, arguments))

    async def list_resources(self, cursor: str | None = None) -> Any:
        """See `agents.mcp.MCPServer`."""
        return await self._ask(lambda server: server.list_resources(cursor))

    async def list_resource_templates(self, cursor: str | None = None) -> Any:
        """See `agents.mcp.MCPServer`."""
        return await self._ask(lambda server: server.list_resource_templates(cursor))

    async def read_resource(self, uri: str) -> Any:
        """See `agents.mcp.MCPServer`."""
        return await self._ask(lambda server: server.read_resource(uri))

    async def _ask(self, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        server: Any = self.original
        ours = _connections.get(server)
        if ours is None:
            if getattr(server, "session", True) is not None:
                return await ask(server)  # whoever made it has connected it, or it needs no connecting
            kept = weakref.ref(server)  # a server that nobody has any more mustn't be kept by this
            ours = _connections[server] = Connections(lambda: _connected(kept()))
        return await ours.use(ask)


async def close_mcp_servers() -> None:
    """Close the connections that this event loop's steps have opened to MCP servers of the SDK.

    Example:
        >>> await close_mcp_servers()  # doctest: +SKIP
    """
    for connections in list(_connections.values()):
        await connections.close()


@asynccontextmanager
async def _connected(server: Any) -> AsyncGenerator[Any]:
    await server.connect()
    try:
        yield server
    finally:
        await server.cleanup()


def _carrier() -> PydanticCarrier:
    global _tools
    if _tools is None:
        from mcp.types import Tool

        _tools = PydanticCarrier(list[Tool], "list of an MCP server's tools")
    return _tools
