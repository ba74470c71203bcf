"""What the loop's create_task takes besides plain coroutines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any


class Schedulable(ABC):
    """A coroutine-like object that takes its place under the task that hands it to `create_task`.

    `create_task(fetch(u))` and `await fetch(u)` then get the same op id, whatever wrapper task asyncio
    puts around the coroutine (`wait_for` has one in Python 3.11 and none in 3.12).
    """

    __slots__ = ()

    @abstractmethod
    def adopt(self, loop: Any) -> tuple[str, Coroutine[Any, Any, Any]]:
        """Reserve the op id in the current scope; return it, and the coroutine that does the work."""
