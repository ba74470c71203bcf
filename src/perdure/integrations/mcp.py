"""Tools of MCP servers as durable steps.

    session = durable_session("files", StdioServerParameters(command="files-server"))

    @workflow
    async def tidy(folder: str) -> str:
        tools = await session.list_tools()                        # recorded
        result = await session.call_tool("move", {"from": folder}, key="call-7")     # recorded, known by its key

What a server has listed or answered is in the history, and everything is decided from that alone: whether a connection
is open makes no difference. Connections are opened within steps and kept in the worker's process for a while.

Outside of runs the same calls are ordinary ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias, cast

from perdure.api.durable import time_limit
from perdure.api.inline import inline_step
from perdure.core.retry import DEFAULT_RETRY, Retry
from perdure.errors import ConfigurationError
from perdure.integrations.mcp_connections import KEEP, Connections
from perdure.runtime.definitions import StepOptions
from perdure.runtime.limits import Limits, limits_of

try:
    import mcp
    from mcp import types

    _client: Any = mcp.Client
except (ImportError, AttributeError) as error:
    msg = f"perdure.integrations.mcp needs the package mcp, version 2 or later ({error}): pip install 'perdure[mcp]'"
    raise ImportError(msg) from error

from perdure.integrations.data import PydanticCarrier, step_name

__all__ = ["DurableMCPSession", "McpTool", "Server", "durable_session", "mcp_tools"]

#: What a session connects to: parameters of a process, a URL, or what makes an entered client or session.
Server: TypeAlias = "mcp.StdioServerParameters | str | Callable[[], AbstractAsyncContextManager[Any]]"

_PAGES = 100  # of a list of tools, at most
_CLOSED = -32000  # the protocol's code for a connection that is gone

_TOOLS = PydanticCarrier(list[types.Tool], "list of an MCP server's tools")
_RESULT = PydanticCarrier(types.CallToolResult, "result of an MCP server's tool")
_RESOURCE = PydanticCarrier(types.ReadResourceResult, "resource of an MCP server")
_PROMPT = PydanticCarrier(types.GetPromptResult, "prompt of an MCP server")


def durable_session(
    name: str,
    server: Server,
    *,
    retry: Retry | None = None,
    timeout: float | timedelta | None = None,
    limit: Limits | None = None,
    keep: float = KEEP,
) -> DurableMCPSession:
    """A session with an MCP server whose calls are durable steps in workflow code. Make it at module level.

    Args:
        name: what the steps are called by: `NAME.list_tools`, `NAME.TOOL`. Histories refer to it.
        server: `mcp.StdioServerParameters` of a process to start, the URL of a server (streamable HTTP), or a function
            that makes an async context manager of an `mcp.Client` or initialised `mcp.ClientSession`: with headers,
            say.
        retry: which failures are tried again: by default those of the network and of a server that has died. What a
            tool answers, also that it failed, is a result.
        timeout: seconds that one attempt may take.
        limit: rate limits of its calls.
        keep: seconds that a connection is kept open without being used.

    Raises:
        ConfigurationError: the server can't be one.

    Example:
        >>> session = durable_session("search", "http://localhost:8000/mcp", timeout=30)
    """
    options = StepOptions(
        retry=retry or DEFAULT_RETRY, timeout=time_limit(timeout, "timeout"), limits=limits_of(limit)
    )
    return DurableMCPSession(step_name(name), Connections(_opening(server), keep), options)


def _opening(server: Any) -> Callable[[], AbstractAsyncContextManager[Any]]:
    if isinstance(server, str | mcp.StdioServerParameters):
        return lambda: cast("AbstractAsyncContextManager[Any]", mcp.Client(server))
    if callable(server):
        return cast("Callable[[], AbstractAsyncContextManager[Any]]", server)
    msg = (
        f"{server!r} is no MCP server: give mcp.StdioServerParameters, a URL, or a function that makes an async "
        "context manager of a client"
    )
    raise ConfigurationError(msg)


class DurableMCPSession:
    """See `durable_session`."""

    def __init__(self, name: str, connections: Connections, options: StepOptions) -> None:
        self.name = name
        self._connections = connections
        self._options = options

    async def list_tools(self) -> list[types.Tool]:
        """All tools that the server has. In a run they are recorded: a replay lists the same."""

        async def ask(client: Any) -> list[types.Tool]:
            found: list[types.Tool] = []
            cursor: str | None = None
            for _ in range(_PAGES):
                page = await _page(client, cursor)
                found += page.tools
                cursor = page.next_cursor
                if cursor is None:
                    break
            return found

        return cast("list[types.Tool]", await self._step("list_tools", ask, None, _TOOLS))

    async def call_tool(
        self, name: str, arguments: dict[str, Any] | None = None, *, key: str | None = None
    ) -> types.CallToolResult:
        """Call a tool. In a run the result is recorded, and the call isn't made again.

        Args:
            name: the tool's.
            arguments: plain data.
            key: names the call within its run instead of its position: the id that a model gave it, say.

        Returns:
            What the tool has answered; `is_error` tells that it failed.

        Raises:
            StepFailed: (in a run) the server has refused, or it couldn't be reached; else the error itself.
        """

        async def ask(client: Any) -> types.CallToolResult:
            return cast("types.CallToolResult", await client.call_tool(name, arguments or {}))

        given = {"arguments": arguments or {}}
        return cast("types.CallToolResult", await self._step(name, ask, given, _RESULT, key))

    async def read_resource(self, uri: str, *, key: str | None = None) -> types.ReadResourceResult:
        """Read a resource. In a run its contents are recorded."""

        async def ask(client: Any) -> types.ReadResourceResult:
            return cast("types.ReadResourceResult", await client.read_resource(uri))

        given = {"uri": uri}
        return cast("types.ReadResourceResult", await self._step("read_resource", ask, given, _RESOURCE, key))

    async def get_prompt(
        self, name: str, arguments: dict[str, str] | None = None, *, key: str | None = None
    ) -> types.GetPromptResult:
        """Get a prompt. In a run it is recorded."""

        async def ask(client: Any) -> types.GetPromptResult:
            return cast("types.GetPromptResult", await client.get_prompt(name, arguments))

        given = {"name": name, "arguments": arguments}
        return cast("types.GetPromptResult", await self._step("get_prompt", ask, given, _PROMPT, key))

    async def close(self) -> None:
        """Close this process's connection. The next call opens another."""
        await self._connections.close()

    async def _step(
        self,
        what: str,
        ask: Callable[[Any], Any],
        given: Any,
        carrier: PydanticCarrier,
        key: str | None = None,
    ) -> Any:
        async def body(_: Any) -> Any:
            return await asked(self._connections, ask)

        options = self._options if key is None else dataclasses.replace(self._options, key=key)
        return await inline_step(
            step_name(self.name, what), body, given=given, result=carrier, options=options
        )

    def __repr__(self) -> str:
        return f"<durable MCP session {self.name!r}>"


