"""Takes suspended coroutines apart without letting them do anything.

`Suspended` is raised where a coroutine stands, again and again as long as its cleaning awaits something. (Closing
it instead would cut off an outer coroutine while an inner one still resists.) Code that catches everything
(`except:`) in a loop never ends so, and would go on when the garbage collector closes it, outside of any run:
it is left where it stands, for as long as the process lives.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
from typing import Any

from perdure.core.futures import NumberedTask

logger = logging.getLogger("perdure.workflow")

#: How often a coroutine is told to end; each await in a finally block takes one more.
ATTEMPTS = 100

_keep_for_ever = ctypes.pythonapi.Py_IncRef
_keep_for_ever.argtypes = (ctypes.py_object,)
_keep_for_ever.restype = None


class Suspended(BaseException):
    """Unwinds workflow code that is leaving memory. A BaseException, so that `except Exception` lets it by."""


def unwind(task: NumberedTask, loop: asyncio.AbstractEventLoop) -> None:
    """Close a task's suspended coroutine, however it resists. Its code finds itself in its own task and context."""
    coroutine: Any = task.get_coro()
    asyncio.tasks._enter_task(loop, task)
    try:
        _close(coroutine, task)
    finally:
        asyncio.tasks._leave_task(loop, task)


def _close(coroutine: Any, task: NumberedTask) -> None:
    for _ in range(ATTEMPTS):
        try:
            task.run_context.run(coroutine.throw, Suspended())
        except BaseException:  # noqa: BLE001 - its run is leaving memory; nothing it says counts
            return
    _keep_for_ever(coroutine)
    logger.warning(
        "code of %s can't be unwound, because it catches every exception and awaits again: it stays in "
        "memory. Use `except Exception` in the place of a bare `except` in workflows (it is in %s)",
        task.get_loop(),
        coroutine.__qualname__,
    )
