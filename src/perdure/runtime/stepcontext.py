"""What a step's body can learn about itself while it executes."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, Protocol

import msgspec

from perdure.core.namespaces import short
from perdure.core.usage import Used
from perdure.errors import UsageError


def refuse_in_script() -> None:
    """Refuse to open an engine while a process for steps imports the script of the engine it works for.

    Raises:
        UsageError: that is what happens right now.
    """
    if importing_script:
        msg = (
            "a process that executes steps imported this script, and came to where it opens an engine. Put what "
            'the script does under `if __name__ == "__main__":`, so that it isn\'t done there again'
        )
        raise UsageError(msg)


class Listener(Protocol):
    """Hears the heartbeats of an engine's steps."""

    def beat(self, info: StepInfo, detail: Any) -> None: ...


class Permission(Protocol):
    """The rate limits that the attempt was let in by."""

    def settle(self, limit: Any, used: Mapping[str, int]) -> None: ...


class Outlay(Protocol):
    """Takes what the attempt spends."""

    begun: bool

    def spend(self, used: Used, source: object = None) -> None: ...
    def knows(self, response: object) -> bool: ...


class StepInfo(msgspec.Struct, eq=False):
    """The attempt that is executing, from `step_info()`.

    Attributes:
        known_as: the stored id of the run this step belongs to, its namespace included.
        step_id: the step's id within its run, the same for every attempt.
        name: the step's durable name.
        attempt: number of this attempt, from 1.
        cancelled: nobody waits for this attempt any more (cancelled, timed out, engine closing); a sync
            step, which can't be interrupted, should look at it now and then and return.
        detail: what the newest heartbeat told, of this attempt or an earlier one; plain JSON data.
        last_heartbeat: when that was.
        keys: the run's generation by which idempotency keys are made.
        keys_of: the stored id by which they are made, if that isn't the run's own.

    The garbage collector sees it (no gc=False), since of an engine that is left standing it is part of circles.
    """

    known_as: str
    step_id: str
    name: str
    attempt: int
    cancelled: bool = False
    detail: Any = None
    last_heartbeat: datetime | None = None
    sink: Listener | None = None  #: the engine's own
    heard: float = 0.0  #: the engine's own: when the newest heartbeat came, by the monotonic clock
    keys: int = 1
    keys_of: str | None = None
    permission: Permission | None = None  #: the engine's own: of the step's rate limits
    outlay: Outlay | None = None  #: the engine's own: what the attempt spends, once it does

    def __repr__(self) -> str:
        return f"StepInfo(run_id={self.run_id!r}, step_id={self.step_id!r}, attempt={self.attempt})"

    @property
    def run_id(self) -> str:
        """The run this step belongs to."""
        return short(self.known_as)

    @property
    def acts_as(self) -> str:
        """The stored id under which it acts on others: they recognise by it what is done again."""
        return self.keys_of or self.known_as

    def heartbeat(self, detail: Any = None) -> None:
        """See `perdure.heartbeat`."""
        if self.cancelled:
            msg = f"attempt {self.attempt} of step {self.step_id!r} isn't waited for any more: tidy up and return"
            raise asyncio.CancelledError(msg)
        if self.sink is not None:
            self.sink.beat(self, detail)

    def idempotency_key(self) -> str:
        """32 hexadecimal digits, the same for every attempt of this step and different for every other."""
        text = f"{self.acts_as}\n{self.step_id}"
        if self.keys > 1:
            text += f"\n{self.keys}"
        return blake2b(text.encode(), digest_size=16).hexdigest()


class Outlet(Protocol):
    """Takes what the attempt that is executing puts into streams."""

    max_payload: int
    logged: int  #: how many lines of the attempt's log were to be kept

    def emit(self, stream: str, data: bytes) -> None: ...
    def publish(self, name: str, key: str | None, data: bytes) -> None: ...


#: Makes the executing attempt's outlet on first use, so that steps which emit nothing pay next to nothing.
current_outlet: contextvars.ContextVar[Callable[[], Outlet] | None] = contextvars.ContextVar(
    "perdure_outlet", default=None
)
#: The store of the engine that executes the step, for bindings that keep something of their own there.
current_store: contextvars.ContextVar[Any] = contextvars.ContextVar("perdure_store", default=None)
#: The attempt that is executing, for what the engine itself does in steps.
current_attempt: contextvars.ContextVar[Any] = contextvars.ContextVar("perdure_attempt", default=None)
#: A process for steps imports the engine's script right now, which mustn't begin its work there.
importing_script = False
current_step: contextvars.ContextVar[StepInfo | None] = contextvars.ContextVar("perdure_step", default=None)
