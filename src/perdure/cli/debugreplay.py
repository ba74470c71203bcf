"""Feeds a history to its code while a debugger watches."""

from __future__ import annotations

import os
import pdb
import sys
import threading
from typing import Any

from perdure.cli.debugging import WorkflowDebugger
from perdure.cli.output import clock_time, moment, printable
from perdure.cli.trouble import Trouble
from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.core.machine import Machine
from perdure.core.mismatch import describe_event, describe_operation
from perdure.errors import NonDeterminismError, UndecodableError
from perdure.runtime import guard
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.entities import begun_again
from perdure.runtime.frames import raised_at
from perdure.runtime.machines import expect, new_machine
from perdure.runtime.takeover import first_moment
from perdure.storage.records import History, RunRow

_MAX_PAYLOAD = 1 << 30


class Replay:
    """One replay.

    Args:
        at: number of the event after which it stops; None = at the first line, or at breakpoints only.
    """

    def __init__(self, row: RunRow, history: History, definition: WorkflowDefinition, at: int | None) -> None:
        self._row = row
        self._definition = definition
        self._at = at
        self._history = history
        self._debugger = WorkflowDebugger(definition.function.__code__.co_filename)
        self._machine = self._new_machine()

    def go(self, breaks: list[str]) -> None:
        """Replay all of it, and end at a prompt where something can be looked at."""
        debugger = self._debugger
        for place in breaks:
            _set_break(debugger, place)
        sys.breakpointhook = self._breakpoint
        pdb.set_trace = self._breakpoint
        guard.install()
        first = self._at is None and not breaks
        if first or breaks:
            debugger.trace_from_here(stop=first)
        try:
            self._feed()
        except (NonDeterminismError, UndecodableError) as error:
            sys.settrace(None)
            debugger.look_at_tasks(self._machine, f"\n{printable(str(error))}\nThe code stands here:")
            return
        finally:
            sys.settrace(None)
        self._look_at_the_end(self._machine)

    def _feed(self) -> None:
        thread = threading.get_ident()
        total = len(self._history.events)
        first: ev.RunStarted | None = None
        for number, data in enumerate(self._history.events, 1):
            event = decode_event(data)
            what = f"{clock_time(moment(event.at))}: {printable(describe_event(event))}"
            self._debugger.heading = f"\n# event {number} of {total}, {what}"
            if number == self._at:
                self._debugger.trace_from_here(stop=True)
            if self._definition.guard:
                guard.guarded[thread] = True
            try:
                if isinstance(event, ev.RunStarted):
                    first = event
                    self._begin(event)
                else:
                    self._machine.feed(event)
                if (
                    isinstance(event, ev.Checkpointed) and first is not None
                ):  # an entity goes on from there anew
                    self._machine.close()
                    self._machine = self._new_machine()
                    self._begin(begun_again(first, event))
                    self._machine.feed(event)
            finally:
                guard.guarded.pop(thread, None)

    def _begin(self, started: ev.RunStarted) -> None:
        self._machine.begin(started, first_moment(started, self._row.started_at or self._row.created_at))

    def _new_machine(self) -> Machine:
        machine = new_machine(self._row.id, self._definition, _MAX_PAYLOAD)
        expect(machine, self._history)
        return machine

    def _breakpoint(self, *args: Any, **kwargs: Any) -> None:
        if os.environ.get("PYTHONBREAKPOINT") != "0":
            self._debugger.set_trace(sys._getframe(1))

    def _look_at_the_end(self, machine: Machine) -> None:
        debugger = self._debugger
        debugger.heading = ""
        root = machine.loop.root
        assert root is not None
        if not root.done():
            waits = ", ".join(describe_operation(operation) for operation in machine.operations.values())
            nothing = "the next call" if self._definition.entity else "its own state to change"
            text = f"waits for {printable(waits) if waits else nothing}"
            debugger.look_at_tasks(machine, f"\nThe history ends here. The code {text}:")
        elif root.cancelled():
            debugger.message("\nThe code was cancelled, and let that go.")
        elif (error := root.exception()) is not None:
            text = printable(f"{type(error).__name__}: {error}")
            debugger.look_at_error(error, raised_at(error), f"\nThe code raised {text}")
        else:
            debugger.message(f"\nThe code returned {root.result()!r}.")


def _set_break(debugger: WorkflowDebugger, place: str) -> None:
    """Raises Trouble if there is no such line."""
    file, colon, line = place.rpartition(":")
    if not colon or not line.isdecimal():
        raise Trouble(f"{place!r} is no place to stop at: give FILE:LINE, as in --break app.py:12.")
    path = debugger.lookupmodule(file)
    if path is None:
        raise Trouble(f"There is no file {file!r}, here or where Python finds modules.")
    refused = debugger.set_break(debugger.canonic(path), int(line))
    if refused:
        raise Trouble(f"It can't stop at {place}: {refused}")
