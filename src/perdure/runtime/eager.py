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

#: Makes a task of a coroutine, which begins in the given context before this returns, or else in the loop's next turn.
Begin = Callable[[_Body, Context], asyncio.Task[None]]


def _by_hand(loop: asyncio.AbstractEventLoop) -> Begin:
    own: dict[str, Any] = getattr(loop, "__dict__", {"call_soon": None})
    first: list[Callable[[], object]] = []

    def keep(callback: Callable[[], object], *, context: Context) -> None:
        first.append(callback)

    def begin(body: _Body, context: Context) -> asyncio.Task[None]:
        if "call_soon" in own:
            return asyncio.Task(body, loop=loop, context=context)
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
            context.run(first.pop())
        finally:
            if outer is not None:
                asyncio.tasks._enter_task(loop, outer)
        return task

    return begin


def _by_python(loop: asyncio.AbstractEventLoop) -> Begin:
    task: Any = asyncio.Task  # the type checkers look at it as Python 3.11's

    def begin(body: _Body, context: Context) -> asyncio.Task[None]:
        begun: asyncio.Task[None] = task(body, loop=loop, context=context, eager_start=True)
        return begun

    return begin


#: How tasks begin on a loop.
beginning_on: Callable[[asyncio.AbstractEventLoop], Begin] = _by_hand if HAND_MADE else _by_python
