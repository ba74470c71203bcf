"""How the steps of an agent are executed: what a program may choose beside what the Agents SDK lets it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from perdure.api.durable import time_limit
from perdure.core.retry import DEFAULT_RETRY, Retry
from perdure.runtime.definitions import RECORD_INPUTS_MAX, StepOptions
from perdure.runtime.limits import Limits, limits_of


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """How one kind of steps is executed; as for `@step`.

    Attributes:
        retry: which failures are tried again; transient ones by default.
        timeout: seconds that one attempt may take.
        deadline: seconds in which attempts may start.
        limit: the rate limits it is under.

    Example:
        >>> StepSettings(retry=Retry(max_attempts=3), timeout=60).timeout
        60
    """

    retry: Retry = DEFAULT_RETRY
    timeout: float | timedelta | None = None
    deadline: float | timedelta | None = None
    limit: Limits | None = None

    def options(self) -> StepOptions:
        """The same as the engine takes it."""
        return StepOptions(
            retry=self.retry,
            timeout=time_limit(self.timeout, "timeout"),
            deadline=time_limit(self.deadline, "deadline"),
            limits=limits_of(self.limit),
        )


@dataclass(frozen=True, kw_only=True)
class DurableSettings:
    """What `DurableRunner` takes as `durable=`.

    Attributes:
        model: how calls of models are executed.
        tools: how calls of tools are.
        tool: for some tools, by their name, something else.
        emit: the stream of the run that gets the events of streamed answers while they come.
        record_inputs: largest request in bytes that histories keep whole; of others they keep a fingerprint.

    Example:
        >>> settings = DurableSettings(tool={"charge": StepSettings(retry=Retry(max_attempts=1))})
    """

    model: StepSettings = field(default_factory=StepSettings)
    tools: StepSettings = field(default_factory=StepSettings)
    tool: Mapping[str, StepSettings] = field(default_factory=dict[str, StepSettings])
    emit: str | None = None
    record_inputs: int = RECORD_INPUTS_MAX

    def model_options(self) -> StepOptions:
        """Of calls of models."""
        return dataclasses.replace(self.model.options(), record_inputs=self.record_inputs)

    def tool_options(self, name: str) -> StepOptions:
        """Of calls of a tool."""
        return dataclasses.replace(
            self.tool.get(name, self.tools).options(), record_inputs=self.record_inputs
        )
