"""What must hold of what people are asked, and decide."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.storage.callbacks import CallbackRow, CallbackState, unpack_question
from perdure.storage.memory_run import Run
from perdure.testing.simulation.observer import Observer, Rule


class Answers(Rule):
    """Of questions, and of approvals of steps:

    - A question is answered once: of those whose answers differ one at most is told that it counts, and what it said is
      in the database by then, and stays there.
    - Code that gets an answer gets that one, whatever crashes. It gets none only when time is over, and then
      nobody was told that an answer counts, or when it gives up. All replays of a run see the same.
    - A step that needs approval begins only when a person's approval is in the database, and with what was approved:
      its own arguments, or those that the person has put in their place.

    That none times out before its time is a rule of callbacks, which questions are.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._heard: dict[str, dict[int, set[str]]] = {}  # by tag and generation
        self._counted: dict[str, set[str]] = {}

    def counts(self, tag: str, outcome: str) -> None:
        """Somebody was told that this answer counts."""
        self._observer.tell(f"{tag} is {outcome}, somebody was told")
        self._observer.counts["answers"] += 1
        counted = self._counted.setdefault(tag, set())
        counted.add(outcome)
        if len(counted) > 1:
            self._observer.wrong(
                f"{tag}: people were told that it is {' and that it is '.join(sorted(counted))}"
            )
        kept = self._kept(tag)
        if outcome not in kept:
            self._observer.wrong(
                f"{tag}: somebody was told that it is {outcome}, and the database has {kept}"
            )

    def noted(self, process: int, what: str, tag: str, more: Any) -> None:
        if what == "heard":
            generation, outcome = more
            self._heard.setdefault(tag, {}).setdefault(generation, set()).add(outcome)
        elif what == "begins with leave":
            if "approved" not in self._kept(tag):
                self._observer.wrong(f"{tag} began, and nobody has approved it: {self._kept(tag)}")
            elif more not in (amounts := self._amounts(tag)):
                self._observer.wrong(f"{tag} began with the amount {more}, and approved was {amounts}")

    def _amounts(self, tag: str) -> list[int]:
        """The amounts that people have approved."""
        found: list[int] = []
        for row in self._observer.database.callbacks.values():
            if _text(row) == tag and _told(row) == "approved":
                assert row.answer is not None
                assert row.question is not None
                answered = decode_event(row.answer)
                assert isinstance(answered, ev.QuestionAnswered)
                assert answered.result is not None
                edited = msgspec.json.decode(answered.result).get("arguments")
                self._observer.counts["calls edited"] += edited is not None
                found.append((edited or _asked(row)["arguments"])["amount"])
        return found

    def _kept(self, tag: str) -> list[str]:
        """What the database says of the questions of a tag. It may be asked again, by a fork or a retry."""
        return [_told(row) for row in self._observer.database.callbacks.values() if _text(row) == tag]

    def look_back(self) -> None:
        for tag, generations in self._heard.items():
            for outcomes in generations.values():
                if len(outcomes) > 1:
                    self._observer.wrong(f"the code of {tag} has heard {sorted(outcomes)}")
            heard = next(iter(sorted(generations[max(generations)])))
            counted = self._counted.get(tag, set())
            if heard == "withdrawn":
                continue
            if heard == "expired" and counted:
                self._observer.wrong(f"{tag}: somebody was told it is {sorted(counted)}, its code timed out")
            elif heard != "expired" and counted != {heard}:
                self._observer.wrong(f"{tag}: the code has heard it is {heard}, and people {sorted(counted)}")
            if heard != "expired" and heard not in self._kept(tag):
                self._observer.wrong(
                    f"{tag}: the code has heard it is {heard}, the database {self._kept(tag)}"
                )


def _text(row: CallbackRow) -> str:
    return "" if row.question is None else unpack_question(row.question).text


def _asked(row: CallbackRow) -> Any:
    """What a question shows."""
    assert row.question is not None
    return msgspec.json.decode(unpack_question(row.question).details or b"{}")


def _told(row: CallbackRow) -> str:
    """What a question has come to, in the words of those who ask."""
    answered = None if row.answer is None else decode_event(row.answer)
    if row.state != CallbackState.COMPLETED or not isinstance(answered, ev.QuestionAnswered):
        return row.state
    assert answered.result is not None
    said = msgspec.json.decode(answered.result)
    if isinstance(said, dict):
        return "approved" if said["approved"] else "rejected"
    return f"answered {said}"


class Decisions(Rule):
    """Of steps that wait for a person:

    - A step that is done once begins as often as people have said that it hasn't happened, and once more at most.
    - What people decide is about the attempt that they looked at, and counts for no later one.
    - Of a run that failed, and that several people let go on, there is one next generation.
    - Generations of an id follow each other: none is left out, none comes twice, and of one at most is live.

    That what succeeded isn't done again by a retry, the observer sees: such a step would begin though it is recorded.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._begun: Counter[tuple[str, str]] = Counter()
        self._again: Counter[tuple[str, str]] = Counter()
        self._parked: dict[
            tuple[str, str], float
        ] = {}  # when the newest attempt began of which somebody is to decide
        self._newest: dict[str, Run] = {}

    def noted(self, process: int, what: str, tag: str, more: Any) -> None:
        if what == "begins once":
            self._begun[more] += 1
            if self._begun[more] > self._again[more] + 1:
                self._observer.wrong(
                    f"{tag} has begun {self._begun[more]} times, and people have let it {self._again[more]} times"
                )

    def happened(self, run: Run, event: ev.Event) -> None:
        if isinstance(event, ev.StepRerun):
            self._again[run.id, event.step] += 1
            self._observer.counts["decisions"] += 1
            if event.decision is not None and event.started_at != self._parked[run.id, event.step]:
                self._observer.wrong(
                    f"{run.id}: {event.step} is run again by what was said of its attempt of {event.started_at}, and "
                    f"it waits because of that of {self._parked[run.id, event.step]}"
                )
        elif isinstance(event, ev.StepParked):
            self._parked[run.id, event.step] = event.started_at
            self._observer.counts["steps parked"] += 1

    def created(self, run: Run) -> None:
        before = self._newest.get(run.id)
        if run.generation > 1:
            self._observer.counts["next generations"] += 1
        if run.generation != (1 if before is None else before.generation + 1):
            self._observer.wrong(
                f"generation {run.generation} of {run.id} comes after "
                f"{'none' if before is None else before.generation}"
            )
        self._newest[run.id] = run

    def look_back(self) -> None:
        for run in self._observer.database.runs.values():
            if run is not self._newest.get(run.id) and not run.ended:
                self._observer.wrong(f"generation {run.generation} of {run.id} is live, and isn't the last")


class Singletons(Rule):
    """Of a workflow of which one run may be live at a time:

    - At no moment more than one is, however many start it, restart it or let it go on.
    - Whoever starts it gets a handle of one that is, and its result.
    """

    def __init__(self, observer: Observer, workflow: str) -> None:
        self._observer = observer
        self._workflow = workflow
        self._live: list[Run] = []

    def created(self, run: Run) -> None:
        if run.workflow == self._workflow:
            self._live.append(run)
            self._observer.counts["singletons"] += 1

    def carried_out(self, verb: str) -> None:
        if self._live:
            self._live = [run for run in self._live if not run.ended]
            if len(self._live) > 1:
                which = [f"{run.id} (generation {run.generation})" for run in self._live]
                self._observer.wrong(f"of the singleton {self._workflow} are live: {', '.join(which)}")
