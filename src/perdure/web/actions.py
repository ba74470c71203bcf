"""What is done with runs: starting them, talking to them, and deciding what becomes of them."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import msgspec
from fastapi import APIRouter

from perdure.api.decisions import UNDECIDED
from perdure.api.editing import Args
from perdure.api.forkplans import ForkPlan
from perdure.api.handle import Handle
from perdure.api.messages import Message
from perdure.api.naming import named_call
from perdure.core.attributes import AttributeValue
from perdure.web.engines import EngineHere, RunIdHere, WhoHere
from perdure.web.runs import plain
from perdure.web.shapes import (
    AttributesIn,
    CallIn,
    ForkIn,
    ForkOut,
    Name,
    ReasonIn,
    ResolveIn,
    RunRef,
    TerminateIn,
    UpdateIn,
    ValueOut,
)
from perdure.web.shapes_starting import MessageIn, StartIn

router = APIRouter(tags=["actions"])


@router.post("/runs", status_code=201)
async def start(engine: EngineHere, body: StartIn) -> RunRef:
    """Start a run. With the id of one that does the same work already, that one is meant."""
    attributes: dict[str, AttributeValue] = {**body.attributes}
    handle = await engine.start(
        named_call(body.workflow, body.args, body.kwargs),
        id=body.id,
        queue=body.queue,
        key=body.key,
        priority=body.priority,
        dedup=body.dedup,
        debounce=body.debounce,
        debounce_max=body.debounce_max,
        delay=body.delay,
        timeout=body.timeout,
        messages=[Message(each.name, each.value, each.key) for each in body.messages],
        attributes=attributes,
        if_exists=body.if_exists,
        subject=body.subject,
    )
    return RunRef(id=handle.id)


@router.post("/runs/{id:path}/messages/{name}", status_code=202)
async def send(engine: EngineHere, id: RunIdHere, name: Name, body: MessageIn) -> RunRef:
    """Send the run a message. It is durable when this answers."""
    await engine.get(id).send(name, body.value, key=body.key)
    return RunRef(id=id)


@router.post("/runs/{id:path}/queries/{name}")
async def query(engine: EngineHere, id: RunIdHere, name: Name, body: CallIn) -> ValueOut:
    """Ask one of the run's query handlers."""
    return ValueOut(value=plain(await engine.get(id).query(name, *body.args, **body.kwargs)))


@router.post("/runs/{id:path}/updates/{name}")
async def update(engine: EngineHere, id: RunIdHere, name: Name, body: UpdateIn) -> ValueOut:
    """Call one of the run's update handlers and wait for its result."""
    made = engine.get(id).update(name, *body.args, key=body.key, timeout=body.wait, **body.kwargs)
    return ValueOut(value=plain(await made))


@router.post("/runs/{id:path}/cancel", status_code=202)
async def cancel(engine: EngineHere, id: RunIdHere, body: ReasonIn) -> RunRef:
    """Ask the run to end; its code may tidy up."""
    await engine.get(id).cancel(body.reason)
    return RunRef(id=id)


@router.post("/runs/{id:path}/terminate")
async def terminate(engine: EngineHere, id: RunIdHere, body: TerminateIn) -> RunRef:
    """End the run at once, without its code."""
    await engine.get(id).terminate(body.reason, compensate=body.compensate)
    return RunRef(id=id)


@router.post("/runs/{id:path}/pause")
async def pause(engine: EngineHere, id: RunIdHere, body: ReasonIn) -> RunRef:
    """Hold the run."""
    await engine.get(id).pause(body.reason)
    return RunRef(id=id)


@router.post("/runs/{id:path}/resume")
async def resume(engine: EngineHere, id: RunIdHere) -> RunRef:
    """Let a paused run go on."""
    await engine.get(id).resume()
    return RunRef(id=id)


@router.post("/runs/{id:path}/retry")
async def retry(engine: EngineHere, id: RunIdHere) -> RunRef:
    """Let a failed run go on from its failed step."""
    await engine.get(id).retry()
    return RunRef(id=id)


@router.post("/runs/{id:path}/fork", status_code=201)
async def fork(engine: EngineHere, id: RunIdHere, body: ForkIn) -> ForkOut:
    """Start a run of its own that goes on from what this one has done, or tell what that would do."""
    handle = engine.get(id)
    edits = {**body.edits, **{step: Args(*each.args, **each.kwargs) for step, each in body.inputs.items()}}
    options: dict[str, Any] = {
        "edits": edits,
        "input": None if body.input is None else Args(*body.input.args, **body.input.kwargs),
        "effects": body.effects,
        "stubs": body.stubs or None,
        "refused": body.refused,
        "id": body.id,
        "dry_run": body.dry_run,
    }
    made = cast("ForkPlan | Handle[Any]", await handle.fork(body.at, **options))
    if isinstance(made, ForkPlan):
        return ForkOut(id=None, plan=_as_data(made))
    return ForkOut(id=made.id)


def _as_data(plan: ForkPlan) -> dict[str, Any]:
    fields = dataclasses.asdict(plan) if dataclasses.is_dataclass(plan) else msgspec.to_builtins(plan)
    data: dict[str, Any] = plain(fields)
    return data


@router.post("/runs/{id:path}/steps/{step}/resolve")
async def resolve(engine: EngineHere, id: RunIdHere, step: Name, body: ResolveIn, who: WhoHere) -> RunRef:
    """Decide about a step that waits for a person."""
    has_result = body.has_result or body.result is not None
    await engine.get(id).resolve(
        step,
        result=body.result if has_result else UNDECIDED,
        rerun=body.rerun,
        fail=body.fail,
        by=who,
        why=body.why,
        since=body.since,
    )
    return RunRef(id=id)


@router.patch("/runs/{id:path}/attributes")
async def set_attributes(engine: EngineHere, id: RunIdHere, body: AttributesIn) -> RunRef:
    """Set attributes of the run; null removes one."""
    values: dict[str, AttributeValue | None] = {**body.attributes}
    await engine.get(id).set_attributes(**values)
    return RunRef(id=id)
