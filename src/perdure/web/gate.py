"""The one place that lets requests in: everything comes past here, web sockets and event streams included.

A request is refused unless its host is one of ours, its origin may call us, and whoever asks may do this. Looking
needs a viewer; whatever may change something, which is every method but GET, HEAD and OPTIONS, an operator; what holds
for everybody, an admin. A path that isn't listed as public is not. What changes something is written to the audit log.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

import httpx
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import Message, Receive, Scope, Send

from perdure.core.tracing import current_trace, trace_context
from perdure.web.access import Access, Role, Who, is_loopback
from perdure.web.problems import problem

audit = logging.getLogger("perdure.audit")

COOKIE: Final = "perdure_session"
ANSWER_WITHIN: Final = 120.0  #: seconds that a request on somebody's behalf may take

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: Reached without being known, by exactly these paths: whether the server is up and ready, and the way in.
_PUBLIC: Final = ("/healthz", "/readyz", "/login", "/logout")
#: What is posted here, receiving.py makes sure of.
_SIGNED: Final = "/hooks/"
_LOOKS: Final = ("/assets/",)  # the style sheet and the picture of the login page
#: (method or None for any that changes something, prefix): what holds for all.
_ADMIN: Final[Sequence[tuple[str | None, str]]] = (
    (None, "/api/v1/queues"),
    (None, "/api/v1/limits"),
    (None, "/api/v1/schedules"),
    (None, "/api/v1/budgets"),
    (None, "/api/v1/quotas"),
    (None, "/api/v1/subscriptions"),
    (None, "/api/v1/retention"),
    (None, "/api/v1/erasures"),
)

_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with no-referrer, browsers hide the origin of forms as well
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Inner(Protocol):
    """What is behind the gate."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...
    async def stop(self) -> None: ...


