"""What a page works with: an engine to look at, and the API to change anything.

There is one way to change something, whoever asks: a request to the API. A page's request goes through the same gate as
one over the network, as whoever sits at the browser, so that roles, the audit log and the errors are the same. Who that
is, is asked anew each time, of the connection on which the click came: a token that was taken away is gone at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import quote

import httpx
from nicegui import Client, context, ui
from starlette.types import Scope

from perdure.api.engine import Engine
from perdure.web.access import Role, Who
from perdure.web.dashboard.looking import to_look_at
from perdure.web.engines import engine_within

#: Where a request's scope keeps the office that it is for.
HELD: Final = "perdure.office"

_WATCH: Final = 10.0  # seconds between looks at whether somebody may still be here
_LEAVING: Final = 2.0  # seconds that a browser has to go to the login page


class Doorkeeper(Protocol):
    """The gate, as pages need it."""

    def who(self, scope: Scope) -> Who | None: ...
    def may(self, who: Who, method: str, path: str) -> bool: ...
    async def ask(self, who: Who, method: str, path: str, body: Any = None) -> httpx.Response: ...


@dataclass(frozen=True)
class Office:
    """What all pages of an application share."""

    engine: Engine
    gate: Doorkeeper


class Refused(Exception):
    """The API said no. Its text is what a person should read.

    Attributes:
        status: HTTP's.
        kind: names the error, such as "RunConflictError".
        problem: the whole answer.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail", "It didn't work, and nothing says why.")))
        self.status = status
        self.kind = str(problem.get("type", "")).rpartition(":")[2]
        self.problem = problem


class Desk:
    """One page in one browser.

    Attributes:
        engine: to look at; what changes something isn't there.
        who: sits there.
    """

    def __init__(self, office: Office, who: Who, client: Client) -> None:
        self.engine = to_look_at(engine_within(office.engine, who.namespace))
        self.who = who
        self._gate = office.gate
        self._client = client
        self._root = str(client.request.scope.get("root_path", "")).rstrip("/")

    @classmethod
    def here(cls) -> Desk:
        """The desk of the page that is being built."""
        client = context.client
        scope = client.request.scope
        office: Office = scope["state"][HELD]
        who: Who = scope["state"]["who"]
        return cls(office, who, client)

    def url(self, path: str) -> str:
        """A path of this application for a link, wherever it is mounted."""
        return self._root + path

    def may(self, method: str, path: str) -> bool:
        """Whether this person could do that; to leave out what they can't."""
        return self._gate.may(self.who, method, f"/api/v1{path}")

    @property
    def operates(self) -> bool:
        """May decide what becomes of runs."""
        return self.who.role >= Role.OPERATOR

    @property
    def administers(self) -> bool:
        """May change what holds for all."""
        return self.who.role >= Role.ADMIN

    async def send(self, method: str, path: str, body: Any = None) -> Any:
        """Change something: a request to the API.

        Args:
            path: below /api/v1, such as "/runs/r-1/cancel"; see `run_path`.
            body: of JSON.

        Returns:
            What the answer's JSON holds.

        Raises:
            Refused: by the gate, or by the API.
        """
        who = self._still()
        if who is None:
            self.leave()
            raise Refused(401, {"detail": "You aren't logged in any more."})
        answer = await self._gate.ask(who, method, f"/api/v1{path}", body)
        found = json.loads(answer.content) if answer.content else None
        if answer.is_error:
            raise Refused(answer.status_code, found if isinstance(found, dict) else {})
        return found

    async def act(self, done: str, method: str, path: str, body: Any = None) -> bool:
        """Change something, and tell how that went at the page's edge.

        Args:
            done: what to say if it worked, such as "Cancelled r-1".

        Returns:
            Whether it worked.
        """
        try:
            await self.send(method, path, body)
        except Refused as error:
            self.complain(str(error))
            return False
        with self._client:  # the button that was pressed may have been drawn anew meanwhile
            ui.notify(done, type="positive")
        return True

    def complain(self, text: str) -> None:
        """Tell at the page's edge what went wrong."""
        with self._client:
            ui.notify(text, type="negative", multi_line=True, close_button="Close", timeout=15_000)

    def every(self, seconds: float, refresh: Callable[[], Awaitable[None]]) -> ui.timer:
        """Refresh a part of the page again and again, as long as it is open and its person may look at it."""
        busy = False

        async def turn() -> None:
            nonlocal busy
            if busy or not self._client.has_socket_connection:
                return
            if self._still() is None:
                self.leave()
                return
            busy = True
            try:
                await refresh()
            finally:
                busy = False

        return ui.timer(seconds, turn, immediate=False)

    def watch(self) -> None:
        """Close the page once its person mustn't look any more: logged out elsewhere, or the token taken away."""

        async def look() -> None:
            if self._client.has_socket_connection and self._still() is None:
                self.leave()
                await asyncio.sleep(_LEAVING)
                self._client.delete()

        ui.timer(_WATCH, look, immediate=False)

    def leave(self) -> None:
        """To the way in."""
        with self._client:
            ui.navigate.to("/login")

    def _still(self) -> Who | None:
        """Who sits at the connection now; None if that isn't whom the page was made for."""
        environ = self._client.environ
        scope = None if environ is None else environ.get("asgi.scope")
        if scope is None:
            return None
        who = self._gate.who(scope)
        if who is None or (who.name, who.namespace) != (self.who.name, self.who.namespace):
            return None
        return who


def run_path(id: str, *more: str) -> str:
    """The path of a run, and of what belongs to it, in the API and among the pages.

    Example:
        >>> run_path("day/1#2", "cancel")
        '/runs/day/1%232/cancel'
    """
    return "/".join(["/runs", quote(id, safe="/"), *(quote(part, safe="") for part in more)])
