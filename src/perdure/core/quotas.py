"""How much a namespace may have: the arithmetic of quotas.

A quota's row has its terms and a small state. Whoever starts runs asks first; what is answered with yes is *promised*
by the runs' ids, until they are there. So two who ask at the same time can't both get the last place, and whoever asks
twice for one run counts once. What lies in the database and what was spent is measured now and then, since a sum over
all runs isn't for every start: these two may be exceeded by what happens in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from perdure.core.rates import MICRO, Rate, room
from perdure.errors import ConfigurationError

#: Seconds for which a place is kept for a run that was asked for and isn't there yet.
PROMISED_FOR = 30.0

#: Seconds after which storage and spending are measured again.
MEASURED_FOR = 30.0

Period = Literal["day", "month", "ever"]


class Quota(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """How much a namespace may have. None of one kind = no limit.

    Args:
        runs: live ones at once, children and what schedules start included.
        starts: how many may be started from outside in how long.
        storage: bytes of their histories, as far as they can be estimated cheaply.
        usd: what their calls of models may cost in each `per` (UTC), in US dollars. Above it nothing new is started;
            what goes on may be held by a `Budget`.
        per: "day", "month" or "ever".

    Raises:
        ConfigurationError: a number is out of range.

    Example:
        >>> Quota(runs=100, starts=Rate(1000, per=3600)).usd is None
        True
    """

    runs: int | None = None
    starts: Rate | None = None
    storage: int | None = None
    usd: float | None = None
    per: Period = "month"

    def __post_init__(self) -> None:
        for name in ("runs", "storage"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ConfigurationError(
                    f"Quota({name}={value!r}): give a whole number, or None for no limit"
                )
        if self.usd is not None and not (isinstance(self.usd, int | float) and 0 <= self.usd < 1e9):
            raise ConfigurationError(
                f"Quota(usd={self.usd!r}): give an amount in US dollars, or None for no limit"
            )
        if self.per not in ("day", "month", "ever"):
            raise ConfigurationError(f'Quota(per={self.per!r}): give "day", "month" or "ever"')

    @property
    def measured(self) -> bool:
        """Whether anything has to be measured for it."""
        return self.storage is not None or self.usd is not None


class Measured(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was measured. `spent` in billionths of a US dollar, since the beginning of a period; `at` in seconds."""

    at: float = 0.0
    storage: int = 0
    spent: int = 0


class QuotaState(msgspec.Struct, omit_defaults=True):
    """A quota with what it has admitted.

    Attributes:
        arrival: of the bucket of starts, see core/rates.py.
        promised: until when places are kept, by run id.
    """

    quota: Quota
    arrival: int = 0
    promised: dict[str, float] = {}
    measured: Measured = Measured()


class Refusal(msgspec.Struct, frozen=True):
    """Why a namespace gets nothing more.

    Attributes:
        what: "runs", "starts", "storage" or "usd".
        used: how much of that there is.
        again: wall-clock seconds from which asking again may help; None if nobody knows.
    """

    what: str
    limit: float
    used: float
    again: float | None = None


def admit(
    state: QuotaState, ids: Sequence[str], there: frozenset[str], live: int, now: float
) -> Refusal | None:
    """Decide about runs that somebody wants to start, and keep their places if they may.

    Args:
        ids: theirs, as stored.
        there: those of them, and of the promised ones, that exist already.
        live: how many runs of the namespace are live.
        now: wall-clock seconds.

    Returns:
        Why not; then nothing of the state has changed but what is over.
    """
    quota = state.quota
    state.promised = {id: until for id, until in state.promised.items() if until > now and id not in there}
    new = [id for id in dict.fromkeys(ids) if id not in there and id not in state.promised]
    if (over := _measured(quota, state.measured, now)) is not None and (new or not ids):
        return over
    used = live + len(state.promised)
    if quota.runs is not None and new and used + len(new) > quota.runs:
        return Refusal("runs", quota.runs, used)
    if quota.starts is not None and new:
        pace, micros = quota.starts.pace, int(now * MICRO)
        free, next_at = room(pace, state.arrival, micros)
        if len(new) > free:
            lacking = (len(new) - max(free, 1)) * pace.interval if free else 0
            again = next_at + lacking if free == 0 else micros + lacking
            return Refusal("starts", quota.starts.limit, quota.starts.limit - free, again / MICRO)
        state.arrival = max(state.arrival, micros) + len(new) * pace.interval
    state.promised.update(dict.fromkeys(new, now + PROMISED_FOR))
    return None


def _measured(quota: Quota, measured: Measured, now: float) -> Refusal | None:
    if quota.storage is not None and measured.storage >= quota.storage:
        return Refusal("storage", quota.storage, measured.storage)
    if quota.usd is not None and measured.spent >= quota.usd * 1_000_000_000:
        return Refusal("usd", quota.usd, measured.spent / 1_000_000_000, period(quota.per, now)[1])
    return None


def period(per: Period, now: float) -> tuple[float, float | None]:
    """When the period began in which a moment lies, and when the next one does, in wall-clock seconds.

    >>> [datetime.fromtimestamp(at, UTC).day for at in period("month", 86_400.0 * 45) if at is not None]
    [1, 1]
    """
    moment = datetime.fromtimestamp(now, UTC)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "day":
        return day.timestamp(), (day + timedelta(days=1)).timestamp()
    if per == "month":
        first = day.replace(day=1)
        return first.timestamp(), (first + timedelta(days=32)).replace(day=1).timestamp()
    return 0.0, None


def told(namespace: str, refusal: Refusal) -> str:
    """What is said to whoever is refused."""
    amount, limit = f"{refusal.used:,.10g}", f"{refusal.limit:,.10g}"
    what = {
        "runs": f"{amount} runs are live or about to be, and its quota is {limit}. Wait for some to end, or end some",
        "starts": f"its quota of {limit} starts is used up for now",
        "storage": f"its histories take about {amount} bytes, and its quota is {limit}. Remove some: perdure prune",
        "usd": f"{amount} USD are spent, and its quota is {limit}",
    }[refusal.what]
    again = ""
    if refusal.again is not None:
        again = f" Try again at {datetime.fromtimestamp(refusal.again, UTC):%Y-%m-%d %H:%M:%S} UTC."
    return f"namespace {namespace!r} may start nothing more: {what}.{again} Operators raise it: perdure quotas set"
