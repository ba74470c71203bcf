"""What isn't one run's: workers, queues, rate limits, schedules, callbacks, and what everything costs."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query

from perdure.api.limits import LimitInfo
from perdure.api.naming import named_call
from perdure.api.queues import QueueInfo
from perdure.api.scheduleinfo import ScheduleInfo
from perdure.core.rates import Rate
from perdure.errors import UsageError
from perdure.web.engines import EngineHere
from perdure.web.runs import usage_out
from perdure.web.shapes import (
    BlockIn,
    FailIn,
    LimitOut,
    QueueOut,
    ReasonIn,
    RunRef,
    ScheduledRunOut,
    ScheduleOut,
    UsageLineOut,
    ValueIn,
    WorkerOut,
)
from perdure.web.shapes_fleet import (
    BackfillIn,
    CountOut,
    EntitiesOut,
    EntityKindOut,
    EntityOut,
    QueueIn,
    ScheduleIn,
    TimingIn,
)

router = APIRouter(tags=["fleet"])

_TIMING = set(TimingIn.model_fields)

Named = Annotated[str, Path(min_length=1, max_length=255)]
Token = Annotated[str, Path(min_length=1, max_length=500)]


@router.get("/workers")
async def workers(engine: EngineHere) -> list[WorkerOut]:
    """The workers of this database."""
    return [WorkerOut.model_validate(worker) for worker in await engine.workers()]


# -- queues ---------------------------------------------------------------------------------------------


@router.get("/queues")
async def queues(engine: EngineHere) -> list[QueueOut]:
    """All queues that are defined, served, or hold anything."""
    return [_queue(queue) for queue in await engine.queues.list()]


@router.post("/queues/{name:path}/{action}")
async def change_queue(
    engine: EngineHere, name: Named, action: Literal["pause", "resume", "drain", "reset"]
) -> QueueOut:
    """Pause, resume or drain a queue, or let the limits of its code hold again."""
    if action == "pause":
        await engine.queues.pause(name)
    elif action == "resume":
        await engine.queues.resume(name)
    elif action == "drain":
        await engine.queues.drain(name)
    else:
        await engine.queues.reset(name)
    found = await engine.queues.get(name)
    if found is None:
        raise HTTPException(404, f"nothing is known of queue {name!r} any more")
    return _queue(found)


@router.put("/queues/{name:path}")
async def set_queue(engine: EngineHere, name: Named, body: QueueIn) -> QueueOut:
    """Give a queue other limits than its code does."""
    limits: dict[str, Any] = {limit: getattr(body, limit) for limit in body.model_fields_set}
    if body.rate is not None:
        limits["rate"] = body.rate.model_dump()  # the engine says what is wrong with it
    return _queue(await engine.queues.set(name, **limits))


def _queue(queue: QueueInfo) -> QueueOut:
    fields = {field.name: getattr(queue, field.name) for field in dataclasses.fields(queue)}
    rate = None if queue.rate is None else _rate(queue.rate)
    return QueueOut.model_validate({**fields, "rate": rate})


def _rate(rate: Rate) -> dict[str, Any]:
    return {"limit": rate.limit, "per": rate.per, "burst": rate.burst}


# -- limits ---------------------------------------------------------------------------------------------


@router.get("/limits")
async def limits(engine: EngineHere) -> list[LimitOut]:
    """All rate limits that steps have been under, or that were blocked."""
    return [_limit(limit) for limit in await engine.limits.list()]


@router.post("/limits/{name:path}/block")
async def block(engine: EngineHere, name: Named, body: BlockIn) -> dict[str, str]:
    """Let nothing begin for so many seconds that has this limit."""
    await engine.limits.block(name, after=body.seconds)
    return {"name": name}


@router.post("/limits/{name:path}/unblock")
async def unblock(engine: EngineHere, name: Named) -> dict[str, str]:
    """End a block."""
    await engine.limits.unblock(name)
    return {"name": name}


@router.post("/limits/{name:path}/reset", status_code=204)
async def reset_limit(engine: EngineHere, name: Named) -> None:
    """Forget what a limit has counted, and who waits in line."""
    await engine.limits.reset(name)


def _limit(limit: LimitInfo) -> LimitOut:
    units = {
        name: {"rate": _rate(unit.rate), "free": unit.free, "waiting": unit.waiting}
        for name, unit in limit.units.items()
    }
    return LimitOut(name=limit.name, units=units, blocked_until=limit.blocked_until, next_at=limit.next_at)


# -- schedules ------------------------------------------------------------------------------------------


@router.get("/schedules")
async def schedules(engine: EngineHere) -> list[ScheduleOut]:
    """All schedules."""
    return [_schedule(schedule) for schedule in await engine.schedules.list()]


@router.put("/schedules/{name:path}")
async def create_schedule(engine: EngineHere, name: Named, body: ScheduleIn) -> ScheduleOut:
    """Let runs be started by the clock."""
    timing = body.model_dump(exclude_none=True, include=_TIMING)
    call = named_call(body.workflow, body.args, body.kwargs)
    handle = await engine.schedules.create(name, call, paused=body.paused, if_exists=body.if_exists, **timing)
    return _schedule(await handle.info())


@router.patch("/schedules/{name:path}")
async def change_schedule(engine: EngineHere, name: Named, body: TimingIn) -> ScheduleOut:
    """Change what is given of a schedule, and leave the rest."""
    handle = engine.schedules.get(name)
    await handle.update(**body.model_dump(exclude_none=True))
    return _schedule(await handle.info())


@router.post("/schedules/{name:path}/backfill", status_code=202)
async def backfill(engine: EngineHere, name: Named, body: BackfillIn) -> CountOut:
    """Let a schedule make up for the slots from `start` up to `end`."""
    return CountOut(count=await engine.schedules.get(name).backfill(body.start, body.end))


@router.post("/schedules/{name:path}/pause")
async def pause_schedule(engine: EngineHere, name: Named, body: ReasonIn) -> ScheduleOut:
    """Let a schedule start nothing."""
    handle = engine.schedules.get(name)
    await handle.pause(body.reason)
    return _schedule(await handle.info())


@router.post("/schedules/{name:path}/resume")
async def resume_schedule(engine: EngineHere, name: Named) -> ScheduleOut:
    """Let a paused schedule go on."""
    handle = engine.schedules.get(name)
    await handle.resume()
    return _schedule(await handle.info())


@router.post("/schedules/{name:path}/trigger", status_code=201)
async def trigger(engine: EngineHere, name: Named) -> RunRef:
    """Start one of a schedule's runs now."""
    return RunRef(id=(await engine.schedules.get(name).trigger()).id)


