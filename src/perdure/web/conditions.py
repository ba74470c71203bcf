"""Conditions on attributes as people type them: `total>=100`, in addresses and on pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from perdure.errors import UsageError


def conditions(texts: Sequence[str]) -> dict[str, Any]:
    """By attribute, all that must hold of it.

    Args:
        texts: `name=value`, `name>=value` and the like; a value is JSON if it reads as that, else a text.

    Raises:
        UsageError: one of them says nothing.

    Example:
        >>> conditions(["total>=100", "region=eu"])
        {'total': [('>=', 100)], 'region': [('=', 'eu')]}
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, condition = _condition(text)
        found.setdefault(name, []).append(condition)
    return found


def _condition(text: str) -> tuple[str, tuple[str, str | int | float | bool]]:
    signs = ((place, sign) for sign in (">=", "<=", "!=", "=", ">", "<") if (place := text.find(sign)) > 0)
    # The first sign counts, and of those at one place the longest: a value may hold others.
    place, sign = min(signs, key=lambda each: (each[0], -len(each[1])), default=(0, ""))
    if not sign:
        msg = f"attribute={text!r} says nothing: give name=value, or name>=value"
        raise UsageError(msg)
    name, value = text[:place], text[place + len(sign) :]
    try:
        given = msgspec.json.decode(value.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        given = value
    if not isinstance(given, str | int | float | bool):
        msg = f"attribute={text!r}: attributes are texts, numbers and bools"
        raise UsageError(msg)
    return name, (sign, given)
