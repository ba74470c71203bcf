"""Pydantic AI: agents whose requests to models, tools and events are steps.

agent = Agent("openai:gpt-5", name="helper", tools=[search], capabilities=[PerdureDurability()])

@workflow
async def answer(question: str) -> str:
    return (await agent.run(question)).output

pydantic-ai leaves it to engines how its operations execute (`pydantic_ai.durable_exec`); the modules beside this one
say how they do here. Outside of workflow code the capability does nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias, TypedDict, cast

try:
    from pydantic_ai.durable_exec import BaseDurabilityCapability
except ImportError as error:
    _MISSING = "perdure.integrations.pydantic_ai needs pydantic-ai, 2.36 or newer: pip install 'perdure[pydantic-ai]'"
    raise ImportError(_MISSING) from error

from pydantic import TypeAdapter
from pydantic_ai import RunContext
from pydantic_ai.agent import AbstractAgent, EventStreamHandler
from pydantic_ai.capabilities import AbstractCapability, CombinedCapability, Instrumentation
from pydantic_ai.capabilities.abstract import CapabilityOrdering, WrapRunHandler, leaf_capabilities
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    DurabilityEngineSpec,
    DurableOperationId,
    RoleBasedOperationConfig,
    ToolsetCallToolId,
    ToolsetKind,
    ToolsetValidateToolArgumentsId,
)
from pydantic_ai.messages import AgentStreamEvent, ModelResponse
from pydantic_ai.models import Model, ModelRequestContext
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.run import AgentRunResult
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import AgentDepsT
from pydantic_ai.toolsets import ToolsetTool

from perdure.api.call import current_machine
from perdure.api.context import now
from perdure.api.durable import OnCancel, checked_on_cancel, time_limit
from perdure.api.inline import in_run
from perdure.api.spending import record_usage
from perdure.api.streams import emit
from perdure.core.retry import DEFAULT_RETRY, Retry
from perdure.errors import ConfigurationError
from perdure.integrations.pydantic_ai_backend import Backend
from perdure.integrations.pydantic_ai_keys import announced, begin
from perdure.integrations.pydantic_ai_parts import conversation_of, falls_back, in_workflow
from perdure.integrations.pydantic_ai_people import AskPeople
from perdure.integrations.pydantic_ai_sessions import CAN_HOLD
from perdure.runtime.checks import checked_effect, checked_spends
from perdure.runtime.definitions import EffectClass, Spends, StepOptions
from perdure.runtime.limits import Limits, limits_of
from perdure.runtime.stepcontext import current_step

__all__ = ["AskPeople", "PerdureDurability", "StepConfig", "emit_events"]

OnRefusal: TypeAlias = Literal["wait", "raise"]


class StepConfig(TypedDict, total=False):
    """How the steps of an agent are executed; each as for `@step`."""

    retry: Retry
    timeout: float | timedelta | None
    deadline: float | timedelta | None
    heartbeat_timeout: float | timedelta | None
    on_cancel: OnCancel
    limit: Limits | None
    spends: Spends | None
    effect: EffectClass | None
    record_inputs: int


class PerdureDurability(BaseDurabilityCapability[AgentDepsT]):
    """Makes an agent's runs durable where workflow code starts them.

    Requests to models, calls of tools, what MCP servers are asked, handlers of events: each is a step of the run. A
    tool's step is known by the id of its call, so tools that run at the same time need no order. Dependencies and
    contexts are passed as they are, and never recorded. Outside of workflow code the agent is what it is without
    this; inside a step it is a part of that step.

    Args:
        models: further models, by an id that `agent.run(model=...)` may give. Others are given by their names, or by
            what a `ResolveModelId` capability makes of a text; not as objects that nobody has told of here.
        event_stream_handler: gets the events of a model as they come, in the step of its request, and each other one
            in a step of its own. On a replay it gets none. `emit_events` makes one that writes them into a stream.
        name: what the names of the agent's steps begin with; the agent's own name by default. Histories hold it.
        model: how its requests to models are executed.
        tool: how its tools are; for a single one, metadata `{"perdure": StepConfig(...)}` of the tool counts more,
            and `{"perdure": False}` lets it execute as workflow code.
        mcp: how MCP servers are asked, and their tools called.
        event: how the handler of events is called.
        on_refusal: what follows when a provider turns a request away, by a rate limit, say. "wait": its step waits as
            long as was said, and so does every other one that asks the same provider. "raise": the agent gets the
            error at once. By default it waits, unless the agent has a `ModelFallback`, which then gets the error.

    Raises:
        ConfigurationError: an option is out of range.

    Example:
        >>> agent = Agent("openai:gpt-5", name="helper", capabilities=[PerdureDurability()])  # doctest: +SKIP
        >>> @perdure.workflow  # doctest: +SKIP
        ... async def answer(question: str) -> str:
        ...     return (await agent.run(question)).output
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="Perdure",
        durable_unit_noun="step",
        durable_container_noun="workflow",
        codec=JSON_CODEC,
        toolset_lifecycles={
            "function": "enter-never",  # and nothing by workflow code, which can't open connections
            "mcp": "enter-in-durable-unit" if CAN_HOLD else "enter-never",
            "dynamic": "enter-never",
        },
        unsupported_runtime_toolset_kinds=frozenset({"function", "mcp", "dynamic"}),
        tool_config_key="perdure",
    )

    def __init__(
        self,
        *,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
        model: StepConfig | None = None,
        tool: StepConfig | None = None,
        mcp: StepConfig | None = None,
        event: StepConfig | None = None,
        on_refusal: OnRefusal | None = None,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        if on_refusal not in (None, "wait", "raise"):
            msg = f'PerdureDurability(on_refusal={on_refusal!r}): it is "wait" or "raise"'
            raise ConfigurationError(msg)
        self._on_refusal = on_refusal
        self._model_options = _options(model)
        self._tool_config: StepConfig = tool or {}
        self._mcp_config: StepConfig = mcp or {}
        self._event_options = _options(event)
        self._tool_options, self._mcp_options = _options(tool), _options(mcp)

    def for_agent(self, agent: AbstractAgent[AgentDepsT, Any]) -> AbstractCapability[AgentDepsT]:
        # Runs ask whether toolsets are of this module, which takes long to import: too long for workflow code.
        with contextlib.suppress(ImportError):
            importlib.import_module("pydantic_ai.mcp")
        return CombinedCapability([Surroundings(self.name or agent.name or ""), super().for_agent(agent)])

    # -- where it is --------------------------------------------------------------------------------

    @property
    def in_durable_context(self) -> bool:
        return in_run()

    def get_default_run_id(self) -> str | None:
        machine = current_machine()
        if machine is None:
            return None
        return f"{machine.run_id}:{self.name}:{announced(machine, self.name, anew=True).label}"

    def get_default_conversation_id(self, run_id: str) -> str | None:
        return conversation_of(run_id) if in_run() else None

    def get_run_clock(self) -> Callable[[], datetime] | None:
        machine = current_machine()
        if machine is None:
            return None
        announced(machine, self.name, anew=False)  # it may have been given its id
        return now

    # -- what it does -------------------------------------------------------------------------------

    def get_durable_operation_backend(self) -> Backend:
        config = RoleBasedOperationConfig(
            model=self._model_options,
            event=self._event_options,
            capability=StepOptions(),
            tool=self._tool_options,
            resolve_tool=self._options_for,
        )
        return Backend(self.name, self.default_model_id, config, raises_refusals=self._raises_refusals())

    def _options_for(
        self, id: DurableOperationId, tool: object | None, tool_name: str
    ) -> StepOptions | Literal[False]:
        kind = cast("ToolsetKind", getattr(id, "toolset_kind", "mcp"))
        called = isinstance(id, ToolsetCallToolId | ToolsetValidateToolArgumentsId)
        metadata = tool.tool_def.metadata if isinstance(tool, ToolsetTool) else None
        own: Any = (metadata or {}).get("perdure")
        if own is None or not called:
            return self._mcp_options if kind == "mcp" else self._tool_options
        if own is False:
            return False
        if not isinstance(own, Mapping):
            msg = (
                f"the tool {tool_name!r} has the metadata {{'perdure': {own!r}}}: give a StepConfig, or False"
            )
            raise ConfigurationError(msg)
        return _options(
            cast("StepConfig", {**(self._mcp_config if kind == "mcp" else self._tool_config), **own})
        )

    def _raises_refusals(self) -> bool:
        if self._on_refusal is not None:
            return self._on_refusal == "raise"
        agent = self.agent
        return agent is not None and any(map(falls_back, leaf_capabilities(agent.root_capability)))

    async def wrap_run(self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        if not in_run():
            return await super().wrap_run(ctx, handler=handler)
        with _waiting(self.name):
            return await super().wrap_run(ctx, handler=handler)

    async def wrap_model_request(
        self,
        ctx: RunContext[AgentDepsT],
        *,
        request_context: ModelRequestContext,
        handler: Callable[..., Any],
    ) -> ModelResponse:
        if in_run():
            _leave_retries_to_steps(request_context)
            return await super().wrap_model_request(ctx, request_context=request_context, handler=handler)
        response: ModelResponse = await handler(request_context)
        if current_step.get() is not None:  # an agent that a tool, say, has asked: the tool's step pays
            record_usage(response)
        return response


class Surroundings(AbstractCapability[Any]):
    """What has to be around all other capabilities of an agent in workflow code, those that tell of it included.

    Args:
        agent: what the agent's steps are named after.
    """

    def __init__(self, agent: str) -> None:
        self._agent = agent

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="outermost", wraps=(Instrumentation,))

    @classmethod
    def get_serialization_name(cls) -> str | None:
        return None

    async def wrap_run(self, ctx: RunContext[Any], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        machine = current_machine()
        if machine is None:
            return await handler()
        begin(machine, self._agent)
        with in_workflow():
            return await handler()


def _waiting(agent: str) -> AbstractContextManager[object]:
    """What an agent's run waits with for events from outside, where pydantic-ai has such."""
    try:
        from pydantic_ai.durable_exec import external_event_scope

        from perdure.integrations.pydantic_ai_waiting import Waiter
    except ImportError:
        return contextlib.nullcontext()
    return external_event_scope(Waiter(agent))


def _options(config: StepConfig | None) -> StepOptions:
    given = config or {}
    if unknown := given.keys() - StepConfig.__annotations__.keys():
        msg = f"a StepConfig has no {', '.join(sorted(unknown))}; it has {', '.join(StepConfig.__annotations__)}"
        raise ConfigurationError(msg)
    options = StepOptions(
        retry=given.get("retry", DEFAULT_RETRY),
        timeout=time_limit(given.get("timeout"), "timeout"),
        deadline=time_limit(given.get("deadline"), "deadline"),
        heartbeat_timeout=time_limit(given.get("heartbeat_timeout"), "heartbeat_timeout"),
        on_cancel=checked_on_cancel(given.get("on_cancel", "try")),
        limits=limits_of(given.get("limit")),
        spends=checked_spends(given.get("spends")),
        effect=checked_effect(given.get("effect")),
    )
    if "record_inputs" in given:
        options = dataclasses.replace(options, record_inputs=given["record_inputs"])
    return options


def _leave_retries_to_steps(request: ModelRequestContext) -> None:
    """Let the provider's client try once: waits of its own would last as long as the process, and nobody saw them."""
    if "max_retries" not in ModelSettings.__annotations__:
        return
    model: Any = request.model
    while isinstance(model, WrapperModel):
        model = model.wrapped
    settings: Any = request.model_settings or {}
    if "max_retries" not in settings and "max_retries" not in getattr(model, "unsupported_settings", ()):
        request.model_settings = cast("ModelSettings", {**settings, "max_retries": 0})


def emit_events(stream: str) -> EventStreamHandler[Any]:
    """Make a handler of events that writes them into a stream of the run, as data.

    Readers get a model's text while it comes (`handle.stream(stream)`), and after a reconnect what they have missed.
    If a request is made anew they are told that what came of it so far is void. Outside of runs nothing is written.

    Args:
        stream: the stream's name.

    Example:
        >>> durability = PerdureDurability(event_stream_handler=emit_events("events"))  # doctest: +SKIP
    """

    async def handler(_: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            emit(stream, _event.dump_python(event, mode="json"))

    return handler


_event: TypeAdapter[AgentStreamEvent] = TypeAdapter(AgentStreamEvent)
