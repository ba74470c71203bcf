"""A debugger for workflow code: Python's own, taught about coroutines, and about histories, which answer all awaits.

    next, until, return    go over an await as if it were a call: the event that answers it is fed, the code goes on
    step                   goes into functions of the user's, and into other tasks; never into the engine, or asyncio
    where, up, down        show the user's frames only
    tasks, task N          (only where nothing runs) the tasks of the run, and one's frames

What is behind `guard` stays refused while code runs, and works at the prompt.
"""

from __future__ import annotations

import dis
import inspect
import os
import pdb
import sys
import threading
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Final

from perdure.core.machine import Machine
from perdure.core.mismatch import location
from perdure.runtime import guard
from perdure.runtime.frames import Place, chain_of, is_library, is_plumbing

_ASYNC: Final = inspect.CO_COROUTINE | inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_HERE: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep


class WorkflowDebugger(pdb.Pdb):
    """The prompt, and when it comes.

    Args:
        code: a file of the code that is debugged: what lies beside it counts as the user's, even where it is installed.

    Attributes:
        heading: shown before the next prompt, once.
    """

    def __init__(self, code: str) -> None:
        super().__init__(nosigint=True)
        self._beside = os.path.dirname(os.path.abspath(code)) + os.sep
        self.prompt = "(perdure) "
        self.heading = ""
        self._standing: list[tuple[FrameType, int]] | None = None
        self._coroutines: list[Any] = []

    # -- when it stops ------------------------------------------------------------------------------

    def trace_from_here(self, *, stop: bool) -> None:
        """Watch the code that runs from now on, to stop at its next line, or at breakpoints only."""
        self.reset()
        self.botframe = sys._getframe().f_back
        if stop:
            self.set_step()
        else:
            self._set_stopinfo(self.botframe, None, -1)  # type: ignore[attr-defined]
        sys.settrace(self.trace_dispatch)

    def stop_here(self, frame: FrameType) -> bool:
        """Never in the engine, nor in libraries, nor in what has no file."""
        path = frame.f_code.co_filename
        if path.startswith("<") or _is_ours(path) or (is_library(path) and not path.startswith(self._beside)):
            return False
        return super().stop_here(frame)

    def user_call(self, frame: FrameType, argument_list: Any) -> None:
        """A coroutine begins, or goes on: its next line is soon enough."""
        if not frame.f_code.co_flags & _ASYNC:
            super().user_call(frame, argument_list)

    def user_return(self, frame: FrameType, return_value: Any) -> None:
        """A coroutine that only awaits something hasn't returned."""
        if not frame.f_code.co_flags & _ASYNC or _returns(frame):
            super().user_return(frame, return_value)

    def dispatch_return(self, frame: FrameType, arg: Any) -> Any:
        """After the last line of a coroutine, `next` stops at the one that awaited it."""
        if frame is self.stopframe and frame.f_code.co_flags & _ASYNC and _returns(frame):
            self._set_stopinfo(None, None)  # type: ignore[attr-defined]
        return super().dispatch_return(frame, arg)

    def user_exception(self, frame: FrameType, exc_info: Any) -> None:
        """Where a suspended coroutine is thrown away, nothing is raised that concerns anybody."""
        if not issubclass(exc_info[0], GeneratorExit | StopIteration | StopAsyncIteration):
            super().user_exception(frame, exc_info)

    # -- the prompt ---------------------------------------------------------------------------------

    def interaction(self, frame: FrameType | None, traceback: Any) -> None:
        heading, self.heading = self.heading, ""
        if heading:
            self.message(heading)
        guarded = guard.guarded.pop(threading.get_ident(), None)
        try:
            super().interaction(frame, traceback)
        finally:
            if guarded is not None:
                guard.guarded[threading.get_ident()] = guarded

    def get_stack(
        self, f: FrameType | None, t: TracebackType | None
    ) -> tuple[list[tuple[FrameType, int]], int]:
        """Only frames of users' code; those of the engine below and between them tell nothing."""
        if self._standing is not None:
            return self._standing, max(0, len(self._standing) - 1)
        stack, index = super().get_stack(f, t)
        current = stack[index][0] if stack else None
        shown = [entry for entry in stack if entry[0] is current or not _is_ours(entry[0].f_code.co_filename)]
        place = next((number for number, entry in enumerate(shown) if entry[0] is current), 0)
        return shown, place

    def do_quit(self, arg: str) -> Any:
        """Leave the process at once: the code isn't to see anything of it, not even an exception."""
        self.message("")
        sys.stdout.flush()
        os._exit(0)

    do_q = do_exit = do_EOF = do_quit  # noqa: N815 - pdb's name for the end of its input

    # -- where nothing runs -------------------------------------------------------------------------

    def look_at_tasks(self, machine: Machine, heading: str) -> None:
        """A prompt at the place where the run's code stands."""
        self._coroutines = [task.get_coro() for task in machine.loop.live_tasks()]
        self.heading = heading
        if len(self._coroutines) > 1:
            self.heading += "\n" + "\n".join(self._listed())
        self._look(self._coroutines[0] if self._coroutines else None)

    def look_at_error(self, error: BaseException, places: Sequence[Place], heading: str) -> None:
        """A prompt at the place where something was raised."""
        self._coroutines = []
        self.heading = heading
        self._standing = [(place.frame, place.line) for place in places]
        if self._standing:
            self.interaction(self._standing[-1][0], None)
        else:
            self.message(f"{heading}\nNone of its frames is in your code.")

    def _look(self, coroutine: Any) -> None:
        places = [] if coroutine is None else chain_of(coroutine).places
        self._standing = [(place.frame, place.line) for place in places]
        if self._standing:
            self.interaction(self._standing[-1][0], None)
        else:
            self.message(self.heading)

    def _listed(self) -> list[str]:
        return [
            f"  task {number}: {location(coroutine) or 'not in your code'}"
            for number, coroutine in enumerate(self._coroutines, 1)
        ]

    def do_tasks(self, arg: str) -> None:
        """tasks

        List the tasks of the run, where nothing of it runs: after its history, or where it diverges.
        """
        for line in self._listed() or ["Only where the replay has ended: tasks take turns until then."]:
            self.message(line)

    def do_task(self, arg: str) -> None:
        """task N

        Go to the frames of a task, as `tasks` lists them.
        """
        if not arg.isdecimal() or not 1 <= int(arg) <= len(self._coroutines):
            self.error(f"give the number of a task: 1 to {len(self._coroutines)}")
            return
        places = chain_of(self._coroutines[int(arg) - 1]).places
        if not places:
            self.error("that task isn't in your code")
            return
        self._standing = [(place.frame, place.line) for place in places]
        self.setup(places[-1].frame, None)
        self.print_stack_entry(self.stack[self.curindex])


def _returns(frame: FrameType) -> bool:
    """Whether a frame is at its end, and not at an await."""
    code = frame.f_code.co_code
    return 0 <= frame.f_lasti < len(code) and dis.opname[code[frame.f_lasti]].startswith("RETURN")


def _is_ours(path: str) -> bool:
    return is_plumbing(path) or path.startswith(_HERE)
