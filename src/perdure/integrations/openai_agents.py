"""Agents of the OpenAI Agents SDK that survive: each answer of a model, and each call of a tool, is paid for once.

    from perdure.integrations.openai_agents import DurableRunner

    @workflow
    async def answer(question: str) -> str:
        result = await DurableRunner.run(agent, question)
        return str(result.final_output)

The SDK's own runner does the work, as workflow code; what touches the world is a step. So handoffs, guardrails, hooks,
agents as tools, sessions and `RunConfig` mean what they mean there, and a replay brings the agent to where it stood.
Outside of runs `DurableRunner` is `Runner`.

Importing this module makes `agents.Runner` durable in workflow code, too: agents as tools and guardrails call it.
"""

from __future__ import annotations

import contextvars
import dataclasses
from typing import Any, Unpack, cast

from perdure.errors import ConfigurationError, UsageError

try:
    from agents import Agent, RunConfig, RunResult, RunResultStreaming, RunState
    from agents.model_settings import ModelSettings
    from agents.models.interface import Model
    from agents.retry import ModelRetrySettings
    from agents.run import AgentRunner, get_default_agent_runner, set_default_agent_runner
    from agents.run_config import RunOptions
except ImportError as error:
    msg = (
        f"perdure.integrations.openai_agents needs the package openai-agents ({error}): "
        "pip install 'perdure[openai-agents]'"
    )
    raise ImportError(msg) from error

from perdure.api.call import current_machine
from perdure.api.inline import in_run
from perdure.integrations.openai_agents_agents import Copies, original_of
from perdure.integrations.openai_agents_approvals import Approver, Decision, ask, decided
from perdure.integrations.openai_agents_mcp import close_mcp_servers
from perdure.integrations.openai_agents_models import DurableModel, DurableProvider, Scene
from perdure.integrations.openai_agents_session import DurableSession, durable_session
from perdure.integrations.openai_agents_settings import DurableSettings, StepSettings
from perdure.integrations.openai_agents_tracing import install

__all__ = [
    "Decision",
    "DurableRunner",
    "DurableSession",
    "DurableSettings",
    "StepSettings",
    "ask",
    "close_mcp_servers",
    "durable_agent",
]

install()  # now, since workflow code may begin a trace before its first agent runs

_settings: contextvars.ContextVar[DurableSettings | None] = contextvars.ContextVar(
    "perdure_agents_settings", default=None
)


class DurableRunner:
    """Runs agents durably in workflow code, and as `agents.Runner` does elsewhere."""

    @classmethod
    async def run(
        cls,
        starting_agent: Agent[Any],
        input: str | list[Any] | RunState[Any],
        *,
        durable: DurableSettings | None = None,
        approve: Approver | None = None,
        **options: Unpack[RunOptions[Any]],
    ) -> RunResult:
        """Run an agent to its end.

        Args:
            starting_agent: the agent.
            input: a text, items, or the state of an interrupted run.
            durable: how the steps are executed.
            approve: decides about tools that need approval, instead of returning with `interruptions`: `ask`, or an
                async function of your own that takes the SDK's `ToolApprovalItem`.
            options: all that `agents.Runner.run` takes: context, max_turns, hooks, run_config, session, ...

        Raises:
            agents.AgentsException: as `agents.Runner.run` does.
            ConfigurationError: the agent has what can't be durable.

        Example:
            >>> result = await DurableRunner.run(agent, "Which is the oldest?", approve=ask)  # doctest: +SKIP
        """
        token = _settings.set(durable or _settings.get())
        try:
            result = await _durable_runner().run(starting_agent, input, **options)
            while approve is not None and result.interruptions:
                state = await decided(result.to_state(), result.interruptions, approve)
                result = await _durable_runner().run(starting_agent, state, **options)
            return result
        finally:
            _settings.reset(token)

    @classmethod
    def run_streamed(
        cls,
        starting_agent: Agent[Any],
        input: str | list[Any] | RunState[Any],
        *,
        durable: DurableSettings | None = None,
        emit: str | None = None,
        **options: Unpack[RunOptions[Any]],
    ) -> RunResultStreaming:
        """Run an agent whose answers are streamed.

        Events of an answer come in workflow code when the answer is recorded, and again on replay. Whoever watches
        the run's stream `emit` from outside gets each while it is made: `handle.stream(emit)`.

        Args:
            emit: the stream; as `DurableSettings(emit=...)`.

        Example:
            >>> result = DurableRunner.run_streamed(agent, "Tell me more", emit="answer")  # doctest: +SKIP
            >>> async for event in result.stream_events(): ...  # doctest: +SKIP
        """
        settings = durable or _settings.get() or DurableSettings()
        if emit is not None:
            settings = dataclasses.replace(settings, emit=emit)
        token = _settings.set(settings)
        try:
            return _durable_runner().run_streamed(starting_agent, input, **options)
        finally:
            _settings.reset(token)

    @classmethod
    def run_sync(cls, starting_agent: Agent[Any], input: Any, **options: Any) -> RunResult:
        """Outside of runs: as `agents.Runner.run_sync`.

        Raises:
            UsageError: in workflow code, which is async.
        """
        return _durable_runner().run_sync(starting_agent, input, **options)


