"""Brings publications to those who want them, and forgets those that are old.

Every worker does this for all of them, whatever code it has: `distribute` of the store is one transaction under one
lock, in which everything about some publications happens, or nothing. So it makes no odds which worker does it, how
many try, and which of them die (storage/distribution.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from perdure.errors import StoreError
from perdure.runtime.definitions import WorkflowDefinition, defined_workflows, registered
from perdure.runtime.settings import Settings
from perdure.runtime.timers import Timers
from perdure.runtime.watching import Watch
from perdure.storage.protocol import Store
from perdure.storage.publications import Subscription, number_at

logger = logging.getLogger("perdure.distributor")

#: Seconds before another look when somebody else is distributing.
BUSY_PAUSE = 0.05
#: Seconds between two times of forgetting.
FORGET_EVERY = 60.0
#: Publications forgotten in one transaction.
FORGET_MAX = 500


class Distributor(Watch):
    """Looks for publications that haven't reached everybody who wants them.

    Args:
        settings: the first queue there is where runs go unless their subscription says otherwise.
        arrived: called when runs were started, or mail was sent.
    """

    hint_pause = 0.05  # a look at nothing is one small statement

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        timers: Timers,
        arrived: Callable[[], None],
    ) -> None:
        super().__init__(loop, settings.clock, timers)
        self._store = store
        self._queue = settings.queues[0]
        self._keep = settings.keep_publications
        self._arrived = arrived
        self._forgot_at = loop.time()
        self._known = 0  # how many workflows there were when subscriptions were made known

    def refused(self, error: StoreError) -> None:
        logger.warning("couldn't look after published events, will try again: %s", error)

    async def sign_up(self) -> None:
        """Make the subscriptions of this process's workflows known."""
        self._known = registered()
        definitions = defined_workflows()
        wanted = [
            subscription_of(definition, self._queue)
            for definition in definitions
            if definition.on is not None
        ]
        if wanted:
            await self._store.publications.subscribe(wanted, now=self._clock())
        await self._warn_of_leftovers({one.name: one for one in definitions})

    async def _warn_of_leftovers(self, known: dict[str, WorkflowDefinition]) -> None:
        for standing in await self._store.publications.subscriptions():
            definition = known.get(standing.workflow)
            if definition is not None and definition.on is None:
                logger.warning(
                    "workflow %s is still started by the event %r, to which its code here doesn't subscribe any "
                    "more: `perdure subscriptions remove %s` ends that",
                    standing.workflow,
                    standing.event,
                    standing.workflow,
                )

    async def look(self) -> None:
        """Distribute what there is."""
        if registered() != self._known:
            await self.sign_up()
        publications = self._store.publications
        while True:
            pending = await publications.pending(now=self._clock())
            if not pending.due:
                break
            done = await publications.distribute(now=self._clock())
            if done.busy:
                self.look_at(self._clock() + BUSY_PAUSE)
                return
            if done.runs or done.mail:
                self._arrived()
        if pending.next_at is not None:
            self.look_at(pending.next_at)
        await self._forget()

    async def _forget(self) -> None:
        if self._keep is None or self._loop.time() < self._forgot_at + FORGET_EVERY:
            return
        before = number_at(self._clock() - self._keep)
        gone = FORGET_MAX
        while gone == FORGET_MAX:
            gone = await self._store.publications.forget(before=before, limit=FORGET_MAX)
        self._forgot_at = self._loop.time()


def subscription_of(definition: WorkflowDefinition, queue: str) -> Subscription:
    """What a workflow's decorator says, as the store keeps it."""
    on = definition.on
    assert on is not None
    return Subscription(
        workflow=definition.name,
        event=on.name,
        where=on.where,
        queue=on.queue or queue,
        pinned=definition.pinned,
        debounce=on.debounce,
        batch=on.batch,
        within=on.within,
        by=on.by,
    )
