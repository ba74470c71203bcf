"""Changes that a fork makes to all steps which a pattern names.

A pattern is a step's id, its name, the last part of its name with or without its number or key, or one of these with
`*` for any text: `app.ask#2`, `app.ask`, `ask`, `ask#2`, `ask#*`, `*.fetch*`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeVar

import msgspec

from perdure.core.scope import operation_name

T = TypeVar("T")


class Edit(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One change.

    Attributes:
        steps: the pattern.
        result: the encoded result that these steps have.
        input: the encoded arguments with which they are called.
        parts: encoded values, by the path in the arguments where they are put (see codec/changing.py).
        text: what takes the place of what, in all texts of the arguments.
    """

    steps: str
    result: bytes | None = None
    input: bytes | None = None
    parts: tuple[tuple[str, bytes], ...] = ()
    text: tuple[tuple[str, str], ...] = ()


def is_pattern(text: str) -> bool:
    """Whether it may name several steps by itself."""
    return "*" in text


def names(pattern: str, op_id: str) -> bool:
    """Whether a pattern names a step.

    >>> [names(pattern, "1/app.ask#2") for pattern in ("1/app.ask#2", "app.ask", "ask", "ask#2", "a*k", "*#2", "app")]
    [True, True, True, True, True, True, False]
    """
    name = operation_name(op_id)
    short = name.rpartition(".")[2]
    which = op_id[op_id.index(name) + len(name) :]
    known = (op_id, name, short, name + which, short + which)
    if not is_pattern(pattern):
        return pattern in known
    fits = _expression(pattern).fullmatch
    return any(fits(text) for text in known)


def first_named(by_pattern: Mapping[str, T], op_id: str) -> T | None:
    """The value of the first pattern that names a step; what is more exact counts more."""
    if op_id in by_pattern:
        return by_pattern[op_id]
    found = [pattern for pattern in by_pattern if names(pattern, op_id)]
    return by_pattern[min(found, key=is_pattern)] if found else None


def given_result(edits: Iterable[Edit], op_id: str) -> bytes | None:
    """The result that edits give to a step; the last one counts."""
    found = None
    for edit in edits:
        if edit.result is not None and names(edit.steps, op_id):
            found = edit.result
    return found


@lru_cache(maxsize=256)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
