"""A client of the HTTP API with the surface that an engine has for clients: for programs that can't reach the database.

It needs httpx (`pip install 'perdure[server]'`), and neither a store nor the workflows' code: a workflow is named, or
called as ever where its code is at hand, and then its result has its type. Errors are those that an engine raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast
from urllib.parse import quote

import httpx
import msgspec

from perdure import errors
from perdure.api.call import Call, WorkflowCall
from perdure.api.naming import named_call
from perdure.core.attributes import AttributeValue
from perdure.core.retry import seconds
from perdure.errors import PerdureError, StoreUnavailableError, UsageError
from perdure.web.remote import RemoteHandle

R = TypeVar("R")

_AGAIN = 0.2  # seconds until a stream that was cut off is asked for again
_PATIENCE = 90.0  # seconds for an answer, longer than any that is waited for there
_KIND = "urn:perdure:error:"
_MAX_PAYLOAD = 1 << 30  # the server has its own


class HttpClient:
    """A client of `perdure serve`. An async context manager.

    Args:
        url: the server's address, such as "https://ops.example.org" or "http://127.0.0.1:8700".
        token: who one is, from `perdure token new`.
        transport: what carries requests; httpx's own by default.

    Example:
        >>> async with HttpClient("http://127.0.0.1:8700") as client:  # doctest: +SKIP
        ...     handle = await client.start("app.research", "tardigrades", id="r-1")
        ...     print(await handle.result())
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8700",
        *,
        token: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/api/v1", headers=headers, timeout=_PATIENCE, transport=transport
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    # -- runs ---------------------------------------------------------------------------------------

    async def start(
        self,
        call: Call[R] | str,
        /,
        *args: Any,
        id: str | None = None,
        queue: str | None = None,
        key: str | None = None,
        priority: int = 0,
        dedup: str | None = None,
        delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        if_exists: Literal["attach", "fail", "restart"] = "attach",
    ) -> RemoteHandle[R]:
        """Start a run.

        Args:
            call: a workflow's call, as for an engine; or its durable name, with its arguments behind.
            args: the arguments of a workflow that is given by its name.
            id, queue, key, priority, dedup, delay, timeout, attributes, if_exists: as for `Engine.start`.

        Raises:
            RunConflictError: the id belongs to other work.
            UsageError: the arguments don't fit.

        Example:
            >>> await client.start(research("tardigrades"), id="r-1")  # doctest: +SKIP
        """
        called = named_call(call, args) if isinstance(call, str) else call
        if not isinstance(called, WorkflowCall) or (args and not isinstance(call, str)):
            msg = f"a run is started by the call of a workflow, or by its name and arguments; got {call!r}"
            raise UsageError(msg)
        called.mark_used()
        given, named = msgspec.json.decode(called.input(_MAX_PAYLOAD))
        body = {
            "workflow": called.name,
            "args": given,
            "kwargs": named,
            "id": id,
            "queue": queue,
            "key": key,
            "priority": priority,
            "dedup": dedup,
            "delay": None if delay is None else seconds(delay, "delay"),
            "timeout": None if timeout is None else seconds(timeout, "timeout"),
            "attributes": msgspec.to_builtins(dict(attributes or {})),
            "if_exists": if_exists,
        }
        made = await self.request("POST", "/runs", json=body)
        return RemoteHandle(self, made["id"], called.definition.result.decode)

    async def run(self, call: Call[R] | str, /, *args: Any, id: str | None = None, **options: Any) -> R:
        """Start a run and wait for its result. Options as for `start`."""
        handle: RemoteHandle[R] = await self.start(call, *args, id=id, **options)
        return await handle.result()

    def get(self, id: str) -> RemoteHandle[Any]:
        """A handle to a run by its id, existing or not. Does no I/O."""
        return RemoteHandle(self, id)

    async def runs(
        self,
        *,
        status: str | Sequence[str] | None = None,
        workflow: str | None = None,
        since: datetime | None = None,
        text: str | None = None,
        limit: int | None = 100,
    ) -> AsyncIterator[dict[str, Any]]:
        """Runs, newest first, as plain data. Filters as for `Engine.runs`."""
        statuses = [status] if isinstance(status, str) else list(status or ())
        asked: dict[str, Any] = {"status": statuses, "workflow": workflow, "text": text}
        asked["since"] = None if since is None else since.isoformat()
        left, cursor = limit, None
        while left is None or left > 0:
            size = 200 if left is None else min(200, left)
            page = await self.request("GET", "/runs", params={**asked, "size": size, "cursor": cursor})
            for run in page["runs"]:
                yield run
            cursor = page["next"]
            if cursor is None:
                return
            left = None if left is None else left - len(page["runs"])

    # -- what isn't one run's -----------------------------------------------------------------------

    async def workers(self) -> list[dict[str, Any]]:
        """The workers of the database."""
        return cast("list[dict[str, Any]]", await self.request("GET", "/workers"))

    async def queues(self) -> list[dict[str, Any]]:
        """All queues that are defined, served, or hold anything."""
        return cast("list[dict[str, Any]]", await self.request("GET", "/queues"))

    async def usage(self, by: str | None = None, **only: Any) -> list[dict[str, Any]]:
        """What was spent, added up. Arguments as for `Engine.usage`."""
        return cast("list[dict[str, Any]]", await self.request("GET", "/cost", params={"by": by, **only}))

    async def questions(self, *, run: str | None = None, to: str | None = None) -> list[dict[str, Any]]:
        """What runs ask of people and hasn't been answered."""
        return cast(
            "list[dict[str, Any]]", await self.request("GET", "/questions", params={"run": run, "to": to})
        )

    async def answer(self, question: str, value: Any) -> dict[str, Any]:
        """Answer a question, once.

        Raises:
            UnknownQuestionError, InvalidAnswerError, QuestionAnsweredError, QuestionClosedError: as `Engine.answer`.
        """
        body = {"value": msgspec.to_builtins(value)}
        path = f"/questions/{quote(question, safe='')}/answer"
        return cast("dict[str, Any]", await self.request("POST", path, json=body))

    async def complete(self, token: str, value: Any = None) -> None:
        """Complete a callback. Raises UnknownCallbackError, CallbackCompletedError, CallbackExpiredError."""
        await self.request("POST", f"/callbacks/{token}/complete", json={"value": msgspec.to_builtins(value)})

    async def fail(self, token: str, message: str) -> None:
        """Let a callback fail. Raises as `complete`."""
        await self.request("POST", f"/callbacks/{token}/fail", json={"message": message})

    # -- the wire -----------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
    ) -> Any:
        """One request of the API: its answer as plain data.

        Raises:
            PerdureError: what the server says, as the class that an engine would raise.
            StoreUnavailableError: the server can't be reached.
        """
        asked = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            answer = await self._http.request(method, path, params=asked, json=json)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if answer.is_error:
            raise error_of(answer.status_code, answer.content)
        return answer.json() if answer.content else None

    async def events(self, path: str, after: int) -> AsyncIterator[tuple[str, Any]]:
        """What a stream of server-sent events says, until it ends. A connection that breaks is made anew behind it.

        Yields:
            The event's name, and its data.
        """
        last = str(after)
        while True:
            try:
                async with self._http.stream("GET", path, headers={"Last-Event-ID": last}) as answer:
                    if answer.is_error:
                        raise error_of(answer.status_code, await answer.aread())
                    fields: dict[str, str] = {}
                    async for line in answer.aiter_lines():
                        if line:
                            name, _, value = line.partition(":")
                            fields[name] = value.removeprefix(" ")
                            continue
                        if "data" in fields:
                            last = fields.get("id", last)
                            told = fields.get("event", "message")
                            if told == "end":
                                return
                            yield told, msgspec.json.decode(fields["data"])
                        fields = {}
            except (httpx.RemoteProtocolError, httpx.ReadError):  # cut off in the middle
                await asyncio.sleep(_AGAIN)
            except httpx.TransportError as error:
                raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> StoreUnavailableError:
        why = str(error) or type(error).__name__
        return StoreUnavailableError(
            f"the server at {self._http.base_url} can't be reached: {why}. Is it up?"
        )


def error_of(status: int, body: bytes) -> PerdureError:
    """The error that a server's problem details tell of."""
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        told = {}
    kind = str(told.get("type", "")).removeprefix(_KIND)
    detail = str(told.get("detail") or f"the server answered {status}")
    found = getattr(errors, kind, None)
    if found is errors.InvalidAnswerError:
        problems = {item["where"]: item["what"] for item in told.get("errors") or ()}
        return errors.InvalidAnswerError(detail, problems=problems)
    if isinstance(found, type) and issubclass(found, PerdureError):
        try:
            return found(detail)
        except TypeError:  # one that is made of more than its text
            pass
    return UsageError(detail) if status < 500 else StoreUnavailableError(detail)
