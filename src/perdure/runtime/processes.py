"""A bounded pool of processes that execute steps: `@step(process=True)`.

Each is a fresh interpreter (never a fork of this process, which has threads) that runs stepprocess.py. It is
started when the first step needs it, executes one attempt at a time, and is kept for the next one. An attempt that
isn't waited for any more is ended by killing its process, with everything it has started; a process that dies
by itself costs the attempt it executed, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from perdure.errors import ConfigurationError, StepProcessDied
from perdure.runtime.processtalk import (
    Begun,
    Greeting,
    Job,
    Late,
    Raised,
    Returned,
    Unfound,
    frame,
    next_told,
)

logger = logging.getLogger("perdure.steps")

#: Seconds that idle processes have to end by themselves when the engine closes.
CLOSE_WITHIN = 1.0
#: Seconds a process may take to import a step's module, if that step has a time-out of less.
IMPORT_WITHIN = 60.0

_REAP_EVERY = 0.02

# The first line says where modules are; before that nothing of ours can be imported.
_BOOT = (
    "import json, os, sys\n"
    "connection, lifeline = map(int, sys.argv[1:])\n"
    "with os.fdopen(os.dup(connection), 'rb', 0) as file: greeting = file.readline()\n"
    "if not greeting: sys.exit()\n"
    "sys.path[:] = json.loads(greeting)['path']\n"
    "from perdure.runtime.{program} import main\n"
    "main(connection, lifeline, greeting)"
)


class StepProcess:
    """One of the processes. Its id is that of its group, too.

    Args:
        program: the module of this package that it executes.
        silent: what it prints is nobody's business.
    """

    def __init__(self, program: str = "stepprocess", *, silent: bool = False) -> None:
        ours, theirs = socket.socketpair()
        reading, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [
                    sys.executable,
                    *_flags(),
                    "-P",
                    "-c",
                    _BOOT.format(program=program),
                    str(theirs.fileno()),
                    str(reading),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if silent else None,
                stderr=subprocess.DEVNULL if silent else None,
                pass_fds=(theirs.fileno(), reading),
                process_group=0,  # so that it can be killed with everything that it has started
            )
        except BaseException:
            ours.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(reading)
        self.pid = self._process.pid
        self._socket = ours
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def begin(self, job: msgspec.Struct) -> None:
        """Hand it an attempt."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(sock=self._socket)
            self._writer.write(greeting())
        self._writer.write(frame(job))
        await self._writer.drain()

    async def next(self) -> Any:
        """What it says next.

        Raises:
            EOFError, ConnectionError: it has died, or closed the connection.
        """
        return await next_told(self.read)

    async def read(self, size: int) -> bytes:
        """So many bytes of what it says."""
        assert self._reader is not None
        return await self._reader.readexactly(size)

    def kill(self) -> None:
        """End it and everything that it has started, at once."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.let_go()

    def let_go(self) -> None:
        """Close the connection: an idle process then ends by itself."""
        if self._writer is not None:
            self._writer.close()
        else:
            self._socket.close()

    def ended(self) -> int | None:
        """Its return code if it has ended: negative numbers are signals."""
        code = self._process.poll()
        if code is not None and self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        return code


class Processes:
    """The processes of one engine.

    Args:
        size: how many there are at most.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self._loop = loop
        self._places = asyncio.Semaphore(size)
        self._idle: list[StepProcess] = []
        self._busy: set[StepProcess] = set()
        self._ending: list[StepProcess] = []
        self._reaper: asyncio.TimerHandle | None = None

    async def execute(
        self,
        job: Job,
        hear: Callable[[Any], None],
        timeout: float | None,
        sure: Callable[[], Awaitable[None]],
    ) -> Returned | Raised | Late:
        """Execute an attempt as soon as a process is free. If this is cancelled or raises, its process is killed.

        Args:
            hear: called with what the process says meanwhile.
            timeout: seconds from the begin of the body after which it is killed.
            sure: awaited when it is the attempt's turn.

        Raises:
            TimeoutError: it took too long: with a text if that was before the body began.
            ConfigurationError: the process can't find the step.
            StepProcessDied: it died.
        """
        async with self._places:
            await sure()
            process = self._take()
            try:
                answer = await self._converse(process, job, hear, timeout)
            except BaseException:
                self._kill(process)
                raise
            self._busy.discard(process)
            self._idle.append(process)
        if isinstance(answer, Unfound):
            raise ConfigurationError(_unfound(job, answer.why))
        return answer

    def _take(self) -> StepProcess:
        while self._idle:
            process = self._idle.pop()
            if process.ended() is None:
                break
            process.kill()  # it died while it had nothing to do
        else:
            process = StepProcess()
        self._busy.add(process)
        return process

    async def _converse(
        self, process: StepProcess, job: Job, hear: Callable[[Any], None], timeout: float | None
    ) -> Returned | Raised | Late | Unfound:
        begun = False
        allowed = None if timeout is None else max(timeout, IMPORT_WITHIN)
        try:
            async with asyncio.timeout(allowed) as limit:
                await process.begin(job)
                while True:
                    told = await process.next()
                    if isinstance(told, Returned | Raised | Late | Unfound):
                        limit.reschedule(None)
                        return told
                    if isinstance(told, Begun):
                        begun = True
                        if timeout is not None:
                            limit.reschedule(self._loop.time() + timeout)
                    hear(told)
        except TimeoutError:
            if begun:
                raise
            msg = f"the process for step {job.step} didn't import {job.module} within {allowed:g} s"
            raise TimeoutError(msg) from None
        except (EOFError, ConnectionError):
            raise await self._death(process, job) from None

    async def _death(self, process: StepProcess, job: Job) -> StepProcessDied:
        """What it died of. A process that lives but doesn't talk any more is killed."""
        process.kill()
        while (code := process.ended()) is None:  # noqa: ASYNC110 - children can be polled in any thread
            await asyncio.sleep(_REAP_EVERY / 4)
        attempt = f"attempt {job.attempt} of step {job.step}"
        if code >= 0:
            return StepProcessDied(
                f"the process that executed {attempt} ended by itself, with exit code {code}: something in the step "
                "called os._exit() or ended the interpreter. The engine and its other steps go on",
                exit_code=code,
            )
        name = _signal_name(-code)
        why = {
            "SIGKILL": "kill -9, or the system ran short of memory",
            "SIGSEGV": "a crash in a C extension",
            "SIGABRT": "a C extension gave up",
        }.get(name)
        return StepProcessDied(
            f"the process that executed {attempt} was killed by {name}{f' ({why})' if why else ''}. "
            "The engine and its other steps go on",
            signal=name,
        )

    # -- ends ---------------------------------------------------------------------------------------

    def _kill(self, process: StepProcess) -> None:
        process.kill()
        self._busy.discard(process)
        if process.ended() is None:
            self._ending.append(process)
            self._reap_soon()

    def _reap_soon(self) -> None:
        if self._reaper is None:
            self._reaper = self._loop.call_later(_REAP_EVERY, self._reap)

    def _reap(self) -> None:
        self._reaper = None
        self._ending = [process for process in self._ending if process.ended() is None]
        if self._ending:
            self._reap_soon()

    async def close(self) -> None:
        """Kill those that execute, let the others end by themselves."""
        for process in list(self._busy):
            self._kill(process)
        for process in self._idle:
            process.let_go()
            self._ending.append(process)
        self._idle.clear()
        deadline = self._loop.time() + CLOSE_WITHIN
        while self._ending and self._loop.time() < deadline:
            self._ending = [process for process in self._ending if process.ended() is None]
            await asyncio.sleep(_REAP_EVERY / 4)
        for process in self._ending:
            process.kill()
        while self._ending and self._loop.time() < deadline + CLOSE_WITHIN:
            self._ending = [process for process in self._ending if process.ended() is None]
            await asyncio.sleep(_REAP_EVERY / 4)
        if self._reaper is not None:
            self._reaper.cancel()


