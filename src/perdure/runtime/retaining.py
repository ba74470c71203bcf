"""A worker's part in removing old runs: none at all unless something says how long runs are kept."""

from __future__ import annotations

import asyncio
import contextlib

from perdure.core.retention import Rule
from perdure.errors import StoreError
from perdure.runtime.definitions import defined_workflows
from perdure.runtime.draining import end
from perdure.runtime.retention import all_rules
from perdure.runtime.settings import Settings
from perdure.runtime.timers import Timers
from perdure.storage.protocol import Store


class Retaining:
    """Removes runs while its worker lives.

    Args:
        name: of the worker.
    """

    def __init__(
        self, store: Store, loop: asyncio.AbstractEventLoop, settings: Settings, timers: Timers
    ) -> None:
        self._store = store
        self._loop = loop
        self._settings = settings
        self._timers = timers
        self._holder = ""
        self._task: asyncio.Task[None] | None = None

    def start(self, name: str, worker: int) -> None:
        """Begin, if there is a rule."""
        if self._rules():
            from perdure.runtime.sweeping import Retainer

            self._holder = f"{name} ({worker})"
            clock = self._settings.clock
            retainer = Retainer(self._store, self._loop, clock, self._timers, self._holder, self._rules)
            self._task = self._loop.create_task(retainer.run())

    def _rules(self) -> list[Rule]:
        of_workflows = [rule for workflow in defined_workflows() for rule in workflow.retention]
        return all_rules(self._settings.retention, of_workflows)

    async def close(self) -> None:
        """Stop, and let others go on."""
        if self._task is not None:
            await end(self._task)
            self._task = None
            with contextlib.suppress(StoreError):
                await self._store.retention.leave(self._holder)
