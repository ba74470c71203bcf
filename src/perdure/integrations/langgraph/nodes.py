"""Nodes and tools as durable steps: executed once, whatever happens to the process.

In a run the code of an ordinary async node is workflow code: it is replayed, and may await durable calls of its own. A
durable node is a step instead: what it returns is recorded. Outside of runs both are what they were.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar, cast

from langchain_core.runnables.config import run_in_executor, var_child_runnable_config
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp

from perdure.api.inline import in_run, inline_step
from perdure.core.retry import Retry
from perdure.errors import UsageError
from perdure.integrations.langgraph.bodies import (
    executed,
    key_of,
    no_way_out,
    options_of,
    quiet,
    within,
    writer_to,
)
from perdure.integrations.langgraph.carrying import GraphCarrier, given_of
from perdure.runtime.checks import checked_effect
from perdure.runtime.definitions import EffectClass, durable_name

T = TypeVar("T", bound=BaseTool)

#: What LangGraph hands to nodes that ask for it; no input.
_HANDED = ("config", "runtime", "writer", "store", "previous", "error")


def durable_node(
    node: Callable[..., Any],
    *,
    name: str | None = None,
    allow: Iterable[type] = (),
    retry: Retry | None = None,
    timeout: float | timedelta | None = None,
    effect: EffectClass | None = None,
    stream: str | None = None,
) -> Callable[..., Awaitable[Any]]:
    """Make a node of a graph, or the function of a LangGraph `@task`, a durable step wherever the graph is run.

    Args:
        node: the function, sync or async; a sync one is executed in a thread. It can't call `interrupt()`.
        name: its durable name, by default `module.qualname`.
        allow: classes of your own that it returns, as they are or within data.
        retry: which failures are tried again, and when; by default transient ones.
        timeout: seconds that one attempt may take.
        effect: "read" if it changes nothing outside; a counterfactual fork executes it then.
        stream: the run's stream for what models called in it say and what it writes for LangGraph's custom stream;
            by default neither leaves it.

    Returns:
        An async function for `add_node`. The graph is to be run by `ainvoke` or `astream`.

    Raises:
        ConfigurationError: the name can't be one.
        NotSerializableError: (when it has run) what it returned can't be recorded.

    Example:
        >>> builder.add_node("research", durable_node(research, timeout=60))  # doctest: +SKIP
    """
    durable = durable_name(node, name)
    carrier = GraphCarrier(f"result of node {durable}", allow)
    options = options_of(retry, timeout, effect=checked_effect(effect))
    sync = not inspect.iscoroutinefunction(node)

    @functools.wraps(node)
    async def step(*args: Any, **kwargs: Any) -> Any:
        if not in_run():
            if sync:
                return await run_in_executor(None, functools.partial(node, *args, **kwargs))
            return await node(*args, **kwargs)
        given = {
            "args": given_of(args),
            "kwargs": given_of({name: value for name, value in kwargs.items() if name not in _HANDED}),
        }
        handed = {name: _quiet(name, value, stream) for name, value in kwargs.items()}

        async def body(_: Any) -> Any:
            return await executed(f"node {durable}", lambda: node(*args, **handed), stream)

        def body_in_thread(_: Any) -> Any:
            var_child_runnable_config.set(within(var_child_runnable_config.get(), stream))
            try:
                return node(*args, **handed)
            except GraphBubbleUp as error:
                raise no_way_out(f"node {durable}", error) from error

        return await inline_step(
            durable,
            body_in_thread if sync else body,
            given=given,
            result=carrier,
            options=options,
            in_thread=sync,
        )

    return step


def _quiet(name: str, value: Any, stream: str | None) -> Any:
    if name == "config":
        return within(value, stream)
    if name == "runtime":
        return quiet(value, stream)
    return writer_to(stream) if name == "writer" else value


def durable_tool(
    tool: T,
    *,
    name: str | None = None,
    allow: Iterable[type] = (),
    retry: Retry | None = None,
    timeout: float | timedelta | None = None,
    effect: EffectClass | None = None,
    stream: str | None = None,
) -> T:
    """A copy of a LangChain tool whose calls are durable steps in runs, each keyed by the id of the tool call.

    For graphs that call tools by themselves, or by LangGraph's ToolNode. Agents made by `create_agent` have
    `PerdureMiddleware` for all of their tools at once.

    Args:
        tool: made by `@tool`, or of a class of its own; a sync one is executed in a thread. It can't call
            `interrupt()`.
        name: its durable name, by default "tool." and the tool's name.
        allow, retry, timeout, effect, stream: as of `durable_node`.

    Raises:
        ConfigurationError: the name can't be one.
        UsageError: it isn't a tool.

    Example:
        >>> tools = ToolNode([durable_tool(search), durable_tool(book_flight)])  # doctest: +SKIP
    """
    if not isinstance(cast(Any, tool), BaseTool):
        msg = f"durable_tool() got a {type(tool).__name__}: make it a tool first, with LangChain's @tool"
        raise UsageError(msg)
    plain = type(tool)
    durable = durable_name(plain.ainvoke, name or f"tool.{tool.name.replace('/', '.')}")
    carrier = GraphCarrier(f"result of tool {tool.name}", allow)

    async def ainvoke(self: Any, input: Any, config: Any = None, **kwargs: Any) -> Any:
        if not in_run():
            return await plain.ainvoke(self, input, config, **kwargs)
        call: dict[str, Any] = input if _is_call(input) else {"args": input}

        async def body(_: Any) -> Any:
            return await executed(
                f"tool {tool.name}",
                lambda: plain.ainvoke(self, input, within(config, stream), **kwargs),
                stream,
            )

        return await inline_step(
            durable,
            body,
            given=given_of(call["args"]),
            result=carrier,
            options=options_of(
                retry, timeout, key_of(durable, call.get("id")), effect=checked_effect(effect)
            ),
        )

    copy: Any = tool.model_copy()
    copy.__class__ = type(plain.__name__, (plain,), {"ainvoke": ainvoke, "__module__": plain.__module__})
    return cast(T, copy)


def _is_call(input: Any) -> bool:
    """Whether a tool is called as a model has asked for it, with an id, or with arguments only."""
    return isinstance(input, dict) and cast("dict[str, Any]", input).get("type") == "tool_call"
