"""How the operations of an agent become steps: their names and keys, what they are given, how they execute.

model request              by position in its task; a name for each agent and model
tool, its validation       by the id of the call, wherever in the run, so that parallel ones need no order
discovery, events, others  by position in their task
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from pydantic_ai.durable_exec import (
    CapabilityOperationId,
    DurableOperationBackend,
    DurableOperationId,
    JournalOperationNamer,
    ModelCompactMessagesId,
    ModelRequestId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    ToolsetGetInstructionsId,
    ToolsetGetToolsId,
    ToolsetValidateToolArgumentsId,
)
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import ToolsetTool

from perdure.api.call import current_machine
from perdure.api.context import now
from perdure.api.inline import inline_step
from perdure.core.retry import turned_away
from perdure.integrations.pydantic_ai_errors import Refused, as_raised
from perdure.integrations.pydantic_ai_given import as_data, at_most
from perdure.integrations.pydantic_ai_keys import call_key, step_key
from perdure.integrations.pydantic_ai_parts import in_unit, record_unit, threads_again
from perdure.integrations.pydantic_ai_records import Record, ToolRecord, ToolResult
from perdure.integrations.pydantic_ai_sessions import holding
from perdure.runtime.definitions import EffectClass, StepOptions

if TYPE_CHECKING:
    from pydantic_ai.durable_exec import BoundDurableOperation, DurableOperation

__all__ = ["Backend", "step_name"]

ParamsT = TypeVar("ParamsT")
WireT = TypeVar("WireT")
ResultT = TypeVar("ResultT")

_RESERVED = str.maketrans({"#": "-", "[": "(", "]": ")", "/": "|"})
_LONGEST = 255
_READS = (
    ModelRequestId,
    ModelCompactMessagesId,
    ToolsetGetInstructionsId,
    ToolsetGetToolsId,
    ToolsetValidateToolArgumentsId,
)


class Backend(DurableOperationBackend[StepOptions]):
    """Executes each operation of one agent as a step.

    Args:
        agent: its name, with which those of its steps begin.
        default_model: the name of its own model, if it is given by name.
        config: the options of its steps.
        raises_refusals: that a provider turns a request away is the agent's matter, and nothing to wait for.
    """

    def __init__(
        self,
        agent: str,
        default_model: str | None,
        config: RoleBasedOperationConfig[StepOptions],
        *,
        raises_refusals: bool,
    ) -> None:
        self.agent = agent
        self.config = config
        self.raises_refusals = raises_refusals
        self._namer = JournalOperationNamer(agent, default_model_id=default_model or "default")

    def bind(
        self, operation: DurableOperation[ParamsT, WireT, ResultT]
    ) -> BoundDurableOperation[ParamsT, WireT, ResultT]:
        return Bound(self, operation)

    def config_for_tool(
        self, operation: DurableOperation[ParamsT, WireT, ResultT], *, tool: object | None, tool_name: str
    ) -> StepOptions | Literal[False]:
        return self.config.for_tool(
            operation.config_role, operation_id=operation.operation_id, tool=tool, tool_name=tool_name
        )

    def registrations(self) -> Sequence[Callable[..., object]]:
        return ()

    def name(self, id: DurableOperationId, label: str | None) -> str:
        """The durable name of the steps of an operation."""
        try:
            name = self._namer.operation_name(id)
        except AssertionError:  # a kind that later versions have
            name = f"{self.agent}__{type(id).__name__.removesuffix('Id')}"
        return step_name(name if label is None else f"{name}:{label}")


class Bound(Generic[ParamsT, WireT, ResultT]):
    """An operation that is a step when workflow code asks for it."""

    def __init__(self, backend: Backend, operation: DurableOperation[ParamsT, WireT, ResultT]) -> None:
        self._backend = backend
        self._operation = operation
        self._is_tool = isinstance(operation.operation_id, ToolsetCallToolId | ToolsetValidateToolArgumentsId)

    @property
    def operation(self) -> DurableOperation[ParamsT, WireT, ResultT]:
        return self._operation

    async def __call__(self, params: ParamsT, *, config: object | None = None) -> ResultT:
        machine = current_machine()
        if machine is None:
            return await self._operation.handler(params)
        operation, id = self._operation, self._operation.operation_id
        label = None if operation.invocation_label is None else operation.invocation_label(params)
        name = self._backend.name(id, label)
        options = cast("StepOptions | None", config) or self._backend.config.base(
            operation.config_role, operation_id=id
        )
        is_request = isinstance(id, ModelRequestId)
        _, ctx = _context(params)
        key: str | None
        if self._is_tool and ctx is not None and ctx.tool_call_id:
            key = call_key(machine, name, ctx.tool_call_id)
        else:
            key = step_key(name)
        options = dataclasses.replace(options, key=key, effect=options.effect or _effect(id, params))
        if is_request and options.spends is None:
            options = dataclasses.replace(options, spends=at_most)
        executed = False

        async def body(_: Any) -> Any:
            nonlocal executed
            executed = True
            threads_again()
            with in_unit():
                return await self._execute(params)

        record = ToolRecord if self._is_tool else Record
        call = inline_step(
            name,
            body,
            given=_given(operation, params),
            result=record(name, operation.result_codec),
            options=options,
            returns_response=isinstance(id, ModelRequestId | ModelCompactMessagesId),
        )
        try:
            result = await call
        except Exception as error:
            record_unit(executed=executed)
            if (raised := as_raised(error)) is error:
                raise
            raise raised from raised.__cause__
        record_unit(executed=executed)
        if not isinstance(result, ToolResult):
            return cast("ResultT", result)
        if result.used is not None and ctx is not None:
            ctx.usage.incr(result.used)
        return cast("ResultT", result.value)

    async def _execute(self, params: ParamsT) -> Any:
        """In the step. What it adds to the agent's usage is its own at first: a replay adds it when it has ended."""
        field, ctx = _context(params)
        if field is None or ctx is None:
            return await self._handle(params)
        before, mine = copy.copy(ctx.usage), copy.copy(ctx.usage)
        async with holding(dataclasses.replace(ctx, usage=mine)) as own:
            value = await self._handle(
                cast("ParamsT", dataclasses.replace(cast("Any", params), **{field: own}))
            )
        if not self._is_tool:
            return value
        used = mine - before
        return ToolResult(value, used if used.has_values() else None)

    async def _handle(self, params: ParamsT) -> Any:
        try:
            return await self._operation.handler(params)
        except ModelAPIError as error:
            if self._backend.raises_refusals and turned_away(error, now().timestamp()) is not None:
                raise Refused(str(error)) from error
            raise