async def asked(connections: Connections, ask: Callable[[Any], Any]) -> Any:
    """Ask a server something. That a connection is gone is an OSError, as it is elsewhere: another attempt opens one.

    Raises:
        ConnectionError: the server has died, or can't be reached.
    """

    async def call(client: Any) -> Any:
        try:
            return await ask(client)
        except mcp.MCPError as error:
            if error.error.code == _CLOSED:
                raise
            return error  # its answer; the connection is as good as before

    try:
        answer = await connections.use(call)
    except ExceptionGroup as errors:  # what task groups make of one failure
        raise _trouble(_only(errors)) from errors
    except mcp.MCPError as error:
        raise _trouble(error) from error
    if isinstance(answer, mcp.MCPError):
        raise answer
    return answer


def _trouble(error: BaseException) -> BaseException:
    if isinstance(error, mcp.MCPError) and error.error.code == _CLOSED:
        return ConnectionError(f"the connection to the MCP server is gone: {error}")
    return error


def _only(error: Any) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(cast("Any", error).exceptions) == 1:
        error = cast("Any", error).exceptions[0]
    return cast("BaseException", error)


async def _page(client: Any, cursor: str | None) -> types.ListToolsResult:
    if isinstance(client, mcp.ClientSession):
        params = types.PaginatedRequestParams(cursor=cursor)
        return await client.list_tools(params=params)
    return cast("types.ListToolsResult", await client.list_tools(cursor=cursor, cache_mode="bypass"))


# -- tools as functions ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class McpTool:
    """A tool of a server, to be called.

    Attributes:
        name, description: as the server tells them.
        input_schema: JSON schema of its arguments.
        session: where it is called.
    """

    name: str
    description: str
    input_schema: dict[str, Any]
    session: DurableMCPSession

    async def __call__(
        self, arguments: dict[str, Any] | None = None, /, *, key: str | None = None
    ) -> types.CallToolResult:
        """See `DurableMCPSession.call_tool`."""
        return await self.session.call_tool(self.name, arguments, key=key)

    def describe(self) -> dict[str, Any]:
        """The tool as most models want to be told of one: name, description and `input_schema`."""
        return {"name": self.name, "description": self.description, "input_schema": self.input_schema}


async def mcp_tools(session: DurableMCPSession) -> dict[str, McpTool]:
    """The tools of a server by their names, as they were listed; in a run that is recorded.

    Example:
        >>> tools = await mcp_tools(session)  # doctest: +SKIP
        >>> result = await tools["add"]({"a": 1, "b": 2}, key=call.id)  # doctest: +SKIP
    """
    return {
        tool.name: McpTool(tool.name, tool.description or "", dict(tool.input_schema), session)
        for tool in await session.list_tools()
    }
