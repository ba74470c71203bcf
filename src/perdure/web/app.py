"""Puts the application together: the API and the dashboard over an engine, behind the gate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Protocol

from fastapi import APIRouter, FastAPI
from starlette.types import Receive, Scope, Send

import perdure
from perdure.api.engine import Engine
from perdure.web import (
    actions,
    bodies,
    events,
    fleet,
    keeping,
    metrics,
    overview,
    people,
    probes,
    problems,
    quotas,
    receiving,
    runs,
    travel,
    wide,
)
from perdure.web.access import Access
from perdure.web.gate import Gate, path_within
from perdure.web.hooks import Hook, declared_hooks
from perdure.web.receiving import Hooks
from perdure.web.shapes import ProblemOut

API = "/api/v1"

#: What isn't a page of the dashboard.
_NO_PAGES: Final = ("/api", "/hooks", "/healthz", "/readyz", "/metrics", "/login", "/logout")


def create_app(
    engine: Engine,
    access: Access | None = None,
    *,
    dashboard: bool = True,
    hooks: Iterable[Hook] | None = None,
) -> Gate:
    """An ASGI application that serves an engine, to run by itself or to mount in another application.

    Args:
        engine: an open one, of the event loop in which the application runs.
        access: who gets in; by default whoever is on this machine, as an admin.
        dashboard: whether there are pages for people besides the API.
        hooks: the webhooks that it takes; by default those that `perdure.web.hook` has declared in this process.

    Raises:
        ConfigurationError: a hook has no secret, or another one's name.

    Example:
        >>> app = FastAPI()  # doctest: +SKIP
        >>> app.mount("/perdure", create_app(engine))  # doctest: +SKIP
    """
    app = _Told(
        title="Perdure",
        version=perdure.__version__,
        description="Durable execution: runs, what they wait for, and what is done with them.",
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # these load scripts from elsewhere
        redoc_url=None,
    )
    app.state.engine = engine
    app.state.hooks = Hooks(declared_hooks() if hooks is None else hooks)
    problems.install(app)
    app.include_router(_api())
    app.include_router(receiving.router, include_in_schema=False)
    app.include_router(probes.router)
    app.include_router(metrics.router, include_in_schema=False)
    access = access or Access()
    front = Front(app, 2 * engine._settings.max_payload + bodies.SLACK)
    gate = Gate(front, access)
    if dashboard:
        # Imported here, since whoever wants the API alone needn't pay for what draws pages.
        from perdure.web.dashboard import login
        from perdure.web.dashboard.desk import Office
        from perdure.web.dashboard.mounting import Dashboard

        app.include_router(login.routes(access))
        front.pages = Dashboard(Office(engine, gate))
    return gate


def _api() -> APIRouter:
    """All routes of the API."""
    # No `model=`: FastAPI would make a validator of it for each status of each route, a tenth of a second for an app.
    schema = {"$ref": f"#/components/schemas/{ProblemOut.__name__}"}
    told: dict[str, Any] = {
        "description": "What went wrong",
        "content": {problems.MEDIA_TYPE: {"schema": schema}},
    }
    statuses = (400, 401, 403, 404, 409, 410, 413, 421, 422, 429, 503, 504)
    api = APIRouter(prefix=API, responses=dict.fromkeys(statuses, told))
    # What names a part of a run comes before what names a run: a run's id may have slashes.
    for router in (
        actions.router,
        events.router,
        fleet.router,
        keeping.router,
        overview.router,
        people.router,
        quotas.router,
        travel.router,
        wide.router,
        runs.router,
    ):
        api.include_router(router)
    return api


class _Told(FastAPI):
    """An application that tells in its schema what a problem looks like, though no route returns one."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schemas = super().openapi()["components"]["schemas"]
            schemas[ProblemOut.__name__] = ProblemOut.model_json_schema()
        return super().openapi()


class Pages(Protocol):
    """The dashboard, as the application needs it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...
    async def stop(self) -> None: ...


class Front:
    """ASGI application that leads to the API, or to the pages.

    By the path alone, and not by which routes there are: what the API doesn't know is its problem to tell. Bodies are
    bounded on the way, `most` bytes each; webhooks do that themselves.
    """

    def __init__(self, api: FastAPI, most: int) -> None:
        self.api = api
        self._bounded = bodies.Bodies(api, most, "/hooks/")
        self.pages: Pages | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_within(scope)
        to_api = any(path == prefix or path.startswith(prefix + "/") for prefix in _NO_PAGES)
        await (self._bounded if to_api or self.pages is None else self.pages)(scope, receive, send)

    async def stop(self) -> None:
        """End what works in the background, once nothing is served any more."""
        if self.pages is not None:
            await self.pages.stop()