def _context(params: Any) -> tuple[str | None, RunContext[Any] | None]:
    """The context of the agent's run among parameters, and how it is called there."""
    for name in ("run_context", "ctx"):
        if isinstance(found := getattr(params, name, None), RunContext):
            return name, found  # pyright: ignore[reportUnknownVariableType]
    return None, None


def _effect(id: DurableOperationId, params: Any) -> EffectClass | None:
    """The effect class of an operation for which none was told."""
    if not isinstance(id, ToolsetCallToolId):
        return "read" if isinstance(id, _READS) else None
    tool = getattr(params, "tool", None)
    definition: Any = tool.tool_def if isinstance(tool, ToolsetTool) else getattr(params, "tool_def", None)
    metadata: dict[str, Any] = getattr(definition, "metadata", None) or {}
    told = metadata.get("annotations")  # what a server of MCP tells of its tool
    annotations = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    return "read" if annotations.get("readOnlyHint") is True else None


def _given(operation: DurableOperation[Any, Any, Any], params: Any) -> Any:
    """What a step depends on, of what there is: not its context, and not how a tool is described."""
    parts = [
        as_data(part)
        for part in operation.cache_identity.project(params)
        if not isinstance(part, RunContext | ToolsetTool | ToolDefinition)
    ]
    match operation.operation_id:
        case ModelRequestId(model_name=model) if len(parts) == 4:
            names = ("model_id", "messages", "settings", "parameters")
            told = {name: part for name, part in zip(names, parts, strict=True) if part is not None}
            return {"model": model} | told
        case ToolsetCallToolId() | ToolsetValidateToolArgumentsId() if len(parts) == 2:
            return parts[1]
        case CapabilityOperationId() if len(parts) == 2:
            return parts[1]
        case _:
            return parts[0] if len(parts) == 1 else parts or None


def step_name(name: str) -> str:
    """A name for steps, made of one that may hold any characters.

    >>> step_name("helper__model.request.openrouter:vendor/model")
    'helper__model.request.openrouter:vendor|model'
    """
    found = "".join(char if char.isprintable() else "?" for char in name.translate(_RESERVED))
    if len(found) <= _LONGEST:
        return found
    digest = blake2b(name.encode("utf-8", "replace"), digest_size=8).hexdigest()
    return f"{found[: _LONGEST - 17]}~{digest}"