def greeting() -> bytes:
    """What a new process has to know of this one, on one line."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    script = getattr(main, "__file__", None)
    levels = {"": logging.getLogger().level}
    for name, known in list(logging.getLogger().manager.loggerDict.items()):
        if isinstance(known, logging.Logger) and known.level != logging.NOTSET:
            levels[name] = known.level
    told = Greeting(
        path=[entry or os.getcwd() for entry in sys.path],
        argv=list(sys.argv),
        script=None if script is None else os.path.abspath(script),
        name=None if spec is None else spec.name,
        package=getattr(main, "__package__", None),
        levels=levels,
    )
    return msgspec.json.encode(told) + b"\n"


def _flags() -> list[str]:
    """The options this interpreter was started with that aren't in the environment."""
    flags = [f"-W{option}" for option in sys.warnoptions]
    for name, value in sys._xoptions.items():
        flags += ["-X", name if value is True else f"{name}={value}"]
    if sys.flags.optimize:
        flags.append("-" + "O" * sys.flags.optimize)
    return flags


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _unfound(job: Job, why: str) -> str:
    where = "the program's script" if job.module == "__main__" else f"the module {job.module}"
    advice = "Define the step at the top level of a module that can be imported"
    if job.module == "__main__":
        advice += ', and put what the script does under `if __name__ == "__main__":`'
    return (
        f"step {job.step} has process=True, but its process can't find it in {where}: {why}. {advice}; or "
        "leave out process=True, and it runs in a thread"
    )
