"""How providers of language models say that one has to wait, and for how long.

    RATE       too much in too short a time; over in seconds or minutes
    OVERLOAD   they have too much to do themselves
    CAP        a limit that the customer or the provider has set for a day or a month is reached; over at a moment
    QUOTA      there is no credit left; nobody knows until when

All of them mean that nothing has happened and nothing is billed. Clients are recognised by the package of their
exceptions; none is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from perdure.core.answers import header, http_status, retry_after
from perdure.errors import HttpStatusError

#: HTTP statuses of a server that turns requests away because of their rate, or because it has too many.
RATE_HTTP = frozenset({429, 529})


class Why(StrEnum):
    """Why somebody is turned away."""

    RATE = "rate"
    OVERLOAD = "overload"
    CAP = "cap"
    QUOTA = "quota"


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """An answer that says: later.

    Attributes:
        provider: who says so, if it is one that is known here.
        after: seconds to wait, if that was said.
    """

    why: Why
    provider: str | None = None
    after: float | None = None


_CLIENTS = {"openai": "openai", "anthropic": "anthropic", "google": "google"}
_NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_error"})
_REGAIN = re.compile(r"regain access on (\d{4})-(\d\d)-(\d\d)(?: at (\d\d):(\d\d))?")
_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def refusal(error: BaseException, now: float) -> Refusal | None:
    """What an exception says, if it says that one has to wait.

    Args:
        now: wall-clock seconds.
    """
    if isinstance(error, HttpStatusError):  # what a client would have made an exception of its own of
        found = _refusal(error, error.speaks, now)
        return None if found is None else msgspec.structs.replace(found, provider=error.provider)
    packages = list(_packages(error))
    if "pydantic_ai" in packages:
        return _of_pydantic_ai(error, now)
    return _refusal(error, next((_CLIENTS[name] for name in packages if name in _CLIENTS), None), now)


def _refusal(error: BaseException, provider: str | None, now: float) -> Refusal | None:
    status = http_status(error)
    if provider is None:
        return Refusal(Why.RATE, None, retry_after(error, now)) if status in RATE_HTTP else None
    facts = list(_texts(error))
    if (until := _regained(facts)) is not None:
        return Refusal(Why.CAP, provider, max(0.0, until - now))
    if any("spend_limit" in fact for fact in facts) and status == 429:
        return Refusal(Why.CAP, provider, _next_month(now) - now)
    if status == 402 or not _NO_CREDIT.isdisjoint(facts):
        return Refusal(Why.QUOTA, provider, retry_after(error, now))
    if any("PerDay" in fact for fact in facts) and provider == "google":
        return Refusal(Why.CAP, provider, _next_day_in_california(now) - now)
    if status in (503, 529) or "overloaded_error" in facts:
        return Refusal(Why.OVERLOAD, provider, retry_after(error, now))
    if status == 429:
        return Refusal(Why.RATE, provider, _wait(error, facts, now))
    return None


def _of_pydantic_ai(error: BaseException, now: float) -> Refusal | None:
    """What its errors say: the client's own error behind them says most, if there is one; else their classes do."""
    if members := of_models(error):  # several were asked, and none of them answers
        found = [refusal(member, now) for member in members]
        told = [member for member in found if member is not None]
        return min(told, key=_soon) if len(told) == len(found) else None
    cause = error.__cause__
    refused = None if cause is None else refusal(cause, now)
    if refused is not None and refused.provider is not None:
        return refused
    kinds = {kind.__name__ for kind in type(error).__mro__}
    model, status = getattr(error, "model_name", None), http_status(error)
    provider = model if isinstance(model, str) and model else None
    after = retry_after(error, now)
    if after is None and isinstance(said := getattr(error, "retry_after", None), int | float):
        after = max(0.0, said)
    if "ModelQuotaExceededError" in kinds or status == 402:
        return Refusal(Why.QUOTA, provider, after)
    if "ModelOverloadedError" in kinds or status == 529:
        return Refusal(Why.OVERLOAD, provider, after)
    if "ModelRateLimitError" in kinds or status == 429:
        return Refusal(Why.RATE, provider, after)
    return None


