"""`/metrics`, for Prometheus: what this process has counted, and the numbers of the whole database.

It comes past the gate like everything: a scraper on this machine gets in unasked, others with a viewer's token.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from perdure.api.metrics import Metrics, metrics_of
from perdure.web.engines import EngineOfAll

router = APIRouter(tags=["server"])


@router.get("/metrics", response_class=Response)
async def metrics(engine: EngineOfAll, request: Request) -> Response:
    """All metrics, in one of Prometheus' text formats."""
    state = request.app.state
    found: Metrics | None = metrics_of(engine) or getattr(state, "metrics", None)
    if found is None:
        found = state.metrics = Metrics()
    content_type, text = await found.text(engine, request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type})
