"""Middleware for LangChain's agents: each call of the model and of a tool is a durable step.

What lies between (the agent's loop, other middleware) is workflow code, and is replayed.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import msgspec
from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.types import Command

from perdure.api.inline import in_run, inline_step
from perdure.codec.kinds import class_of
from perdure.core.retry import Retry
from perdure.core.usage import Spend
from perdure.integrations.langgraph.bodies import executed, key_of, options_of, quiet
from perdure.integrations.langgraph.carrying import GraphCarrier, given_of
from perdure.runtime.definitions import durable_name


class ResponseCarrier:
    """Carries what a model has answered to an agent."""

    def __init__(self, where: str, allow: Iterable[type]) -> None:
        self._inner = GraphCarrier(where, allow)

    def record(self, value: Any) -> tuple[bytes, Any]:
        data, _ = self._inner.record(
            {"result": value.result, "structured_response": value.structured_response}
        )
        return data, self.decode(data)

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        fields = self._inner.decode(data)
        return ModelResponse(result=fields["result"], structured_response=fields["structured_response"])


class PerdureMiddleware(AgentMiddleware[Any, Any, Any]):
    """Makes an agent of `create_agent` durable in runs; outside of runs it does nothing.

    Model calls are named by their order, tool calls by their ids, so tools may be called at once and end in any order.
    What models use goes into the ledger. Put it last in the list, so that other middleware is around its steps.

    Args:
        name: the agent's, before the names of its steps: "agent.model" and "agent.<tool>". Keep it: histories refer
            to it.
        plain: names of tools that aren't steps but workflow code: async ones that call `interrupt()`, ask people,
            sleep, or run another durable agent.
        reads: names of tools that change nothing outside; a counterfactual fork executes these, as it does the model.
        allow: classes of your own that tools return, or that the agent's structured responses are made of.
        model_retry, tool_retry: which failures are tried again, and when; by default transient ones.
        model_timeout, tool_timeout: seconds that one attempt may take.
        stream: the run's stream for the text that models make, as it comes, and for what tools write for LangGraph's
            custom stream.

    Raises:
        ConfigurationError: the name can't be one.

    Example:
        >>> agent = create_agent(model, [search], middleware=[PerdureMiddleware()])  # doctest: +SKIP
    """

    def __init__(
        self,
        name: str = "agent",
        *,
        plain: Iterable[str] = (),
        reads: Iterable[str] = (),
        allow: Iterable[type] = (),
        model_retry: Retry | None = None,
        tool_retry: Retry | None = None,
        model_timeout: float | timedelta | None = None,
        tool_timeout: float | timedelta | None = None,
        stream: str | None = None,
    ) -> None:
        super().__init__()
        self._prefix = durable_name(type(self), name)
        self._plain = frozenset(plain)
        self._reads = frozenset(reads)
        self._allow = tuple(allow)
        self._model = options_of(model_retry, model_timeout, spends=True)
        self._tool = options_of(tool_retry, tool_timeout)
        self._stream = stream

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        return handler(request)  # a sync agent, which is outside of runs

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        return handler(request)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        if not in_run():
            return await handler(request)

        async def body(_: Any) -> ModelResponse[Any]:
            answer: Any = await executed("the model call", lambda: handler(request), self._stream)
            response = ModelResponse(result=[answer]) if isinstance(answer, AIMessage) else answer
            for message in response.result:
                _name(message)
            return cast("ModelResponse[Any]", response)

        given = _asked_of(request)
        return await inline_step(
            f"{self._prefix}.model",
            body,
            given=given,
            result=ResponseCarrier(f"answer of {self._prefix}.model", [*self._allow, *_schemas(request)]),
            options=replace(self._model, effect="read", spends=_at_most(request, given)),
        )

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        tool = request.tool_call["name"]
        if not in_run() or tool in self._plain:
            return await handler(request)
        handed: Any = request
        runtime: Any = quiet(handed.runtime, self._stream)
        inside = replace(request, runtime=runtime)

        async def body(_: Any) -> ToolMessage | Command[Any]:
            handed.runtime.config.update(runtime.config)  # what ToolNode gives to the tool: this call's own
            answer = await executed(f"tool {tool}", lambda: handler(inside), self._stream)
            _name(answer)
            return cast("ToolMessage | Command[Any]", answer)

        name = f"{self._prefix}.{_durable(tool)}"
        return await inline_step(
            name,
            body,
            given=given_of(request.tool_call["args"]),
            result=GraphCarrier(f"result of tool {tool}", self._allow),
            options=replace(
                self._tool,
                key=key_of(name, request.tool_call.get("id")),
                effect="read" if tool in self._reads else None,
            ),
        )


def _name(message: Any) -> None:
    """A message without an id gets one here, where it is recorded."""
    if isinstance(message, BaseMessage) and message.id is None:
        message.id = str(uuid.uuid4())


def _durable(tool: str) -> str:
    """A tool's name, as a part of a step's: the model may have made it up."""
    kept = "".join(char if char.isprintable() and char not in "#[]/" else "_" for char in tool)
    return kept[:200] or "_"


def _asked_of(request: ModelRequest[Any]) -> dict[str, Any]:
    """What a model's answer depends on."""
    format = request.response_format
    asked: dict[str, Any] = {
        "model": _model_of(request.model),
        "system": given_of(request.system_message),
        "messages": given_of(request.messages),
        "tools": [_tool_of(tool) for tool in request.tools],
        "choice": given_of(request.tool_choice),
        "settings": given_of(request.model_settings),
        "format": None
        if format is None
        else [type(format).__name__, *(it.__name__ for it in _schemas(request))],
    }
    return {name: value for name, value in asked.items() if value}


def _at_most(request: ModelRequest[Any], given: dict[str, Any]) -> Spend | bool:
    """What a call spends at most, if its answer is limited. A token has hardly ever less than three letters."""
    limit = request.model_settings.get("max_tokens") or getattr(request.model, "max_tokens", None)
    if not isinstance(limit, int):
        return True
    return Spend(_model_of(request.model), input_tokens=len(repr(given)) // 3, output_tokens=limit)


def _tool_of(tool: Any) -> Any:
    """What a model is told of a tool."""
    try:
        told: Any = tool if class_of(tool) is dict else convert_to_openai_tool(tool)
        return given_of(told)
    except Exception:  # noqa: BLE001 - what the model's own way of telling makes of it is known to that only
        return getattr(tool, "name", type(tool).__name__)


def _model_of(model: Any) -> str:
    named = getattr(model, "model_name", None) or getattr(model, "model", None)
    return named if isinstance(named, str) else type(model).__name__


def _schemas(request: ModelRequest[Any]) -> list[type]:
    """The classes that a structured response is made of."""
    format: Any = request.response_format
    specs: Iterable[Any] = getattr(format, "schema_specs", None) or [format]
    found = [getattr(spec, "schema", spec) for spec in specs]
    return [schema for schema in found if isinstance(schema, type)]
