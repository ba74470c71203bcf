"""One mock of a step: what it comes to, and what is asserted of its calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from perdure.core.doubt import Done
from perdure.errors import Permanent
from perdure.runtime.stepcontext import StepInfo

#: Nothing was given.
NOTHING: Final = object()


class StepCalled(NamedTuple):
    """One attempt at a step."""

    step: str  #: its name
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    run_id: str
    step_id: str
    attempt: int  #: counted from 1
    mocked: bool


class Mock:
    """What takes the place of a step, and the calls that it got. Made by `env.mock(...)`.

    Attributes:
        name: the step's name, as it was given.
        calls: the attempts, in the order in which they began.
    """

    def __init__(
        self,
        name: str,
        calls: Callable[[], list[StepCalled]],
        returns: Any,
        raises: BaseException | type[BaseException] | None,
        side_effect: Callable[..., Any] | Iterable[Any] | None,
        takes: float,
    ) -> None:
        self.name = name
        self._calls = calls
        self._returns = returns
        self._raises = raises
        self._side_effect = side_effect
        self.takes = takes
        self._sequence = list(side_effect) if side_effect is not None and not callable(side_effect) else None
        self._next = 0
        self._given: dict[tuple[str, str, int], Any] = {}
        self._done: dict[tuple[str, str], Any] = {}

    @property
    def calls(self) -> list[StepCalled]:
        return self._calls()

    @property
    def count(self) -> int:
        """How many attempts there were."""
        return len(self.calls)

    def forget(self) -> None:
        """Begin anew: as if nothing had been called."""
        self._next = 0
        self._given.clear()
        self._done.clear()

    # -- what it does -------------------------------------------------------------------------------

    async def answer(self, info: StepInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the step's body would do."""
        if self._raises is not None:
            raise self._raises
        if self._sequence is not None:
            value: Any = self._item(info)
            if _is_error(value):
                raise value
        elif self._side_effect is not None:
            function: Any = self._side_effect
            value = function(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
        else:
            value = self._returns
        self._done[info.run_id, info.step_id] = value
        return value

    def _item(self, info: StepInfo) -> Any:
        """The same for an attempt that is made again after a crash."""
        assert self._sequence is not None
        key = (info.run_id, info.step_id, info.attempt)
        if key not in self._given:
            if self._next >= len(self._sequence):
                msg = (
                    f"the mock of step {self.name!r} was given {len(self._sequence)} outcomes, and this is attempt "
                    f"{self._next + 1} at it (of {info!r}): give side_effect= more, or a function"
                )
                raise Permanent(msg)
            self._given[key] = self._sequence[self._next]
            self._next += 1
        return self._given[key]

    def verify(self, info: StepInfo) -> Done[Any] | None:
        """Whether it happened: a mock knows."""
        value = self._done.get((info.run_id, info.step_id), NOTHING)
        return None if value is NOTHING else Done(value)

    # -- assertions ---------------------------------------------------------------------------------

    def assert_called(self, times: int | None = None) -> None:
        """There was an attempt, or exactly so many.

        Raises:
            AssertionError: it isn't so.
        """
        if times is None and not self.calls:
            raise AssertionError(f"step {self.name!r} was never called")
        if times is not None and self.count != times:
            raise AssertionError(
                f"step {self.name!r} was called {self.count} times, not {times}{self._listed()}"
            )

    def assert_not_called(self) -> None:
        """There was none.

        Raises:
            AssertionError: there was.
        """
        self.assert_called(times=0)

    def assert_called_with(self, *args: Any, **kwargs: Any) -> None:
        """The newest attempt had these arguments.

        Raises:
            AssertionError: it had others, or there was none.
        """
        self.assert_called()
        newest = self.calls[-1]
        if (newest.args, newest.kwargs) != (args, kwargs):
            raise AssertionError(
                f"step {self.name!r} was last called as {shown_call(newest.args, newest.kwargs)}, not as "
                f"{shown_call(args, kwargs)}{self._listed()}"
            )

    def assert_called_once_with(self, *args: Any, **kwargs: Any) -> None:
        """There was one attempt, and it had these arguments.

        Raises:
            AssertionError: it isn't so.
        """
        self.assert_called(times=1)
        self.assert_called_with(*args, **kwargs)

    def assert_any_call(self, *args: Any, **kwargs: Any) -> None:
        """One of the attempts had these arguments.

        Raises:
            AssertionError: none had.
        """
        if not any((call.args, call.kwargs) == (args, kwargs) for call in self.calls):
            raise AssertionError(
                f"step {self.name!r} was never called as {shown_call(args, kwargs)}{self._listed()}"
            )

    def _listed(self) -> str:
        return "".join(
            f"\n  {shown_call(call.args, call.kwargs)}, attempt {call.attempt} of {call.step_id!r}"
            for call in self.calls
        )

    def __repr__(self) -> str:
        return f"<mock of {self.name}, called {self.count} times>"


def _is_error(value: Any) -> bool:
    return isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException))


def shown_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Arguments as they are written in a call."""
    given = [repr(arg) for arg in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
    return f"({', '.join(given)})"
