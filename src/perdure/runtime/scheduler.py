"""Fires schedules: turns slots that have come into runs.

Every worker does this for every schedule. What a slot leads to is computed here and written by one transaction of
the store, which passes only if nobody else has changed the schedule since it was read: then the slot is dealt
with, and its run exists. A worker that dies before that leaves the slot to the others; one that dies after it has
nothing left to do. So a slot is dealt with exactly once, by any number of workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from perdure.codec.events import encode_event
from perdure.codec.sealing.envelope import is_sealed, why_closed
from perdure.core import events as ev
from perdure.core.namespaces import is_reserved, prefix_of, short
from perdure.core.schedules import Schedule, due_at, settle, waits_for_an_end
from perdure.core.status import Status
from perdure.errors import ConfigurationError, SealedError, StoreError, UndecodableError
from perdure.runtime.runs import new_run
from perdure.runtime.slots import come
from perdure.runtime.timers import Timers
from perdure.runtime.watching import Watch
from perdure.storage.protocol import Store
from perdure.storage.records import NewRun
from perdure.storage.schedules import ScheduleRow
from perdure.storage.scoping.records import run_within

logger = logging.getLogger("perdure.scheduler")

#: Schedules looked at in one go.
LOOK_MAX = 100

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Schedule)


def row_of(schedule: Schedule, version: int) -> ScheduleRow:
    """A schedule as the store keeps it."""
    return ScheduleRow(
        name=schedule.name,
        version=version,
        due_at=due_at(schedule),
        waiting=waits_for_an_end(schedule),
        running=schedule.running,
        data=_encode(_renamed(schedule, short)),
    )


def _renamed(schedule: Schedule, name: Callable[[str], str]) -> Schedule:
    """The same, with other names: what a store keeps has short ones, whoever has written it."""
    if not is_reserved(schedule.name) and name is short:
        return schedule
    return msgspec.structs.replace(
        schedule,
        name=name(schedule.name),
        running=tuple(map(name, schedule.running)),
        recent=tuple(msgspec.structs.replace(fired, run=name(fired.run)) for fired in schedule.recent),
    )


def schedule_in(row: ScheduleRow) -> Schedule:
    """The schedule that a store's row holds. Its name is the row's, and so are the namespaces of its runs.

    Raises:
        UndecodableError: another version of Perdure has written it.
    """
    try:
        schedule = _decoder.decode(row.data)
    except (msgspec.DecodeError, RecursionError) as error:
        if is_sealed(row.data):
            msg = f"schedule {row.name!r} can't be read: {why_closed(row.data)}"
            raise SealedError(msg) from None
        msg = f"schedule {row.name!r} can't be read: {error}. Was it written by a newer version of Perdure?"
        raise UndecodableError(msg) from error
    prefix = prefix_of(row.name)
    return _renamed(schedule, lambda name: prefix + name) if prefix else schedule


def scheduled_run(schedule: Schedule, id: str, slot: float | None, now: float) -> NewRun:
    """The run that a schedule starts."""
    new = new_run(
        id=short(id),
        workflow=schedule.workflow,
        input=schedule.input,
        queue=schedule.queue,
        now=now,
        schedule=short(schedule.name),
        slot=slot,
    )
    return run_within(new, prefix_of(id))


class Scheduler(Watch):
    """Looks for schedules that are due, and fires them.

    Args:
        started: called when runs were started, which somebody may claim now.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
        timers: Timers,
        started: Callable[[], None],
    ) -> None:
        super().__init__(loop, clock, timers)
        self._store = store
        self._started = started
        self._stuck: dict[str, int] = {}  # versions of schedules that can't be fired here

    def refused(self, error: StoreError) -> None:
        logger.warning("couldn't look after schedules, will try again: %s", error)

    async def look(self) -> None:
        """Fire the schedules that are due."""
        while True:
            due = await self._store.schedules.due(now=self._clock(), limit=LOOK_MAX)
            ready = [row for row in due.rows if self._stuck.get(row.name) != row.version]
            if not ready:
                break
            for row in ready:
                await self._try(row)
        if due.next_at is not None:
            self.look_at(due.next_at)

    async def _try(self, row: ScheduleRow) -> None:
        try:
            await self._fire(row)
        except StoreError:
            raise
        except (ConfigurationError, UndecodableError) as error:
            self._stuck[row.name] = row.version
            logger.error("schedule %s can't be fired by this worker: %s", row.name, error)
        except Exception:  # the engine's own: the other schedules mustn't suffer from it
            self._stuck[row.name] = row.version
            logger.critical("schedule %s made the engine fail", row.name, exc_info=True)

    async def _fire(self, row: ScheduleRow) -> None:
        schedule = schedule_in(row)
        now = self._clock()
        slots, missed, next_slot = come(schedule, now)
        settled = settle(
            schedule,
            due=slots,
            missed=missed,
            next_slot=next_slot,
            live=await self._live(schedule.running),
            now=now,
        )
        runs = [scheduled_run(schedule, id, slot, now) for id, slot in settled.start]
        cancel = encode_event(
            ev.CancelRequested(at=now, reason=f"the next slot of schedule {short(schedule.name)!r} has come")
        )
        done = await self._store.schedules.change(
            row_of(settled.schedule, row.version),
            runs=runs,
            mail=[(id, cancel) for id in settled.cancel],
            now=now,
        )
        if done and (runs or settled.cancel):
            self._started()

    async def _live(self, ids: tuple[str, ...]) -> set[str]:
        if not ids:
            return set()
        rows = await self._store.get(ids)
        return {row.id for row in rows if row is not None and not Status(row.status).final}
