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

from perdure.core.tasks import running_task

#: Whether this Python can't do it by itself.
HAND_MADE = sys.version_info[:2] < (3, 12)

_Body = Coroutine[Any, Any, None]


def _begun_by_hand(loop: asyncio.AbstractEventLoop, body: _Body, context: Context) -> asyncio.Task[None]:
    own: dict[str, Any] | None = getattr(loop, "__dict__", None)
    if own is None or "call_soon" in own:
        return asyncio.Task(body, loop=loop, context=context)
    first: list[Callable[[], object]] = []

    def keep(callback: Callable[[], object], *, context: Context) -> None:
        first.append(callback)

    own["call_soon"] = keep
    try:
        task = asyncio.Task(body, loop=loop, context=context)
    finally:
        del own["call_soon"]
    # as Python 3.12 does it: for as long as this lasts, the task that begins is the current one
    outer = running_task(loop)
    if outer is not None:
        asyncio.tasks._leave_task(loop, outer)
    try:
        context.run(first[0])
    finally:
        if outer is not None:
            asyncio.tasks._enter_task(loop, outer)
    return task


def _begun(loop: asyncio.AbstractEventLoop, body: _Body, context: Context) -> asyncio.Task[None]:
    task: Any = asyncio.Task  # the type checkers look at it as Python 3.11's
    begun: asyncio.Task[None] = task(body, loop=loop, context=context, eager_start=True)
    return begun


#: Makes a task of a coroutine, which begins in `context` before this returns, or else in the loop's next turn.
begin = _begun_by_hand if HAND_MADE else _begun
