"""Jobs that a provider does while nobody waits: begun in one step, asked for in others, with durable waits between.

A job is known by its id, and the id is recorded as soon as the provider has told it. Whatever happens to the worker
then, another one asks for the same job: nothing is paid twice. Between two looks the run is an ordinary sleeping one,
which holds nothing. When the code that waits for a job is cancelled, the job is cancelled at the provider, too.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from perdure.ai.clients import Method
from perdure.ai.responses import Responses
from perdure.api.inline import InlineCall, inline_step
from perdure.core.retry import Retry
from perdure.runtime.definitions import StepOptions

logger = logging.getLogger("perdure.ai")

#: Seconds until the second look at a job; the time between looks grows by this factor, up to
FIRST_LOOK, GROWTH, RARELY = 2.0, 1.5, 60.0

#: How OpenAI calls a response that isn't over yet.
_UNDER_WAY = frozenset({"queued", "in_progress"})
_CANCEL = StepOptions(retry=Retry(max_attempts=2), spends=False)


async def called(method: Method, function: Callable[..., Any], *args: Any, **arguments: Any) -> Any:
    """Call a method of the same client: it waits by itself, or in a thread."""
    if method.is_async:
        return await function(*args, **arguments)
    return await asyncio.to_thread(functools.partial(function, *args, **arguments))


def look(
    name: str, body: Callable[[Any], Awaitable[Any]], job: dict[str, Any], result: Any, options: StepOptions
) -> InlineCall[Any]:
    """A step that asks how a job stands. It books what the job has used, once that is told."""
    return inline_step(name, body, given=job, result=result, options=options, returns_response=None)


async def until_over(
    ask: Callable[[], Awaitable[Any]],
    is_over: Callable[[Any], bool],
    cancel: Callable[[], Awaitable[Any]],
    every: float | None,
) -> Any:
    """Ask for a job until it is over. Returns the last answer.

    Args:
        every: seconds between two looks; None for a growing time.
    """
    pause = FIRST_LOOK
    try:
        while not is_over(answer := await ask()):
            await asyncio.sleep(pause if every is None else every)
            pause = min(pause * GROWTH, RARELY)
    except asyncio.CancelledError:
        try:
            await cancel()
        except Exception as error:  # noqa: BLE001 - it was over, say; what counts is that the code is cancelled
            logger.warning("couldn't cancel what the provider is doing: %s", error)
        raise
    return answer


def looking(options: StepOptions) -> StepOptions:
    """The options of steps that only look."""
    return StepOptions(
        retry=options.retry, timeout=options.timeout, limits=options.limits, spends=False, effect="read"
    )


async def background_response(
    method: Method,
    begin: InlineCall[Any],
    responses: Responses,
    options: StepOptions,
    every: float | None,
) -> Any:
    """A response of OpenAI's that is made in the background: begin it, and wait until it is there."""
    begun = await begin
    job = {"response": begun.id}
    name = begin.name

    async def ask(job: dict[str, str]) -> Any:
        return await called(method, method.unretried("retrieve"), job["response"])

    async def cancel(job: dict[str, str]) -> Any:
        return await called(method, method.unretried("cancel"), job["response"])

    if not _is_under_way(begun):
        return begun
    await asyncio.sleep(FIRST_LOOK if every is None else every)
    return await until_over(
        lambda: look(f"{name}:look", ask, job, responses, looking(options)),
        lambda response: not _is_under_way(response),
        lambda: look(f"{name}:cancel", cancel, job, responses, _CANCEL),
        every,
    )


def _is_under_way(response: Any) -> bool:
    return response.status in _UNDER_WAY
