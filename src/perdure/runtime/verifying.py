"""Tries code on the histories of runs, and tells what would become of each: `perdure verify`.

A history is replayed as a worker would, and nothing that the code asks for is carried out. Nothing is written and
nothing is claimed. The verdict on a run is None if it could go on.
"""

from __future__ import annotations

import os
import re
import time
import traceback
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.core.continuing import ContinueAs
from perdure.core.errands import step_of
from perdure.core.machine import Machine
from perdure.core.mismatch import where
from perdure.core.status import Status
from perdure.errors import DamagedHistoryError, NonDeterminismError, TurnLimitError, UndecodableError
from perdure.runtime.definitions import WorkflowDefinition, step_named, workflow_named
from perdure.runtime.entities import Entity, from_checkpoint
from perdure.runtime.errand import decode_errand
from perdure.runtime.machines import expect, feed_recorded, let_go, new_machine
from perdure.runtime.turns import TurnInterrupt, Turns
from perdure.storage.histories import Recorded
from perdure.storage.records import History

#: Events that are replayed between looks at the clock.
_SLICE = 200

_MAX_PAYLOAD = 1 << 40  # what was recorded once may be asked for again

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ASYNCIO = os.path.dirname(os.path.abspath(os.__file__)) + os.sep + "asyncio" + os.sep


class Cause(StrEnum):
    """Why a run couldn't go on, or why nobody knows."""

    DIVERGES = "diverges"  #: history and code disagree
    UNDECODABLE = "undecodable"  #: a recorded value doesn't fit the code's type
    FAILS = "fails"  #: the run waits, and with the new code it would fail at once
    SPINS = "spins"  #: the code doesn't come to an await, or the replay takes longer than allowed
    CRASHES = "crashes"  #: replaying it ended the process
    UNKNOWN = "unknown"  #: its workflow isn't in these modules
    DAMAGED = "damaged"  #: its history isn't what was recorded
    PINNED = "pinned"  #: it stays with another version, so it doesn't meet this code

    @property
    def unfit(self) -> bool:
        """Whether the code is to blame."""
        return self in _UNFIT


_UNFIT = frozenset({Cause.DIVERGES, Cause.UNDECODABLE, Cause.FAILS, Cause.SPINS, Cause.CRASHES})


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why one run couldn't go on.

    Attributes:
        run, generation, workflow: which.
        seq: the event at which it is, None if it isn't at one.
        history_says, code_says: both sides, as half a sentence each.
        places: where the code is: "file:line, in function".
        text: all of it, for people.
        shape: what verdicts with the same cause, diff and place have in common.
    """

    run: str
    generation: int
    workflow: str
    cause: Cause
    seq: int | None = None
    history_says: str = ""
    code_says: str = ""
    places: tuple[str, ...] = ()
    text: str = ""
    shape: str = ""


class Trial:
    """Tries the code that is in this process.

    Args:
        turn_limit: longest turn of the code in seconds.
        time_limit: longest replay of one run in seconds.
    """

    def __init__(self, turn_limit: float, time_limit: float) -> None:
        self._turns = Turns(turn_limit)
        self._time_limit = time_limit

    def close(self) -> None:
        self._turns.close()

    def verdict(self, recorded: Recorded) -> Verdict | None:
        """What would become of a run with this history. None: it could go on."""
        header = recorded.header
        name = header.workflow
        if (step := step_of(name)) is not None:
            return self._errand(recorded, step)
        definition = workflow_named(name)
        if definition is None:
            return verdict(recorded, Cause.UNKNOWN, f"no workflow is named {name!r} in these modules")
        machine = new_machine(header.id, definition, _MAX_PAYLOAD)
        try:
            self._replay(machine, definition, recorded)
            found = _end_of(machine, recorded)
        except TurnInterrupt:
            self._turns.over()
            found = self._spins(recorded, machine.turn_limit_error())
        except (TurnLimitError, _TooLong) as error:
            found = self._spins(recorded, error)
        except NonDeterminismError as error:
            found = _diverges(recorded, definition, machine, error)
        except UndecodableError as error:
            found = verdict(
                recorded, Cause.UNDECODABLE, str(error), seq=machine.seq, places=where(machine.loop)
            )
        except Exception as error:  # noqa: BLE001 - such a run would be blocked, too
            told = "".join(traceback.format_exception(error))
            found = verdict(recorded, Cause.DIVERGES, f"the engine itself failed on this run:\n{told}")
        let_go(machine, self._turns)
        return found

    def _replay(self, machine: Machine, definition: WorkflowDefinition, recorded: Recorded) -> None:
        until = time.monotonic() + self._time_limit
        history = from_checkpoint(definition, History(0, recorded.events, ()))
        expect(machine, history)
        for start in range(0, len(history.events), _SLICE):
            events: Iterator[ev.Event] = map(decode_event, history.events[start : start + _SLICE])
            if recorded.header.redacted:
                events = (_as_done(machine, event) for event in events)
            feed_recorded(machine, definition, events, recorded.header.began, self._turns)
            if time.monotonic() > until and start + _SLICE < len(history.events):
                raise _TooLong(
                    f"its replay takes longer than {self._time_limit:g} s: {start + _SLICE} of {len(history.events)} "
                    "events were replayed. Give it more time with --time-limit"
                )
        if (
            machine.handlers is not None
            and isinstance(keeper := machine.handlers.keeper, Entity)
            and keeper.saved
        ):
            keeper.definition.state.decode(keeper.saved)

    def _spins(self, recorded: Recorded, error: Exception) -> Verdict:
        place = self._turns.place.removeprefix("it is at ")
        self._turns.place = ""
        return verdict(recorded, Cause.SPINS, str(error), places=(place,) if place else ())

    def _errand(self, recorded: Recorded, step: str) -> Verdict | None:
        definition = step_named(step)
        if definition is None:
            return verdict(recorded, Cause.UNKNOWN, f"no step is named {step!r} in these modules")
        try:
            started = decode_event(recorded.events[0])
            assert isinstance(started, ev.RunStarted)
            definition.arguments.decode(decode_errand(started.input).input)
        except UndecodableError as error:
            return verdict(recorded, Cause.UNDECODABLE, str(error), seq=1)
        return None


class _TooLong(Exception):
    """A replay takes too long as a whole."""


def _as_done(machine: Machine, event: ev.Event) -> ev.Event:
    """A redacted event as the code has just brought it about: it can't be compared with that."""
    if isinstance(event, ev.Record):
        done: Any = machine.done_as(event.op)
        if type(done) is type(event):
            changed: ev.Event = msgspec.structs.replace(done, at=event.at)
            return changed
    return event


