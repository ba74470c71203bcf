"""Calls of models by the Agents SDK, as durable steps.

    Runner (workflow code) -> DurableModel -> a step -> the model that was asked for

A step's body finds the model by its name, so that clients are made where I/O is allowed, and only if a call is made.
The provider's own retries are off inside: a step has retries that survive, and waits for limits without holding
anything. What a call used goes into the ledger with the step's outcome.

Streamed answers are consumed within the step. Whoever watches from outside gets each event at once; workflow code gets
them when the answer is there, those that merely add to the same text as one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from agents.items import ModelResponse, TResponseStreamEvent
from agents.model_settings import ModelSettings
from agents.models.interface import Model, ModelProvider
from agents.usage import Usage

from perdure.api.inline import in_run, inline_step
from perdure.api.insidestep import step_info
from perdure.api.spending import record_usage
from perdure.api.streams import emit
from perdure.core.usage import Spend
from perdure.errors import Retryable
from perdure.integrations.data import PydanticCarrier, as_data, step_name
from perdure.runtime.definitions import StepOptions
from perdure.runtime.stepcontext import current_step

if TYPE_CHECKING:
    from perdure.integrations.openai_agents_settings import DurableSettings

_RESPONSE = PydanticCarrier(ModelResponse, "response of a model")
_EVENTS = PydanticCarrier(list[TResponseStreamEvent], "streamed response of a model")

#: Settings that change nothing in what a model answers, or that mustn't be written down.
_NOT_GIVEN = frozenset({"retry", "timeout", "extra_headers", "prompt_cache_key"})

#: Failures in the middle of a stream after which the same call may come through.
_PASSING = frozenset({"server_error", "rate_limit_exceeded", "vector_store_timeout", "overloaded_error"})

#: Events that only add to a text, and where the addition is.
_DELTAS = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
    }
)
_SAME_PLACE = ("type", "item_id", "output_index", "content_index", "summary_index")


class DurableModel(Model):
    """A model whose calls are durable in workflow code, and ordinary ones elsewhere.

    Args:
        model: the model, or None if `provider` is to be asked for one called `name`.
        scene: knows how steps are executed, and which agent is asking.
    """

    def __init__(
        self,
        model: Model | None,
        scene: Scene,
        *,
        name: str | None = None,
        provider: ModelProvider | None = None,
    ) -> None:
        self.original = model
        self._scene = scene
        self._name = name if model is None else _name_of(model)
        self._provider = provider

    def _model(self) -> Any:
        """The model itself, which may have parameters of its own."""
        if self.original is None:
            assert self._provider is not None
            self.original = self._provider.get_model(self._name)
        return self.original

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[Any],
        model_settings: ModelSettings,
        tools: list[Any],
        output_schema: Any,
        handoffs: list[Any],
        tracing: Any,
        *,
        previous_response_id: str | None = None,
        conversation_id: str | None = None,
        prompt: Any = None,
    ) -> ModelResponse:
        """See `agents.Model`."""
        asked = (system_instructions, input, model_settings, tools, output_schema, handoffs)
        more = {
            "previous_response_id": previous_response_id,
            "conversation_id": conversation_id,
            "prompt": prompt,
        }

        async def call(_: Any) -> ModelResponse:
            response = await self._model().get_response(*self._with_cache_key(asked), tracing, **more)
            self._record(response.usage)
            return cast("ModelResponse", response)

        if not in_run():
            return cast("ModelResponse", await self._model().get_response(*asked, tracing, **more))
        return cast("ModelResponse", await self._step(call, asked, more, _RESPONSE))

    async def stream_response(
        self,
        system_instructions: str | None,
        input: str | list[Any],
        model_settings: ModelSettings,
        tools: list[Any],
        output_schema: Any,
        handoffs: list[Any],
        tracing: Any,
        *,
        previous_response_id: str | None = None,
        conversation_id: str | None = None,
        prompt: Any = None,
    ) -> AsyncIterator[Any]:
        """See `agents.Model`."""
        asked = (system_instructions, input, model_settings, tools, output_schema, handoffs)
        more = {
            "previous_response_id": previous_response_id,
            "conversation_id": conversation_id,
            "prompt": prompt,
        }

        async def call(_: Any) -> list[Any]:
            stream: Any = self._model().stream_response(
                *_telling(self._with_cache_key(asked)), tracing, **more
            )
            seen: list[Any] = []
            async with aclosing(stream):
                async for event in stream:
                    self._seen(event, seen)
            return seen

        if not in_run():
            async for event in self._model().stream_response(*asked, tracing, **more):
                yield event
            return
        for event in await self._step(call, asked, more, _EVENTS):
            yield event

    def _step(self, call: Any, asked: tuple[Any, ...], more: dict[str, Any], carrier: PydanticCarrier) -> Any:
        options = self._scene.settings.model_options()
        settings: ModelSettings = asked[2]
        given = _given(asked, more)
        if options.spends is None and settings.max_tokens is not None:
            options = dataclasses.replace(options, spends=self._at_most(given, settings.max_tokens))
        if options.timeout is None and self._scene.timeout is not None:
            options = dataclasses.replace(options, timeout=self._scene.timeout)
        return inline_step(
            step_name(self._scene.agent or self._name or "agent", "model"),
            call,
            given=given,
            result=carrier,
            options=options,
            returns_response=True,
        )

    def _at_most(self, given: dict[str, Any], output: int) -> Spend:
        """A token is hardly ever less than three characters, counted with all that goes along."""
        model = _priced_name(self._name)
        return Spend(model, input_tokens=len(repr(given)) // 3, output_tokens=output)

    def _with_cache_key(self, asked: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the SDK's runner does for models that support it, with a key that stays the run's."""
        supports: Any = getattr(self._model(), "_supports_default_prompt_cache_key", None)
        settings: ModelSettings = asked[2]
        extra: dict[str, Any] = dict(cast("Any", settings.extra_args) or {})
        body: Any = settings.extra_body
        if not callable(supports) or not supports() or "prompt_cache_key" in extra:
            return asked
        if (isinstance(body, dict) and "prompt_cache_key" in body) or current_step.get() is None:
            return asked
        extra["prompt_cache_key"] = f"perdure:{step_info().run_id}"[:64]
        return (*asked[:2], dataclasses.replace(settings, extra_args=extra), *asked[3:])

    def _record(self, usage: Any) -> None:
        """What a call has used goes into the ledger: the SDK's numbers, or the provider's, which are called alike."""
        given, made = usage.input_tokens_details, usage.output_tokens_details
        if not usage.input_tokens and not usage.output_tokens:
            record_usage()  # a call, of which nobody knows what it costs
        else:
            record_usage(
                model=_priced_name(self._name),
                provider=_provider_of(self._model()),
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=getattr(given, "cached_tokens", 0) or 0,
                cache_write_tokens=getattr(given, "cache_write_tokens", 0) or 0,
                reasoning_tokens=getattr(made, "reasoning_tokens", 0) or 0,
            )

    def _seen(self, event: Any, seen: list[Any]) -> None:
        stream = self._scene.settings.emit
        if stream is not None:
            emit(stream, event.model_dump(mode="json", exclude_unset=True, by_alias=True, warnings=False))
        kind: str = event.type
        if kind in ("response.failed", "error", "response.error"):
            problem: Any = event if kind == "error" else getattr(event, "response", event)
            problem = getattr(problem, "error", None) or problem
            if getattr(problem, "code", None) in _PASSING:
                raise Retryable(f"the model's answer broke off: {getattr(problem, 'message', problem.code)}")
        if kind == "response.completed":
            self._record(event.response.usage or Usage())
        if seen and kind in _DELTAS and all(_at(event, name) == _at(seen[-1], name) for name in _SAME_PLACE):
            seen[-1] = _joined(seen[-1], event)
        else:
            seen.append(event)


