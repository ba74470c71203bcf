"""A plugin for pytest: tests in several processes, forked once everything is collected (`pytest --forks 4`).

Importing all the tests, with the frameworks that they use, takes ten seconds and more. Processes that begin anew each
pay that; forked ones have it. The parent hands out tests in batches, the longest first, to whoever has nothing left,
and tells what comes of them, as if it had run them by itself. A process that dies fails its test and is replaced.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import socket
import tempfile
import traceback
from collections import deque
from collections.abc import Sequence
from itertools import count, groupby
from typing import Any

import pytest

#: Tests of one file that go to a process together, unless they share something dear: those all do.
TOGETHER = 5

#: What a process looks after by itself in the parent, and mustn't a second time.
_OF_THE_PARENT = ("terminalreporter", "lfplugin", "nfplugin", "stepwiseplugin", "junitxml")


class Forks:
    """Runs the tests of a session in processes.

    Args:
        number: of processes at a time.
        longest: what begins first, best known first: how node ids begin.
    """

    def __init__(self, number: int, longest: Sequence[str] = ()) -> None:
        self._number = number
        self._longest = longest
        self._processes: dict[socket.socket, _Process] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed or session.config.option.collectonly or not session.items:
            return None  # pytest's own one knows what to do then
        todo = deque(batches(session.items, self._longest))
        numbers = count()
        with selectors.DefaultSelector() as selector:
            try:
                for _ in range(self._number):
                    self._fork(session, next(numbers), selector)
                while self._processes:
                    for key, _ in selector.select():
                        process = self._processes[key.fileobj]
                        if (heard := process.hear()) is not None:
                            for kind, value in heard:
                                self._told(session, process, kind, value, todo)
                        else:
                            selector.unregister(process.channel)
                            del self._processes[process.channel]
                            if process.lost(session):
                                if process.left:
                                    todo.appendleft(process.left)
                                self._fork(session, next(numbers), selector)
            finally:
                for process in self._processes.values():  # only when something went wrong here
                    process.kill()
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
        return True

    def _fork(self, session: pytest.Session, number: int, selector: selectors.BaseSelector) -> None:
        ours, theirs = socket.socketpair()
        # Here, so that two processes don't make it at once.
        base = session.config._tmp_path_factory.getbasetemp()
        if (pid := os.fork()) == 0:
            status = 1
            try:
                selector.close()
                ours.close()
                for process in self._processes.values():
                    process.channel.close()
                folder = base / f"process-{number}"
                folder.mkdir(mode=0o700)
                session.config._tmp_path_factory._basetemp = folder
                work(session, theirs)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        theirs.close()
        self._processes[ours] = _Process(pid, ours)
        selector.register(ours, selectors.EVENT_READ)

    def _told(
        self, session: pytest.Session, process: _Process, kind: str, value: Any, todo: deque[list[int]]
    ) -> None:
        hook = session.config.hook
        if kind == "more":
            stops = session.shouldfail or session.shouldstop or not todo
            process.hand_out([] if stops else todo.popleft())
        elif kind == "begins":
            process.left.remove(value)
            process.busy_with = session.items[value]
            hook.pytest_runtest_logstart(nodeid=process.busy_with.nodeid, location=process.busy_with.location)
        elif kind == "ended":
            item, process.busy_with = session.items[value], None
            hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        else:
            report = hook.pytest_report_from_serializable(config=session.config, data=value)
            if isinstance(report.longrepr, list):  # where it was skipped: JSON knows no tuples
                report.longrepr = tuple(report.longrepr)
            hook.pytest_runtest_logreport(report=report)


class _Process:
    """The parent's end of one.

    Attributes:
        left: numbers of the tests that it has been given and not begun.
    """

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        self.busy_with: pytest.Item | None = None
        self.left: list[int] = []
        self._rest = b""

    def hear(self) -> list[tuple[str, Any]] | None:
        """What it says now; None if it has said all."""
        if not (got := self.channel.recv(1 << 20)):
            return None
        *lines, self._rest = (self._rest + got).split(b"\n")
        return [json.loads(line) for line in lines]

    def hand_out(self, batch: list[int]) -> None:
        self.left += batch
        self.channel.sendall(json.dumps(batch).encode() + b"\n")

    def kill(self) -> None:
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)

    def lost(self, session: pytest.Session) -> bool:
        """Take leave of a process that has closed its end. Whether it died in a test, which has failed then."""
        _, status = os.waitpid(self.pid, 0)
        self.channel.close()
        ended = os.waitstatus_to_exitcode(status)
        if (item := self.busy_with) is None:
            assert ended == 0, f"a process for tests ended with {ended} between two of them, see above"
            return False
        report = pytest.TestReport(
            item.nodeid,
            item.location,
            keywords={},
            outcome="failed",
            longrepr=f"{item.nodeid}: the process that ran this test ended in it, with {ended}",
            when="call",
        )
        session.config.hook.pytest_runtest_logreport(report=report)
        return True


def batches(items: Sequence[pytest.Item], longest: Sequence[str] = ()) -> list[list[int]]:
    """Numbers of tests that go to one process, in the order in which they begin."""

    def place(batch: list[int]) -> int:
        nodeid = items[batch[0]].nodeid
        return next((n for n, start in enumerate(longest) if nodeid.startswith(start)), len(longest))

    made: list[list[int]] = []
    for _, group in groupby(range(len(items)), lambda number: items[number].path):
        numbers = list(group)
        size = max(_size(items[number], len(numbers)) for number in numbers)
        made += [numbers[n : n + size] for n in range(0, len(numbers), size)]
    return sorted(made, key=place)


def _size(item: pytest.Item, all: int) -> int:
    """How many tests go together, if this is one of so many in its file."""
    definitions = item._fixtureinfo.name2fixturedefs.values() if isinstance(item, pytest.Function) else ()
    if any(found[-1].scope in ("class", "module", "package") for found in definitions):
        return all  # it shares what is dear: a server and a browser, or a package
    return 1 if item.get_closest_marker("acceptance") else TOGETHER


# -- in the processes ---------------------------------------------------------------------------------


def work(session: pytest.Session, channel: socket.socket) -> None:
    """Run what the parent hands out, and tell it."""
    config = session.config
    _capture_apart(config)
    for name in _OF_THE_PARENT:
        if config.pluginmanager.get_plugin(name) is not None:
            config.pluginmanager.unregister(name=name)
    lines = channel.makefile("rb")

    def tell(kind: str, value: Any = None) -> None:
        channel.sendall(json.dumps([kind, value], default=str).encode() + b"\n")

    class Teller:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            tell("report", config.hook.pytest_report_to_serializable(config=config, report=report))

    config.pluginmanager.register(Teller())
    tell("more")
    for batch in map(json.loads, lines):
        if not batch:
            break
        for number, following in zip(batch, [*batch[1:], None], strict=True):
            # The following one says how much of the fixtures is left standing.
            item, next_one = session.items[number], None if following is None else session.items[following]
            tell("begins", number)
            config.hook.pytest_runtest_protocol(item=item, nextitem=next_one)
            tell("ended", number)
        tell("more")
    atexit._run_exitfuncs()


def _capture_apart(config: pytest.Config) -> None:
    """Give the files that standard output and errors are captured in another content than the parent's.

    They themselves stay: modules that were imported keep `sys.stderr` as they found it.
    """
    taken = config.pluginmanager.get_plugin("capturemanager")._global_capturing
    for part in (taken.out, taken.err) if taken is not None else ():
        with contextlib.suppress(OSError, AttributeError), tempfile.TemporaryFile() as own:
            os.dup2(own.fileno(), part.tmpfile.fileno(), inheritable=False)
