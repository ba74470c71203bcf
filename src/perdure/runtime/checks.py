"""What options of steps have to be: whatever isn't is refused when the step is made, not when it first matters."""

from __future__ import annotations

from typing import Any

from perdure.core.retry import Retry
from perdure.core.usage import Spend
from perdure.errors import ConfigurationError


def check_retry(retry: Any) -> None:
    """Look at what was given as `retry=`.

    Raises:
        ConfigurationError: it is no policy. A step with something else would stand still at its first failure.
    """
    if not isinstance(retry, Retry):
        msg = f"retry={retry!r}: give a Retry, such as Retry(max_attempts=1) for a step that is tried once"
        raise ConfigurationError(msg)


def checked_spends(spends: Any) -> Any:
    """What was given as `spends=`.

    Raises:
        ConfigurationError: it says nothing about spending.
    """
    if spends is None or isinstance(spends, bool | Spend) or callable(spends):
        return spends
    msg = f"spends={spends!r}: give True, False, a Spend(...), or a function of the step's arguments that makes one"
    raise ConfigurationError(msg)


def checked_effect(effect: Any) -> Any:
    """What was given as `effect=`.

    Raises:
        ConfigurationError: it is no effect class.
    """
    if effect in (None, "read", "write"):
        return effect
    msg = f'effect={effect!r}: give "read" for a step that changes nothing outside, or "write"'
    raise ConfigurationError(msg)
