"""Steps that mustn't happen twice: `@step(once=True)`.

An attempt's start is in the log before its body runs. So after a crash the log tells that the body may have
run, and it isn't run again unless somebody knows better: the step's `verify=` probe, or a person.

    start recorded -> body -> result ----------------------------------> recorded
                        |---> error that tells it didn't happen -------> its retry policy
                        '---> time-out, lost answer, lost worker: doubt
    doubt -> verify -> Done(result) -----------------------------------> recorded
                 |---> None: it didn't happen -> its retry policy; after a lost worker, the body
                 '---> an error, or there is no verify -----------------> parked, for a person
"""

from __future__ import annotations

from typing import Any, Protocol

from perdure.codec.bare import message
from perdure.core.doubt import Done, is_doubtful
from perdure.runtime.attempt import Attempt
from perdure.runtime.beginning import Executor, begin_durably
from perdure.runtime.calling import Calls
from perdure.runtime.definitions import StepDefinition


class Execution(Executor, Protocol):
    """What the step executor does for these steps."""

    calls: Calls

    def renew(self, attempt: Attempt) -> None: ...
    def park(
        self, attempt: Attempt, why: str, *, unknown: bool, started_at: float, error: BaseException | None
    ) -> None: ...


async def execute_once(steps: Execution, attempt: Attempt, definition: StepDefinition) -> None:
    """One attempt of a step that mustn't happen twice, doubt and its resolution included."""
    operation = attempt.operation
    lost = operation.noted  # it began before, and nothing is known of its end
    began = (operation.first_at if lost else None) or attempt.started_at
    error: BaseException | None = None
    while True:
        if not lost:
            error = await begin_durably(steps, attempt)
            value: Any = None
            if error is None:
                began = attempt.started_at
                value, error = await steps.calls.call(attempt, definition.run)
                if attempt.outlet is not None:
                    await attempt.outlet.see_through()
            if error is None or attempt.dropped or not is_doubtful(error):
                steps.settle(attempt, definition, value, error)
                return
        happened, trouble = await _ask(steps, attempt, definition)
        if attempt.dropped:
            steps.settle(attempt, definition, None, trouble)
        elif trouble is not None:
            why = "its worker was lost" if error is None else f"it ended with {_told(error)}"
            if definition.verify is not None:
                why += f"; its verify= couldn't tell what happened: {_told(trouble)}"
            steps.park(attempt, why, unknown=True, started_at=began, error=error)
        elif happened is not None:
            attempt.started_at = began
            steps.settle(attempt, definition, happened.value, None)
        elif error is not None:
            steps.settle(attempt, definition, None, error)  # a failure like any other, now that it is known
        else:
            lost = False
            continue
        return


async def _ask(
    steps: Execution, attempt: Attempt, definition: StepDefinition
) -> tuple[Done[Any] | None, BaseException | None]:
    """Whether it happened: (Done, None), (None, None) if it didn't, or (None, why nobody knows)."""
    if definition.verify is None:
        return None, LookupError("the step has no verify=")
    in_thread = attempt.in_thread
    steps.renew(attempt)
    answer, trouble = await steps.calls.call(attempt, definition.verify)
    if trouble is not None:
        return None, trouble
    if isinstance(answer, Done):
        done: Done[Any] = answer  # pyright: ignore[reportUnknownVariableType]
        try:
            definition.result.record(done.value)
        except Exception as error:  # noqa: BLE001 - whatever a value's serialiser raises
            return None, error
        return done, None
    if answer is not None:
        return None, TypeError(
            f"it returned {answer!r}: return perdure.Done(result), or None if it didn't happen"
        )
    if in_thread:
        return None, RuntimeError("it saw nothing yet, but the body still runs in a thread and may yet do it")
    return None, None


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {message(error)}"
