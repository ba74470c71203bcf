"""What systemd is told by a service of Type=notify: that it is ready, that it stops, and that it doesn't hang.

A datagram to the socket that NOTIFY_SOCKET names; without systemd there is none, and nothing is told. `perdure worker
--workers N` is told the same way by each of its workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable

from perdure.runtime.health import Health

#: What the manager has said of itself, once this process keeps it.
_kept: dict[str, str] = {}


def keep_manager() -> None:
    """Let nobody whom this process starts take itself for the service, as another worker that a step starts would."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        if (said := os.environ.pop(name, None)) is not None:
            _kept[name] = said


def _said(name: str) -> str | None:
    return _kept.get(name, os.environ.get(name))


def notify(*lines: str) -> None:
    """Tell the service manager, if there is one. Whatever goes wrong: the work matters more."""
    name = _said("NOTIFY_SOCKET") or ""
    if not name.startswith(("/", "@")):
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)
        out.sendto("\n".join(lines).encode(), address)


@contextlib.asynccontextmanager
async def supervised(look: Callable[[], Awaitable[Health]]) -> AsyncGenerator[None, None]:
    """Say that this is ready; and while the block lasts that it lives, as often as the manager wants to hear it.

    To be left when it begins to stop. The last lines of a service that stops late belong to TimeoutStopSec.
    """
    beating = asyncio.ensure_future(_keep_beating(look))
    notify("READY=1", "STATUS=At work.")
    try:
        yield
    finally:
        notify("STOPPING=1", "STATUS=Stopping.")
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def _keep_beating(look: Callable[[], Awaitable[Health]]) -> None:
    given = _said("WATCHDOG_USEC") or ""
    if not given.isdigit() or (_said("WATCHDOG_PID") or str(os.getpid())) != str(os.getpid()):
        return
    every = int(given) / 1e6 / 3
    while True:
        found = await look()
        if found.live:
            notify("WATCHDOG=1", f"STATUS={'At work' if found.ready else ', '.join(found.reasons)}.")
        await asyncio.sleep(every)
