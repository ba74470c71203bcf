"""What a step's body can learn about itself while it executes."""

from __future__ import annotations

import contextvars
from hashlib import blake2b

import msgspec


class StepInfo(msgspec.Struct, eq=False, gc=False):
    """The attempt that is executing, from `step_info()`.

    Attributes:
        run_id: the run this step belongs to.
        step_id: the step's id within its run, the same for every attempt.
        name: the step's durable name.
        attempt: number of this attempt, from 1.
        cancelled: nobody waits for this attempt any more (cancelled, timed out, engine closing); a sync
            step, which can't be interrupted, should look at it now and then and return.
    """

    run_id: str
    step_id: str
    name: str
    attempt: int
    cancelled: bool = False

    def __repr__(self) -> str:
        return f"StepInfo(run_id={self.run_id!r}, step_id={self.step_id!r}, attempt={self.attempt})"

    def idempotency_key(self) -> str:
        """32 hexadecimal digits, the same for every attempt of this step and different for every other."""
        return blake2b(f"{self.run_id}\n{self.step_id}".encode(), digest_size=16).hexdigest()


current_step: contextvars.ContextVar[StepInfo | None] = contextvars.ContextVar("perdure_step", default=None)
