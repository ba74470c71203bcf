"""Processes of ours that do the work while their parent watches.

A child holds one end of a pipe whose other end its parent holds. If the parent is killed, the pipe is closed; the child
notices, and stops in good order.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

#: Set in a child: the descriptor of the pipe that its parent holds open.
CHILD = "PERDURE_CHILD"

PATIENCE = 15.0  # seconds that a child has to stop


def is_child() -> bool:
    """Whether this process is one that somebody watches."""
    return CHILD in os.environ


def stop_with_parent() -> None:
    """In a child, once: stop in good order when the parent is gone."""
    descriptor = int(os.environ.pop(CHILD))  # what a step starts is no child of that parent
    os.set_inheritable(descriptor, False)

    def wait() -> None:
        os.read(descriptor, 1)  # nobody writes: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="perdure-parent", daemon=True).start()


class Child:
    """One life of `perdure ARGUMENTS`.

    Args:
        environment: what is other in its environment than in ours; None where it has none of it.
        apart: a terminal's Ctrl-C doesn't reach it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str | None] | None = None,
        *,
        apart: bool = False,
    ) -> None:
        ours, theirs = os.pipe()
        self._pipe = theirs  # held open as long as this process lives
        command = [sys.executable, "-c", "from perdure.cli import main; main()", *arguments]
        wanted = {**os.environ, **(environment or {}), CHILD: str(ours)}
        given = {name: value for name, value in wanted.items() if value is not None}
        try:
            self._process = subprocess.Popen(command, env=given, pass_fds=[ours], start_new_session=apart)  # noqa: S603 - ourselves
        finally:
            os.close(ours)
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit code, or None if it lives; less than 0 if a signal has ended it."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """In good order, as long as that doesn't take for ever."""
        self.signal(signal.SIGTERM)
        self.wait(PATIENCE)

    def wait(self, patience: float | None) -> int:
        """Its exit code. It is killed if it takes longer than so many seconds."""
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self.let_go()
        return code

    def let_go(self) -> None:
        """Of one that has ended."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
