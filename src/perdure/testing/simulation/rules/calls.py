"""What must hold of updates, of calls of entities, and of pauses."""

from __future__ import annotations

from typing import Any

from perdure.core.status import Status
from perdure.testing.simulation.observer import Observer, Rule


class Calls(Rule):
    """Of updates, and of calls of entities, each made by several clients with the same key:

    - All of them get the same answer, and what was called has executed once.
    - Answers tell of one order: the n-th that was taken answers n, and what the run or the entity has in the end is
      exactly the calls that were answered, in that order.
    - A call that was turned away, or that raised, has changed nothing.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._answers: dict[str, Any] = {}

    def answered(self, tag: str, answer: Any) -> None:
        """A client has its answer; an exception is one, too."""
        self._observer.tell(f"{tag} was answered: {answer!r}")
        self._observer.counts["calls answered"] += 1
        if self._answers.setdefault(tag, answer) != answer:
            self._observer.wrong(f"{tag} was answered {self._answers[tag]!r}, and then {answer!r}")

    def left(self, id: str, taken: list[str]) -> None:
        """What was called has these in the end."""
        numbers = {
            tag: answer
            for tag, answer in self._answers.items()
            if tag.rpartition(".")[0] == id and isinstance(answer, int)
        }
        if numbers != {tag: number for number, tag in enumerate(taken, 1)}:
            self._observer.wrong(f"{id} has {taken} in the end, and its calls were answered {numbers}")


class Pauses(Rule):
    """Of runs that are paused:

    - From when somebody was told so and the run shows it, nothing drives it until somebody asks for its end. Then it
      goes on, which the simulation sees, since everything has to end.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._paused: set[str] = set()
        self.held: set[str] = set()  #: runs of which somebody was told so

    def carried_out(self, verb: str) -> None:
        for id in self.held:
            run = self._observer.database.find_id(id)
            if run is None:
                continue
            if run.status == Status.PAUSED:
                self._paused.add(id)
                self._observer.counts["looks at paused runs"] += 1
            elif id in self._paused:
                self._observer.wrong(f"run {id} was paused, and is {run.status}")

    def goes_on(self, id: str) -> None:
        """Somebody asks for the end of a pause."""
        self.held.discard(id)
        self._paused.discard(id)
