"""`perdure dev` again and again: a program that is started anew whenever a file of its folder changes.

The process that a person sees only watches; its child does the work. So code that can't be imported, or ends, is no
end: its error is shown, and the next change starts it again. Runs lose nothing by a restart: they go on where they
stood. If the watching process is killed, its child notices that the pipe between them is closed, and stops, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from perdure.cli.output import tell
from perdure.cli.trouble import Trouble

#: Set in the child: the descriptor of the pipe that its parent holds open.
CHILD = "PERDURE_DEV_CHILD"

_LOOK_EVERY = 200  # milliseconds between looks at the child
_PATIENCE = 15.0  # seconds that a child has to stop


def is_child() -> bool:
    """Whether this process is one that somebody watches."""
    return CHILD in os.environ


def stop_with_parent() -> None:
    """In the child: stop in good order once the parent is gone."""
    descriptor = int(os.environ[CHILD])

    def wait() -> None:
        os.read(descriptor, 1)  # nobody writes: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="perdure-dev-parent", daemon=True).start()


def run_and_reload(arguments: Sequence[str], folder: Path) -> int:
    """Run `perdure ARGUMENTS` in a child process, anew whenever a Python file below a folder changes.

    Returns:
        The exit code of the child that was stopped by a signal.

    Raises:
        Trouble: what watches files isn't installed.
    """
    try:
        from watchfiles import PythonFilter, watch
    except ImportError as error:
        raise Trouble(
            "Starting again when files change needs a package that isn't installed (watchfiles): "
            "pip install 'perdure[server]', or give --no-reload"
        ) from error
    stopped: list[int] = []
    child = _Child(arguments)

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        if number == signal.SIGTERM or len(stopped) > 1:
            child.signal(number)  # Ctrl-C has reached it already, as it reaches all of a terminal's processes

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    for changes in watch(
        folder,
        watch_filter=PythonFilter(),
        yield_on_timeout=True,
        rust_timeout=_LOOK_EVERY,
        raise_interrupt=False,
    ):
        if stopped:
            return child.wait()
        if child.ended_well():
            return 0
        if changes:
            tell(f"{_named(folder, (path for _, path in changes))} changed: starting again.")
            child.stop()
            child = _Child(arguments)
    return child.wait()


class _Child:
    """One life of the program."""

    def __init__(self, arguments: Sequence[str]) -> None:
        ours, theirs = os.pipe()
        self._pipe = theirs  # held open as long as this process lives
        self._told = False
        command = [sys.executable, "-c", "from perdure.cli import main; main()", *arguments]
        try:
            self._process = subprocess.Popen(command, env={**os.environ, CHILD: str(ours)}, pass_fds=[ours])  # noqa: S603 - ourselves
        finally:
            os.close(ours)

    def ended_well(self) -> bool:
        """Whether it has ended as it should; if it has ended otherwise, say once what happens now."""
        code = self._process.poll()
        if code and not self._told:
            self._told = True
            tell(f"It has ended with {code}. It is started again when a file changes; Ctrl-C ends this.")
        return code == 0

    def signal(self, number: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """In good order, as long as that doesn't take for ever."""
        self.signal(signal.SIGTERM)
        self.wait()

    def wait(self) -> int:
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        os.close(self._pipe)
        return code


def _named(folder: Path, paths: Iterable[str]) -> str:
    """The files that changed, as far as a person wants to read them."""
    names = sorted({os.path.relpath(path, folder) for path in paths})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
