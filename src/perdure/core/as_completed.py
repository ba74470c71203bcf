"""Knows the two asyncio functions whose ways with tasks don't replay by themselves.

as_completed puts the coroutines it is given into a set, and makes their tasks in the set's order: that of memory
addresses. The loop asks here, when `ensure_future` wants a task, whether as_completed is behind it; if so
the tasks are made in the order of as_completed's argument, which has to be a list for that.

wait_for makes a task of a coroutine in Python 3.11 and awaits it where it stands in 3.12. So that histories
move between the two, such a task shares the scope of the task that waits.
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
_ENSURE_FUTURE = asyncio.ensure_future.__code__
_HELPER = getattr(getattr(asyncio.tasks, "_ensure_future", None), "__code__", None)  # up to Python 3.12
_WAIT_FOR = asyncio.wait_for.__code__


def _by_ensure_future(frame: FrameType | None) -> bool:
    return frame is not None and (frame.f_code is _ENSURE_FUTURE or frame.f_code is _HELPER)


def made_by_wait_for(frame: FrameType | None) -> bool:
    """Whether the calling frames are ensure_future's on behalf of wait_for."""
    if not _by_ensure_future(frame):
        return False
    while _by_ensure_future(frame):
        assert frame is not None
        frame = frame.f_back
    return frame is not None and frame.f_code is _WAIT_FOR


def as_completed_siblings(frame: FrameType | None) -> list[Any] | None:
    """If the calling frames are as_completed's, the coroutines it was given, in the order given."""
    if not _by_ensure_future(frame):
        return None
    assert frame is not None
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
            if not all(asyncio.iscoroutine(item) or asyncio.isfuture(item) for item in items):
                msg = (
                    "as_completed() was given an awaitable that is neither a coroutine nor a task, so that its "
                    "order can't be replayed: wrap it with asyncio.ensure_future(...)"
                )
                raise ForbiddenInWorkflowError(msg)
            unique = {id(item): item for item in items if asyncio.iscoroutine(item)}
            return list(unique.values())
    return None
