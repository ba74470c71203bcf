"""The main program of a process that tries code on histories for `perdure verify`, and what the two say to each other.

The code is users': it may spin in C, or end the process. So it isn't imported into the command's own process, which
only hands out runs and counts. Each run is answered by itself, so that the one that killed a process is known.

    command -> process   Setup, then any number of Tasks
    process -> command   Ready or Unready, then an Answer to each run of each task
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import sys
import traceback
from itertools import chain
from pathlib import Path

import msgspec

from perdure.core.errands import step_of
from perdure.errors import HistoryFileError, PerdureError
from perdure.runtime import guard
from perdure.runtime.definitions import workflow_names
from perdure.runtime.processtalk import frame, next_frame
from perdure.runtime.verifying import Cause, Trial, Verdict
from perdure.runtime.verifyreading import Gone, verify_run
from perdure.storage.auditing import Auditor
from perdure.storage.histories import Corpus, Recorded, read, shape_of
from perdure.storage.redacting import redacted
from perdure.storage.urls import auditor_for


class Export(msgspec.Struct, frozen=True):
    """Where recorded histories are put.

    Attributes:
        per_shape: how many of each shape there are to be; 0 = all.
        redacted: without what may be confidential.
    """

    folder: str
    per_shape: int
    redacted: bool


class Setup(msgspec.Struct, frozen=True):
    """What a new process is told first.

    Attributes:
        modules: to import, or none: then whatever the histories name.
        path: of sys.path.
        url: of the database, None if files are verified.
        version: of the code that is tried; runs pinned to others are left alone.
        finished: runs that have ended are tried, too.
    """

    modules: list[str]
    path: list[str]
    url: str | None
    version: str | None
    finished: bool
    turn_limit: float
    time_limit: float
    export: Export | None = None


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The modules are imported."""

    workflows: list[str]


class Unready(msgspec.Struct, frozen=True, tag=True):
    """They can't be, or the database can't be read."""

    why: str


class Task(msgspec.Struct, frozen=True):
    """Runs to try: keys of a database, or files."""

    runs: list[int] = []
    files: list[str] = []


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, tag=True):
    """What came of one of them.

    Attributes:
        events: how many its history has.
        verdict: None if it could go on.
        gone: it has ended meanwhile.
        exported: its history was written to a file.
        unredactable: its code can't follow it without what is confidential.
        trouble: it couldn't be read.
    """

    events: int = 0
    verdict: Verdict | None = None
    gone: bool = False
    exported: bool = False
    unredactable: bool = False
    trouble: str = ""


Told = Ready | Unready | Answer

_setup = msgspec.msgpack.Decoder(Setup).decode
_task = msgspec.msgpack.Decoder(Task).decode
told = msgspec.msgpack.Decoder(Told).decode


def main(connection: int) -> None:
    """Try runs until the command closes the connection, which is the number of an open file."""
    with socket.socket(fileno=connection) as line:
        body = next_frame(line)
        if body is None:
            return
        setup = _setup(body)
        sys.path[:] = setup.path
        try:
            tester = Tester(setup)
        except BaseException as error:  # noqa: BLE001 - the top level of a module is user code
            line.sendall(frame(Unready(_why(error))))
            return
        line.sendall(frame(Ready(workflow_names())))
        while (body := next_frame(line)) is not None:
            task = _task(body)
            for answer in chain(map(tester.run, task.runs), map(tester.file, task.files)):
                line.sendall(frame(answer))


def _why(error: BaseException) -> str:
    if isinstance(error, PerdureError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {error}\n  {frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line}"


class Tester:
    """Tries runs, one after the other."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._auditor: Auditor | None = None if setup.url is None else auditor_for(setup.url)
        for module in setup.modules:
            importlib.import_module(module)
        logging.disable(logging.CRITICAL)  # workflow code logs nothing while it is replayed
        guard.install()
        export = setup.export
        self._corpus = None if export is None else Corpus(Path(export.folder), export.per_shape)
        self._trial = Trial(setup.turn_limit, setup.time_limit)

    def run(self, key: int) -> Answer:
        """Try a run of the database."""
        assert self._auditor is not None
        setup = self._setup
        try:
            recorded, verdict = verify_run(
                self._auditor, self._trial, key, version=setup.version, finished=setup.finished
            )
        except Gone:
            return Answer(gone=True)
        except PerdureError as error:
            return Answer(trouble=f"the run with the key {key}: {error}")
        return self._answer(recorded, verdict)

    def file(self, path: str) -> Answer:
        """Try a recorded history."""
        try:
            recorded = read(Path(path))
        except HistoryFileError as error:
            return Answer(trouble=str(error))
        return self._answer(recorded, self._trial.verdict(recorded))

    def _answer(self, recorded: Recorded, verdict: Verdict | None) -> Answer:
        answer = Answer(events=len(recorded.events), verdict=verdict)
        export, corpus, header = self._setup.export, self._corpus, recorded.header
        if export is None or corpus is None or not recorded.events or step_of(header.workflow) is not None:
            return answer
        try:
            shape = shape_of(header.workflow, recorded.events)
            if not corpus.lacks(header, shape):
                return answer
            kept = self._redacted(recorded, verdict) if export.redacted else recorded
            if kept is None:
                return msgspec.structs.replace(answer, unredactable=True)
            return msgspec.structs.replace(answer, exported=corpus.add(kept, shape))
        except (OSError, PerdureError) as error:
            return msgspec.structs.replace(answer, trouble=f"run {header.id!r} can't be exported: {error}")

    def _redacted(self, recorded: Recorded, verdict: Verdict | None) -> Recorded | None:
        """The history without what may be confidential, if the code goes the same way with it."""
        if verdict is not None:
            return None
        header = msgspec.structs.replace(recorded.header, redacted=True)
        bare = Recorded(header, [redacted(data) for data in recorded.events])
        return bare if self._trial.verdict(bare) is None else None


def crashed(cause: Cause, run: str, text: str) -> Verdict:
    """A verdict on a run that ended the process which tried it."""
    return Verdict(run=run, generation=0, workflow="", cause=cause, text=text, shape=f"{cause}|{text}")


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[1]), False)  # steps' programs needn't have it
    main(int(sys.argv[1]))
