"""What `Engine(redact=...)` takes, and where it comes from if nothing is given: the environment's PERDURE_REDACT."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any, cast

from perdure.codec.redaction import Redact, common
from perdure.errors import ConfigurationError


def redactions(given: Redact | Sequence[Redact] | None) -> tuple[Redact, ...]:
    """The functions that are meant.

    Raises:
        ConfigurationError: something else was given, or PERDURE_REDACT names what can't be found.
    """
    if given is None:
        named = os.environ.get("PERDURE_REDACT", "")
        return tuple(_named(name.strip()) for name in named.split(",") if name.strip())
    rules = (given,) if callable(given) else tuple(given)
    for rule in rules:
        if not callable(rule):
            msg = f"redact={rule!r}: give functions from text to text, such as perdure.redactions.common"
            raise ConfigurationError(msg)
    return rules


def _named(name: str) -> Redact:
    if name == "common":
        return common
    module, colon, attribute = name.partition(":")
    try:
        found: Any = getattr(import_module(module), attribute) if colon else None
    except (ImportError, AttributeError) as error:
        msg = f"PERDURE_REDACT names {name!r}, which can't be imported ({error}). Write common, or module:function"
        raise ConfigurationError(msg) from error
    if not callable(found):
        msg = f"PERDURE_REDACT names {name!r}, which is no function. Write common, or module:function"
        raise ConfigurationError(msg)
    return cast("Redact", found)