@router.delete("/schedules/{name:path}", status_code=204)
async def delete_schedule(engine: EngineHere, name: Named) -> None:
    """Remove a schedule; the runs that it has started go on."""
    await engine.schedules.get(name).delete()


def _schedule(schedule: ScheduleInfo) -> ScheduleOut:
    recent = [ScheduledRunOut(id=run.id, at=run.at, slot=run.slot) for run in schedule.recent]
    return ScheduleOut(
        name=schedule.name,
        workflow=schedule.workflow,
        queue=schedule.queue,
        cron=schedule.cron,
        tz=schedule.tz,
        every=None if schedule.every is None else schedule.every.total_seconds(),
        at=schedule.at,
        jitter=schedule.jitter.total_seconds(),
        overlap=schedule.overlap,
        catch_up=schedule.catch_up.total_seconds(),
        created_at=schedule.created_at,
        paused=schedule.paused,
        reason=schedule.reason,
        next=list(schedule.next),
        recent=recent,
        running=list(schedule.running),
        buffered=list(schedule.buffered),
        fired=schedule.fired,
        skipped=schedule.skipped,
        missed=schedule.missed,
    )


# -- entities -------------------------------------------------------------------------------------------


@router.get("/entities")
async def entity_kinds(engine: EngineHere) -> list[EntityKindOut]:
    """The kinds of entities that have had calls."""
    return [EntityKindOut.model_validate(kind) for kind in await engine.entities.kinds()]


@router.get("/entities/{kind:path}")
async def entities(
    engine: EngineHere,
    kind: Annotated[str, Path(min_length=1, max_length=255)],
    text: Annotated[str | None, Query(max_length=200, description="Part of the run's id.")] = None,
    size: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
) -> EntitiesOut:
    """Entities of one kind, page by page. Each is a run, and can be looked at as one."""
    page = await engine.entities.page(kind, text=text, size=size, cursor=cursor)
    return EntitiesOut(entities=[EntityOut.model_validate(item) for item in page.entities], next=page.next)


# -- callbacks and costs --------------------------------------------------------------------------------


@router.post("/callbacks/{token}/complete", status_code=204)
async def complete(engine: EngineHere, token: Token, body: ValueIn) -> None:
    """Complete what a run waits for."""
    await engine.callbacks.complete(token, body.value)


@router.post("/callbacks/{token}/fail", status_code=204)
async def fail(engine: EngineHere, token: Token, body: FailIn) -> None:
    """Let what a run waits for fail."""
    await engine.callbacks.fail(token, body.message)


@router.post("/callbacks/{token}/heartbeat", status_code=204)
async def heartbeat(engine: EngineHere, token: Token) -> None:
    """Say that what a run waits for is still being worked on."""
    await engine.callbacks.heartbeat(token)


@router.get("/cost")
async def cost(
    engine: EngineHere,
    by: Literal["step", "workflow", "model", "key", "day", "month", "run"] | None = None,
    run: Annotated[str | None, Query(max_length=1000)] = None,
    workflow: Annotated[str | None, Query(max_length=255)] = None,
    key: Annotated[str | None, Query(max_length=255)] = None,
    since: Annotated[datetime | None, Query(description="With a time zone.")] = None,
    until: Annotated[datetime | None, Query(description="With a time zone.")] = None,
) -> list[UsageLineOut]:
    """What was spent on language models, added up, also by runs that were removed since; by their keys and ids only
    runs that are there are known."""
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            msg = f"{name}={moment.isoformat()!r} has no time zone: give one, as in 2026-01-31T12:00:00Z"
            raise UsageError(msg)
    lines = await engine.usage(by, run=run, workflow=workflow, key=key, since=since, until=until)
    return [UsageLineOut(name=line.name, usage=usage_out(line.usage), removed=line.removed) for line in lines]
