"""The tasks of a run, and the numbers by which they are known.

Each task has a scope, from which the op ids of what it asks for are taken; which one follows from the order in
which the code makes its tasks. Tasks and futures are hashed by running numbers, not by their addresses.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

from perdure.core.as_completed import as_completed_siblings, made_by_wait_for
from perdure.core.forbidden import ForbiddenApi
from perdure.core.futures import NumberedFuture, NumberedTask
from perdure.core.schedulable import Schedulable
from perdure.core.scope import Scope

#: The task that a loop is running. Python 3.11's `asyncio.current_task` is a function around this table.
running_task: Callable[[asyncio.AbstractEventLoop], asyncio.Task[Any] | None] = asyncio.current_task
if sys.version_info[:2] < (3, 12):
    running_task = vars(asyncio.tasks)["_current_tasks"].get

_copy_context = contextvars.copy_context


class TaskMaker(ForbiddenApi):
    """An event loop that makes tasks and futures, and runs nothing yet.

    Args:
        name: name of the root task, shown by asyncio's own tools.
    """

    _callback_scope: Scope | None = None
    _adopted: dict[int, NumberedTask] | None = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.dozing = False
        self.root_scope = Scope()
        self.root: asyncio.Task[Any] | None = None
        # tasks of all runs meet in asyncio's own tables: without a base of its own for each run, the
        # first task of every run would have the same hash there
        self._numbers = zlib.crc32(name.encode("utf-8", "replace")) << 24
        self._scopes: dict[asyncio.Task[Any], Scope] | None = None  # of all tasks but the root
        self._context: contextvars.Context | None = None  # the root task's

    def start(self, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Make `main` the root task. Its context is empty, whoever starts it."""
        self._context = contextvars.Context()
        self.root = self._task(main, self.name, self._context)
        return self.root

    def live_tasks(self) -> list[asyncio.Task[Any]]:
        """The unfinished tasks, the root first, then in the order of creation."""
        tasks = [self.root] if self.root is not None else []
        tasks.extend(self._scopes or ())
        return [task for task in tasks if not task.done()]

    # -- asyncio's register ---------------------------------------------------------------------------

    def doze(self) -> None:
        """Nothing goes on here for a while: asyncio, which keeps a register of all tasks, needn't know of these.

        A place in it is 150 bytes for each run, and whoever asks it for tasks of another loop has to look at all.
        """
        self.dozing = True
        for task in self.live_tasks():
            asyncio.tasks._unregister_task(task)

    def rouse(self) -> None:
        """Before the code goes on, which may ask for `asyncio.all_tasks()`."""
        self.dozing = False
        for task in self.live_tasks():
            asyncio.tasks._register_task(task)

    # -- scopes -------------------------------------------------------------------------------------

    def scope(self) -> Scope:
        """The scope of the running task; plain callbacks share one of their own."""
        task = running_task(self)
        if task is None:
            if self._callback_scope is None:
                self._callback_scope = Scope("0")
            return self._callback_scope
        if task is self.root or self._scopes is None:
            return self.root_scope
        return self._scopes.get(task, self.root_scope)

    # -- asyncio: futures and tasks -----------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        self._numbers += 1
        return NumberedFuture(self._numbers, loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[Any]:
        """A task in a scope of its own; a Schedulable keeps the scope of its creator for its op id."""
        if self._adopted is not None and (known := self._adopted.pop(id(coro), None)) is not None:
            return known
        caller = sys._getframe(1)
        if (siblings := as_completed_siblings(caller)) is not None:
            # as_completed walks a set of coroutines, whose order is that of memory addresses: make
            # the tasks for all of them now, in the order of its argument
            tasks = {id(item): self._new_task(item, None, None) for item in siblings}
            self._adopted = tasks
            return tasks.pop(id(coro))
        return self._new_task(coro, name, context, made_by_wait_for(caller), **kwargs)

    def _new_task(
        self, coro: Any, name: object, context: contextvars.Context | None, same: bool = False, **kwargs: Any
    ) -> NumberedTask:
        scope = self.scope()
        if isinstance(coro, Schedulable):  # takes no number: wait_for makes a task for it or doesn't
            default, coro = coro.adopt(self)
        elif same:  # the same in Python 3.11, where wait_for makes a task, as in 3.12, where it doesn't
            default = self.name
        else:
            scope = scope.child()
            default = f"Task-{scope.path}"
        task = self._task(coro, default if name is None else str(name), context, **kwargs)
        return self._in_scope(task, scope)

    def create_scoped(self, coro: Coroutine[Any, Any, Any], scope: Scope) -> NumberedTask:
        """A task in a scope that its creator has chosen."""
        return self._in_scope(self._task(coro, f"Task-{scope.path}", None), scope)

    def _in_scope(self, task: NumberedTask, scope: Scope) -> NumberedTask:
        if self._scopes is None:
            self._scopes = {}
        self._scopes[task] = scope
        task.add_done_callback(self._task_done)
        return task

    def _task(self, coro: Any, name: str, context: contextvars.Context | None, **kwargs: Any) -> NumberedTask:
        self._numbers += 1
        context = _copy_context() if context is None else context
        return NumberedTask(self._numbers, coro, context, loop=self, name=name, **kwargs)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        if self._scopes is not None:
            self._scopes.pop(task, None)

    def get_task_factory(self) -> None:
        return None
