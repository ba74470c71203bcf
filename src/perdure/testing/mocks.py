"""What takes the place of steps in tests, and the book of all attempts at them.

A mock is put under the step, not over it: retries, time-outs, limits, the codec and the history go on as with the
real body, so a mock can't return what the step couldn't. It remembers what it gave to which attempt: one that is made
again after a crash gets the same, and a `once=True` step's `verify=` is answered from that memory.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from perdure.api.durable import Step
from perdure.core.doubt import Done
from perdure.core.retry import seconds
from perdure.errors import Permanent, UsageError
from perdure.runtime.attempt import Attempt
from perdure.runtime.definitions import StepDefinition, StepOptions
from perdure.runtime.stepcontext import current_attempt
from perdure.runtime.steps import StepExecutor
from perdure.testing.mock import NOTHING, Mock, StepCalled, shown_call

#: A step, or its name: the whole of it, or what follows its last dot.
AnyStep: TypeAlias = "Step[..., Any] | str"

Unmocked: TypeAlias = Literal["run", "refuse"]


class UnmockedStepError(Permanent):
    """A step was asked for that has no mock, in a test where real steps are refused."""


class Mocks:
    """The mocks of a test, and the book of all attempts.

    Args:
        sleep: waits by the test's clock.

    Attributes:
        unmocked: what becomes of steps without a mock.
        allowed: names of steps that are executed all the same.
        calls: all attempts, in the order in which they began.
        asleep: attempts at mocks that wait for time to pass.
        began: called with each attempt that begins.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]], unmocked: Unmocked = "run") -> None:
        if unmocked not in ("run", "refuse"):
            msg = f'unmocked={unmocked!r}: give "run" or "refuse"'
            raise UsageError(msg)
        self.sleep = sleep
        self.unmocked: Unmocked = unmocked
        self.allowed: set[str] = set()
        self.calls: list[StepCalled] = []
        self.asleep: set[Attempt] = set()
        self.began: Callable[[Attempt], None] = lambda attempt: None
        self._mocks: dict[str, Mock] = {}
        self._noted: set[Attempt] = set()  # one that waited for something begins more than once

    def add(
        self,
        step: AnyStep,
        *,
        returns: Any = NOTHING,
        raises: BaseException | type[BaseException] | None = None,
        side_effect: Callable[..., Any] | Iterable[Any] | None = None,
        takes: float | timedelta = 0.0,
    ) -> Mock:
        """Let this take the step's place. See Environment.mock."""
        name = name_of(step)
        given = [returns is not NOTHING, raises is not None, side_effect is not None]
        if sum(given) > 1:
            msg = f"the mock of {name!r} has more than one of returns=, raises= and side_effect=: give one"
            raise UsageError(msg)
        if isinstance(side_effect, str | bytes):
            msg = (
                f"side_effect={side_effect!r} would give its characters one by one: give a list, or returns="
            )
            raise UsageError(msg)
        duration = math.inf if takes == math.inf else seconds(takes, "takes")
        value = None if returns is NOTHING else returns
        mock = Mock(name, lambda: self.calls_of(name), value, raises, side_effect, duration)
        self._mocks[name] = mock
        return mock

    def remove(self, step: AnyStep) -> None:
        """The step has no mock any more."""
        self._mocks.pop(name_of(step), None)

    def calls_of(self, step: AnyStep) -> list[StepCalled]:
        """All attempts at a step, mocked or not."""
        name = name_of(step)
        return [call for call in self.calls if _means(name, call.step)]

    def shared_with(self, sleep: Callable[[float], Awaitable[None]]) -> Mocks:
        """The same mocks in another environment, which has seen no calls."""
        other = Mocks(sleep, self.unmocked)
        other.allowed = self.allowed
        for name, mock in self._mocks.items():
            again = Mock(
                name,
                lambda name=name: other.calls_of(name),  # type: ignore[misc]
                mock._returns,
                mock._raises,
                mock._side_effect if mock._sequence is None else mock._sequence,
                mock.takes,
            )
            other._mocks[name] = again
        return other

    def of(self, name: str) -> Mock | None:
        """The mock of a step with this name."""
        return self._mocks.get(name) or self._mocks.get(name.rpartition(".")[2])

    def install(self, steps: StepExecutor) -> None:
        """From now on, these take the place of steps that begin there."""
        begin = steps._begin

        def begin_mocked(attempt: Attempt) -> None:
            if attempt.operation.unfit is None:
                waits = attempt.permission is None and bool(steps._limits_of(attempt.operation))
                self._begins(attempt, waits)
            begin(attempt)

        steps._begin = begin_mocked  # type: ignore[method-assign]

    def _begins(self, attempt: Attempt, waits: bool) -> None:
        """Put the mock under it, and note it, unless it waits for a rate limit first."""
        operation = attempt.operation
        mock = self.of(operation.name)
        refused = mock is None and self.unmocked == "refuse" and operation.name not in self.allowed
        if isinstance(operation.call, MockedCall):
            operation.call = operation.call.real  # it was mocked for the attempt before
        real = operation.call
        if not waits and attempt not in self._noted:
            self._noted.add(attempt)
            self.began(attempt)
            args, kwargs = real.arguments(operation.input)
            info, mocked = attempt.info, mock is not None or refused
            self.calls.append(
                StepCalled(operation.name, args, kwargs, info.run_id, info.step_id, info.attempt, mocked)
            )
        if mock is not None:
            operation.call = MockedCall(real, self._body_of(mock), _verifying(mock))
        elif refused:
            operation.call = MockedCall(real, _refusing(operation.name), None)

    def _body_of(self, mock: Mock) -> Callable[..., Any]:
        async def body(*args: Any, **kwargs: Any) -> Any:
            attempt: Attempt = current_attempt.get()
            if mock.takes > 0:
                await self._pass_time(attempt, mock.takes)
            return await mock.answer(attempt.info, args, kwargs)

        return body

    async def _pass_time(self, attempt: Attempt, takes: float) -> None:
        """By the test's clock, by which the step's timeout= counts here, too."""
        timeout = attempt.operation.call.real.options.timeout
        self.asleep.add(attempt)
        try:
            if timeout is not None and takes > timeout:
                await self.sleep(timeout)
                name = attempt.operation.name
                msg = f"attempt {attempt.info.attempt} of step {name} took longer than its timeout of {timeout:g} s"
                raise TimeoutError(msg)
            if takes == math.inf:
                await asyncio.get_running_loop().create_future()
            await self.sleep(takes)
        finally:
            self.asleep.discard(attempt)


