"""Functions for use inside steps: who executes, signs of life, and a key for services."""

from __future__ import annotations

from typing import Any

from perdure.api.call import current_machine
from perdure.errors import UsageError
from perdure.runtime.stepcontext import StepInfo, current_step
from perdure.storage.chance import chance


def step_info() -> StepInfo:
    """The step attempt that is executing.

    Raises:
        UsageError: outside of a step that an engine executes.
    """
    step = current_step.get()
    if step is None or current_machine() is not None:
        msg = "step_info() works only inside a step, while an engine executes it"
        raise UsageError(msg)
    return step


def heartbeat(detail: Any = None) -> None:
    """Give a sign of life from a step, and leave a detail for the next attempt.

    Call it as often as you like, from async and from sync steps. The detail is written about once a second and
    when the attempt fails; the next attempt finds the newest in `step_info().detail`, after a crash as well.
    Outside of an engine it does nothing.

    Args:
        detail: how far the work has come: data that JSON can carry, up to 64 kB. None leaves the last one.

    Raises:
        asyncio.CancelledError: nobody waits for this attempt any more; tidy up and return. In a sync step this
            is how it is interrupted.
        NotSerializableError: the detail can't be recorded.
        UsageError: in workflow code.

    Example:
        >>> for page in range(perdure.step_info().detail or 0, 1000):  # doctest: +SKIP
        ...     load(page)
        ...     perdure.heartbeat(page + 1)
    """
    if current_machine() is not None:
        msg = "heartbeat() works only inside a step: workflow code lives as long as its run"
        raise UsageError(msg)
    step = current_step.get()
    if step is not None:
        step.heartbeat(detail)


def idempotency_key() -> str:
    """A key that is the same for every attempt of this step, and different for every other step.

    Give it to services that take one: a repeat after a crash is then recognised there. Outside of an engine
    it is a fresh random one.
    """
    step = current_step.get()
    return chance.uuid4().hex if step is None else step.idempotency_key()
