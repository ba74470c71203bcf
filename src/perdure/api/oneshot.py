"""`perdure.run`: the engine for one run, from sync code."""

from __future__ import annotations

import asyncio
from asyncio.events import _get_running_loop
from datetime import timedelta
from typing import TypeVar

from perdure.api.call import Call
from perdure.api.engine import Engine
from perdure.errors import UsageError

R = TypeVar("R")


def run(
    call: Call[R],
    *,
    url: str | None = None,
    id: str | None = None,
    timeout: float | timedelta | None = None,
) -> R:
    """Run a workflow to its end, from sync code: like `asyncio.run`, but durable.

    Run it again with the same id after a crash, and it goes on where it stood; after its end, and it
    returns the recorded result.

    Args:
        url: the database; by default the environment's PERDURE_URL.
        id: the run's id; a random one by default.
        timeout: seconds after which the run is cancelled.

    Raises:
        RunFailed, RunCancelled, RunTerminated: it ended without a result. And as `Engine.start`.

    Example:
        >>> perdure.run(research("tardigrades"), url="sqlite:///agents.db", id="r-1")  # doctest: +SKIP
    """

    async def main() -> R:
        async with Engine(url) as engine:
            return await engine.run(call, id=id, timeout=timeout)

    call.mark_used()  # if the database can't be opened, that is the error; the unused call isn't another
    if _get_running_loop() is not None:
        msg = "perdure.run() was called in a running event loop: use `await engine.run(call)` there"
        raise UsageError(msg)
    return asyncio.run(main())
