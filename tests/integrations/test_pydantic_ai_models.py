"""Agents of pydantic-ai in workflows: names, and which model gets a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import (
    AbstractCapability,
    Instrumentation,
    ModelFallback,
    ResolveModelId,
    SelectModel,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models import ModelRequestContext, ModelResolutionContext
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai_kit import answers, echo, played, run

import perdure
from perdure.integrations.pydantic_ai import PerdureDurability

alt = answers("alt", "alt")


def test_a_run_of_an_agent_is_durable() -> None:
    agent = Agent(echo, name="simple", capabilities=[PerdureDurability()])

    async def body() -> str:
        return (await agent.run("hello")).output

    found = played(body)
    assert found.value == "Echo: hello"
    assert found.steps == ["simple__model.request[1.1]"]


def test_outside_of_runs_it_does_nothing() -> None:
    agent = Agent(echo, name="outside", capabilities=[PerdureDurability()])

    async def main() -> None:
        result = await agent.run("hello")
        assert result.output == "Echo: hello"
        assert not result.run_id.startswith("r")

    run(main)


def test_an_agent_needs_a_name() -> None:
    with pytest.raises(UserError, match="unique `name`"):
        Agent(echo, capabilities=[PerdureDurability()])


def test_a_name_of_its_own_counts_more_than_the_agents() -> None:
    named = Agent(echo, name="agent", capabilities=[PerdureDurability(name="own")])
    unnamed = Agent(echo, capabilities=[PerdureDurability(name="unnamed")])

    async def body() -> list[str]:
        return [(await named.run("a")).output, (await unnamed.run("b")).output]

    assert played(body).steps == ["own__model.request[1.1]", "unnamed__model.request[1.1]"]


def test_an_agent_needs_a_model() -> None:
    with pytest.raises(UserError, match="needs to have a `model`"):
        Agent(name="modelless", capabilities=[PerdureDurability()])


def test_a_model_that_was_told_of_can_be_chosen_for_a_run() -> None:
    agent = Agent(echo, name="chooses", capabilities=[PerdureDurability(models={"alt": alt})])

    async def body() -> list[str]:
        by_id = await agent.run("hello", model="alt")
        by_itself = await agent.run("hello", model=alt)
        return [by_id.output, by_itself.output]

    found = played(body)
    assert found.value == ["alt", "alt"]
    assert found.names == ["chooses__model.request.alt"] * 2


def test_a_model_can_be_selected_for_each_request() -> None:
    durability = PerdureDurability(models={"first": echo, "alt": alt})
    agent = Agent("first", name="selects", capabilities=[SelectModel(lambda ctx: alt), durability])

    async def body() -> str:
        return (await agent.run("hello")).output

    assert played(body).value == "alt"


def test_a_model_can_be_selected_by_its_id() -> None:
    durability = PerdureDurability(models={"first": echo, "alt": alt})
    agent = Agent("first", name="selects-id", capabilities=[SelectModel(lambda ctx: "alt"), durability])

    async def body() -> str:
        return (await agent.run("hello")).output

    assert played(body).value == "alt"


def test_a_model_can_be_overridden() -> None:
    agent = Agent(echo, name="overridden", capabilities=[PerdureDurability(models={"alt": alt})])

    async def body() -> str:
        with agent.override(model="alt"):
            return (await agent.run("hello")).output

    assert played(body).value == "alt"


def test_a_model_that_nobody_has_told_of_is_refused() -> None:
    agent = Agent(echo, name="untold", capabilities=[PerdureDurability()])

    async def body() -> None:
        await agent.run("hello", model=TestModel())

    with pytest.raises(UserError, match="was not registered with `PerdureDurability`"):
        played(body)


def test_a_model_may_be_given_by_name() -> None:
    agent = Agent("test", name="by-name", capabilities=[PerdureDurability()])

    async def body() -> list[str]:
        return [(await agent.run("hello")).output, (await agent.run("hello", model="test")).output]

    assert played(body).value == ["success (no tool calls)"] * 2


def test_a_wrapped_model_is_the_agents_own() -> None:
    agent = Agent(echo, name="wrapped", capabilities=[PerdureDurability()])

    async def body() -> str:
        return (await agent.run("hello", model=WrapperModel(echo))).output

    found = played(body)
    assert (found.value, found.names) == ("Echo: hello", ["wrapped__model.request"])


def tenants(ctx: ModelResolutionContext[str], model_id: str) -> FunctionModel | None:
    """Makes a model of an alias and the run's dependencies."""
    if model_id != "tenant":
        return None
    return answers(f"for {ctx.deps}", "tenant")


def test_an_alias_is_resolved_with_dependencies() -> None:
    agent = Agent(
        echo, name="tenants", deps_type=str, capabilities=[ResolveModelId(tenants), PerdureDurability()]
    )

    async def body() -> list[str]:
        given = [(await agent.run("hi", model="tenant", deps=name)).output for name in ("a", "b")]
        given.append((await agent.run("hi", model="test", deps="a")).output)
        return given

    assert played(body).value == ["for a", "for b", "success (no tool calls)"]


def test_what_a_resolver_raises_is_raised() -> None:
    def breaks(ctx: ModelResolutionContext[Any], model_id: str) -> None:
        raise ValueError(f"no {model_id}")

    agent = Agent(echo, name="breaks", capabilities=[ResolveModelId(breaks), PerdureDurability()])

    async def body() -> None:
        await agent.run("hello", model="that")

    with pytest.raises(ValueError, match="no that"):
        played(body)


