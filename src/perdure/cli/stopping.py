"""Ctrl-C and SIGTERM: the first one stops in good order, the second one at once.

Ending at once loses nothing: what is recorded is on disk, and what isn't is done again. So a process never
waits for a thread that doesn't come back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable

_LEAVING = 0.1  # seconds that an idle thread may need to end
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Waits for the wish to stop. Made inside a running loop.

    Args:
        on_first: called when the wish is first expressed.
    """

    def __init__(self, on_first: Callable[[], None]) -> None:
        self.made = asyncio.Event()
        self.signal = signal.SIGINT
        self._on_first = on_first
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)

    @property
    def exit_code(self) -> int:
        """What shells expect of a process that a signal ended."""
        return 128 + self.signal

    def _signalled(self, number: signal.Signals) -> None:
        if self.made.is_set():
            os._exit(128 + number)
        self.signal = number
        self.made.set()
        self._on_first()


def end_process(code: int) -> None:
    """Exit; at once if a step still executes in a thread, for which Python itself would wait."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("perdure-step")]
    for thread in threads:
        thread.join(_LEAVING)
    if any(thread.is_alive() for thread in threads):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
