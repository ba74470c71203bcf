"""Hands runs out to processes that try them, and gathers what they find, by cause: the engine of `perdure verify`.

What is kept of a run that could go on is a number. Of the others there are as many groups as there are causes with
different diffs and places, each with the verdict on its first run and the ids of a bounded number of others.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from perdure.errors import PerdureError
from perdure.runtime.processtalk import HEAD, frame
from perdure.runtime.verifying import Cause, Verdict
from perdure.runtime.verifyprocess import Answer, Ready, Setup, Task, Unready, crashed, told

#: Runs in one task, at most.
TASK = 32
#: Runs that spin or end their process, each of which costs seconds, after which no more are tried.
ENOUGH = 50
#: Runs that are told of in each group.
LISTED = 1000

_LOOK_EVERY = 0.2  # seconds
_TROUBLES = 100


class Group(msgspec.Struct):
    """Runs with the same cause, diff and place.

    Attributes:
        first: the verdict on one of them.
        runs: their ids, the first LISTED, each with the event at which it is.
        count: how many there are.
    """

    first: Verdict
    runs: list[tuple[str, int | None]] = []
    count: int = 0


class Findings(msgspec.Struct):
    """What was found so far.

    Attributes:
        runs: that were tried; events: of their histories.
        fine: those that could go on.
        gone: those that have ended meanwhile.
        exported, unredactable: histories that were written, or couldn't be without what is confidential.
        groups: by shape.
        troubles: what couldn't be read.
    """

    runs: int = 0
    events: int = 0
    fine: int = 0
    gone: int = 0
    exported: int = 0
    unredactable: int = 0
    groups: dict[str, Group] = {}
    troubles: list[str] = []

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        if answer.gone:
            self.gone += 1
            return
        if answer.trouble and len(self.troubles) < _TROUBLES:
            self.troubles.append(answer.trouble)
        self.runs += 1
        self.events += answer.events
        self.exported += answer.exported
        self.unredactable += answer.unredactable
        if answer.verdict is None:
            self.fine += not answer.trouble
            return
        group = self.groups.setdefault(answer.verdict.shape, Group(answer.verdict, []))
        group.count += 1
        if len(group.runs) < LISTED:
            group.runs.append((answer.verdict.run, answer.verdict.seq))

    def count(self, cause: Cause) -> int:
        """How many runs have a verdict with this cause."""
        return sum(group.count for group in self.groups.values() if group.first.cause is cause)


class CodeError(PerdureError):
    """The code can't be imported, or the database not be read, in a process that is to try runs."""