def test_the_agents_own_model_may_be_an_alias() -> None:
    agent = Agent(
        "tenant", name="aliased", deps_type=str, capabilities=[ResolveModelId(tenants), PerdureDurability()]
    )

    async def body() -> str:
        return (await agent.run("hi", deps="a")).output

    assert played(body).value == "for a"


def test_a_selected_alias_is_resolved() -> None:
    capabilities = [SelectModel(lambda ctx: "tenant"), ResolveModelId(tenants), PerdureDurability()]
    agent = Agent(echo, name="selected-alias", deps_type=str, capabilities=capabilities)

    async def body() -> str:
        return (await agent.run("hi", deps="a")).output

    assert played(body).value == "for a"


@dataclass
class Wraps(AbstractCapability[str]):
    """Wraps the model of each request."""

    async def before_model_request(
        self, ctx: RunContext[str], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        request_context.model = WrapperModel(request_context.model)
        return request_context


def test_an_alias_survives_being_wrapped() -> None:
    capabilities = [Wraps(), ResolveModelId(tenants), PerdureDurability()]
    agent = Agent("tenant", name="wraps", deps_type=str, capabilities=capabilities)

    async def body() -> str:
        return (await agent.run("hi", deps="a")).output

    assert played(body).value == "for a"


def test_an_instrumented_model_is_the_agents_own() -> None:
    capabilities = [Instrumentation(settings=InstrumentationSettings()), PerdureDurability()]
    agent = Agent(echo, name="instrumented", capabilities=capabilities)

    async def body() -> str:
        return (await agent.run("hello")).output

    found = played(body)
    assert (found.value, found.names) == ("Echo: hello", ["instrumented__model.request"])


def test_it_is_innermost() -> None:
    ordering = PerdureDurability[Any]().get_ordering()
    assert ordering is not None
    assert ordering.position == "innermost"
    assert ModelFallback in ordering.wrapped_by


def test_it_isnt_loaded_from_specifications() -> None:
    assert PerdureDurability.get_serialization_name() is None


def test_the_bound_capability_is_found() -> None:
    agent = Agent(echo, name="bound", capabilities=[PerdureDurability()])
    bound = PerdureDurability.from_agent(agent)
    assert bound is not None
    assert (bound.name, bound.engine_name) == ("bound", "Perdure")


def test_two_of_them_are_refused() -> None:
    with pytest.raises(UserError, match="durable execution engine"):
        Agent(echo, name="two", capabilities=[PerdureDurability(), PerdureDurability()])


def test_names_with_reserved_characters_can_be_names_of_steps() -> None:
    slashed = answers("slashed", "vendor/model")
    agent = Agent(
        echo, name="team/a", capabilities=[PerdureDurability(models={"vendor/model[1]#2": slashed})]
    )

    async def body() -> str:
        return (await agent.run("hello", model="vendor/model[1]#2")).output

    found = played(body)
    assert found.value == "slashed"
    assert found.steps == ["team|a__model.request.vendor|model(1)-2[1.1]"]


def test_ids_of_runs_and_conversations_replay() -> None:
    agent = Agent(echo, name="ids", capabilities=[PerdureDurability()])

    async def body() -> list[Any]:
        results = [await agent.run("a"), await agent.run("b"), await agent.run("c", run_id="mine")]
        return [(result.run_id, result.conversation_id) for result in results]

    found = played(body)
    ids = [run_id for run_id, _ in found.value]
    assert ids == [f"{found.id}:ids:1", f"{found.id}:ids:2", "mine"]
    assert found.steps == [f"ids__model.request[{number}.1]" for number in (1, 2, 3)]
    assert len({conversation for _, conversation in found.value}) == 3


def test_responses_know_their_run() -> None:
    agent = Agent(echo, name="provenance", capabilities=[PerdureDurability()])

    async def body() -> list[str | None]:
        return [message.run_id for message in (await agent.run("a")).all_messages()]

    found = played(body)
    assert found.value == [f"{found.id}:provenance:1"] * 2


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    module = sys.modules["perdure.integrations.pydantic_ai"]
    monkeypatch.setitem(sys.modules, "pydantic_ai.durable_exec", None)
    monkeypatch.delitem(sys.modules, "perdure.integrations.pydantic_ai")
    with pytest.raises(ImportError, match=r"pip install 'perdure\[pydantic-ai\]'"):
        importlib.import_module("perdure.integrations.pydantic_ai")
    monkeypatch.setitem(sys.modules, "perdure.integrations.pydantic_ai", module)


def test_a_model_request_is_the_same_with_another_time() -> None:
    """What changes by itself isn't part of what is compared: else each replay was a divergence."""
    seen: list[Any] = []

    def respond(messages: Any, info: Any) -> ModelResponse:
        seen.append(messages)
        return ModelResponse(parts=[TextPart(str(len(messages)))])

    agent = Agent(FunctionModel(respond), name="times", capabilities=[PerdureDurability()])

    async def body() -> str:
        first = await agent.run("a")
        await perdure.sleep(0.01)
        return (await agent.run("b", message_history=first.all_messages())).output

    assert played(body).value == "3"
    assert len(seen) == 2