class Scene:
    """What the models and tools of one call of the runner share.

    Attributes:
        agent: the name of the agent whose turn it is.
        timeout: seconds that one call of a model may take, as the SDK's own settings say.
    """

    def __init__(self, settings: DurableSettings) -> None:
        self.settings = settings
        self.agent: str | None = None
        self.timeout: float | None = None

    def tool_options(self, name: str, key: str) -> StepOptions:
        return dataclasses.replace(self.settings.tool_options(name), key=key)


class DurableProvider(ModelProvider):
    """A provider of models whose calls are durable."""

    def __init__(self, provider: ModelProvider, scene: Scene) -> None:
        self.original = provider
        self._scene = scene
        self._models: dict[str | None, DurableModel] = {}

    def get_model(self, model_name: str | None) -> Model:
        """See `agents.ModelProvider`."""
        if model_name not in self._models:
            model = DurableModel(None, self._scene, name=model_name, provider=self.original)
            self._models[model_name] = model
        return self._models[model_name]


def _telling(asked: tuple[Any, ...]) -> tuple[Any, ...]:
    """Chat completions tell what a stream has used only to those who ask."""
    settings: ModelSettings = asked[2]
    if settings.include_usage is not None:
        return asked
    return (*asked[:2], dataclasses.replace(settings, include_usage=True), *asked[3:])


def _given(asked: tuple[Any, ...], more: dict[str, Any]) -> dict[str, Any]:
    """What the answer depends on."""
    instructions, input, settings, tools, schema, handoffs = asked
    given: dict[str, Any] = {"input": as_data(input)}
    if instructions:
        given["instructions"] = instructions
    chosen = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name not in _NOT_GIVEN
    }
    if isinstance(extra := chosen.get("extra_args"), dict):
        extras = cast("dict[str, Any]", extra)
        chosen["extra_args"] = {k: v for k, v in extras.items() if k not in _NOT_GIVEN} or None
    given["settings"] = as_data(chosen)
    given["tools"] = [_tool(tool) for tool in tools]
    given["handoffs"] = [handoff.tool_name for handoff in handoffs]
    if schema is not None:
        given["output"] = schema.name()
    given |= {name: as_data(value) for name, value in more.items() if value is not None}
    return {name: value for name, value in given.items() if value not in ([], {})}


def _tool(tool: Any) -> Any:
    schema = getattr(tool, "params_json_schema", None)
    if schema is None:
        return str(getattr(tool, "name", type(tool).__qualname__))
    return {"name": tool.name, "description": tool.description, "schema": as_data(schema)}


def _at(event: Any, name: str) -> Any:
    return getattr(event, name, None)


def _joined(first: Any, more: Any) -> Any:
    """Two additions to the same text as one."""
    changes: dict[str, Any] = {"delta": first.delta + more.delta}
    if getattr(first, "logprobs", None) or getattr(more, "logprobs", None):
        changes["logprobs"] = [*(first.logprobs or []), *(more.logprobs or [])]
    return first.model_copy(update=changes)


def _name_of(model: Model) -> str | None:
    name = getattr(model, "model", None)
    return name if isinstance(name, str) else None


def _priced_name(name: str | None) -> str | None:
    """Without the prefixes by which the SDK tells providers apart."""
    return None if name is None else name.rpartition("/")[2]


def _provider_of(model: Model) -> str | None:
    return "openai" if type(model).__module__.startswith("agents.models.openai") else None
