"""`perdure dev` again and again: a program that is started anew whenever a file of its folder changes.

The process that a person sees only watches; its child does the work. So code that can't be imported, or ends, is no
end: its error is shown, and the next change starts it again. Runs lose nothing by a restart: they go on where they
stood. If the watching process is killed, its child stops, too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

from perdure.cli.children import PATIENCE, Child
from perdure.cli.output import tell
from perdure.cli.trouble import Trouble

_LOOK_EVERY = 200  # milliseconds between looks at the child


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
    told = False  # of its end
    child = Child(arguments)

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
            return child.wait(PATIENCE)
        if (code := child.poll()) == 0:
            return 0
        if code and not told:
            told = True
            tell(f"It has ended with {code}. It is started again when a file changes; Ctrl-C ends this.")
        if changes:
            tell(f"{_named(folder, (path for _, path in changes))} changed: starting again.")
            child.stop()
            child, told = Child(arguments), False
    return child.wait(PATIENCE)


def _named(folder: Path, paths: Iterable[str]) -> str:
    """The files that changed, as far as a person wants to read them."""
    names = sorted({os.path.relpath(path, folder) for path in paths})
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
