"""Time travel: a run's state after any of its events, rebuilt by feeding its history to its code.

Nothing is carried out. The machine's commands are taken by nobody, so no step runs and nothing is written; while code
has a turn, the guard refuses files, sockets and processes, for workflows with `guard=False` as well; and a turn that
doesn't come to an await is interrupted. Code that takes another way than the history says is shown up to where they
part.

A traveller keeps the machine where it is. One step forward feeds one event; backward, all is fed again up to there,
and what is passed on the last stretch is drawn on the way, so that the next steps back are there already.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from perdure.codec.events import decode_event
from perdure.codec.failures import step_exception
from perdure.codec.picturing import picture
from perdure.core import events as ev
from perdure.core.machine import Machine
from perdure.core.standing import Standing, Stop
from perdure.errors import NonDeterminismError, PerdureError, TurnLimitError, UndecodableError
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.entities import from_checkpoint
from perdure.runtime.frames import locals_of
from perdure.runtime.machines import set_aside_in
from perdure.runtime.outcomes import child_error
from perdure.runtime.past import past_of
from perdure.runtime.takeover import first_moment
from perdure.runtime.turns import TurnInterrupt, Turns
from perdure.runtime.walking import Walk
from perdure.storage.records import History

BACK = 24  #: positions before the one that is asked for whose drawings are made on the way
KEPT = 120  #: drawings that are kept


class Journey(msgspec.Struct, frozen=True):
    """A run whose events are gone through.

    Attributes:
        began: when it was first driven, wall-clock seconds.
        damaged: the first event that isn't what was recorded, and what is wrong with it.
    """

    key: int
    run: str
    generation: int
    workflow: str
    began: float
    damaged: tuple[int, str] | None = None


class Traveller:
    """Goes through the events of one run.

    Args:
        turns: the frame for turns of its code, of the thread in which this is called.
    """

    def __init__(
        self,
        journey: Journey,
        events: Sequence[bytes],
        definition: WorkflowDefinition,
        turns: Turns,
        max_payload: int,
    ) -> None:
        self.journey = journey
        self._events = list(events)
        self._definition = definition
        self._turns = turns
        self._max_payload = max_payload
        self._machine: Machine | None = None
        self._at = 0
        self._stop: Stop | None = None
        if journey.damaged is not None:
            seq, text = journey.damaged
            self._stop = Stop(kind="damaged", seq=seq, text=text)
        self._drawn: OrderedDict[int, Standing] = OrderedDict()

    @property
    def events(self) -> int:
        """How many events are known."""
        return len(self._events)

    def extend(self, events: Sequence[bytes]) -> None:
        """The run has gone on."""
        if events:
            self._events.extend(events)
            self._drawn.clear()  # they say how many events there are
            self._leave()  # code that asks whether it is at the end of its history

    def close(self) -> None:
        """Let go of the run's code."""
        self._leave()

    # -- looking ------------------------------------------------------------------------------------

    def standing(self, seq: int) -> Standing:
        """Where the run stood after the event with this number, or where its history and its code have parted."""
        seq = max(1, min(seq, len(self._events)))
        known = self._drawn.get(seq)
        if known is None:
            for place in range(max(1, seq - BACK), seq) if seq <= self._at else ():
                if place not in self._drawn:
                    self._keep(place)
            known = self._keep(seq)
        self._drawn.move_to_end(seq)
        return known

    def change(
        self, seq: int, task: int, depth: int, name: str, direction: Literal["next", "previous"]
    ) -> int | None:
        """The nearest event by which a variable became another one; None if there is none.

        Args:
            seq: where to begin.
            task: the id of the task.
            depth: which of its own frames, 0 is the outermost.
        """
        seq = max(1, min(seq, len(self._events)))
        if direction == "next":
            before = self._text(seq, task, depth, name)
            for place in range(seq + 1, len(self._events) + 1):
                text = self._text(place, task, depth, name)
                if self._at < place:  # it can't be fed
                    return None
                if text != before:
                    return place
            return None
        found: int | None = None
        before = None
        for place in range(1, seq):
            text = self._text(place, task, depth, name)
            if text != before:
                found, before = place, text
        return found

    def _text(self, seq: int, task: int, depth: int, name: str) -> str | None:
        self._go(seq)
        if self._machine is None:
            return None
        frame = Walk(self._machine).frame_of(task, depth)
        values = {} if frame is None else locals_of(frame)
        return picture(values[name], name) if name in values else None

    # -- drawing ------------------------------------------------------------------------------------

    def _keep(self, seq: int) -> Standing:
        made = self._drawn[seq] = self._draw(seq)
        if len(self._drawn) > KEPT:
            self._drawn.popitem(last=False)
        return made

    def _draw(self, seq: int) -> Standing:
        self._go(seq)
        journey, machine = self.journey, self._machine
        stop = self._stop if self._stop is not None and self._stop.seq <= seq else None
        base = Standing(
            run=journey.run,
            generation=journey.generation,
            workflow=journey.workflow,
            seq=self._at,
            events=len(self._events),
            at=journey.began if machine is None else machine.loop.now,
            stop=stop,
        )
        if machine is None:
            return base
        walk = Walk(machine)
        tasks, more = walk.tasks()
        operations, more_operations = walk.operations()
        return msgspec.structs.replace(
            base,
            tasks=tasks,
            more=more,
            operations=operations,
            more_operations=more_operations,
            sources=walk.sources.texts,
            files=walk.sources.files,
        )

    # -- going --------------------------------------------------------------------------------------

    def _go(self, seq: int) -> None:
        """Bring the machine to an event, or to the last one that it can be brought to."""
        for _ in range(3):  # what can't be fed is found out, then gone to the event before it
            target = seq if self._stop is None else min(seq, self._stop.seq - 1)
            if target < self._at or self._definition.entity:
                self._leave()
            if self._at >= target:
                return
            failed = self._feed(target)
            if failed is None:
                return
            self._stop = failed
            self._leave()

    def _feed(self, target: int) -> Stop | None:
        """Feed events up to this one. Returns what has come between."""
        turns = self._turns
        try:
            fresh = self._machine is None
            events = self._prepare(target) if fresh else self._events[self._at : target]
            machine = self._machine
            assert machine is not None
            with turns.of(machine, guarded=True):
                machine.loop.enter()
                for data in events:
                    self._at += 1
                    event = decode_event(data)
                    turns.again()
                    if isinstance(event, ev.RunStarted):
                        machine.begin(event, first_moment(event, self.journey.began))
                    else:
                        machine.feed(event)
        except TurnInterrupt:
            turns.over()
            return self._stopped("endless", f"the code ran on without awaiting anything; {turns.place}")
        except TurnLimitError:
            return self._stopped("endless", f"the code ran on without awaiting anything; {turns.place}")
        except NonDeterminismError as error:
            return self._stopped("diverged", str(error))
        except UndecodableError as error:
            return self._stopped("unreadable", str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, what came before can be shown
            told = str(error) if isinstance(error, PerdureError) else f"{type(error).__name__}: {error}"
            return self._stopped("failed", told)
        return None

    def _prepare(self, target: int) -> Sequence[bytes]:
        """A new machine, and the events that it is to be fed."""
        journey, definition = self.journey, self._definition
        whole = History(journey.key, self._events, ())
        machine = Machine(
            journey.run, definition.name, definition.begin, step_exception, child_error, self._max_payload
        )
        machine.replaying = True
        machine.look_ahead = lambda: set_aside_in(self._events)
        machine.past = past_of(whole)
        self._machine = machine
        upto = from_checkpoint(definition, History(journey.key, self._events[:target], ())).events
        self._at = target - len(upto)
        return upto

    def _stopped(self, kind: Any, text: str) -> Stop:
        return Stop(kind=kind, seq=max(1, self._at), text=text[:4000])

    def _leave(self) -> None:
        """Unwind the machine's code, which does nothing any more; its `finally` blocks are guarded as all else."""
        machine, self._machine, self._at = self._machine, None, 0
        if machine is None:
            return
        try:
            with self._turns.of(machine, guarded=True):
                machine.close()
        except TurnInterrupt:  # by a block that spins; it is unwound now
            self._turns.over()
