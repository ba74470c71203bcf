"""The main program of a process in which the past of runs is looked at: it replays them, and carries nothing out.

It has no database: what it replays is handed to it. It writes no file either, since from the moment at which the user's
modules are imported the system lets it write nothing that would be longer than nothing.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
import traceback
from typing import Literal

import msgspec

from perdure.core.standing import Standing
from perdure.runtime import guard
from perdure.runtime.definitions import workflow_named
from perdure.runtime.offspring import import_code, settle_in
from perdure.runtime.processtalk import Greeting, frame, next_frame
from perdure.runtime.travel import Journey, Traveller
from perdure.runtime.turns import Turns


class Look(msgspec.Struct, frozen=True, tag=True):
    """Look at a run.

    Attributes:
        module: where its workflow is defined.
        known: how many of its events the process has been told before.
        events: those that follow.
        seq: after which event, or where to begin to search.
        variable: the id of a task, which of its frames, and the variable whose change is searched for.
        forget: the keys of runs that won't be asked for any more.
    """

    journey: Journey
    module: str
    known: int
    events: list[bytes]
    max_payload: int
    seq: int
    variable: tuple[int, int, str] | None = None
    direction: Literal["next", "previous"] = "next"
    forget: tuple[int, ...] = ()


class Seen(msgspec.Struct, frozen=True, tag=True):
    """Where the run stood."""

    standing: Standing


class Found(msgspec.Struct, frozen=True, tag=True):
    """At which event the variable changed."""

    seq: int | None


class NoCode(msgspec.Struct, frozen=True, tag=True):
    """The workflow can't be found."""

    why: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The engine itself has failed on it."""

    why: str


Answer = Seen | Found | NoCode | Failed

decode_answer = msgspec.msgpack.Decoder(Answer).decode
_decode_look = msgspec.msgpack.Decoder(Look).decode


def main(connection: int, lifeline: int, greeting: str) -> None:
    """Look at runs until the engine closes the connection. Both are numbers of open files."""
    told = settle_in(lifeline, greeting)
    guard.install()
    guide = _Guide(told)
    with socket.socket(fileno=connection) as line:
        while (data := next_frame(line)) is not None:
            try:
                answer = guide.answer(_decode_look(data))
            except Exception:  # noqa: BLE001 - it is told, where somebody reads it
                answer = Failed(traceback.format_exc()[-3000:])
            line.sendall(frame(answer))


class _Guide:
    """Answers looks, and keeps the runs that were looked at."""

    def __init__(self, told: Greeting) -> None:
        self._told = told
        self._turns: Turns | None = None
        self._travellers: dict[int, Traveller] = {}
        self._modules: set[str] = set()

    def answer(self, look: Look) -> Answer:
        for key in look.forget:
            if (gone := self._travellers.pop(key, None)) is not None:
                gone.close()
        traveller = self._travellers.get(look.journey.key)
        if traveller is None:
            made = self._begin(look)
            if isinstance(made, NoCode):
                return made
            traveller = self._travellers[look.journey.key] = made
        else:
            traveller.extend(look.events)
        if look.variable is None:
            return Seen(traveller.standing(look.seq))
        task, depth, name = look.variable
        return Found(traveller.change(look.seq, task, depth, name, look.direction))

    def _begin(self, look: Look) -> Traveller | NoCode:
        if look.module not in self._modules:
            _write_files(allowed=True)
            try:
                import_code(look.module, self._told)
            except BaseException as error:  # noqa: BLE001 - the top level of a module is user code
                return NoCode(f"{type(error).__name__}: {error}")
            finally:
                for stream in (sys.stdout, sys.stderr):
                    with contextlib.suppress(Exception):  # user code may have replaced or closed it
                        stream.flush()
                _write_files(allowed=False)
            self._modules.add(look.module)
        definition = workflow_named(look.journey.workflow)
        if definition is None:
            return NoCode("there is no workflow of this name in it")
        if self._turns is None:
            self._turns = Turns(TURN_LIMIT)
        return Traveller(look.journey, look.events, definition, self._turns, look.max_payload)


#: Longest turn in seconds.
TURN_LIMIT = 2.0


def _write_files(*, allowed: bool) -> None:
    """Have the system refuse whatever would make a file longer."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most if allowed else 0, most))
