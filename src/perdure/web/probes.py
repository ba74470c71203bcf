"""What probes ask: whether the server lives, and whether it can work now. Anybody may, so it tells nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel

from perdure.web.engines import EngineServed

router = APIRouter(tags=["server"])


class HealthOut(BaseModel):
    """How the server is.

    Attributes:
        status: what it is, or isn't.
        reasons: why it isn't.
    """

    status: str
    reasons: Sequence[str] = ()


_NOT_WELL: dict[int | str, dict[str, Any]] = {503: {"model": HealthOut, "description": "It isn't, and why"}}


@router.get("/healthz", responses=_NOT_WELL)
async def live(engine: EngineServed, response: Response) -> HealthOut:
    """Whether the server lives. If not, starting it again helps."""
    found = await engine.health()
    return _told(found.live, "live", found.reasons, response)


@router.get("/readyz", responses=_NOT_WELL)
async def ready(engine: EngineServed, response: Response) -> HealthOut:
    """Whether the server can do its work now: its database answers, and it isn't about to stop."""
    found = await engine.health()
    return _told(found.ready, "ready", found.reasons, response)


def _told(well: bool, word: str, reasons: Sequence[str], response: Response) -> HealthOut:
    if not well:
        response.status_code = 503
    return HealthOut(status=word if well else f"not {word}", reasons=() if well else reasons)
