"""Random programs, and what each must result in, computed from its text alone.

A program is a list of instructions, each a list: its kind, a tag that no other instruction has, and what it needs.
Its value is folded from the values of its instructions, in order, so a step that is left out, done in
another order or with another result shows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, TypeAlias

Instruction: TypeAlias = list[Any]
Program: TypeAlias = list[Instruction]

_MODULUS = 1_000_003
_DEEPEST = 2


def fold(total: int, value: int) -> int:
    """The value of a program so far, with that of one more instruction."""
    return (total * 31 + value) % _MODULUS


class Drawing:
    """Draws programs.

    Args:
        name: leads every tag.
        more: kinds that are drawn besides, which only simulations know how to carry out; see `_more`.
        children: whether there may be child runs.
        queues: of limited queues, for "queued".
    """

    def __init__(
        self,
        chance: random.Random,
        name: str,
        *,
        more: Sequence[str] = (),
        children: bool = True,
        queues: Sequence[str] = (),
    ) -> None:
        self._chance = chance
        self._name = name
        self._tags = count(1)
        self._besides = [kind for kind in more if children or kind != "queued"]
        self._children = children
        self._queues = queues

    def program(self, depth: int = 0, *, receives: bool = True) -> Program:
        """A program of some instructions.

        Args:
            receives: messages may be waited for; only the code of the run itself does.
        """
        chance = self._chance
        drawn = [
            self._instruction(depth, receives=receives and depth == 0)
            for _ in range(chance.randint(2, 7 - 2 * depth))
        ]
        if depth == 0 and receives and chance.random() < 0.25:
            drawn.append(["next", self._tag(), self.program(1, receives=False)])
        return drawn

    def _tag(self) -> str:
        return f"{self._name}.{next(self._tags)}"

    def _instruction(self, depth: int, *, receives: bool) -> Instruction:
        chance = self._chance
        kinds = [
            "step",
            "step",
            "thread",
            "flaky",
            "fails",
            "once",
            "sleep",
            "hurry",
            "many",
            "mostly",
            "give up",
        ]
        if depth < _DEEPEST:
            kinds += ["together", "together"]
            if self._children:
                kinds += ["child", "failing child", "called off", "told"]
        if receives:
            kinds += ["message", "message"]
        kinds += [kind for kind in self._besides * 2 if depth < _DEEPEST or kind != "queued"]
        if not receives:  # whoever starts a run that is to go on when it has failed would hear of its failure
            kinds = [kind for kind in kinds if kind != "breaks"]
        kind, tag = chance.choice(kinds), self._tag()
        match kind:
            case "together":
                return [
                    kind,
                    tag,
                    [self.program(depth + 1, receives=False) for _ in range(chance.randint(2, 3))],
                ]
            case "child" | "failing child":
                return [kind, tag, self.program(depth + 1, receives=False)]
            case "many" | "mostly":
                return [kind, tag, [f"{tag}/{part}" for part in range(chance.randint(2, 6))]]
            case "sleep":
                return [kind, tag, chance.choice((1, 5, 30, 150))]
            case _ if kind in self._besides:
                return [kind, tag, self._more(kind, depth, own=receives)]
            case _:
                return [kind, tag, chance.choice((0, 1, 5, 30))]

    def _more(self, kind: str, depth: int, *, own: bool) -> Any:
        """What an instruction needs that only simulations carry out.

        Args:
            own: it is the code of the run itself.
        """
        chance = self._chance
        match kind:
            case (
                "hears"
            ):  # a published event; how far it looks back: to the run's beginning if it doesn't say
                return None if own else 3600
            case (
                "follows"
            ):  # so many events, one after the other, in tasks of their own, or giving up in between
                return [chance.randint(2, 5), chance.choice(("one by one", "together", "impatient"))]
            case "promised":  # a callback: its time-out, its heartbeat
                return [chance.choice((None, 0.5, 3.0)), chance.choice((None, None, 1.0))]
            case "queued":
                return [
                    chance.choice(self._queues),
                    chance.choice((None, "a", "b")),
                    Drawing(chance, self._tag(), children=False).program(depth + 1, receives=False),
                ]
            case "publishes":  # the code does, or a step
                return chance.choice(("code", "step"))
            case "emits" | "puts out":
                return chance.randint(1, 6)
            case _:
                return self._of_bounds(kind)

    def _of_bounds(self, kind: str) -> Any:
        """What instructions need that are held back, by limits, budgets or people."""
        chance = self._chance
        match kind:
            case "limited":  # the limits' places, tokens, how many of them are used, how
                which = chance.choice(([0], [1], [2], [1, 2], [0, 2]))
                tokens = chance.choice((1, 1, 5, 20, 60))
                how = chance.choice(
                    ("plain", "thread", "elsewhere", "fails first", "settles", "settles late")
                )
                return [which, tokens, chance.choice((0, 1, tokens, 2 * tokens)), how]
            case "turned away":  # the same, how often, for how long
                which, after = chance.choice(([0], [1], [2])), chance.choice((0.2, 0.2, 1.0, None))
                return [which, chance.choice((1, 5)), chance.choice((1, 1, 2)), after]
            case "pays":  # what it may cost, what it costs, in thousandths of a dollar; how
                most = chance.choice((50, 100, 300))
                how = chance.choice(("plain", "elsewhere", "fails first", "unknown first"))
                return [most, chance.choice((most, most // 2)), how]
            case "asks":  # time-out; how long the code waits at least, if it gives up
                return [chance.choice((None, None, 0.5, 3.0)), chance.choice((None, None, 1, 300))]
            case "doubtful":  # when the answer is lost
                return chance.choice(("before", "before, thrice", "after", "never"))
            case _:
                return chance.choice((0, 1, 5, 30))


def value_of(tag: str) -> int:
    """What a step with this tag results in: the same everywhere, and of no two tags by rule."""
    value = 7
    for character in tag:
        value = fold(value, ord(character))
    return value


def is_to_fail(tag: str) -> bool:
    """Whether an item of a map fails, of which some may."""
    return value_of(tag) % 2 == 1


def expected(program: Program, total: int = 0) -> int:
    """What a run of this program results in."""
    for instruction in program:
        kind, tag, more = instruction
        match kind:
            case "together":
                value = sum(expected(part) for part in more)
            case "child" | "tidy":
                value = expected(more)
            case "queued":
                value = expected(more[2])
            case "told":
                value = fold(0, value_of(tag))
            case "many":
                value = sum(value_of(part) for part in more)
            case "mostly":
                value = sum(value_of(part) for part in more if not is_to_fail(part)) + len(more)
            case "next":
                return expected(more, total)
            case _:
                value = value_of(tag)
        total = fold(total, value)
    return total


def messages(program: Program) -> Iterator[str]:
    """The tags of the messages that a run of this program waits for, in order."""
    for kind, tag, more in program:
        if kind == "message":
            yield tag
        elif kind == "tidy":
            yield from messages(more)


def instructions(program: Program) -> Iterator[Instruction]:
    """All instructions of a program, those of its parts and children included."""
    for kind, tag, more in program:
        yield [kind, tag, more]
        match kind:
            case "together":
                for part in more:
                    yield from instructions(part)
            case "child" | "failing child" | "next" | "tidy":
                yield from instructions(more)
            case "queued":
                yield from instructions(more[2])
            case _:
                pass


def tally(program: Program) -> Counter[str]:
    """What the histories of a run of this program, and of all that it starts, hold how often.

    Steps that are given up may have an outcome or not, so they don't count.
    """
    found: Counter[str] = Counter()
    for kind, _, more in program:
        match kind:
            case "step" | "thread" | "flaky" | "once" | "fails":
                found["steps"] += 1
            case "elsewhere" | "elsewhere flaky" | "elsewhere fails" | "promised" | "emits":
                found["steps"] += 1
            case "limited" | "turned away" | "pays" | "used up" | "doubtful":
                found["steps"] += 1
            case "asks":
                found["steps"] += more[1] is not None
            case "publishes":
                found["steps"] += more == "step"
            case "follows":
                found["steps"] += more[0] if more[1] == "impatient" else 0
            case "elsewhere given up":
                found["timers"] += more > 0
            case "puts out":
                found["timers"] += more // 3
            case "queued":
                found["children"] += 1
                found += tally(more[2])
            case "many" | "mostly":
                found["steps"] += len(more)
            case "sleep" | "hurry" | "give up" | "limited given up":
                found["timers"] += more > 0  # what is over at once needs no timer
            case "message":
                found["messages"] += 1
            case "child" | "failing child":
                found["children"] += 1
                found += tally(more)
            case "told":
                found["children"] += 1
                found["messages"] += 1
            case "called off":
                found["children"] += 1
            case "next":
                found["generations"] += 1
                found += tally(more)
            case "together":
                for part in more:
                    found += tally(part)
            case "tidy":
                found += tally(more)
            case _:
                pass
    return found