class MockedCall:
    """The call of a step whose body is a mock's."""

    stubbed = False

    def __init__(self, real: Any, body: Callable[..., Any], verify: Callable[..., Any] | None) -> None:
        definition: StepDefinition = real.definition
        self.real = real
        self.definition = dataclasses.replace(
            definition,
            function=body,
            run=body,
            is_async=True,
            process=False,
            verify=verify if definition.once else None,
        )
        self.options: StepOptions = dataclasses.replace(real.options, timeout=None, heartbeat_timeout=None)
        self.arguments = real.arguments


def _verifying(mock: Mock) -> Callable[..., Any]:
    async def verify(*args: Any, **kwargs: Any) -> Done[Any] | None:
        attempt: Attempt = current_attempt.get()
        return mock.verify(attempt.info)

    return verify


def _refusing(name: str) -> Callable[..., Any]:
    async def refuses(*args: Any, **kwargs: Any) -> Any:
        raise UnmockedStepError(
            f"step {name!r} was called as {shown_call(args, kwargs)} and has no mock, and this test refuses real steps "
            f'(unmocked="refuse"): mock it with env.mock(...), or env.allow(...) it'
        )

    return refuses


def name_of(step: AnyStep) -> str:
    """A step's name.

    Raises:
        UsageError: it is no step.
    """
    if isinstance(step, str):
        return step
    if isinstance(step, Step):
        return step.name
    msg = f"{step!r} is no step: give what @step made, or a step's name"
    raise UsageError(msg)


def _means(name: str, step: str) -> bool:
    return step in (name,) or ("." not in name and step.rpartition(".")[2] == name)
