"""What processes that an engine starts have in common: they find its code, and end with it.

A module is imported by its name, the engine's script as `__mp_main__` (as the multiprocessing module does, so that an
`if __name__ == "__main__":` part stays out).

Such a process never outlives its engine. The engine holds the other end of a pipe and never writes to it: the pipe
closes with the engine's process, however that ends. The system then sends SIGIO to this process and to all that it
has started, which ends them even if a C extension holds the interpreter; a thread looks at the pipe as well, for
systems that don't do so.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.machinery
import os
import select
import signal
import sys
import threading
from types import ModuleType
from typing import Any

import msgspec

from perdure.runtime import stepcontext
from perdure.runtime.processtalk import Greeting

#: What the engine's script is called here; its classes are known as `__main__`'s to the engine.
SCRIPT = "__mp_main__"

_PARENT_EVERY = 2.0  # seconds between looks at whether the parent is still there


def settle_in(lifeline: int, greeting: str) -> Greeting:
    """Begin a process's life. `lifeline` is the number of an open file."""
    told = msgspec.json.decode(greeting, type=Greeting)
    sys.argv = told.argv
    _end_with_the_engine(lifeline)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not SIG_IGN: programs that steps start would inherit that.
        signal.signal(number, _leave_it_to_the_engine)
    _be_the_first_to_go()
    return told


def import_code(module: str, told: Greeting) -> None:
    """Import the module in which something is defined."""
    if module != "__main__":
        importlib.import_module(module)
    elif SCRIPT not in sys.modules:
        _import_script(told)


def _leave_it_to_the_engine(*_: Any) -> None:
    """A Ctrl-C or SIGTERM for the whole group of processes: the engine gives its steps time, then ends them."""


def _be_the_first_to_go() -> None:
    """Short of memory, the system should rather end this process than the engine's."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def _end_with_the_engine(lifeline: int) -> None:
    group = os.getpgrp()
    if hasattr(fcntl, "F_SETOWN") and hasattr(os, "O_ASYNC"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -group)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=_watch, args=(lifeline, os.getppid()), daemon=True).start()


def _watch(lifeline: int, parent: int) -> None:
    """The pipe doesn't close if the engine's process was forked; its id as our parent then tells."""
    poll = select.poll()
    poll.register(lifeline, select.POLLIN | select.POLLHUP)
    while not poll.poll(_PARENT_EVERY * 1000) and os.getppid() == parent:
        pass
    end()


def end() -> None:
    """The engine is gone: end this process and everything that it has started."""
    os.killpg(0, signal.SIGKILL)


class _ScriptLoader(importlib.machinery.SourceFileLoader):
    """Leaves no compiled file beside the script, as Python doesn't when it runs one."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write nothing."""


def _import_script(told: Greeting) -> None:
    """Execute the engine's script under another name."""
    assert told.script is not None
    loader = _ScriptLoader(SCRIPT, told.script)
    module = ModuleType(SCRIPT)
    module.__file__ = told.script
    module.__package__ = told.package
    module.__loader__ = loader
    if told.name is not None:
        module.__spec__ = importlib.machinery.ModuleSpec(told.name, loader, origin=told.script)
    shadowed = sys.modules["__main__"]
    sys.modules[SCRIPT] = sys.modules["__main__"] = module
    stepcontext.importing_script = True
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[SCRIPT]
        sys.modules["__main__"] = shadowed
        raise
    finally:
        stepcontext.importing_script = False
