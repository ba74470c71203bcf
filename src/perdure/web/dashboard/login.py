"""The way in for browsers: a token, once, for a session that a cookie names."""

from __future__ import annotations

from html import escape
from typing import Final
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from perdure.web.access import Access
from perdure.web.gate import COOKIE, session_of

_LIMIT: Final = 4096  # bytes of a form

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Log in · Perdure</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="{root}/assets/favicon.svg"><link rel="stylesheet" href="{root}/assets/login.css"></head>
<body><main><img src="{root}/assets/favicon.svg" alt="" width="40" height="40"><h1>Perdure</h1>
<form method="post" action="{root}/login?to={to}">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
{wrong}<button type="submit">Log in</button></form>
<p>Whoever runs this server makes tokens with <code>perdure token new NAME</code>.</p></main></body></html>
"""


def routes(access: Access) -> APIRouter:
    """The pages and forms, for whoever has a token of `access`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    async def page(request: Request, to: str = "/") -> Response:
        if access.open_here or access.of_session(session_of(request.headers)) is not None:
            return RedirectResponse(_root(request) + _within(to), status_code=303)
        return _page(request, to, wrong=False)

    @router.post("/login")
    async def log_in(request: Request, to: str = "/") -> Response:
        session = access.log_in(await _token(request))
        if session is None:
            return _page(request, to, wrong=True)
        answer = RedirectResponse(_root(request) + _within(to), status_code=303)
        answer.set_cookie(
            COOKIE,
            session,
            httponly=True,
            samesite="lax",
            secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto")),
            path=_root(request) or "/",
        )
        return answer

    @router.post("/logout")
    async def log_out(request: Request) -> Response:
        session = session_of(request.headers)
        if session is not None:
            access.log_out(session)
        answer = RedirectResponse(_root(request) + "/login", status_code=303)
        answer.delete_cookie(COOKIE, path=_root(request) or "/")
        return answer

    return router


def _page(request: Request, to: str, *, wrong: bool) -> Response:
    told = '<p class="wrong" role="alert">Nobody has this token.</p>' if wrong else ""
    text = _PAGE.format(root=escape(_root(request)), to=escape(_quoted(to)), wrong=told)
    return HTMLResponse(text, status_code=401 if wrong else 200, headers={"content-security-policy": _POLICY})


async def _token(request: Request) -> str:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LIMIT:
            return ""
    found = parse_qs(body.decode("utf-8", "replace")).get("token", [""])
    return found[0].strip()


def _root(request: Request) -> str:
    """Where the application is mounted."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _within(to: str) -> str:
    """A path of this server, whatever a link to the login page says."""
    good = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
    return to if good else "/"


def _quoted(to: str) -> str:
    return quote(_within(to), safe="/")
