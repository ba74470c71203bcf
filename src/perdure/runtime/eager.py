"""Tasks that begin at once: a body that waits for nothing is done when its task has been made.

Python has them since 3.12. In 3.11 a task asks its loop to call it soon, and nothing else: here the loop
answers by keeping what it was asked to call, which is then called right away. Where that can't be (a loop without
attributes of its own, or whose method somebody else has replaced), the task is an ordinary one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

_Body = Coroutine[Any, Any, None]


def _eager(loop: asyncio.AbstractEventLoop, body: _Body, context: Context) -> asyncio.Task[None]:
    task: Any = asyncio.Task  # the type checkers look at it as Python 3.11's
    begun: asyncio.Task[None] = task(body, loop=loop, context=context, eager_start=True)
    return begun


def _begun_by_hand(loop: asyncio.AbstractEventLoop, body: _Body, context: Context) -> asyncio.Task[None]:
    own: dict[str, Any] | None = getattr(loop, "__dict__", None)
    if own is None or "call_soon" in own:
        return asyncio.Task(body, loop=loop, context=context)
    first: list[Callable[[], object]] = []
    own["call_soon"] = lambda callback, *, context=None: first.append(callback)
    try:
        task = asyncio.Task(body, loop=loop, context=context)
    finally:
        del own["call_soon"]
    # as Python 3.12 does it: for as long as this lasts, the task that begins is the current one
    outer = asyncio.tasks._current_tasks.get(loop)  # type: ignore[attr-defined]
    if outer is not None:
        asyncio.tasks._leave_task(loop, outer)
    try:
        context.run(first[0])
    finally:
        if outer is not None:
            asyncio.tasks._enter_task(loop, outer)
    return task


#: Makes a task of a coroutine, which begins in `context` before this returns, or else in the loop's next turn.
begin: Callable[[asyncio.AbstractEventLoop, _Body, Context], asyncio.Task[None]] = (
    _eager if sys.version_info >= (3, 12) else _begun_by_hand
)
