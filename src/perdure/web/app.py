"""Puts the application together: the API over an engine, behind the gate."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

import perdure
from perdure.api.engine import Engine
from perdure.web import actions, events, fleet, people, problems, runs
from perdure.web.access import Access
from perdure.web.gate import Gate
from perdure.web.shapes import ProblemOut

API = "/api/v1"


def create_app(engine: Engine, access: Access | None = None) -> ASGIApp:
    """An ASGI application that serves an engine, to run by itself or to mount in another application.

    Args:
        engine: an open one, of the event loop in which the application runs.
        access: who gets in; by default whoever is on this machine, as an admin.

    Example:
        >>> app = FastAPI()  # doctest: +SKIP
        >>> app.mount("/perdure", create_app(engine))  # doctest: +SKIP
    """
    app = FastAPI(
        title="Perdure",
        version=perdure.__version__,
        description="Durable execution: runs, what they wait for, and what is done with them.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
    )
    app.state.engine = engine
    problems.install(app)
    told: dict[str, Any] = {
        "model": ProblemOut,
        "description": "What went wrong",
        "content": {problems.MEDIA_TYPE: {}},
    }
    statuses = (400, 401, 403, 404, 409, 410, 413, 421, 422, 503)
    api = APIRouter(prefix=API, responses=dict.fromkeys(statuses, told))
    # What names a part of a run comes before what names a run: a run's id may have slashes.
    for router in (actions.router, events.router, fleet.router, people.router, runs.router):
        api.include_router(router)
    app.include_router(api)
    app.add_api_route("/healthz", _health, methods=["GET"], tags=["server"])
    return Gate(app, access or Access())


async def _health() -> dict[str, str]:
    """That the server is up."""
    return {"status": "ok", "version": perdure.__version__}
