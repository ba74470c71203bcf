"""Rate limits as programs declare them, and what a call of a step costs of them."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from itertools import count
from typing import Any, TypeAlias

import msgspec

from perdure.core.bounds import NAME_MAX
from perdure.core.rates import Rate
from perdure.errors import ConfigurationError, UsageError

#: What a step says that it needs of a unit: a number, or a function of (some of) its arguments.
Cost: TypeAlias = int | Callable[..., int]

#: The unit of which each call costs one if nothing else is said.
REQUESTS = "requests"


class RateLimit:
    """How much may begin in how long, over all workers together: requests, tokens, or whatever is counted.

    Args:
        name: what all workers, and people, know it by. Its rates are those of the worker that was the last one to
            begin using it with other rates.
        rates: for each unit so many per so long. Each call costs one of `requests`, and of other units what
            `cost` says.

    Raises:
        ConfigurationError: the name can't be one, there are no rates, or one isn't a Rate.

    Example:
        >>> OPENAI = RateLimit("openai:gpt", requests=Rate(500, per=60), tokens=Rate(200_000, per=60))
        >>> OPENAI.rates["requests"].limit
        500
    """

    __slots__ = ("name", "number", "rates")

    made = count(1)

    def __init__(self, name: str, /, **rates: Rate) -> None:
        self.number = next(RateLimit.made)  #: in the order in which this process made them
        self.name = checked_name(name)
        if not rates or not all(isinstance(rate, Rate) for rate in rates.values()):
            msg = f"RateLimit({name!r}): give a Rate for each unit, as in requests=Rate(500, per=60)"
            raise ConfigurationError(msg)
        self.rates: Mapping[str, Rate] = rates

    def cost(self, **costs: Cost) -> Limited:
        """What a call costs, for `@step(limit=...)`.

        Args:
            costs: by unit a number, or a function that computes one from arguments of the step, which it gets by
                the names of its own parameters. More than a rate allows in all can't begin, and fails the step.

        Raises:
            ConfigurationError: the limit has no such unit, or a number is negative.

        Example:
            >>> OPENAI = RateLimit("openai:gpt", requests=Rate(500, per=60), tokens=Rate(200_000, per=60))
            >>> cost = OPENAI.cost(tokens=lambda prompt: len(prompt) // 4 + 500)
        """
        for unit, cost in costs.items():
            if unit not in self.rates:
                msg = (
                    f"the rate limit {self.name!r} counts no {unit!r}; its units are {', '.join(self.rates)}"
                )
                raise ConfigurationError(msg)
            if not callable(cost):
                _amount(cost, unit, self.name)
        return Limited(self, costs)

    @classmethod
    def bare(cls, name: str) -> RateLimit:
        """A limit that counts nothing, and can only be blocked."""
        limit = cls.__new__(cls)
        limit.name, limit.number, limit.rates = name, 0, {}
        return limit

    def __repr__(self) -> str:
        rates = "".join(f", {unit}={rate!r}" for unit, rate in self.rates.items())
        return f"RateLimit({self.name!r}{rates})"


@dataclass(frozen=True, slots=True)
class Limited:
    """A rate limit, and what a call costs of it. Made by `RateLimit.cost`."""

    limit: RateLimit
    costs: Mapping[str, Cost]

    def of(self, signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, int]:
        """What this call costs, by unit.

        Raises:
            ConfigurationError: a function gives something that can't be a cost.
        """
        found = {unit: 1 if unit == REQUESTS else 0 for unit in self.limit.rates}
        bound: Mapping[str, Any] | None = None
        for unit, cost in self.costs.items():
            if callable(cost):
                if bound is None:
                    call = signature.bind(*args, **kwargs)
                    call.apply_defaults()
                    bound = call.arguments
                cost = cost(**_wanted(cost, bound))
            found[unit] = _amount(cost, unit, self.limit.name)
        return found


class SentLimit(msgspec.Struct, frozen=True):
    """A rate limit of an attempt that is executed elsewhere, and what it costs."""

    name: str
    rates: dict[str, Rate]
    costs: dict[str, int]

    def limited(self) -> Limited:
        """The same where it is executed."""
        limit = RateLimit(self.name, **self.rates)
        limit.number = 0  # what this process, or an earlier errand, has declared stays
        return Limited(limit, self.costs)


Limits: TypeAlias = RateLimit | Limited | Sequence[RateLimit | Limited]


def sent_limits(
    limits: Sequence[Limited], function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[SentLimit, ...]:
    """The limits of a call that is sent elsewhere, with its costs worked out. Raises what a cost's function raises."""
    signature = signature_of(function)
    return tuple(
        SentLimit(limited.limit.name, dict(limited.limit.rates), limited.of(signature, args, kwargs))
        for limited in limits
    )


def limits_of(given: Limits | None) -> tuple[Limited, ...]:
    """What `limit=` of a step says.

    Raises:
        ConfigurationError: it isn't a rate limit, or one is there twice.
    """
    if given is None:
        return ()
    items = [given] if isinstance(given, RateLimit | Limited) else list(given)
    found: list[Limited] = []
    for item in items:
        limited = Limited(item, {}) if isinstance(item, RateLimit) else item
        if not isinstance(limited, Limited):
            msg = f"limit={item!r}: give a RateLimit, what its cost(...) returns, or a list of these"
            raise ConfigurationError(msg)
        if any(limited.limit.name == other.limit.name for other in found):
            msg = f"the rate limit {limited.limit.name!r} is given twice: put all of its costs into one cost(...)"
            raise ConfigurationError(msg)
        found.append(limited)
    return tuple(found)


def check_costs(limits: Sequence[Limited], function: Callable[..., Any]) -> None:
    """Whether costs can be worked out from the step's arguments.

    Args:
        function: as it is called with them.

    Raises:
        ConfigurationError: a cost's function asks for a parameter that the step doesn't have.
    """
    for limited in limits:
        _check(limited, signature_of(function))


def checked_name(name: object) -> str:
    """The name of a limit.

    Raises:
        ConfigurationError: it can't be one.
    """
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or not name.isprintable():
        msg = f"{name!r} can't name a rate limit: a name has 1 to 255 printable characters"
        raise ConfigurationError(msg)
    return name


def checked_use(limit: RateLimit, used: Mapping[str, int]) -> dict[str, int]:
    """What turned out to be used.

    Raises:
        UsageError: the limit counts nothing of the kind, or it isn't an amount.
    """
    for unit, amount in used.items():
        if unit not in limit.rates:
            msg = f"the rate limit {limit.name!r} counts no {unit!r}; its units are {', '.join(limit.rates)}"
            raise UsageError(msg)
        if not isinstance(amount, int | float) or not (math.isfinite(amount) and amount >= 0):
            msg = f"{unit}={amount!r}: what was used of the rate limit {limit.name!r} is a number from 0"
            raise UsageError(msg)
    return {unit: math.ceil(amount) for unit, amount in used.items()}


def check_under(limit: RateLimit, names: Iterable[str]) -> None:
    """Raises UsageError if a step that is under the limits of these names settles another one."""
    known = list(names)
    if limit.name not in known:
        under = ", ".join(map(repr, known))
        msg = f"this step isn't under the rate limit {limit.name!r}; it is under {under}"
        raise UsageError(msg)


@functools.lru_cache(maxsize=1024)
def signature_of(function: Callable[..., Any]) -> Signature:
    """The same as inspect's, which takes long."""
    return inspect.signature(function)


def asked(
    function: Callable[..., Any], signature: Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """What a function says of a call whose arguments it gets by the names of its own parameters."""
    call = signature.bind(*args, **kwargs)
    call.apply_defaults()
    return function(**_wanted(function, call.arguments))


def _wanted(cost: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    parameters = signature_of(cost).parameters.values()
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return dict(arguments)
    return {
        parameter.name: arguments[parameter.name] for parameter in parameters if parameter.name in arguments
    }


def _check(limited: Limited, step: Signature) -> None:
    for unit, cost in limited.costs.items():
        if not callable(cost):
            continue
        for parameter in signature_of(cost).parameters.values():
            known = parameter.name in step.parameters or parameter.default is not Parameter.empty
            if not known and parameter.kind is not Parameter.VAR_KEYWORD:
                names = ", ".join(step.parameters) or "none"
                msg = (
                    f"the cost of {unit} under the rate limit {limited.limit.name!r} asks for {parameter.name!r}, "
                    f"which isn't among the step's parameters ({names})"
                )
                raise ConfigurationError(msg)


def _amount(cost: Any, unit: str, name: str) -> int:
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not (math.isfinite(cost) and cost >= 0):
        msg = f"{unit}={cost!r}: a cost under the rate limit {name!r} is a number from 0"
        raise ConfigurationError(msg)
    return math.ceil(cost)
