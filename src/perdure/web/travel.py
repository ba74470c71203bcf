"""A run's past: where its code stood after one of its events, and when a variable became another one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field

from perdure.api.facts import event_facts
from perdure.core.standing import Standing
from perdure.web.engines import EngineHere, RunIdHere
from perdure.web.shapes import Out

router = APIRouter(tags=["runs"])

Seq = Annotated[int, Path(ge=1, lt=1 << 31, description="An event's number.")]
Generation = Annotated[int | None, Query(ge=1, lt=1 << 31)]


class VariableOut(Out):
    """A local variable; its value as a text for people."""

    name: str
    text: str
    type: str
    kind: Literal["argument", "local", "enclosing"]


class FrameOut(Out):
    """A function that waits for the next one, or for what its task awaits."""

    function: str
    file: str
    line: int
    column: int = Field(description="Where the expression begins, in characters from 0.")
    end_line: int = Field(description="Where it ends; 0 if that isn't known.")
    end_column: int
    source: str | None = Field(description="Its text in `sources`.")
    library: bool = Field(description="It isn't the user's own code; no variables are shown of it.")
    variables: list[VariableOut]
    more: int = Field(description="How many variables are left out.")
    handling: str | None = Field(description="The exception that it is handling.")


class StandingTaskOut(Out):
    """A task of the run."""

    id: int = Field(description="The same at every event of the run.")
    name: str
    awaits: str
    operation: str | None
    since: datetime | None
    ended: Literal["", "returned", "raised", "cancelled", "continued"]
    frames: list[FrameOut] = Field(description="The workflow function first.")


class OpenOperationOut(Out):
    """What the code has asked for and has no outcome yet."""

    id: str
    kind: Literal["step", "timer", "child", "callback", "question", "message", "event", "send"]
    what: str
    since: datetime
    until: datetime | None


class SourceTextOut(Out):
    """The text of a function."""

    file: str
    function: str
    first: int = Field(description="The number of its first line.")
    lines: list[str]


class StopOut(Out):
    """Why it can't be shown what came later."""

    kind: Literal["diverged", "unreadable", "endless", "damaged", "failed"]
    seq: int = Field(description="The event that couldn't be fed.")
    text: str


class StandingOut(Out):
    """Where a run stood after one of its events. Values are texts; none of them is to be taken for markup."""

    run: str
    generation: int
    workflow: str
    seq: int = Field(description="The event that was asked for, or the last one before `stop`.")
    events: int
    at: datetime = Field(description="The run's time then.")
    event: dict[str, Any] | None = Field(None, description="That event, as in the history.")
    tasks: list[StandingTaskOut]
    more: int = Field(description="How many tasks are left out.")
    operations: list[OpenOperationOut]
    more_operations: int
    sources: dict[str, SourceTextOut]
    stop: StopOut | None


class ChangeOut(Out):
    seq: int | None = Field(description="The event by which it changed; null if there is none.")


@router.get("/runs/{id:path}/at/{seq}")
async def at(engine: EngineHere, id: RunIdHere, seq: Seq, generation: Generation = None) -> StandingOut:
    """Where the run's code stood after an event: each task, its lines and variables. The server needs the code."""
    handle = engine.get(id)
    standing = await handle.at(seq, generation=generation)
    facts: dict[str, Any] | None = None
    if standing.seq:
        async for event in handle.history(generation=generation, after=standing.seq - 1):
            (facts,) = event_facts([event])
            facts = {**facts, "seq": standing.seq}
            break
    return standing_out(standing, facts)


def standing_out(standing: Standing, event: dict[str, Any] | None) -> StandingOut:
    """As it goes over HTTP."""
    made = StandingOut.model_validate(standing)
    made.event = event
    return made


@router.get("/runs/{id:path}/changes")
async def changes(
    engine: EngineHere,
    id: RunIdHere,
    name: Annotated[str, Query(min_length=1, max_length=255, description="The variable's.")],
    seq: Annotated[int, Query(ge=1, lt=1 << 31, description="From which event on.")],
    task: Annotated[int, Query(ge=1, lt=1 << 31)] = 1,
    frame: Annotated[
        int, Query(ge=0, lt=1000, description="Which of the task's own functions; 0 is the outermost.")
    ] = 0,
    direction: Literal["next", "previous"] = "next",
    generation: Generation = None,
) -> ChangeOut:
    """The nearest event by which a local variable became another one."""
    handle = engine.get(id)
    found = await handle.change_of(
        name, seq, task=task, frame=frame, direction=direction, generation=generation
    )
    return ChangeOut(seq=found)