def durable_agent(agent: Agent[Any], durable: DurableSettings | None = None) -> Agent[Any]:
    """The agent as runs see it. It is needed for `RunState.from_json(durable_agent(agent), data)` in workflow code.

    Raises:
        ConfigurationError: the agent has what can't be durable.
    """
    return Copies(Scene(durable or _settings.get() or DurableSettings())).of(agent)


class _DurableAgentRunner(AgentRunner):
    """The SDK's runner, with durable agents in workflow code."""

    def __init__(self, inner: AgentRunner) -> None:
        self._inner = inner

    async def run(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResult:
        if not in_run():
            return await self._inner.run(starting_agent, input, **kwargs)
        agent = _prepared(starting_agent, input, kwargs)
        result = await self._inner.run(agent, input, **kwargs)
        if not result.interruptions:  # from which it goes on with the copies
            result._last_agent = original_of(result.last_agent)
        return result

    def run_sync(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResult:
        if in_run():
            msg = "workflow code is async: await DurableRunner.run(...) in it"
            raise UsageError(msg)
        return self._inner.run_sync(starting_agent, input, **kwargs)

    def run_streamed(self, starting_agent: Agent[Any], input: Any, **kwargs: Any) -> RunResultStreaming:
        if in_run():
            starting_agent = _prepared(starting_agent, input, kwargs)
        return self._inner.run_streamed(starting_agent, input, **kwargs)


def _prepared(agent: Agent[Any], input: Any, kwargs: dict[str, Any]) -> Agent[Any]:
    """Replace what the runner is given by what is durable."""
    install()  # again: the program may have set another provider
    scene = Scene(_settings.get() or DurableSettings())
    kwargs["run_config"] = _config(kwargs.get("run_config"), scene)
    kwargs["session"] = durable_session(kwargs.get("session"))
    if isinstance(input, RunState):
        stands_at = cast("RunState[Any]", input)._current_agent
        if stands_at is not None and original_of(stands_at) is stands_at:
            msg = (
                "this RunState was made of agents as they are, whose tools would be called by workflow code: read it "
                "with RunState.from_json(durable_agent(agent), data)"
            )
            raise UsageError(msg)
    return Copies(scene).of(agent)


def _config(given: Any, scene: Scene) -> RunConfig:
    config = RunConfig(**cast("dict[str, Any]", given)) if isinstance(given, dict) else given or RunConfig()
    if config.sandbox is not None:
        msg = (
            "RunConfig(sandbox=...) can't be durable: no history can bring a sandbox back. Run the agent within one "
            "step: call the plain Runner.run(...) in a @step"
        )
        raise ConfigurationError(msg)
    provider, model = config.model_provider, config.model
    if isinstance(provider, DurableProvider):  # an agent as a tool has its caller's
        provider = provider.original
    if isinstance(model, Model):
        model = DurableModel(getattr(model, "original", None) or model, scene)
    settings = config.model_settings or ModelSettings()
    if settings.timeout is not None:
        scene.timeout = settings.timeout
    # No retries of the runner's, and none of the provider's: the step's are durable.
    settings = dataclasses.replace(settings, retry=ModelRetrySettings(max_retries=0), timeout=None)
    machine = current_machine()
    assert machine is not None
    return dataclasses.replace(
        config,
        model=model,
        model_provider=DurableProvider(provider, scene),
        model_settings=settings,
        group_id=config.group_id or f"perdure:{machine.run_id}",
    )


def _durable_runner() -> _DurableAgentRunner:
    runner = get_default_agent_runner()
    return runner if isinstance(runner, _DurableAgentRunner) else _installed


_installed = _DurableAgentRunner(get_default_agent_runner())
set_default_agent_runner(_installed)
