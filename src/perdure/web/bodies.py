"""Bodies of requests are bounded before anything reads them: neither their bytes nor what they say is kept."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perdure.web.gate import path_within
from perdure.web.problems import problem

#: Bytes beyond the values that a body may hold: names, ids, and what JSON puts around them.
SLACK = 1 << 20


class Bodies:
    """ASGI middleware that refuses bodies larger than some number of bytes, as soon as that is known.

    Args:
        most: bytes of a body.
        but: what begins with this bounds its bodies itself.
    """

    def __init__(self, app: ASGIApp, most: int, but: str) -> None:
        self._app = app
        self._most = most
        self._but = but

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_within(scope).startswith(self._but):
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and int(declared[:20]) > self._most:
            answer = problem(413, "BodyTooLarge", self._told())
            await answer(scope, receive, send)
            return
        came = 0

        async def bounded() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most:
                raise HTTPException(413, self._told())
            return message

        await self._app(scope, bounded, send)

    def _told(self) -> str:
        return (
            f"A body has up to {self._most:,} bytes here. Store large values elsewhere and send a reference to them, "
            "or raise the engine's `max_payload`."
        )
