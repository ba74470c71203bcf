"""The part of the event loop's interface that can't be deterministic: each call says what to write instead."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from perdure.errors import ForbiddenInWorkflowError

_STEP = "move it into a @step function, and await that in the workflow"
_NETWORK = f"network and pipes don't replay: {_STEP}"
_PROCESS = f"subprocesses don't replay: {_STEP}"
_THREAD = (
    "threads don't replay (asyncio.to_thread, run_in_executor): make the function a sync @step, which runs in "
    "a thread by itself, and await it"
)
_SIGNAL = "signals don't replay: handle them outside of the workflow"
_NO_EXECUTOR = "a workflow has no executor: sync @step functions run in threads by themselves"
_NO_INNER_LOOP = "a workflow can't run an event loop of its own: await the coroutine instead"

#: What libraries call in a thread although it only looks at the machine, by module and name; and who answers at once.
answered_at_once: dict[tuple[str, str], Callable[[], Any]] = {}
#: Modules of frameworks that hand functions to threads only so as not to hold up others, or that talk to the loop as if
#: from a thread. What they hand over is called on the spot: if it blocks, the guard and the turn limit say so.
called_on_the_spot: set[str] = set()


def _forbid(name: str, advice: str) -> Any:
    def forbidden(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        msg = f"loop.{name}() was called in workflow code of run {self.name!r}: {advice}"
        raise ForbiddenInWorkflowError(msg)

    forbidden.__name__ = name
    return forbidden


def thread_error(run_id: str) -> ForbiddenInWorkflowError:
    """What a thread is told that tries to reach into a run, and what the run is told of it."""
    return ForbiddenInWorkflowError(
        f"a thread tried to reach into the workflow code of run {run_id!r} (call_soon_threadsafe): threads don't "
        "replay. Make what it does a sync @step, which runs in a thread by itself, and await it"
    )


def _function_in(func: Any) -> tuple[str, str]:
    """Module and name of what is called in the end: asyncio.to_thread wraps it, to be called in a context."""
    args: Any = getattr(func, "args", None)
    if args and getattr(getattr(func, "func", None), "__name__", "") == "run":
        func = args[0]
    return getattr(func, "__module__", ""), getattr(func, "__qualname__", "")


class ForbiddenApi(asyncio.AbstractEventLoop):
    """An event loop on which nothing works yet."""

    _no_threads = _forbid("run_in_executor", _THREAD)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        answer = answered_at_once.get(_function_in(func)) if answered_at_once else None
        if answer is None:
            if sys._getframe(1).f_globals.get("__name__") not in called_on_the_spot:
                return self._no_threads()  # type: ignore[no-any-return]
            answer = functools.partial(func, *args)
        future = self.create_future()
        try:
            future.set_result(answer())
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the future
            future.set_exception(error)
        return future

    set_default_executor = _forbid("set_default_executor", _NO_EXECUTOR)
    shutdown_default_executor = _forbid("shutdown_default_executor", _NO_EXECUTOR)
    shutdown_asyncgens = _forbid(
        "shutdown_asyncgens", "the engine closes async generators when the workflow ends"
    )

    run_forever = _forbid("run_forever", _NO_INNER_LOOP)
    run_until_complete = _forbid("run_until_complete", _NO_INNER_LOOP)
    stop = _forbid("stop", "a workflow can't stop its loop: return from the workflow function")
    close = _forbid("close", "a workflow can't close its loop: return from the workflow function")
    set_debug = _forbid("set_debug", "the loop of a workflow has no debug mode")
    set_task_factory = _forbid(
        "set_task_factory", "tasks of a workflow are numbered for replay; a task factory can't be set"
    )

    add_signal_handler = _forbid("add_signal_handler", _SIGNAL)
    remove_signal_handler = _forbid("remove_signal_handler", _SIGNAL)

    subprocess_exec = _forbid("subprocess_exec", _PROCESS)
    subprocess_shell = _forbid("subprocess_shell", _PROCESS)

    getaddrinfo = _forbid("getaddrinfo", _NETWORK)
    getnameinfo = _forbid("getnameinfo", _NETWORK)
    create_connection = _forbid("create_connection", _NETWORK)
    create_server = _forbid("create_server", _NETWORK)
    create_unix_connection = _forbid("create_unix_connection", _NETWORK)
    create_unix_server = _forbid("create_unix_server", _NETWORK)
    create_datagram_endpoint = _forbid("create_datagram_endpoint", _NETWORK)
    connect_accepted_socket = _forbid("connect_accepted_socket", _NETWORK)
    connect_read_pipe = _forbid("connect_read_pipe", _NETWORK)
    connect_write_pipe = _forbid("connect_write_pipe", _NETWORK)
    sendfile = _forbid("sendfile", _NETWORK)
    start_tls = _forbid("start_tls", _NETWORK)
    sock_recv = _forbid("sock_recv", _NETWORK)
    sock_recv_into = _forbid("sock_recv_into", _NETWORK)
    sock_recvfrom = _forbid("sock_recvfrom", _NETWORK)
    sock_recvfrom_into = _forbid("sock_recvfrom_into", _NETWORK)
    sock_sendall = _forbid("sock_sendall", _NETWORK)
    sock_sendto = _forbid("sock_sendto", _NETWORK)
    sock_connect = _forbid("sock_connect", _NETWORK)
    sock_accept = _forbid("sock_accept", _NETWORK)
    sock_sendfile = _forbid("sock_sendfile", _NETWORK)
    add_reader = _forbid("add_reader", _NETWORK)
    remove_reader = _forbid("remove_reader", _NETWORK)
    add_writer = _forbid("add_writer", _NETWORK)
    remove_writer = _forbid("remove_writer", _NETWORK)
