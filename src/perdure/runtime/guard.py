"""A guard, not a sandbox: notices I/O in workflow code and says what to write instead.

Python reports opening files, sockets, subprocesses and the like to audit hooks. One hook per process is
installed when the first engine starts; while workflow code runs on a thread, it turns such an event into
ForbiddenInWorkflowError at the line that caused it. Outside of workflow code it is one look at an empty
dict. Imports, tracebacks and logging open files on the code's behalf, and may.

Audit hooks: PEP 578; the table of events is in the Python library reference.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from perdure.errors import ForbiddenInWorkflowError

_FORBIDDEN = {
    "open": "opens a file ({0!r})",
    "os.system": "runs a command",
    "os.exec": "runs a command",
    "os.fork": "forks",
    "os.posix_spawn": "starts a process",
    "os.spawn": "starts a process",
    "subprocess.Popen": "starts a process ({0!r})",
    "os.listdir": "lists a folder",
    "os.scandir": "lists a folder",
    "os.mkdir": "makes a folder",
    "os.remove": "removes a file",
    "os.rename": "renames a file",
    "os.rmdir": "removes a folder",
    "os.truncate": "changes a file",
    "shutil.copyfile": "copies a file",
    "shutil.move": "moves a file",
    "shutil.rmtree": "removes a folder",
    "tempfile.mkstemp": "makes a temporary file",
    "tempfile.mkdtemp": "makes a temporary folder",
    "socket.__new__": "opens a socket",
    "socket.connect": "opens a connection",
    "socket.bind": "binds a socket",
    "socket.getaddrinfo": "looks up a host ({0!r})",
    "socket.gethostbyname": "looks up a host ({0!r})",
    "sqlite3.connect": "opens a database ({0!r})",
    "time.sleep": "blocks the thread (use asyncio.sleep, which is durable)",
    "_thread.start_new_thread": "starts a thread",
    "_thread.start_joinable_thread": "starts a thread",
}

# Modules that may open files while workflow code runs, since what they do doesn't change what it does.
_EXEMPT = frozenset(
    {
        "importlib._bootstrap",
        "importlib._bootstrap_external",
        "linecache",
        "logging",
        "logging.handlers",
        "traceback",
        "zipimport",
        "zoneinfo._common",
        "zoneinfo._tzpath",
    }
)

#: The threads in whose frames workflow code runs right now, by thread id.
guarded: dict[int, bool] = {}
_installed = False


def install() -> None:
    """Install the process's audit hook, once. Hooks can't be removed, so it does next to nothing when idle."""
    global _installed
    if not _installed:
        _installed = True
        sys.addaudithook(_hook)


@contextmanager
def lifted() -> Generator[None, None, None]:
    """Let what bindings do for watchers (traces, say) use files and threads: it changes nothing in the workflow."""
    thread = threading.get_ident()
    was = guarded.pop(thread, False)
    try:
        yield
    finally:
        if was:
            guarded[thread] = True


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not guarded or event not in _FORBIDDEN or threading.get_ident() not in guarded:
        return
    frame: FrameType | None = sys._getframe(1)
    place = ""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module in _EXEMPT:
            return
        if not place and not _is_library(frame):
            place = f" at {frame.f_code.co_filename}:{frame.f_lineno}"
        if module.startswith("perdure.core.loop"):
            break
        frame = frame.f_back
    if event == "open" and _is_time_zone(args[0]):
        return
    what = _FORBIDDEN[event].format(*args[:1]) if args else _FORBIDDEN[event].replace(" ({0!r})", "")
    msg = (
        f"workflow code {what}{place}: that can't be replayed. Put it into a @step function and await that; "
        "or mark the workflow @workflow(guard=False) if it is harmless"
    )
    raise ForbiddenInWorkflowError(msg)


_LIBRARY = tuple({sys.prefix, sys.base_prefix, sys.exec_prefix})


def _is_library(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return path.startswith("<frozen") or (path.startswith(_LIBRARY) and "lib" in path)


def _is_time_zone(path: object) -> bool:
    """Whether it is a file of the system's time zone database, which zoneinfo opens without a frame of its own."""
    zoneinfo = sys.modules.get("zoneinfo")
    return isinstance(path, str) and path.startswith(tuple(getattr(zoneinfo, "TZPATH", ())) or ("\0",))