class Jobs:
    """Processes that try runs.

    Args:
        setup: what each is told.
        number: how many processes.
        total: how many runs there are.
        name: of a run by its key, for one that ends its process.
    """

    def __init__(self, setup: Setup, number: int, total: int, name: Callable[[int], str]) -> None:
        self._setup = setup
        self._number = min(number, 1 + total // TASK)
        self._name = name
        self._again: list[int | str] = []
        self._suspects: set[int | str] = set()
        self._costly = 0
        self._size = min(TASK, max(1, total // (4 * self._number)))
        self.findings = Findings()

    def try_all(
        self, items: Iterable[int | str], progress: Callable[[Findings], None] | None = None
    ) -> Findings:
        """Try all of these runs: keys or files.

        Raises:
            CodeError: no process can even begin.
        """
        todo = iter(items)
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            processes: set[_Process] = set()

            def add() -> None:
                process = _Process(self._setup)
                stack.callback(process.end)
                processes.add(process)
                selector.register(process.line, selectors.EVENT_READ, process)

            for _ in range(self._number):
                add()
            while processes:
                for key, _ in selector.select(_LOOK_EVERY):
                    self._hear(key.data, todo)
                for process in list(processes):
                    if process.done or self._dead(process):
                        selector.unregister(process.line)
                        processes.remove(process)
                        process.end()
                        if not process.done:
                            add()
                if progress is not None:
                    progress(self.findings)
        return self.findings

    def _hear(self, process: _Process, todo: Iterator[int | str]) -> None:
        for message in process.hear():
            match message:
                case Unready():
                    raise CodeError(message.why)
                case Answer():
                    process.pending.pop(0)
                    self._add(message)
                case Ready():
                    process.ready = True
        if process.ready and not process.pending and not process.closed:
            task: list[int | str] = []
            while len(task) < self._size and (item := self._next(todo)) is not None:
                task.append(item)
            process.give(task)

    def _next(self, todo: Iterator[int | str]) -> int | str | None:
        if self._costly >= ENOUGH:
            return None
        return self._again.pop() if self._again else next(todo, None)

    def _dead(self, process: _Process) -> bool:
        """Whether a process has ended amid a run, or must be ended because of one."""
        late = process.pending and process.silent() > 2 * self._setup.time_limit + 10
        if not process.closed and not late:
            return False
        code, complaint = process.end()
        if not process.ready:
            raise CodeError(
                f"the process that tries runs ended with code {code} before it was ready\n{complaint}"
            )
        if not process.pending:
            raise CodeError(f"a process that tries runs ended with code {code}\n{complaint}")
        item, *rest = process.pending
        self._again += reversed(rest)
        if not late and item not in self._suspects:  # something else may have ended it: once more
            self._suspects.add(item)
            self._again.append(item)
            return True
        name = self._name(item) if isinstance(item, int) else item
        if late:
            text = "its replay neither ends nor can be interrupted: code of a C extension, perhaps"
            verdict = crashed(Cause.SPINS, name, text)
        else:
            text = f"its replay ended the process with code {code}" + (f"\n{complaint}" if complaint else "")
            verdict = crashed(Cause.CRASHES, name, text)
        self._add(Answer(verdict=verdict))
        return True

    def _add(self, answer: Answer) -> None:
        self.findings.add(answer)
        if answer.verdict is not None and answer.verdict.cause in (Cause.SPINS, Cause.CRASHES):
            self._costly += 1
            if self._costly == ENOUGH:
                self.findings.troubles.append(
                    f"no more runs were tried after {ENOUGH} that spin or end their process: mend these first"
                )


class _Process:
    """One of them."""

    def __init__(self, setup: Setup) -> None:
        self.line, theirs = socket.socketpair()
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it has ended
        number = str(theirs.fileno())
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-m", "perdure.runtime.verifyprocess", number],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # what workflow code prints
                stderr=self._complaints,
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        finally:
            theirs.close()
        self.line.sendall(frame(setup))
        self.line.setblocking(False)
        self.pending: list[int | str] = []
        self.ready = self.closed = self.done = False
        self._heard = time.monotonic()
        self._data = bytearray()
        self._code: int | None = None

    def silent(self) -> float:
        """Seconds since it said something."""
        return time.monotonic() - self._heard

    def hear(self) -> list[Ready | Unready | Answer]:
        """What it has said."""
        try:
            more = self.line.recv(1 << 20)
        except BlockingIOError:
            return []
        except ConnectionError:
            more = b""
        self.closed = not more
        self._heard = time.monotonic()
        self._data += more
        messages: list[Ready | Unready | Answer] = []
        place = 0
        while len(self._data) - place >= HEAD:
            end = place + HEAD + int.from_bytes(self._data[place : place + HEAD], "big")
            if end > len(self._data):
                break
            messages.append(told(self._data[place + HEAD : end]))
            place = end
        del self._data[:place]
        return messages

    def give(self, items: Sequence[int | str]) -> None:
        """Hand it a task. Without any it is done."""
        self.pending = list(items)
        self.done = not items
        if items:
            runs = [item for item in items if isinstance(item, int)]
            files = [item for item in items if isinstance(item, str)]
            self._heard = time.monotonic()
            with contextlib.suppress(ConnectionError):  # it has ended, which is heard next
                self.line.setblocking(True)
                self.line.sendall(frame(Task(runs, files)))
            self.line.setblocking(False)

    def end(self) -> tuple[int, str]:
        """End it: its return code, and the end of what it has complained of."""
        if self._code is None:
            self.line.close()
            if not (self.done or self.closed):
                self._process.kill()
            try:
                self._code = self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._code = self._process.wait()
            size = self._complaints.seek(0, os.SEEK_END)
            self._complaints.seek(max(0, size - 2000))
            self._text = self._complaints.read().decode(errors="replace").strip()
            self._complaints.close()
        return self._code, self._text
