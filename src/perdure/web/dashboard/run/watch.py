"""A run as its page follows it: the history as it grows, and now and then how the run stands.

The history comes by the engine's own following, which waits where nothing happens, and goes on by itself when a worker
that was killed is there again. How the run stands is asked for when events have come, and every few seconds, since a
run can be blocked or taken over without an event.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

from nicegui import Client, background_tasks, context, ui

from perdure.api.handle import Handle
from perdure.api.runinfo import RunInfo
from perdure.api.spending import Usage
from perdure.codec.shown import shown
from perdure.core.status import Status
from perdure.core.why import Cause
from perdure.errors import PerdureError, UndecodableError, UnknownRunError
from perdure.web.dashboard.desk import Desk
from perdure.web.views.runlog import RunLog

#: Seconds between looks at how a run stands, and after something that couldn't be read.
LOOK_EVERY: Final = 2.0
AGAIN: Final = 2.0
#: A run with more events than this is looked at only when its row has changed.
LONG: Final = 2000


class Watch:
    """One run, followed for one open page.

    Attributes:
        id: the run's.
        pinned: the generation that was asked for, None = the newest.
        log: its events so far.
        info: how it stood when it was looked at last.
        causes: why it doesn't go on.
        trouble: why its history can't be read further, "" if it can.
        version: changes whenever something of this has changed.
    """

    def __init__(self, desk: Desk, id: str, generation: int | None) -> None:
        self.desk = desk
        self.id = id
        self.pinned = generation
        self.log = RunLog()
        self.info: RunInfo
        self.usage = Usage()
        self.causes: tuple[Cause, ...] = ()
        self.trouble = ""
        self.version = 0
        self._looked_at: tuple[Any, ...] = ()
        self._looked = 0.0
        self._seen = 0

    def look_soon(self) -> None:
        """Something was done with it."""
        self._looked = 0.0

    @property
    def handle(self) -> Handle[Any]:
        return self.desk.engine.get(self.id)

    @property
    def now(self) -> float:
        return time.time()

    async def load(self) -> None:
        """Everything as it is now.

        Raises:
            UnknownRunError: there is no such run, or generation.
        """
        await self._look()
        try:
            async for event in self.handle.history(generation=self.info.generation):
                self.log.add(shown(event))
        except UndecodableError as error:
            self.trouble = str(error)

    def follow(self) -> None:
        """Go on for as long as the page is open."""
        client: Client = context.client
        task: asyncio.Task[Any] = background_tasks.create(self._follow(), name=f"follow {self.id}")
        client.on_delete(lambda: _cancel(task))

    async def _follow(self) -> None:
        while not self.trouble and self.log.final is None:
            history = self.handle.history(
                generation=self.info.generation, after=len(self.log.events), follow=True
            )
            try:
                async for event in history:
                    self.log.add(shown(event))
                    self.version += 1
            except (UndecodableError, UnknownRunError) as error:
                self.trouble = str(error)
                self.version += 1
            except PerdureError:  # the database is away for a moment, say
                await asyncio.sleep(AGAIN)

    async def refresh(self) -> None:
        """Look how it stands, if it is time for that."""
        grown = len(self.log.events) != self._seen and len(self.log.events) <= LONG
        if not grown and time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._seen = len(self.log.events)
        try:
            if len(self.log.events) > LONG:
                (row,) = (await self.desk.engine.runs_page(text=self.id, size=1)).runs or (None,)
                if row is not None and row.id == self.id and self._sight(row) == self._looked_at:
                    self._looked = time.monotonic()
                    return
            await self._look()
        except PerdureError:
            self._looked = time.monotonic()

    async def _look(self) -> None:
        info = await self.handle.info(generation=self.pinned)
        self._looked = time.monotonic()
        if (sight := self._sight(info)) == self._looked_at and info == getattr(self, "info", None):
            return
        usage = await self.handle.usage()
        causes: tuple[Cause, ...] = ()
        if self.pinned is None and not info.status.final and info.status is not Status.RUNNING:
            causes = tuple((await self.handle.why()).causes)
        self.info, self.usage, self.causes, self._looked_at = info, usage, causes, sight
        self.version += 1

    @staticmethod
    def _sight(info: RunInfo) -> tuple[Any, ...]:
        return info.generation, info.events, info.status, info.updated_at, info.reason


def _cancel(task: asyncio.Task[Any]) -> None:
    if not task.done():
        task.cancel()


#: Called with the number of an event, or with an op id, when somebody wants to see it.
Show = Callable[..., None]

_FOCUS: Final = """(() => {
  const [name, value] = %s;
  const found = [...document.querySelectorAll(`button[${name}]`)].find((each) => each.getAttribute(name) === value);
  if (found && document.activeElement === document.body) found.focus();
})()"""


def focus_again(name: str, value: str) -> None:
    """Give the focus to the button with this attribute, if nothing else has it: what had it was drawn anew."""
    ui.run_javascript(_FOCUS % json.dumps([name, value]))
