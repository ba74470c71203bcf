"""Lets asyncio.as_completed replay.

It puts the coroutines it is given into a set, and makes their tasks in the set's order: that of memory
addresses. The loop asks here, when `ensure_future` wants a task, whether as_completed is behind it; if so
the tasks are made in the order of as_completed's argument, which has to be a list for that.
"""

from __future__ import annotations

import asyncio
from types import CodeType, FrameType
from typing import Any, cast

from perdure.errors import ForbiddenInWorkflowError


def _as_completed_code() -> frozenset[CodeType]:
    """Code objects of the function in which this Python's as_completed makes its tasks."""
    iterator = getattr(asyncio.tasks, "_AsCompletedIterator", None)  # Python 3.13 on
    makers = [asyncio.as_completed] if iterator is None else [iterator.__init__]
    return frozenset(maker.__code__ for maker in makers)


_AS_COMPLETED = _as_completed_code()
_ENSURE_FUTURE = frozenset(
    function.__code__
    for function in (asyncio.ensure_future, getattr(asyncio.tasks, "_ensure_future", None))
    if function is not None
)


def as_completed_siblings(frame: FrameType | None) -> list[Any] | None:
    """If the calling frames are as_completed's, the coroutines it was given, in the order given."""
    if frame is None or frame.f_code not in _ENSURE_FUTURE:
        return None
    for _ in range(3):  # ensure_future may call a helper, and a set comprehension may have its own frame
        frame = frame.f_back
        if frame is None:
            return None
        if frame.f_code in _AS_COMPLETED:
            given = frame.f_locals.get("fs", frame.f_locals.get("aws"))
            if not isinstance(given, list | tuple | dict):
                msg = (
                    "as_completed() was given something other than a list, so that its order can't be "
                    "replayed: write asyncio.as_completed([...])"
                )
                raise ForbiddenInWorkflowError(msg)
            items: Any = list(cast("Any", given))
            unique = {id(item): item for item in items if asyncio.iscoroutine(item)}
            return list(unique.values())
    return None
