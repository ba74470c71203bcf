"""What goes wrong: the kinds of faults, how often each comes, and the dice that decide.

Each verb of each store, and each process now and then, throws the dice once. Every throw has a number, and takes the
same amount of chance whatever comes of it. So a fault can be left out of a simulation without drawing the others anew,
which is how a failing one is made small (shrink.py).
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

import msgspec

#: What can happen at a verb of a store. All of it is what the protocol lets a store do, or a network, or a killer.
AT_VERBS: Final = (
    "drop",  # it never reaches the database; the store says so after a while
    "slow",  # it takes its time
    "doubt",  # it is carried out, the answer is lost; the store repeats it and recognises itself
    "lie",  # an append is carried out and refused: whoever asks again must be recognised
    "die before",  # the process is killed before it reaches the database
    "die after",  # the process is killed before it hears the answer; the database carries it out
    "freeze",  # the process is stopped in the middle of it, and goes on later
)

#: What can happen to a process at any time.
AT_PROCESSES: Final = (
    "kill",  # as by SIGKILL; another one starts later
    "stop",  # it misses time, perhaps more than its lease
    "leave",  # it is closed in good order; another one starts later
    "bury",  # others take it for dead while it works
    "cut off",  # nothing of it reaches the database for a while
)

#: What can happen to a hint that something has changed.
AT_HINTS: Final = ("lose hint", "late hint")

KINDS: Final = (*AT_VERBS, *AT_PROCESSES, *AT_HINTS)


class Dice:
    """Throws for faults.

    Args:
        rates: by kind, its probability at each occasion.
        muted: the throws at which nothing may happen.

    Attributes:
        hits: how often each kind came.
        thrown: the throws at which something came, by their numbers.
        over: no more faults: everything heals.
    """

    def __init__(self, chance: random.Random, rates: dict[str, float], muted: frozenset[int]) -> None:
        self._chance = chance
        self._rates = rates
        self._muted = muted
        self._number = 0
        self.hits: Counter[str] = Counter()
        self.thrown: dict[int, str] = {}
        self.over = False

    def throw(self, kinds: tuple[str, ...]) -> str | None:
        """What goes wrong here, None for nothing."""
        self._number += 1
        lot = self._chance.random()
        if self.over or self._number in self._muted:
            return None
        for kind in kinds:
            rate = self._rates.get(kind, 0.0)
            if lot < rate:
                return self._hit(kind)
            lot -= rate
        return None

    def _hit(self, kind: str) -> str:
        self.hits[kind] += 1
        self.thrown[self._number] = kind
        return kind


class Weather(msgspec.Struct, frozen=True):
    """How the network and the database are, in seconds.

    Attributes:
        latency: how long a message takes at most, on its way to the database or back.
        ordered: messages of one process arrive in the order in which they were sent.
        patience: how long a store waits for an answer before it takes it for lost.
        slow: how long a slow verb takes at most.
    """

    latency: float = 0.002
    ordered: bool = False
    patience: float = 0.5
    slow: float = 3.0
