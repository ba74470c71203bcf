"""What calls of language models use, and what that costs: plain values, and the sums of many.

Money is counted in billionths of a US dollar, as whole numbers: prices are given per million tokens, so the price of
one token is often less than a millionth. An amount that isn't known is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import msgspec

from perdure.core.bounds import LABEL_MAX, mended, storable
from perdure.core.doubt import is_doubtful

#: So many of the ledger's units are one US dollar.
NANO = 1_000_000_000


def nanos(cost: Decimal | float | str) -> int:
    """An amount in US dollars as the ledger counts it, rounded to the nearest.

    >>> nanos("0.0021"), nanos(Decimal("1.25E-7"))
    (2100000, 125)
    """
    return int((Decimal(str(cost)) * NANO).to_integral_value())


def dollars(cost: int) -> Decimal:
    """The amount that so many units are.

    >>> dollars(2_100_000)
    Decimal('0.0021')
    """
    amount = (Decimal(cost) / NANO).normalize()
    return amount if amount else Decimal(0)


class Used(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one call used, or is going to use at most.

    Attributes:
        input: tokens of the prompt, what was read from or written to the provider's cache included.
        output: tokens of the answer, what was thought included.
        cached: tokens of the prompt that were read from the cache.
        written: tokens of the prompt that were written to the cache.
        reasoning: tokens that were thought.
        cost: in billionths of a US dollar; None if nobody knows.
        price: where the price comes from.
        key: whose the call is, if that isn't told by the run.
        response: the provider's id of its answer.
    """

    model: str | None = None
    provider: str | None = None
    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    cost: int | None = None
    price: str | None = None
    key: str | None = None
    response: str | None = None

    def __post_init__(self) -> None:
        for name in ("model", "provider", "price", "key", "response"):  # as some server has told
            text = getattr(self, name)
            if text is not None and (len(text) > LABEL_MAX or not storable(text)):
                msgspec.structs.force_setattr(self, name, mended(text)[:LABEL_MAX])


@dataclass(frozen=True, slots=True)
class Spend:
    """What an attempt of a step spends at most, for `@step(spends=...)`.

    Args:
        model: the model's name, by which the price is found.
        provider: whose model it is, if the name doesn't tell.
        input_tokens: of the prompt, at most.
        output_tokens: of the answer, at most: what the call gives as its limit.
        cost: what it costs at most in US dollars, if you know better than the price list.

    Example:
        >>> Spend("claude-haiku-4-5", input_tokens=20_000, output_tokens=1_000).output_tokens
        1000
    """

    model: str | None = None
    provider: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal | None = None

    def used(self) -> Used:
        """The same as the ledger keeps it."""
        return Used(
            model=self.model,
            provider=self.provider,
            input=self.input_tokens,
            output=self.output_tokens,
            cost=None if self.cost is None else nanos(self.cost),
            price=None if self.cost is None else "given",
        )


class Sums(msgspec.Struct):
    """The sums of many calls. Costs are of those calls whose price is known; the others are counted.

    Attributes:
        calls: whose usage is known.
        unpriced: those of them whose price isn't.
        unknown: calls that were begun, and of which nobody knows whether they were billed.
        unknown_cost: what those cost at most.
        unknown_unpriced: those of them for which even that isn't known.
        in_flight: calls that are being made.
        spared: calls that weren't repeated, since their step's result was in the history.
        spared_input, spared_output, spared_cost, spared_unpriced: what those would have used once more.
    """

    calls: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    cost: int = 0
    unpriced: int = 0
    unknown: int = 0
    unknown_cost: int = 0
    unknown_unpriced: int = 0
    in_flight: int = 0
    spared: int = 0
    spared_input: int = 0
    spared_output: int = 0
    spared_cost: int = 0
    spared_unpriced: int = 0

    def spent(self, used: Used, count: int = 1) -> None:
        """Add calls whose usage is known: `used` is that of all of them."""
        self.calls += count
        self.input += used.input
        self.output += used.output
        self.cached += used.cached
        self.written += used.written
        self.reasoning += used.reasoning
        self.cost += used.cost or 0

    def spare(self, input: int, output: int, cost: int, *, count: int, unpriced: int) -> None:
        """Add calls that weren't repeated."""
        self.spared += count
        self.spared_input += input
        self.spared_output += output
        self.spared_cost += cost
        self.spared_unpriced += unpriced

    def lose(self, cost: int, *, count: int, unpriced: int) -> None:
        """Add calls of which nobody knows whether they were billed."""
        self.unknown += count
        self.unknown_cost += cost
        self.unknown_unpriced += unpriced


def may_have_cost(error: BaseException | None) -> bool:
    """Whether an attempt that ended so may have been billed without anybody having been told.

    An answer of the provider's that says no costs nothing. What was cut off, or whose answer got lost, may have.

    >>> may_have_cost(TimeoutError()), may_have_cost(ValueError("not JSON")), may_have_cost(ConnectionRefusedError())
    (True, False, False)
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if is_doubtful(error) or not isinstance(error, Exception):  # cancelled, say
            return True
        seen.add(id(error))
        error = error.__cause__  # clients wrap what their transport has raised
    return False
