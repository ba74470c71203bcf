"""How everything is, and what doesn't go on."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query

from perdure.web.engines import EngineHere, EngineOfAll
from perdure.web.shapes_overview import DiskOut, OverviewOut, StuckOut

router = APIRouter(tags=["overview"])


@router.get("/overview")
async def overview(
    engine: EngineHere,
    window: Annotated[
        Literal["hour", "day", "week"], Query(description="What the ends are counted in.")
    ] = "hour",
) -> OverviewOut:
    """Runs, what ended, how long it took, queues, workers, limits, money."""
    return OverviewOut.model_validate(msgspec.to_builtins(await engine.overview(window)))


@router.get("/disk")
async def disk(engine: EngineOfAll) -> DiskOut:
    """How much room the database takes, by what, and what retention would free. Estimated, if it is large."""
    return DiskOut.model_validate(msgspec.to_builtins(await engine.disk()))


@router.get("/why")
async def stuck(
    engine: EngineHere,
    size: Annotated[
        int, Query(ge=1, le=1000, description="How many blocked and paused runs to look at.")
    ] = 200,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
) -> StuckOut:
    """Runs that don't go on, or are slow, grouped by cause, each group with the calls that help."""
    return StuckOut.model_validate(msgspec.to_builtins(await engine.stuck(size=size, cursor=cursor)))
