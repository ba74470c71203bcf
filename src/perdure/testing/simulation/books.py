"""The books of simulated steps and code: what they note, the observer and its rules hear at once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from perdure.testing.simulation.observer import Observer
from perdure.testing.simulation.world import ProcessLoop, World
from perdure.testing.torture import workshop


class SimulatedBooks(workshop.Books):
    """Keeps the books of one simulation.

    Attributes:
        tokens: of callbacks, by their tags, as steps have handed them out.
        outcomes: what came of them, as the code has seen it.
        emitting: how many items a step or code puts out, by its tag.
        turned_away: how often the provider has taken no more, by tag.
        doubts: how often a step has begun that leaves people in doubt, by its tag.
        broken, mended: tags of steps whose cause somebody has to mend; those where that has been done.
    """

    def __init__(self, world: World, observer: Observer) -> None:
        self._world = world
        self._observer = observer
        self.tokens: dict[str, str] = {}
        self.outcomes: dict[str, set[str]] = {}
        self.emitting: dict[str, int] = {}
        self.turned_away: Counter[str] = Counter()
        self.doubts: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.mended: set[str] = set()

    def process(self) -> int:
        """The process that has its turn."""
        running = self._world.running
        assert isinstance(running, ProcessLoop), "a body runs in no process"
        return running.number

    def note(self, what: str, tag: str) -> None:
        if what == "begin":
            self._observer.begins(self.process(), tag)
        else:
            self._observer.has_effect(self.process(), tag)

    def happened(self, tag: str) -> bool:
        return self._observer.happened(tag)

    def rest(self, seconds: float) -> None:
        """Functions in threads take no time but that of their turn."""

    def sees(self, tag: str) -> None:
        self._observer.sees(self.process(), tag)

    def waited(self, tag: str, asked: float, took: float) -> None:
        self._observer.waited(tag, asked, took)

    def followed(self, tag: str, got: list[int], count: int) -> None:
        """Code of a run has got so many events, which were numbered from 0."""
        self._observer.counts["events heard"] += count
        if got != list(range(count)):
            self._observer.wrong(f"{tag} was to get the events 0 to {count - 1} in order, and got {got}")

    def promised(self, tag: str, token: str) -> None:
        """A step has handed a token out."""
        self.tokens[tag] = token

    def kept(self, tag: str, outcome: str) -> None:
        """Code of a run goes on with what came of a callback."""
        self.outcomes.setdefault(tag, set()).add(outcome)

    def says(self, what: str, tag: str, more: Any = None) -> None:
        """A body, or code of a run, says what it is at; the rules that know of it hear that."""
        self._observer.hears(self.process(), what, tag, more)


def books() -> SimulatedBooks:
    """Those of the simulation that is going on."""
    assert isinstance(workshop.books, SimulatedBooks), "only a simulation does this"
    return workshop.books
