"""Histories and streams as they grow, as server-sent events. Each has an id, and `Last-Event-ID` goes on behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from perdure.api.facts import event_facts
from perdure.errors import UsageError
from perdure.web.engines import EngineHere, RunIdHere
from perdure.web.runs import plain

router = APIRouter(tags=["live"])

After = Annotated[int, Query(ge=0, lt=1 << 63, description="Start behind this one.")]


async def _existing(engine: EngineHere, id: RunIdHere) -> str:
    """Before the answer begins: what can't be had is told by its status."""
    await engine.get(id).status()
    return id


def _place(
    after: After = 0,
    last_event_id: Annotated[str | None, Header(max_length=40, description="What was read last.")] = None,
) -> int:
    """Behind which event to start: what a browser that connects again says, or `after`."""
    if last_event_id is None:
        return after
    if not last_event_id.isascii() or not last_event_id.isdigit() or int(last_event_id) >= 1 << 63:
        msg = f"Last-Event-ID {last_event_id!r} is no number that this stream has told"
        raise UsageError(msg)
    return int(last_event_id)


Existing = Annotated[str, Depends(_existing)]
Place = Annotated[int, Depends(_place)]


@router.get("/runs/{id:path}/events", response_class=EventSourceResponse)
async def events(engine: EngineHere, id: Existing, place: Place) -> AsyncIterator[ServerSentEvent]:
    """The run's events, those to come included, until it has ended."""
    number = place
    async for event in engine.get(id).history(after=place, follow=True):
        number += 1
        (facts,) = event_facts([event])
        yield ServerSentEvent(data={**facts, "seq": number}, event="event", id=str(number))
    yield ServerSentEvent(data={"status": (await engine.get(id).status()).value}, event="end")


@router.get("/runs/{id:path}/streams/{name}", response_class=EventSourceResponse)
async def stream(
    engine: EngineHere,
    id: Existing,
    name: str,
    place: Place,
    follow: Annotated[bool, Query(description="Wait for more while the run goes on.")] = True,
) -> AsyncIterator[ServerSentEvent]:
    """What the run puts into a stream.

    An event of kind "superseded" takes back what a step had put out, from the offset `since` on.
    """
    async for item in engine.get(id).stream(name, after=place, follow=follow):
        data = {
            "offset": item.offset,
            "kind": item.kind,
            "value": plain(item.value),
            "step": item.step,
            "attempt": item.attempt,
            "at": item.at.isoformat(),
        }
        if item.since is not None:
            data["since"] = item.since
        yield ServerSentEvent(data=data, event=item.kind, id=str(item.offset))
    yield ServerSentEvent(data={}, event="end")
