"""Steps of simulated runs that are held back: by rate limits, by a provider who takes no more, and by budgets.

Each body says first what it is about to use, so that rules (rules/rates.py, rules/money.py) know it without the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal
from typing import Any, Final

import perdure
from perdure import BudgetExceeded, Rate, RateLimit, RateLimited, Retry, Spend, step
from perdure.runtime.limits import Limited
from perdure.testing.simulation.books import books
from perdure.testing.simulation.scenario import ELSEWHERE
from perdure.testing.torture import workshop
from perdure.testing.torture.programs import value_of

#: What scenarios use of limits; instructions name them by their places here.
LIMITS: Final = (
    RateLimit("perdure.simulation.narrow", requests=Rate(2, per=1.0)),
    RateLimit("perdure.simulation.bursts", requests=Rate(6, per=3.0, burst=4)),
    RateLimit(
        "perdure.simulation.tokens",
        requests=Rate(20, per=2.0, burst=5),
        tokens=Rate(100, per=2.0, burst=40),
    ),
)
TOKENS: Final = LIMITS[2]

#: How long bodies last that last, in seconds. Workers whose clocks differ by much lose their runs each second or so,
#: and what lasts longer never ends.
_LONG: Final = {"for ever": 3600.0, "settles late": 0.5}

_OFTEN: Final = Retry(max_attempts=50, initial=0.01, jitter=False)


def _seen(outcome: tuple[str, int]) -> int:
    workshop.books.sees(outcome[0])
    return outcome[1]


# -- rate limits ----------------------------------------------------------------------------------------


def _under(which: list[int], tokens: int) -> list[RateLimit | Limited]:
    limits = [LIMITS[number] for number in which]
    return [limit.cost(tokens=tokens) if limit is TOKENS else limit for limit in limits]


def _begins(tag: str, which: list[int], tokens: int) -> None:
    asked = {
        (LIMITS[number].name, unit): tokens if unit == "tokens" else 1
        for number in which
        for unit in LIMITS[number].rates
    }
    books().says("begins under limits", tag, asked)
    workshop.note("begin", tag)


@step(name="perdure.simulation.under_limits", retry=_OFTEN)
async def works_under(tag: str, which: list[int], tokens: int, used: int, how: str) -> tuple[str, int]:
    _begins(tag, which, tokens)
    await asyncio.sleep(_LONG.get(how, 0.0) + value_of(tag) % 30 / 1000)
    if how.startswith("settles") and 2 in which:
        books().says("has used", tag, used)
        perdure.settle(TOKENS, tokens=used)
    if how == "fails first" and perdure.step_info().attempt < 2:
        raise ConnectionError("not yet")
    workshop.note("effect", tag)
    return tag, value_of(tag)


@step(name="perdure.simulation.under_limits_in_a_thread")
def works_under_in_a_thread(tag: str, which: list[int], tokens: int, used: int, how: str) -> tuple[str, int]:
    _begins(tag, which, tokens)
    workshop.note("effect", tag)
    return tag, value_of(tag)


@step(name="perdure.simulation.turned_away", retry=Retry(max_attempts=1))
async def is_turned_away(
    tag: str, which: list[int], tokens: int, times: int, after: float | None
) -> tuple[str, int]:
    """The provider takes no more, some times; that is no attempt, so one is enough."""
    _begins(tag, which, tokens)
    await asyncio.sleep(0.005)
    if books().turned_away[tag] < times:
        books().turned_away[tag] += 1
        raise RateLimited("take your time", after=after)
    workshop.note("effect", tag)
    return tag, value_of(tag)


async def _limited(tag: str, more: Any) -> int:
    which, tokens, used, how = more
    called = works_under_in_a_thread if how == "thread" else works_under
    options: dict[str, Any] = {"limit": _under(which, tokens)}
    if how == "elsewhere":
        options["queue"] = ELSEWHERE
    return _seen(await called.with_options(**options)(tag, which, tokens, used, how))


async def _turned_away(tag: str, more: Any) -> int:
    which, tokens, times, after = more
    called = is_turned_away.with_options(limit=_under(which, tokens))
    return _seen(await called(tag, which, tokens, times, after))


async def _limited_given_up(tag: str, more: Any) -> int:
    """Whoever stands in line leaves it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(more / 1000):
            await works_under.with_options(limit=_under([0], 0))(tag, [0], 0, 0, "for ever")
    return value_of(tag)


# -- money ----------------------------------------------------------------------------------------------


def dollars(thousandths: int) -> Decimal:
    """Amounts of instructions are in thousandths of a dollar."""
    return Decimal(thousandths) / 1000


def at_most(tag: str, most: int) -> Spend:
    """What a call may cost, by what its step was told. The tag, as its model's name, shows in the ledger."""
    return Spend(tag, cost=dollars(most))


@step(name="perdure.simulation.pays", retry=_OFTEN, spends=at_most)
async def pays(tag: str, most: int, cost: int, how: str) -> tuple[str, int]:
    """Calls somebody who sends a bill, whatever becomes of the call."""
    info = perdure.step_info()
    books().says("spends", tag, info.known_as)
    workshop.note("begin", tag)
    await asyncio.sleep(value_of(tag) % 40 / 1000)
    books().says("is billed", tag, cost)
    if how == "unknown first" and info.attempt < 2:
        raise TimeoutError("there was no answer")
    perdure.record_usage(model=tag, input_tokens=cost, cost=dollars(cost))
    if how == "fails first" and info.attempt < 2:
        raise ConnectionError("not yet")
    workshop.note("effect", tag)
    return tag, value_of(tag)


async def _pays(tag: str, more: Any) -> int:
    most, cost, how = more
    called = pays.with_options(queue=ELSEWHERE) if how == "elsewhere" else pays
    try:
        return _seen(await called(tag, most, cost, how))
    except BudgetExceeded:
        books().says("goes without", tag)
        return value_of(tag)


workshop.others.update(
    {
        "limited": _limited,
        "turned away": _turned_away,
        "limited given up": _limited_given_up,
        "pays": _pays,
    }
)
