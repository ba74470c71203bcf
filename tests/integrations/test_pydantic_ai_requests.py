"""Requests of agents in workflows: answers in parts, errors and refusals of providers."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic_ai import Agent, ModelHTTPError, ModelRateLimitError, RunContext
from pydantic_ai._run_context import get_current_run_context
from pydantic_ai.capabilities import ModelFallback, ProcessEventStream
from pydantic_ai.exceptions import (
    ModelConnectionError,
    ModelNotFoundError,
    ModelQuotaExceededError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    PartStartEvent,
    TextPart,
    UserPromptPart,
)
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage, UsageLimits
from pydantic_ai_kit import answers, played

import perdure
from perdure.integrations.pydantic_ai import PerdureDurability

done: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


# -- answers in parts ---------------------------------------------------------------------------------


def part(text: str, *, more: bool, given: int, made: int, id: str) -> ModelResponse:
    """A part of an answer."""
    return ModelResponse(
        parts=[TextPart(text)],
        usage=RequestUsage(input_tokens=given, output_tokens=made),
        model_name="parts",
        provider_name="parts",
        provider_response_id=id,
        state="suspended" if more else "complete",
    )


class InParts(Model[Any]):
    """Answers in parts, as providers do that pause a turn or work in the background."""

    def __init__(self, *parts: ModelResponse) -> None:
        super().__init__()
        self.parts = list(parts)
        self.asked = 0
        self.cancelled: list[str | None] = []

    @property
    def model_name(self) -> str:
        return "parts"

    @property
    def system(self) -> str:
        return "parts"

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        self.asked += 1
        return self.parts[self.asked - 1]

    async def cancel_suspended_response(self, response: ModelResponse) -> None:
        self.cancelled.append(response.provider_response_id)

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        self.asked += 1
        found = self.parts[self.asked - 1]

        async def texts(messages: list[ModelMessage], info: AgentInfo) -> Any:
            for item in found.parts:
                assert isinstance(item, TextPart)
                yield item.content

        streaming = FunctionModel(stream_function=texts)
        async with streaming.request_stream(messages, model_settings, model_request_parameters) as stream:
            finished = stream.get

            def get() -> ModelResponse:
                import dataclasses

                told = {
                    "state": found.state,
                    "usage": found.usage,
                    "provider_response_id": found.provider_response_id,
                }
                return dataclasses.replace(finished(), provider_name="parts", **told)

            stream.get = get  # type: ignore[method-assign]
            yield stream


def test_each_part_of_an_answer_is_a_step() -> None:
    model = InParts(
        part("The answer ", more=True, given=5, made=2, id="p1"),
        part("is 42.", more=False, given=3, made=4, id="p2"),
    )
    agent = Agent(model, name="in-parts", capabilities=[PerdureDurability()])

    async def body() -> list[Any]:
        result = await agent.run("go")
        usage = result.usage
        return [result.output, usage.requests, usage.input_tokens, usage.output_tokens]

    found = played(body)
    assert found.value == ["The answer is 42.", 1, 8, 6]
    assert found.names == ["in-parts__model.request"] * 2
    assert model.asked == 2


def test_a_part_too_many_is_cancelled_in_a_step() -> None:
    model = InParts(
        part("still ", more=True, given=10, made=5, id="p1"),
        part("going ", more=True, given=100, made=50, id="p2"),
    )
    agent = Agent(model, name="too-many", capabilities=[PerdureDurability()])
    steps: list[str] = []

    async def body() -> None:
        await agent.run("go", usage_limits=UsageLimits(total_tokens_limit=20))

    with pytest.raises(UsageLimitExceeded, match="total_tokens_limit"):
        played(body)
    assert (model.asked, model.cancelled) == (2, ["p2"])
    assert not steps


def test_a_cancellation_cant_enqueue() -> None:
    class Enqueues(InParts):
        async def cancel_suspended_response(self, response: ModelResponse) -> None:
            ctx = get_current_run_context()
            assert ctx is not None
            with pytest.raises(UserError, match="enqueued messages would be dropped"):
                ctx.enqueue("later")
            done["refused"] += 1

    model = Enqueues(
        part("still ", more=True, given=10, made=5, id="p1"),
        part("going ", more=True, given=100, made=50, id="p2"),
    )
    agent = Agent(model, name="enqueues", capabilities=[PerdureDurability()])

    async def body() -> None:
        await agent.run("go", usage_limits=UsageLimits(total_tokens_limit=50))

    with pytest.raises(UsageLimitExceeded):
        played(body)
    assert done["refused"] == 1


def test_a_model_cant_enqueue() -> None:
    def enqueues(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        ctx = get_current_run_context()
        assert ctx is not None
        ctx.enqueue("later")
        return ModelResponse(parts=[TextPart("done")])

    agent = Agent(FunctionModel(enqueues), name="model-enqueues", capabilities=[PerdureDurability()])

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(UserError, match="enqueued messages would be dropped"):
        played(body)


def test_streamed_parts_are_put_together() -> None:
    model = InParts(
        part("The answer ", more=True, given=5, made=2, id="p1"),
        part("is 42.", more=False, given=3, made=4, id="p2"),
    )
    starts: list[int] = []

    async def handler(ctx: RunContext[Any], events: Any) -> None:
        async for event in events:
            if isinstance(event, PartStartEvent):
                starts.append(event.index)

    capabilities: list[Any] = [ProcessEventStream(handler), PerdureDurability()]
    agent = Agent(model, name="streamed-parts", capabilities=capabilities)

    async def body() -> list[Any]:
        result = await agent.run("go")
        return [result.output, result.usage.requests, result.usage.input_tokens]

    found = played(body)
    assert found.value == ["The answer is 42.", 1, 8]
    assert found.names == ["streamed-parts__model.request_stream"] * 2
    assert starts == [0, 1] * 2
    assert model.asked == 2


def test_a_conversation_that_stopped_in_the_middle_goes_on() -> None:
    model = InParts(part("is 42.", more=False, given=3, made=4, id="p2"))
    agent = Agent(model, name="goes-on", capabilities=[PerdureDurability()])
    history: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart("go")]),
        part("The answer ", more=True, given=5, made=2, id="p1"),
    ]

    async def body() -> list[Any]:
        result = await agent.run(message_history=history)
        return [result.output, result.usage.requests, result.usage.input_tokens]

    assert played(body).value == ["The answer is 42.", 1, 3]  # the first part was paid for by another run
    assert model.asked == 1


# -- errors and refusals ------------------------------------------------------------------------------


def http_error(kind: Any, status: int, **options: Any) -> ModelHTTPError:
    return ModelHTTPError.for_category(kind, status_code=status, model_name="m", **options)


class Raises:
    """A model that raises these, and answers then."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def model(self, name: str = "raises") -> FunctionModel:
        def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            done["asked"] += 1
            if self.errors:
                raise self.errors.pop(0)
            return ModelResponse(parts=[TextPart("answered")])

        return FunctionModel(respond, model_name=name)


