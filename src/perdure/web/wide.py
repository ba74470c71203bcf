"""What concerns more than one run: starting many, comparing two, published events, calls of entities."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query

from perdure.api.messages import Message
from perdure.api.naming import named_call
from perdure.core.attributes import AttributeValue
from perdure.errors import UsageError
from perdure.web.engines import EngineHere
from perdure.web.runs import plain
from perdure.web.shapes import RunRef, ValueOut
from perdure.web.shapes_fleet import (
    AwaitedOut,
    DiffOut,
    EntityCallIn,
    PublicationOut,
    PublishedOut,
    PublishIn,
    SubscriptionOut,
)
from perdure.web.shapes_starting import StartManyIn

router = APIRouter(tags=["fleet"])

Named = Annotated[str, Path(min_length=1, max_length=255)]
Id = Annotated[str, Query(min_length=1, max_length=1000)]
Generation = Annotated[int | None, Query(ge=1, lt=1 << 31)]


@router.post("/batches", status_code=201)
async def start_many(engine: EngineHere, body: StartManyIn) -> list[RunRef]:
    """Start many runs in one commit: all of them, or none. As for one: the same id means the same run."""
    attributes: dict[str, AttributeValue] = {**body.attributes}
    named = [run.id for run in body.runs]
    ids = [id for id in named if id is not None]
    handles = await engine.start_many(
        [named_call(run.workflow, run.args, run.kwargs) for run in body.runs],
        ids=_all_or_none(ids, len(named)),
        keys=[run.key for run in body.runs],
        dedups=[run.dedup for run in body.runs],
        queue=body.queue,
        priority=body.priority,
        delay=body.delay,
        timeout=body.timeout,
        messages=[Message(each.name, each.value, each.key) for each in body.messages],
        attributes=attributes,
        if_exists=body.if_exists,
        subject=body.subject,
    )
    return [RunRef(id=handle.id) for handle in handles]


@router.get("/diff")
async def diff(
    engine: EngineHere, a: Id, b: Id, a_generation: Generation = None, b_generation: Generation = None
) -> DiffOut:
    """Two runs side by side: what both have done in the same way, what differs, what it has cost."""
    found = await engine.diff(a, b, generations=(a_generation, b_generation))
    return DiffOut.model_validate(msgspec.to_builtins(found))


@router.get("/publications")
async def publications(
    engine: EngineHere,
    name: Annotated[str | None, Query(max_length=255)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[PublicationOut]:
    """Published events that are still kept, newest first."""
    return [PublicationOut.model_validate(each) async for each in engine.publications(name, limit=limit)]


@router.post("/publications/{name}", status_code=201)
async def publish(engine: EngineHere, name: Named, body: PublishIn) -> PublishedOut:
    """Publish an event: it starts or resumes every run that subscribed, each once."""
    return PublishedOut(new=await engine.publish(name, body.payload, key=body.key))


@router.get("/subscriptions")
async def subscriptions(engine: EngineHere) -> list[SubscriptionOut]:
    """The workflows that are started by published events."""
    return [SubscriptionOut.model_validate(each) for each in await engine.subscriptions()]


@router.delete("/subscriptions/{workflow}")
async def unsubscribe(engine: EngineHere, workflow: Named) -> ValueOut:
    """End the subscription of a workflow; the value is false if it had none."""
    return ValueOut(value=await engine.unsubscribe(workflow))


@router.get("/awaited")
async def awaited(engine: EngineHere) -> list[AwaitedOut]:
    """The events that runs wait for, and how many do."""
    return [AwaitedOut.model_validate(each) for each in await engine.awaited()]


@router.post("/entities/{type}/{id:path}/{method}")
async def call_entity(
    engine: EngineHere,
    type: Named,
    id: Annotated[str, Path(min_length=1, max_length=500)],
    method: Named,
    body: EntityCallIn,
) -> ValueOut:
    """Call a method of an entity. This server has to know its class."""
    made: Any = await engine.call_entity(
        type, id, method, body.args, body.kwargs, key=body.key, timeout=body.wait
    )
    return ValueOut(value=plain(made))


def _all_or_none(ids: list[str], count: int) -> list[str] | None:
    if ids and len(ids) != count:
        msg = "either all runs of a batch have an id, or none"
        raise UsageError(msg)
    return ids or None
