"""Rate limits from outside (`engine.limits`), and from inside of steps (`settle`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from perdure.api.call import current_machine
from perdure.api.connection import Connection
from perdure.core.limiting import usage
from perdure.core.permits import Batch, Block, Change, LimitState, Reset, Unblock
from perdure.core.rates import MICRO, Rate
from perdure.core.retry import seconds
from perdure.errors import UsageError
from perdure.runtime.limits import RateLimit, checked_name, checked_use
from perdure.runtime.stepcontext import current_step


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitInfo:
    """How one unit of a rate limit stands.

    Attributes:
        rate: so many per so long.
        free: how much may begin at this moment.
        waiting: how much those have asked for who wait in line.
    """

    rate: Rate
    free: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInfo:
    """A rate limit, from `engine.limits`.

    Attributes:
        units: by name what it counts; empty if nobody has begun using it yet.
        blocked_until: nothing that has this limit begins before; None if that isn't so.
        next_at: when one may begin that comes now.
    """

    name: str
    units: Mapping[str, UnitInfo]
    blocked_until: datetime | None
    next_at: datetime


class Limits:
    """The rate limits of a database, as `engine.limits`. What is done here holds for all workers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list(self) -> list[LimitInfo]:
        """All rate limits that steps have been under, or that were blocked, by name."""
        now = self._now()
        found = await self._connection.store.limits.all()
        return [_info(name, state, now) for name, state in found.items()]

    async def get(self, limit: RateLimit | str) -> LimitInfo | None:
        """One rate limit; None if nothing has been under it yet."""
        name = _name(limit)
        return next((info for info in await self.list() if info.name == name), None)

    async def block(
        self,
        limit: RateLimit | str,
        *,
        until: datetime | None = None,
        after: float | timedelta | None = None,
    ) -> None:
        """Let nothing begin for a while that has this limit. An earlier block that lasts longer isn't cut short.

        Args:
            until: when it is over, a time with a zone.
            after: the same from now on, in seconds.

        Raises:
            UsageError: neither is given, or both, or the time has no zone.
        """
        if (until is None) == (after is None):
            msg = "say how long to block the limit: until=, a time, or after=, seconds from now on"
            raise UsageError(msg)
        if until is not None:
            if until.tzinfo is None:
                msg = f"until={until!r} has no time zone: give one, as in datetime.now(UTC)"
                raise UsageError(msg)
            moment = int(until.timestamp() * MICRO)
        else:
            assert after is not None
            moment = self._now() + int(seconds(after, "after") * MICRO)
        await self._change(Block(_name(limit), moment))

    async def unblock(self, limit: RateLimit | str) -> None:
        """End a block. Steps that wait because of it look again within 15 minutes; others begin at once."""
        await self._change(Unblock(_name(limit)))

    async def reset(self, limit: RateLimit | str) -> None:
        """Forget what was used, who waits, and the block. More than the limit may then begin within one window."""
        await self._change(Reset(_name(limit)))

    async def _change(self, change: Change) -> None:
        await self._connection.store.limits.turn(Batch(changes=[change]), now=self._now())

    def _now(self) -> int:
        return int(self._connection.clock() * MICRO)


def settle(limit: RateLimit, **used: int) -> None:
    """In a step: tell what the call has really used of a rate limit, by unit.

    What was asked for beyond comes back, for others to use; what was used beyond is owed. It may be told again;
    the last word counts. What isn't told was used as it was asked for. Outside of runs nothing happens but the checks.

    Raises:
        UsageError: the limit has no such unit, the step isn't under this limit, or it isn't a step.

    Example:
        >>> OPENAI = RateLimit("openai:gpt", tokens=Rate(200_000, per=60))
        >>> settle(OPENAI, tokens=1234)
    """
    if current_machine() is not None:
        msg = "settle() tells what a step has used of a rate limit: call it in that step, not in the workflow"
        raise UsageError(msg)
    amounts = checked_use(limit, used)
    info = current_step.get()
    if info is not None and info.permission is None:
        msg = (
            f"step {info.name!r} isn't under the rate limit {limit.name!r}: give it, as in "
            f"@step(limit=...), before it can be settled"
        )
        raise UsageError(msg)
    if info is not None and info.permission is not None:
        info.permission.settle(limit, amounts)


def _name(limit: RateLimit | str) -> str:
    return limit.name if isinstance(limit, RateLimit) else checked_name(limit)


def _info(name: str, state: LimitState, now: int) -> LimitInfo:
    seen = usage(state, now)
    blocked = state.blocked_until if state.blocked_until > now else None
    free_at = max([now, state.blocked_until, *(item.next_at for item in seen.values())])
    return LimitInfo(
        name=name,
        units={
            unit: UnitInfo(rate=item.rate, free=item.free, waiting=item.waiting)
            for unit, item in seen.items()
        },
        blocked_until=None if blocked is None else _moment(blocked),
        next_at=_moment(free_at),
    )


def _moment(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / MICRO, UTC)
