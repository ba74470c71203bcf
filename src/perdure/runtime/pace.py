"""How often one worker of a fleet looks after what concerns all of them.

Any worker may find what is to be done, so a large fleet needs no more looks than a small one: each of its workers looks
the more rarely the more they are, at moments of its own, and together they look as often as ever.
"""

from __future__ import annotations

from perdure.storage.chance import chance

#: Fleets up to this size look as often as they like.
SMALL = 20


class Pace:
    """Moments of one kind of look, by the ticks of whoever asks.

    Args:
        tick: seconds from one question to the next.
        every: ticks between looks in a small fleet.
        together: looks a second of all workers, at most.

    Attributes:
        workers: how many there are.
    """

    def __init__(self, tick: float, every: int, together: float) -> None:
        self._tick = tick
        self._every = every
        self._together = together
        self._left = every
        self.workers = 1

    def due(self) -> bool:
        """Whether it is time for a look; asked at each tick."""
        self._left -= 1
        if self._left > 0:
            return False
        self._left = self._every
        if self.workers > SMALL:
            share = max(self._every, self.workers / self._together / self._tick)
            self._left = max(1, round(share * (0.5 + chance.random())))
        return True