def test_a_models_error_has_its_own_class() -> None:
    error = http_error(
        ModelNotFoundError, 404, body={"error": {"code": "gone"}}, headers={"x-request-id": "7"}
    )
    agent = Agent(Raises(error).model(), name="own-class", capabilities=[PerdureDurability()])

    async def body() -> list[Any]:
        try:
            await agent.run("go")
        except ModelHTTPError as raised:
            failure = perdure.failure(raised)
            assert failure is not None
            known = isinstance(raised, ModelNotFoundError)
            return [known, raised.status_code, raised.model_name, raised.body, raised.headers, failure.step]
        return []

    found = played(body)
    headers = {"x-request-id": "7"}
    step = "own-class__model.request[1.1]"
    assert found.value == [True, 404, "m", {"error": {"code": "gone"}}, headers, step]
    assert done["asked"] == 1


def test_other_errors_of_models_have_theirs() -> None:
    agent = Agent(
        Raises(UnexpectedModelBehavior("odd", body="what?")).model(),
        name="odd",
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        try:
            await agent.run("go")
        except UnexpectedModelBehavior as raised:
            return [raised.message, raised.body]
        return []

    assert played(body).value == ["odd", "what?"]


def test_a_passing_error_is_tried_again() -> None:
    errors = [http_error(None, 503), ModelConnectionError("m", "reset"), ConnectionResetError("gone")]
    retry: Any = {"retry": perdure.Retry(initial=0.001)}
    agent = Agent(Raises(*errors).model(), name="passing", capabilities=[PerdureDurability(model=retry)])

    async def body() -> str:
        return (await agent.run("go")).output

    assert played(body).value == "answered"
    assert done["asked"] == 4


def test_without_options_passing_errors_are_known() -> None:
    from perdure.core.retry import is_transient

    assert is_transient(ModelConnectionError("m", "reset"))
    assert is_transient(http_error(None, 500))
    assert not is_transient(http_error(ModelNotFoundError, 404))
    assert not is_transient(UserError("no"))


def test_a_refusal_is_waited_for_as_long_as_was_said() -> None:
    """The run parks, and it isn't an attempt that failed: the policy allows none."""
    error = http_error(ModelRateLimitError, 429, headers={"retry-after-ms": "30"})
    retry: Any = {"retry": perdure.Retry(max_attempts=1)}
    agent = Agent(
        Raises(error).model("limited"), name="limited", capabilities=[PerdureDurability(model=retry)]
    )

    async def body() -> str:
        return (await agent.run("go")).output

    found = played(body)
    assert found.value == "answered"
    delays = [event for event in found.history if isinstance(event, perdure.events.StepDelayed)]
    assert delays
    assert delays[0].limit == "m"


def test_an_agent_with_a_fallback_gets_refusals_at_once() -> None:
    error = http_error(ModelRateLimitError, 429, headers={"retry-after": "3600"})
    second = answers("from the second", "second")
    capabilities: list[Any] = [ModelFallback("second"), PerdureDurability(models={"second": second})]
    agent = Agent(Raises(error).model("first"), name="falls-back", capabilities=capabilities)

    async def body() -> str:
        return (await agent.run("go")).output

    found = played(body)
    assert found.value == "from the second"
    assert found.names == ["falls-back__model.request", "falls-back__model.request.second"]
    assert not [event for event in found.history if isinstance(event, perdure.events.StepDelayed)]


def test_models_that_are_asked_in_turn_are_one_step() -> None:
    """Only when none of them answers is there something to wait for: the one that takes more again first."""
    far = http_error(ModelRateLimitError, 429, headers={"retry-after": "3600"})
    near = http_error(ModelRateLimitError, 429, headers={"retry-after-ms": "20"})
    passing = [http_error(None, 500), http_error(None, 500)]
    first, second = Raises(far, passing[0]), Raises(near, passing[1])
    retry: Any = {"retry": perdure.Retry(initial=0.001)}
    model = FallbackModel(first.model("first"), second.model("second"))
    agent = Agent(model, name="in-turn", capabilities=[PerdureDurability(model=retry)])

    async def body() -> str:
        return (await agent.run("go")).output

    found = played(body)
    assert found.value == "answered"
    assert done["asked"] == 5
    assert len([event for event in found.history if isinstance(event, perdure.events.StepDelayed)]) == 1


def test_refusals_can_be_raised() -> None:
    error = http_error(ModelQuotaExceededError, 402, body={"error": "no credit"})
    agent = Agent(Raises(error).model(), name="raised", capabilities=[PerdureDurability(on_refusal="raise")])

    async def body() -> list[Any]:
        try:
            await agent.run("go")
        except ModelQuotaExceededError as raised:
            status = raised.status_code if isinstance(raised, ModelHTTPError) else None
            return [status, raised.body]
        return []

    assert played(body).value == [402, {"error": "no credit"}]
    assert done["asked"] == 1


def test_clients_behind_pydantic_ai_say_more() -> None:
    """What the provider's own client raised is behind the error, and tells when there is access again."""
    from perdure.core.refusals import Why, refusal

    anthropic = pytest.importorskip("anthropic")
    httpx = pytest.importorskip("httpx2")
    text = (
        "You have reached your specified API usage limits. You will regain access on 2030-04-01 at 00:00 UTC."
    )
    request = httpx.Request("POST", "https://api.anthropic.com/v1/messages")
    answer = {"type": "error", "error": {"type": "invalid_request_error", "message": text}}
    response = httpx.Response(400, request=request, json=answer)
    error = ModelHTTPError(400, "claude", answer)
    error.__cause__ = anthropic.BadRequestError(text, response=response, body=answer)
    now = datetime(2030, 3, 31, tzinfo=UTC).timestamp()
    found = refusal(error, now)
    assert found is not None
    assert (found.why, found.provider, found.after) == (Why.CAP, "anthropic", 86_400.0)
    assert refusal(UserError("no"), now) is None
