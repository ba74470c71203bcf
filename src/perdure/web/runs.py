"""Looking at runs: lists, one of them, its history, its result, why it waits, what it costs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query

from perdure.api.facts import event_facts, run_facts
from perdure.api.runinfo import RunInfo
from perdure.core.status import Status
from perdure.core.why import Why
from perdure.errors import RunError, UndecodableError, UsageError
from perdure.web.conditions import conditions
from perdure.web.engines import EngineHere, RunIdHere
from perdure.web.shapes import (
    WAIT_MAX,
    CauseOut,
    EventsOut,
    InterfaceOut,
    ResultOut,
    RunDetailOut,
    RunOut,
    RunsOut,
    StreamOut,
    UsageOut,
    WhyOut,
)

router = APIRouter(tags=["runs"])

Wait = Annotated[float, Query(ge=0, le=WAIT_MAX, description="Seconds to wait for it.")]


@router.get("/runs")
async def list_runs(
    engine: EngineHere,
    status: Annotated[list[Status] | None, Query()] = None,
    workflow: Annotated[str | None, Query(max_length=255)] = None,
    text: Annotated[
        str | None,
        Query(max_length=200, description="Part of the id, or of the reason why it is blocked or paused."),
    ] = None,
    since: Annotated[datetime | None, Query(description="Created at or after; with a time zone.")] = None,
    until: Annotated[datetime | None, Query(description="Created before; with a time zone.")] = None,
    attribute: Annotated[
        list[str] | None, Query(max_length=20, description="name=value or name>=value, as in total>=100")
    ] = None,
    errands: bool = False,
    size: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
    count: Annotated[bool, Query(description="Also tell how many match, to 1,000.")] = False,
) -> RunsOut:
    """Runs, newest first, page by page."""
    for name, moment in (("since", since), ("until", until)):
        if moment is not None and moment.tzinfo is None:
            msg = f"{name}={moment.isoformat()!r} has no time zone: give one, as in 2026-01-31T12:00:00Z"
            raise UsageError(msg)
    page = await engine.runs_page(
        status=[item.value for item in status or ()],
        workflow=workflow,
        text=text,
        since=since,
        until=until,
        attributes=conditions(attribute or ()),
        errands=errands,
        size=size,
        cursor=cursor,
        count=count,
    )
    listed = [_listed(run) for run in page.runs]
    return RunsOut(runs=listed, next=page.next, total=page.total, more=page.more)


@router.get("/workflows")
async def workflows(engine: EngineHere) -> list[str]:
    """The names of workflows that there are."""
    return await engine.workflows()


def _listed(run: RunInfo) -> RunOut:
    return RunOut.model_validate(run)


@router.get("/runs/{id:path}/history")
async def history(
    engine: EngineHere,
    id: RunIdHere,
    after: Annotated[int, Query(ge=0, lt=1 << 63)] = 0,
    size: Annotated[int, Query(ge=1, le=5000)] = 1000,
    generation: Annotated[int | None, Query(ge=1, lt=1 << 31)] = None,
) -> EventsOut:
    """A run's events, in order."""
    events: list[dict[str, Any]] = []
    number = after
    async for event in engine.get(id).history(generation=generation, after=after):
        if len(events) == size:
            return EventsOut(events=events, next=number)
        number += 1
        (facts,) = event_facts([event])
        events.append({**facts, "seq": number})
    return EventsOut(events=events, next=None)


@router.get("/runs/{id:path}/result")
async def result(engine: EngineHere, id: RunIdHere, wait: Wait = 0.0) -> ResultOut:
    """How the run has ended. If it hasn't within `wait` seconds: its status; ask again."""
    handle = engine.get(id)
    try:
        value = await handle.result(timeout=wait or 1e-9)
    except RunError as error:
        told = {"type": type(error).__name__, "message": str(error)}
        return ResultOut(status=(await handle.status()).value, error=told)
    except TimeoutError:
        return ResultOut(status=(await handle.status()).value)
    return ResultOut(status=Status.COMPLETED.value, result=plain(value))


@router.get("/runs/{id:path}/why")
async def why(engine: EngineHere, id: RunIdHere) -> WhyOut:
    """Why the run doesn't go on, and what helps."""
    return _why(await engine.get(id).why())


def _why(found: Why) -> WhyOut:
    causes = [
        CauseOut(
            kind=cause.kind,
            what=cause.what,
            since=cause.since,
            until=cause.until,
            todo=cause.todo,
            child=None if cause.child is None else _why(cause.child),
            step=cause.step,
            budget=cause.budget,
            owner=cause.owner,
        )
        for cause in found.causes
    ]
    return WhyOut(run=found.run, workflow=found.workflow, status=found.status.value, causes=causes)


@router.get("/runs/{id:path}/usage")
async def usage(engine: EngineHere, id: RunIdHere) -> UsageOut:
    """What the run and all that it has started have spent on language models."""
    return usage_out(await engine.get(id).usage())


def usage_out(found: Any) -> UsageOut:
    """Sums of a ledger; amounts as texts, since a float can't hold them."""
    fields = msgspec.structs.asdict(found)
    told = {name: str(value) if name.endswith("cost") else value for name, value in fields.items()}
    return UsageOut.model_validate(told)


@router.get("/runs/{id:path}/streams")
async def streams(engine: EngineHere, id: RunIdHere) -> list[StreamOut]:
    """The streams that the run has put something into, by name."""
    return [StreamOut(name=name, newest=newest) for name, newest in await engine.get(id).streams()]


@router.get("/runs/{id:path}/interface")
async def interface(engine: EngineHere, id: RunIdHere) -> InterfaceOut:
    """What can be said to the run at the moment, as JSON Schema by name; null where that can't be told."""
    return InterfaceOut.model_validate(await engine.get(id).interface())


@router.get("/runs/{id:path}")
async def one_run(
    engine: EngineHere,
    id: RunIdHere,
    generation: Annotated[int | None, Query(ge=1, lt=1 << 31)] = None,
) -> RunDetailOut:
    """A run, and what it waits for."""
    return RunDetailOut.model_validate(run_facts(await engine.get(id).info(generation=generation)))


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value))
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"the value has no JSON form: {error}"
        raise UndecodableError(msg) from error
