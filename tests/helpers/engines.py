"""Engines for tests: several on one database, and waiting for what has to happen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from perdure import Engine
from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.sqlite.store import SqliteStore

PATIENCE = 60.0  #: seconds after which a test counts as hanging


class Database:
    """A place where engines meet."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.shared = MemoryDatabase()

    def engine(self, **options: Any) -> Engine:
        engine = Engine("memory:" if self.path is None else f"sqlite:///{self.path}", **options)
        engine._store = MemoryStore(self.shared) if self.path is None else SqliteStore(self.path)
        return engine


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run a test's coroutine; one that hangs fails."""

    async def bounded() -> Any:
        async with asyncio.timeout(PATIENCE):
            return await main()

    return asyncio.run(bounded())


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds; it may be async."""
    while True:
        found = condition()
        if hasattr(found, "__await__"):
            found = await found
        if found:
            return
        await asyncio.sleep(0.01)


def residents(engine: Engine) -> int:
    """How many runs the engine has in memory."""
    assert engine._worker is not None
    return len(engine._worker.drivers)
