"""Requests of the API and their answers: what HttpClient's parts stand on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import msgspec

from perdure import errors
from perdure.errors import PerdureError, StoreUnavailableError, UsageError
from perdure.runtime.tracecontext import here

_AGAIN = 0.2  # seconds until a stream that was cut off is asked for again
_PATIENCE = 90.0  # seconds for an answer, longer than any that is waited for there
_KIND = "urn:perdure:error:"


class HttpWire:
    """A server's API, as requests.

    Args:
        url, token, transport: see `HttpClient`.
    """

    def __init__(self, url: str, token: str | None, transport: httpx.AsyncBaseTransport | None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/api/v1", headers=headers, timeout=_PATIENCE, transport=transport
        )
        self._http.event_hooks = {"request": [_trace]}

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


async def _trace(request: httpx.Request) -> None:
    """A run that is started belongs to the trace of whoever asks for it. A client that is instrumented has said so."""
    where = None if "traceparent" in request.headers else here()
    if where is not None:
        request.headers["traceparent"] = where.parent
        if where.state:
            request.headers["tracestate"] = where.state


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
