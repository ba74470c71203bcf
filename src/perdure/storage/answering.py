"""Algorithms that ask: a generator yields what it wants of a store, is sent the answer, and returns what came of it.

So one algorithm serves all stores, which differ in how they answer: at once, or by awaiting a database.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

A = TypeVar("A")
R = TypeVar("R")


def carried_out(algorithm: Generator[A, Any, R], answer: Callable[[A], Any]) -> R:
    """What comes of an algorithm whose questions are answered at once."""
    answered: Any = None
    while True:
        try:
            asked = algorithm.send(answered)
        except StopIteration as end:
            result: R = end.value
            return result
        answered = answer(asked)


async def carried_out_by(algorithm: Generator[A, Any, R], answer: Callable[[A], Awaitable[Any]]) -> R:
    """What comes of an algorithm whose questions are answered by awaiting."""
    answered: Any = None
    while True:
        try:
            asked = algorithm.send(answered)
        except StopIteration as end:
            result: R = end.value
            return result
        answered = await answer(asked)
