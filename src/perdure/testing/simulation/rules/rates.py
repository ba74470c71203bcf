"""What must hold of rate limits."""

from __future__ import annotations

from collections import Counter
from typing import Any

from perdure.core.limiting import HORIZON
from perdure.core.rates import MICRO
from perdure.testing.simulation.bounds import LIMITS, TOKENS
from perdure.testing.simulation.observer import Observer, Rule

_ROUNDING = 0.000_5  #: seconds: some turns of a loop, between the look at a permission and the body


class RateLimits(Rule):
    """Of steps under rate limits, if clocks are right:

    - In no window of a rate's length do bodies begin that may use more than its limit, over all workers, whether
      their outcomes count or not. What a body has said to have left unused may be used by others.
    - Whoever was turned away has blocked the limit, and so may people. From when that is committed nothing begins under
      it before the block ends, but for those who had a permission: these are given for a tenth of a second ahead, and
      hold for a moment.
    - A block that somebody was told of is in the database. None is cut short but by whoever ends it, once each time;
      and when that is told, it has ended.

    That being turned away is no attempt shows in results: such a step may be attempted once.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._rates = {(limit.name, unit): rate for limit in LIMITS for unit, rate in limit.rates.items()}
        self._begun: dict[tuple[str, str], list[_Use]] = {place: [] for place in self._rates}
        self._newest: dict[tuple[int, str], _Use] = {}  # of tokens, by process and tag
        self._blocks: dict[str, tuple[int, float]] = {}  # until when, and since when that is known
        self._lifts: Counter[str] = (
            Counter()
        )  # how often somebody may have ended a block, and none has ended by that

    def was_blocked(self, name: str, until: float) -> None:
        """Somebody was told that a limit is blocked."""
        self._observer.counts["blocks by people"] += 1
        state = self._observer.database.limits.get(name)
        if until <= self._observer.now:
            return
        if state is None or state.blocked_until / MICRO < until - _ROUNDING:
            self._observer.wrong(f"limit {name}: somebody was told that it is blocked until {until}: {state}")

    def may_be_unblocked(self, name: str) -> None:
        """Somebody is about to end its block."""
        self._lifts[name] += 1

    def was_unblocked(self, name: str, since: float) -> None:
        """Somebody was told that it isn't blocked any more, who has asked for that then."""
        self._observer.counts["blocks ended by people"] += 1
        until, known = self._blocks.get(name, (0, 0.0))
        if until / MICRO > self._observer.now and known < since:
            self._observer.wrong(f"limit {name}: somebody was told that its block has ended, and it hasn't")

    def noted(self, process: int, what: str, tag: str, more: Any) -> None:
        if what == "has used":
            use = self._newest[process, tag]
            use.amount = min(use.amount, more)
        elif what == "begins under limits":
            for place, amount in more.items():
                self._begins(process, tag, place, amount)
            for name in {name for name, _ in more}:
                self._check_block(tag, name)

    def _begins(self, process: int, tag: str, place: tuple[str, str], amount: int) -> None:
        now, rate = self._observer.now, self._rates[place]
        self._observer.counts["begun under limits"] += 1
        use = _Use(now, amount)
        if place == (TOKENS.name, "tokens"):
            self._newest[process, tag] = use
        uses = self._begun[place]
        uses.append(use)
        used = sum(one.amount for one in uses if one.at > now - rate.per + _ROUNDING)
        if used > rate.limit and self._observer.clocks_are_right:
            self._observer.wrong(
                f"limit {place[0]}: {tag} began, which makes {used} {place[1]} of {rate.limit} within {rate.per} s"
            )

    def _check_block(self, tag: str, name: str) -> None:
        until, since = self._blocks.get(name, (0, 0.0))
        now = self._observer.now
        slack = min(rate.pace.slack for place, rate in self._rates.items() if place[0] == name)
        known = now - since > (HORIZON + slack) / MICRO + _ROUNDING
        if self._observer.clocks_are_right and known and now < until / MICRO - _ROUNDING:
            self._observer.wrong(f"limit {name}: {tag} began {until / MICRO - now} s before its block ends")

    def carried_out(self, verb: str) -> None:
        if verb != "limits.turn":
            return
        for name, state in self._observer.database.limits.items():
            before, _ = self._blocks.get(name, (0, 0.0))
            if state.blocked_until < before:
                self._lifts[name] -= 1
                if self._lifts[name] < 0 or state.blocked_until:
                    self._observer.wrong(
                        f"limit {name}: its block was cut short by {before - state.blocked_until}"
                    )
            if state.blocked_until != before:
                self._observer.counts["blocks of limits"] += 1
                self._blocks[name] = state.blocked_until, self._observer.now


class _Use:
    """What a body may use, from when it began."""

    __slots__ = ("amount", "at")

    def __init__(self, at: float, amount: int) -> None:
        self.at = at
        self.amount = amount
