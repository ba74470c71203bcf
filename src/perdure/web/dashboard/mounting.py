"""NiceGUI inside of the application.

NiceGUI is one application per process, with the event loop in which it was started. Here it is started by the first
request for a page, so that whoever uses the API alone, or mounts the application into another one whose lifespan knows
nothing of it, pays nothing and has nothing to call. Each request brings along which engine it is for.

Pages come with a content security policy. NiceGUI compiles templates in the browser, so `unsafe-eval` is needed, and
sets styles of elements; but scripts run only from here, and those within a page only if they are among the ones that
this very page was sent with, which their digests say. Text that gets into a page by some mistake can't run.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perdure.web.access import is_loopback
from perdure.web.dashboard import pages
from perdure.web.dashboard.desk import HELD, Office

ASSETS: Final = Path(__file__).parent / "assets"

_SCRIPTS: Final = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)

_POLICY: Final = (
    "default-src 'none'; script-src 'self' 'unsafe-eval' {scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)


class Dashboard:
    """ASGI application of all pages.

    Args:
        office: the engine that they show, and the way to change things.
    """

    def __init__(self, office: Office) -> None:
        self._office = office
        site = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        site.mount("/assets", _Assets(directory=ASSETS), name="assets")
        site.mount("/", _PagesOfThisLoop())
        self._plain = _Policy(site)
        self._packed = GZipMiddleware(self._plain, minimum_size=1000, compresslevel=5)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})[HELD] = self._office
        client = scope.get("client")
        # On this machine packing costs more than it saves; a proxy packs for those whom it serves.
        near = client is not None and is_loopback(client[0])
        await (self._plain if near else self._packed)(scope, receive, send)

    async def stop(self) -> None:
        """End what NiceGUI does in this event loop; the next request for a page starts it again."""
        await _running.stop()


class _Assets(StaticFiles):
    """Style sheets and scripts. What is asked for with a version never changes, so a browser asks once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        if answer.status_code == 200 and b"v=" in scope.get("query_string", b""):
            answer.headers["cache-control"] = "public, max-age=31536000, immutable"
        return answer


class _PagesOfThisLoop:
    """NiceGUI, started in the event loop that asks for it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _running.start()
        await _running.site(scope, receive, send)


class _Running:
    """What of NiceGUI runs in this process."""

    def __init__(self) -> None:
        self.site: ASGIApp = self._set_up()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._life: AbstractAsyncContextManager[Any] | None = None
        self._started: asyncio.Future[None] | None = None

    def _set_up(self) -> FastAPI:
        pages.load()
        holder = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        nicegui_app.config.socket_io_js_transports = [
            "websocket"
        ]  # else a viewer's messages were requests that POST
        nicegui_app.config.quasar_config["loadingBar"] = {"color": "primary", "skipHijack": True}
        ui.run_with(
            holder,
            title="Perdure",
            favicon=ASSETS / "favicon.svg",
            dark=None,
            language="en-US",
            tailwind=False,
            reconnect_timeout=30.0,
            gzip_middleware_factory=None,
            show_welcome_message=False,
            binding_refresh_interval=None,
        )
        return holder

    async def start(self) -> None:
        """Start it, or wait until it is: the first requests may come at the same time."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._started is None:
            if self._loop is not None and self._loop is not loop and not self._loop.is_closed():
                msg = "the dashboard already runs in another event loop of this process, and can run in one only"
                raise RuntimeError(msg)
            self._loop = loop
            self._started = asyncio.ensure_future(self._begin())
        await asyncio.shield(self._started)  # whoever asked first may give up, and the others not

    async def _begin(self) -> None:
        holder = self.site
        assert isinstance(holder, FastAPI)
        self._life = holder.router.lifespan_context(holder)
        await self._life.__aenter__()

    async def stop(self) -> None:
        if self._life is not None and self._loop is asyncio.get_running_loop():
            life, self._life, self._loop, self._started = self._life, None, None, None
            await life.__aexit__(None, None, None)


_running = _Running()


class _Policy:
    """Middleware that gives each page its content security policy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: list[Message] = []  # a page's start, until its whole text is there

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    held.append(message)
                    return
                headers.setdefault("content-security-policy", "default-src 'none'; frame-ancestors 'none'")
            elif held:
                held.append(message)
                if message.get("more_body"):
                    return
                body = b"".join(part.get("body", b"") for part in held[1:])
                MutableHeaders(scope=held[0])["content-security-policy"] = policy_of(body)
                await send(held[0])
                message = {"type": "http.response.body", "body": body}
                held.clear()
            await send(message)

        await self._app(scope, receive, sending)


def policy_of(page: bytes) -> str:
    """The content security policy of a page: its scripts, and no other ones.

    Example:
        >>> "'sha256-" in policy_of(b"<script>1</script>")
        True
    """
    digests = [hashlib.sha256(script).digest() for script in _SCRIPTS.findall(page)]
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return _POLICY.format(scripts=scripts)