def of_models(error: BaseException) -> tuple[BaseException, ...]:
    """What each of several models has raised, if pydantic-ai has asked them in turn."""
    if not type(error).__module__.startswith("pydantic_ai."):
        return ()
    members: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return members


def _soon(refused: Refusal) -> float:
    return float("inf") if refused.after is None else refused.after


def told(error: BaseException, now: float) -> tuple[int | None, float | None]:
    """HTTP status and seconds to wait, for whoever gets the exception as data. A refusal is a 429 there."""
    refused = refusal(error, now)
    if refused is None:
        return http_status(error), retry_after(error, now)
    status = http_status(error)
    return (status if status in RATE_HTTP else 429), refused.after


def _packages(error: BaseException) -> Iterator[str]:
    return (kind.__module__.partition(".")[0] for kind in type(error).__mro__)


def _texts(error: BaseException) -> Iterator[str]:
    """Every text in what the provider has sent, and the message."""
    yield str(error)
    for name in ("body", "details"):
        yield from _within(getattr(error, name, None), 6)
    for name in ("code", "type"):
        if isinstance(text := getattr(error, name, None), str):
            yield text


def _within(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth:
        for _, part in _parts(value):
            yield from _within(part, depth - 1)


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """What JSON data consists of."""
    if isinstance(value, Mapping):
        mapping: Mapping[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
        yield from mapping.items()
    elif isinstance(value, list):
        several: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
        yield from enumerate(several)


# -- moments --------------------------------------------------------------------------------------------


def _regained(facts: list[str]) -> float | None:
    for fact in facts:
        if (found := _REGAIN.search(fact)) is not None:
            year, month, day, hour, minute = (int(part or 0) for part in found.groups())
            try:
                return datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()
            except ValueError:
                return None
    return None


def _next_month(now: float) -> float:
    today = datetime.fromtimestamp(now, UTC)
    first = today.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1).timestamp()


def _next_day_in_california(now: float) -> float:
    try:
        zone: Any = ZoneInfo("America/Los_Angeles")
    except ZoneInfoNotFoundError:
        zone = timezone(timedelta(hours=-8))
    local = datetime.fromtimestamp(now, zone)
    return datetime(local.year, local.month, local.day, tzinfo=zone).timestamp() + 86_400


def _wait(error: BaseException, facts: list[str], now: float) -> float | None:
    """As the header says, or the body, or what is told of the limits that are used up."""
    said = retry_after(error, now)
    if said is not None:
        return said
    for delay in _delays(getattr(error, "details", None), 6):
        if (seconds := span(delay)) is not None:
            return seconds
    look_up = header(error)
    waits = [wait for wait in (*_openai_resets(look_up), *_anthropic_resets(look_up, now)) if wait >= 0]
    return max(waits, default=None)


def _delays(value: Any, depth: int) -> Iterator[str]:
    """What Google calls `retryDelay`, wherever it is."""
    for name, part in _parts(value) if depth else ():
        if name == "retryDelay" and isinstance(part, str):
            yield part
        else:
            yield from _delays(part, depth - 1)


def span(text: str) -> float | None:
    """The seconds of a length such as `6m0s`, `1.5s` or `12ms`.

    >>> span("6m0s"), span("1.5s"), span("12ms"), span("soon")
    (360.0, 1.5, 0.012, None)
    """
    found = _SPAN.fullmatch(text.strip())
    if not text.strip() or found is None:
        return None
    days, hours, minutes, seconds, thousandths = (float(part or 0) for part in found.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def _openai_resets(look_up: Callable[[str], str | None]) -> Iterator[float]:
    for unit in ("requests", "tokens"):
        if look_up(f"x-ratelimit-remaining-{unit}") == "0":
            seconds = span(look_up(f"x-ratelimit-reset-{unit}") or "")
            if seconds is not None:
                yield seconds


def _anthropic_resets(look_up: Callable[[str], str | None], now: float) -> Iterator[float]:
    for unit in ("requests", "tokens", "input-tokens", "output-tokens"):
        if look_up(f"anthropic-ratelimit-{unit}-remaining") == "0":
            try:
                moment = datetime.fromisoformat(look_up(f"anthropic-ratelimit-{unit}-reset") or "")
            except ValueError:
                continue
            yield moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
