"""Random programs, and what each must result in, computed from its text alone.

A program is a list of instructions, each a list: its kind, a tag that no other instruction has, and what it needs.
Its value is folded from the values of its instructions, in order, so a step that is left out, done in
another order or with another result shows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
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
    """

    def __init__(self, chance: random.Random, name: str) -> None:
        self._chance = chance
        self._name = name
        self._tags = count(1)

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
            kinds += ["together", "together", "child", "failing child", "called off", "told"]
        if receives:
            kinds += ["message", "message"]
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
            case _:
                return [kind, tag, chance.choice((0, 1, 5, 30))]


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


def tally(program: Program) -> Counter[str]:
    """What the histories of a run of this program, and of all that it starts, hold how often.

    Steps that are given up may have an outcome or not, so they don't count.
    """
    found: Counter[str] = Counter()
    for kind, _, more in program:
        match kind:
            case "step" | "thread" | "flaky" | "once" | "fails":
                found["steps"] += 1
            case "many" | "mostly":
                found["steps"] += len(more)
            case "sleep" | "hurry" | "give up":
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
