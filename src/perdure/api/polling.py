"""`poll`: look again and again, with a durable wait between, until there is something to see."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar, overload

from perdure.core.retry import seconds
from perdure.errors import UsageError

R = TypeVar("R")

#: The longest wait between two looks that a growing interval gets to by itself, in seconds.
MAX_EVERY = 3600.0


@overload
async def poll(
    check: Callable[[], Awaitable[bool]] | Callable[[], Awaitable[bool | None]],
    *,
    every: float | timedelta,
    timeout: float | timedelta | None = None,
    backoff: float = 1.0,
    max_every: float | timedelta | None = None,
) -> bool: ...
@overload
async def poll(
    check: Callable[[], Awaitable[R | None]],
    *,
    every: float | timedelta,
    timeout: float | timedelta | None = None,
    backoff: float = 1.0,
    max_every: float | timedelta | None = None,
) -> R: ...
async def poll(
    check: Callable[[], Awaitable[R | None]],
    *,
    every: float | timedelta,
    timeout: float | timedelta | None = None,
    backoff: float = 1.0,
    max_every: float | timedelta | None = None,
) -> R:
    """Look until there is something to see: call `check` at once, and then after each wait.

    The first result that is neither None nor False is returned; 0 and "" are results. The waits are durable
    timers. Each look adds two to three events to the history, so a wait for days wants minutes between looks, or
    a `backoff`. An error that `check` raises is raised here: transient ones are the step's to retry.

    Args:
        check: takes nothing and returns an awaitable, often `lambda: ready(job)` with a step.
        every: seconds from the end of a look to the next one.
        timeout: seconds for all of it. A look that is under way then is cancelled; 0 = look once.
        backoff: each further wait is so many times the one before.
        max_every: longest wait, in seconds; an hour by default, or `every` if that is longer.

    Returns:
        What `check` found.

    Raises:
        TimeoutError: it found nothing within `timeout`.
        UsageError: an argument is out of range.

    Example:
        >>> report = await perdure.poll(lambda: fetch_report(job), every=30, timeout=86_400)  # doctest: +SKIP
    """
    pause = seconds(every, "poll(every=)")
    longest = max(MAX_EVERY, pause) if max_every is None else seconds(max_every, "poll(max_every=)")
    limit = None if timeout is None else seconds(timeout, "poll(timeout=)")
    if not callable(check) or pause <= 0 or longest < pause or not (1.0 <= backoff < math.inf):
        msg = (
            f"poll({check!r}, every={every}, backoff={backoff}, max_every={max_every}): check is a function "
            "without arguments, every > 0 seconds, backoff >= 1, max_every >= every"
        )
        raise UsageError(msg)
    if limit == 0:
        return _seen(await check(), timeout)
    looking = asyncio.timeout(limit)
    try:
        async with looking:
            while (found := await check()) is None or found is False:
                await asyncio.sleep(pause)
                pause = min(longest, pause * backoff)
            return found
    except TimeoutError:
        if not looking.expired():
            raise  # the look's own
    return _seen(None, timeout)


def _seen(found: R | None, timeout: float | timedelta | None) -> R:
    if found is None or found is False:
        msg = f"poll() found nothing within its timeout of {timeout} s"
        raise TimeoutError(msg)
    return found
