"""Comparing the histories with the books.

A step's outcome carries the moment at which its body had returned, before it was written. So a body that begins later
than that is work done twice. A process that was paused may wake up between its last look at its lease and the
first line of a body: no engine can help that, so such bodies are counted apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from perdure import Engine, events


@dataclass
class Findings:
    """What was found.

    Attributes:
        repeated: bodies that ran again because their worker died before their outcome was recorded.
        late: bodies that a paused process began after another one had recorded the outcome.
        violations: what must never be.
    """

    runs: int = 0
    events: int = 0
    steps: int = 0
    taken_over: int = 0
    repeated: int = 0
    late: int = 0
    violations: list[str] = field(default_factory=list[str])


@dataclass
class Body:
    """One attempt at a step, by the books."""

    time: float
    pid: int


class Audit:
    """Looks at every history.

    Args:
        books: what the steps wrote down.
        stopped: the processes that were paused at some time.
    """

    def __init__(self, books: list[dict[str, Any]], stopped: set[int]) -> None:
        self._stopped = stopped
        self._begun: defaultdict[str, list[Body]] = defaultdict(list)
        self._effects: Counter[str] = Counter()
        self.findings = Findings()
        for line in books:
            if line["what"] == "begin":
                self._begun[line["tag"]].append(Body(line["time"], line["pid"]))
            elif line["pid"] not in stopped:
                self._effects[line["tag"]] += 1

    async def look(self, engine: Engine) -> Findings:
        async for run in engine.runs(limit=None):
            for generation in range(1, run.generation + 1):
                self.findings.runs += 1
                history = [event async for event in engine.get(run.id).history(generation=generation)]
                self._history(f"{run.id} (generation {generation})", history)
        return self.findings

    def _history(self, name: str, history: list[events.Event]) -> None:
        self.findings.events += len(history)
        outcomes: Counter[str] = Counter()
        for event in history:
            if isinstance(event, events.RunRecovered):
                self.findings.taken_over += 1
            elif isinstance(event, events.StepCompleted):
                self._outcome(name, event)
                outcomes[event.step] += 1
            elif isinstance(event, events.StepFailed):
                outcomes[event.step] += 1
        self.findings.steps += len(outcomes)
        for step, times in outcomes.items():
            if times > 1:
                self._wrong(f"{name}: {times} outcomes of {step} are recorded")

    def _outcome(self, name: str, event: events.StepCompleted) -> None:
        tag = msgspec.json.decode(event.result)[0]
        bodies = self._begun[tag]
        if not bodies:
            self._wrong(f"{name}: {event.step} is recorded, and its body never began")
        for body in bodies:
            if body.time > event.at and body.pid in self._stopped:
                self.findings.late += 1
            elif body.time > event.at:
                self._wrong(
                    f"{name}: {event.step} was recorded, and began again {body.time - event.at:.3f} s later"
                )
        self.findings.repeated += max(0, len(bodies) - event.attempt)
        if "happens_once" in event.step and self._effects[tag] > 1:
            self._wrong(f"{name}: {event.step} mustn't happen twice, and happened {self._effects[tag]} times")

    def _wrong(self, what: str) -> None:
        self.findings.violations.append(what)
