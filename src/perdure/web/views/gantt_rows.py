"""What a timeline is made of: rows, their stretches of time, and moments of the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

#: How something stands, as pages colour it.
Tone: TypeAlias = Literal["good", "bad", "busy", "wait", "hold", "idle"]

#: What is drawn where several overlap: the later ones win.
TONES: Final[tuple[Tone, ...]] = ("idle", "good", "wait", "busy", "hold", "bad")


@dataclass(slots=True)
class Span:
    """A stretch of a row.

    Attributes:
        kind: "attempt", "sent", "backoff", "limit", "person", "budget", "wait" or "paused".
        tone: how it went.
        start, end: wall-clock seconds; `end` is None while it goes on.
        seq: the number of the event that began it, or that told of it.
        text: what it is, for people.
    """

    kind: str
    tone: Tone
    start: float
    end: float | None
    seq: int
    text: str


@dataclass(slots=True)
class Row:
    """An operation of a run, or the run itself.

    Attributes:
        id: the op id; "" of the run itself.
        kind: "run", "step", "timer", "child", "message", "question", "callback", "event" or "update".
        name: what those of its kind have in common: the step's name, the message's.
        tone: how it stands.
        start, end: wall-clock seconds; `end` is None while it goes on.
        first, last: the numbers of its first and its newest event.
        text: what came of it, in a few words.
        run: of a child: its run; of a step in another queue: its errand.
        attempts: how often a step was tried.
        question: of a question: the id by which it is answered.
        settled: it has an outcome, by which a fork can begin.
    """

    id: str
    kind: str
    name: str
    tone: Tone
    start: float
    end: float | None
    first: int
    last: int
    text: str = ""
    spans: list[Span] = field(default_factory=list[Span])
    run: str = ""
    attempts: int = 0
    question: str = ""
    settled: bool = False

    def open_span(self) -> Span | None:
        """The stretch that goes on."""
        return self.spans[-1] if self.spans and self.spans[-1].end is None else None

    def close(self, at: float) -> None:
        """Whatever goes on ends here, also a wait that was to end later."""
        if self.spans and (self.spans[-1].end is None or self.spans[-1].end > at):
            self.spans[-1].end = max(at, self.spans[-1].start)


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the run: a message came, it was taken over, somebody asked for its end."""

    seq: int
    at: float
    tone: Tone
    text: str