class Gate:
    """ASGI middleware around all of the application.

    Args:
        access: who gets in.
        prefix: under which the application is mounted in another one, such as "/perdure"; its paths are told apart
            without it.
    """

    def __init__(self, app: Inner, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path = path_within(scope)
        method = scope.get("method", "WEBSOCKET")
        refused = self._refusal_of_place(headers)
        signed = method == "POST" and path.startswith(_SIGNED)
        who = None if refused or signed else self._who(scope, headers)
        if refused is None and not signed:
            refused = self._refusal(who, method, path, headers)
        if refused is not None:
            status, kind, told = refused
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": kind})
                return
            answer = self._way_in(scope, headers, path) if status == 401 and method == "GET" else None
            await (answer or _refused(status, kind, told))(scope, receive, _with_headers(send))
            self._write(who, method, path, status)
            return
        state = scope.setdefault("state", {})
        state["who"] = who
        written = False

        def write(status: int) -> None:
            nonlocal written
            if not written:
                written = True
                # A handler may have found out who it is (a hook), and tell more.
                self._write(state["who"], method, path, status, state.get("told"))

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                write(message["status"])  # before the answer: whoever has that finds the line
            await send(message)

        token = current_trace.set(trace_context(headers.get("traceparent"), headers.get("tracestate")))
        try:
            await self._app(scope, receive, _with_headers(watched))
        finally:
            current_trace.reset(token)
            write(0)

    def who(self, scope: Scope) -> Who | None:
        """Who sits at a connection, as of now: somebody's token may have been taken away since it was opened."""
        return self._who(scope, Headers(scope=scope))

    def may(self, who: Who, method: str, path: str) -> bool:
        """Whether somebody's role allows for a request."""
        return who.role >= _needed(method, path)

    async def ask(self, who: Who, method: str, path: str, body: Any = None) -> httpx.Response:
        """Do on somebody's behalf what they could ask for themselves; for the pages of this server.

        Args:
            path: of this application, quoted.
            body: of JSON.

        Returns:
            The answer, a problem if their role doesn't allow for it.
        """

        async def door(scope: Scope, receive: Receive, send: Send) -> None:
            scope["state"] = {"who": who}
            await self._app(scope, receive, send)

        if not self.may(who, method, path):
            needed = _needed(method, path).name.lower()
            told = f"{who.name} is {who.role.name.lower()}, and this takes {needed}."
            self._write(who, method, path, 403)
            detail = {"type": "urn:perdure:error:Forbidden", "status": 403, "detail": told}
            return httpx.Response(403, json=detail)
        transport = httpx.ASGITransport(door, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.request(method, path, json=body, timeout=ANSWER_WITHIN)
        self._write(who, method, path, answer.status_code)
        return answer

    async def stop(self) -> None:
        """End what works in the background, once nothing is served any more."""
        await self._app.stop()

    def _way_in(self, scope: Scope, headers: Headers, path: str) -> Response | None:
        """To the login page, for a person who follows a link; programs get an answer that they understand."""
        if (
            self._access.tokens is None
            or "text/html" not in headers.get("accept", "")
            or path.startswith("/api/")
        ):
            return None
        query = scope.get("query_string", b"").decode("latin-1")
        to = quote(path + (f"?{query}" if query else ""), safe="")
        return RedirectResponse(f"{scope.get('root_path', '')}/login?to={to}", status_code=303)

    def _refusal_of_place(self, headers: Headers) -> tuple[int, str, str] | None:
        host = _name_of(headers.get("host", ""))
        if not is_loopback(host) and host not in self._access.hosts:
            told = (
                f"This server isn't known as {host!r}, so a page may be trying to reach it under a name of its own. If "
                "it is right, start the server with that name: --host-name"
            )
            return 421, "UnknownHost", told
        origin = headers.get("origin")
        if origin is not None and not self._may_call(origin, headers.get("host", "")):
            return 403, "ForeignOrigin", f"Pages of {origin!r} mustn't call this server."
        return None

    def _may_call(self, origin: str, host: str) -> bool:
        return origin in self._access.origins or urlsplit(origin).netloc == host

    def _who(self, scope: Scope, headers: Headers) -> Who | None:
        access = self._access
        if access.open_here:
            return Who("local", Role.ADMIN)
        given = headers.get("authorization", "")
        if access.tokens is not None and given[:7].lower() == "bearer ":
            return access.tokens.who(given[7:].strip())
        if access.proxy is not None:
            peer = scope["client"][0] if scope.get("client") else None
            within = access.proxy.namespace_header
            namespace = None if within is None else headers.get(within)
            who = access.proxy.who(headers.get(access.proxy.header), peer, namespace)
            if who is not None:
                return replace(who, browser=True)
        return access.of_session(session_of(headers))

    def _refusal(
        self, who: Who | None, method: str, path: str, headers: Headers
    ) -> tuple[int, str, str] | None:
        if path in _PUBLIC or (path.startswith(_LOOKS) and method in _SAFE):
            return None
        if who is None:
            return (
                401,
                "Unauthenticated",
                "Say who you are: Authorization: Bearer TOKEN, or log in at /login.",
            )
        needed = _needed(method, path)
        if who.role < needed:
            told = f"{who.name} is {who.role.name.lower()}, and this takes {needed.name.lower()}."
            return 403, "Forbidden", told
        if who.browser and method not in _SAFE and headers.get("origin") is None:
            return (
                403,
                "NoOrigin",
                "A browser's request that changes something must say from which page it comes.",
            )
        return None

    def _write(
        self, who: Who | None, method: str, path: str, status: int, told: Mapping[str, Any] | None = None
    ) -> None:
        if method in _SAFE or (method == "WEBSOCKET" and status == 0):
            return  # a socket by itself changes nothing: what comes over it goes through `ask`
        line = {
            "at": round(time.time(), 3),
            "who": None if who is None else who.name,
            "role": None if who is None else who.role.name.lower(),
            **({} if who is None or who.namespace is None else {"namespace": who.namespace}),
            "method": method,
            "path": path,
            "status": status,
            **(told or {}),
        }
        audit.info("%s", json.dumps(line))


def _refused(status: int, kind: str, told: str) -> Response:
    answer = problem(status, kind, told)
    if status == 401:
        answer.headers["www-authenticate"] = "Bearer"
    return answer


def _needed(method: str, path: str) -> Role:
    if method in _SAFE or method == "WEBSOCKET":
        return Role.VIEWER
    for only, prefix in _ADMIN:
        if (only is None or only == method) and (path == prefix or path.startswith(prefix + "/")):
            return Role.ADMIN
    return Role.OPERATOR


def path_within(scope: Scope) -> str:
    """The path within this application, wherever it is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(root) else path


def _name_of(host: str) -> str:
    """A host without its port: "localhost:8700", "[::1]:8700"."""
    if host.startswith("["):
        return host.partition("]")[0].strip("[")
    return host.partition(":")[0].lower()


def session_of(headers: Headers) -> str | None:
    """The secret that a browser's cookie holds."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if morsel is None else morsel.value


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        await send(message)

    return sending
