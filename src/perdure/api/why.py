"""Gathers what `core/why.py` explains: a run's row, its history, its children's, and the workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perdure.api.connection import Connection
from perdure.api.runinfo import run_info
from perdure.api.workerinfo import worker_info
from perdure.codec.redaction import mask
from perdure.codec.shown import shown
from perdure.core.places import Place
from perdure.core.queues import micros
from perdure.core.rates import MICRO, room
from perdure.core.status import Status
from perdure.core.timeline import Wait, waits
from perdure.core.why import Facts, Server, Why, explain
from perdure.storage.queues import AHEAD_MAX
from perdure.storage.records import RunRow

#: How deep a chain of children is followed, and how many children of one run.
_DEPTH_MAX = 20
_CHILDREN_MAX = 20


async def why(connection: Connection, id: str) -> Why:
    """Why a run doesn't go on. Raises UnknownRunError."""
    row = await connection.row(id)
    return await why_of(connection, row, await live_servers(connection))


async def live_servers(connection: Connection) -> dict[int, Server]:
    """The workers that are alive."""
    now = connection.clock()
    return {
        worker.id: Server(worker.name, worker.queues, worker.workflows, worker.version)
        for worker in await connection.store.workers()
        if worker_info(worker, now).state != "gone"
    }


async def why_of(
    connection: Connection, row: RunRow, servers: Mapping[int, Server], depth: int = _DEPTH_MAX
) -> Why:
    """Why a run doesn't go on, by its row and the workers there are."""
    return await _why(connection, row, servers, depth)


async def _why(connection: Connection, row: RunRow, servers: Mapping[int, Server], depth: int) -> Why:
    found: list[Wait] = []
    if not Status(row.status).final:
        found = waits(await connection.readable(row))
    children: dict[str, Why] = {}
    if depth > 0:
        ids = [wait.detail for wait in found if wait.kind == "child"][:_CHILDREN_MAX]
        rows = await connection.store.get(ids) if ids else []
        for child in rows:
            if child is not None:
                children[child.id] = await _why(connection, child, servers, depth - 1)
    sent = [wait.run for wait in found if wait.run][:_CHILDREN_MAX]
    errands = {
        errand.id: _facts(
            errand,
            errand.reason,
            # what it waits for tells what helps
            waits(await connection.readable(errand)) if errand.status == Status.BLOCKED else (),
            servers,
            await _place(connection, errand),
        )
        for errand in (await connection.store.get(sent) if sent else [])
        if errand is not None
    }
    reason = run_info(row).with_request(await connection.held_request(row)).reason
    facts = _facts(row, reason, found, servers, await _place(connection, row))
    return explain(facts, now=connection.clock(), children=children, errands=errands)


async def _place(connection: Connection, row: RunRow) -> Place | None:
    """Where a run stands in its queue, if it could go on otherwise."""
    now = connection.clock()
    if row.owner is not None or row.wake_at is None or row.wake_at > now:
        return None
    standing = await connection.store.queues.standing(row.run)
    if standing is None or standing.queue is None:
        return None
    queue, settings, rate = standing.queue, standing.queue.settings, standing.queue.settings.rate
    free, next_at = (1, 0) if rate is None else room(rate.pace, queue.arrival, micros(now))
    return Place(
        queue=queue.name,
        paused=queue.paused,
        draining=queue.draining,
        in_line=standing.in_line,
        ahead=standing.ahead,
        many=standing.ahead >= AHEAD_MAX,
        key=standing.key,
        held=standing.held,
        held_by_key=standing.held_by_key,
        holders=standing.holders,
        parent_holds=standing.parent_holds,
        concurrency=settings.concurrency,
        per_worker=settings.per_worker,
        per_key=settings.per_key,
        rate=None if rate is None else f"{rate.limit} per {rate.per:g} s",
        next_at=None if free else next_at / MICRO,
    )


def _facts(
    row: RunRow,
    reason: str | None,
    found: Sequence[Wait],
    servers: Mapping[int, Server],
    place: Place | None,
) -> Facts:
    driver = None if row.owner is None else servers.get(row.owner)
    return Facts(
        id=row.id,
        workflow=row.workflow,
        status=Status(row.status),
        queue=row.queue,
        since=row.updated_at if row.ended_at is None else row.ended_at,
        recoveries=row.recoveries,
        driven=row.owner is not None,
        driver="" if driver is None else driver.name,
        reason=None if reason is None else mask(reason),
        block_code=row.block_code,
        pinned_to=row.version if row.pinned else None,
        wake_at=row.wake_at,
        waits=[shown(wait) for wait in found],
        servers=list(servers.values()),
        place=place,
    )
