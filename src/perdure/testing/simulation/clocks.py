"""Wall clocks that are wrong, in the ways in which clocks of machines are.

The engine measures how long something takes by its event loop, and asks the wall clock when something is due. So only
the latter is wrong here, for each simulated process in its own way.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

#: What the right clock shows at the beginning of a simulation.
EPOCH: Final = 1_800_000_000.0

Shape: TypeAlias = Literal["right", "drift", "wave", "jump", "jitter"]
SHAPES: Final[tuple[Shape, ...]] = ("drift", "wave", "jump", "jitter")


class Skew(msgspec.Struct, frozen=True):
    """How a clock is wrong.

    Attributes:
        shape: it runs too fast or too slow; it swings around the right time; it is set anew once; it is read with
            errors.
        by: how much: seconds a second; seconds; seconds; seconds at most.
        at: when the jump comes; how long a swing takes. In seconds.
    """

    shape: Shape = "right"
    by: float = 0.0
    at: float = 0.0


RIGHT: Final = Skew()


def drawn_skew(chance: random.Random, shapes: tuple[Shape, ...] = SHAPES) -> Skew:
    """A clock that is wrong in one of these shapes."""
    sign = chance.choice((-1, 1))
    match chance.choice(shapes):
        case "drift":
            return Skew("drift", sign * chance.choice((0.001, 0.02, 0.2)))
        case "wave":
            return Skew("wave", chance.choice((0.05, 1.0, 4.0)), chance.uniform(1.0, 20.0))
        case "jump":
            return Skew("jump", sign * chance.choice((0.5, 5.0, 60.0)), chance.uniform(0.5, 10.0))
        case "jitter":
            return Skew("jitter", chance.choice((0.001, 0.05, 0.5)))
        case _:
            return RIGHT


def clock_of(skew: Skew, now: Callable[[], float], chance: random.Random) -> Callable[[], float]:
    """A wall clock.

    Args:
        now: virtual time.
    """
    match skew.shape:
        case "drift":
            return lambda: EPOCH + now() * (1.0 + skew.by)
        case "wave":
            return lambda: EPOCH + now() + skew.by * math.sin(now() * math.tau / skew.at)
        case "jump":
            return lambda: EPOCH + now() + (skew.by if now() >= skew.at else 0.0)
        case "jitter":
            return lambda: EPOCH + now() + chance.uniform(-skew.by, skew.by)
        case _:
            return lambda: EPOCH + now()
