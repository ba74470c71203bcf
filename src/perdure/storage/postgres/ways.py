"""How the parts of the store reach the database: the two ways that PostgresStore offers them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol, TypeVar

R = TypeVar("R")


class Ways(Protocol):
    """Verbs are async functions of a Database and what follows it here."""

    async def write(self, verb: Callable[..., Awaitable[R]], *args: Any) -> R:
        """In a transaction, in line with what else clients write."""
        ...

    async def beside(self, verb: Callable[..., Awaitable[R]], *args: Any, marked: bool) -> R:
        """In a transaction that waits for no other. Nobody is told of it. Without a mark it may happen twice."""
        ...

    async def alone(self, query: str, bindings: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """One statement that is its own transaction, and recognises its own repeat. Nobody is told of it."""
        ...

    async def apart(self, verb: Callable[..., Awaitable[R]], *args: Any) -> R:
        """In a transaction of its own, beside that line, of which nobody is told."""
        ...

    def changed(self) -> None:
        """Tell others that something was committed."""
        ...

    async def arrived(self, runs: Collection[int]) -> None:
        """Wait for the appends to these runs that were submitted so far."""
        ...

    async def read(self, verb: Callable[..., Awaitable[R]], *args: Any) -> R: ...