# -- verdicts -------------------------------------------------------------------------------------------


def verdict(
    recorded: Recorded,
    cause: Cause,
    text: str,
    *,
    seq: int | None = None,
    history_says: str = "",
    code_says: str = "",
    places: Sequence[str] = (),
) -> Verdict:
    """A verdict on a run, with its shape."""
    header = recorded.header
    said = [history_says, code_says] if history_says else [text.partition("\n")[0]]
    both = [] if cause is Cause.DAMAGED else [_plain(half) for half in said]
    return Verdict(
        run=header.id,
        generation=header.generation,
        workflow=header.workflow,
        cause=cause,
        seq=seq,
        history_says=history_says,
        code_says=code_says,
        places=tuple(places),
        text=text,
        shape="|".join((cause, header.workflow, *both, *places[:1])),
    )


def damaged(recorded: Recorded, error: DamagedHistoryError) -> Verdict:
    """A verdict on a run whose history isn't what was recorded."""
    return verdict(recorded, Cause.DAMAGED, str(error), seq=error.seq)


_PAYLOAD = re.compile(r"(called with|calls it with|with details|\().*", re.DOTALL)
_SCOPE = re.compile(r"'u?[\d.]+(?:/u?[\d.]+)*/")
_RUN = re.compile(r"\brun '[^']*'")
_NUMBER = re.compile(r"\d+")


def _plain(text: str) -> str:
    """What is said, without what differs between runs: payloads, ids of runs, numbers."""
    text = _RUN.sub("run", _SCOPE.sub("'", _PAYLOAD.sub(r"\1", text)))
    return _NUMBER.sub("", text)


def _diverges(
    recorded: Recorded, definition: WorkflowDefinition, machine: Machine, error: NonDeterminismError
) -> Verdict:
    code_says, places = error.code_says, list(error.places)
    raised = _raised(machine)
    if raised is not None:
        code_says += f", with {type(raised).__name__}: {raised}"
        places = places or _place_of(raised)
    if not places:
        code = definition.function.__code__
        places = [f"{code.co_filename}:{code.co_firstlineno}, in {code.co_name}"]
    return verdict(
        recorded,
        Cause.DIVERGES,
        str(error),
        seq=error.seq,
        history_says=error.history_says,
        code_says=code_says,
        places=places,
    )


def _end_of(machine: Machine, recorded: Recorded) -> Verdict | None:
    """A run that waits for something, and would fail as soon as it met the code."""
    waits = recorded.header.driven and recorded.header.status in _WAITS
    raised = _raised(machine) if waits and machine.ended else None
    if raised is None or machine.deadline_passed or machine.cancel_reason is not None:
        return None
    return verdict(
        recorded,
        Cause.FAILS,
        f"the run waits, and with this code it would fail at once with {type(raised).__name__}: {raised}",
        seq=machine.seq,
        history_says=f"the run waits after event {machine.seq}",
        code_says=f"raises {type(raised).__name__}: {raised}",
        places=_place_of(raised),
    )


_WAITS = frozenset({Status.WAITING, Status.PAUSED, Status.BLOCKED})


def _raised(machine: Machine) -> BaseException | None:
    root: Any = machine.loop.root
    if root is None or not root.done() or root.cancelled():
        return None
    error: BaseException | None = root.exception()
    return None if isinstance(error, ContinueAs) else error


def _place_of(error: BaseException) -> list[str]:
    """The innermost place in users' code where an exception passed."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((_HERE, _ASYNCIO, "<frozen")):
            return [f"{frame.filename}:{frame.lineno}, in {frame.name}"]
    return []
