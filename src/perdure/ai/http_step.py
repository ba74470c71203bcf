"""One request as one durable step.

    workflow's loop                      the engine's loop

    client of a provider
      httpx
        transport: what is asked
                      inline step -----> transport, as it was: connections, TLS, time-outs
                                           the whole body is read; of a stream each event is put out meanwhile
                                           a status of 400 or more is raised: HttpStatusError
                      Answer <---------- recorded
        response from the record
      httpx
    client of a provider

How an attempt that was turned away goes on, and what it has cost, is the business of steps. When a step has failed for
good, the client gets the last answer, and makes its own exception of it.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl

from perdure.ai.http_events import Reader, data_of
from perdure.ai.http_hosts import Allowed, provider_at
from perdure.ai.http_record import (
    Answer,
    failed_response,
    fingerprint,
    json_of,
    recorded_headers,
    response_of,
)
from perdure.ai.http_secrets import crossed_out, crossed_out_bytes, secrets_of
from perdure.ai.http_wire import (
    Endpoint,
    asking_for_usage,
    at_most,
    endpoint,
    failed_in_stream,
    message_of,
    only_usage,
    used_by,
)
from perdure.api.inline import InlineCall, inline_step
from perdure.api.streams import emit
from perdure.core.answers import http_status
from perdure.core.retry import Retry, is_transient
from perdure.errors import ForbiddenInWorkflowError, HttpStatusError, StepFailed
from perdure.runtime.definitions import StepOptions
from perdure.runtime.limits import Limited
from perdure.runtime.spending import outlay_of
from perdure.runtime.stepcontext import current_step

#: Statuses of answers whose bodies a failure keeps up to so many characters.
_FAILURE_TEXT = 16_384
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class _Transient(Retry):
    """What is tried again: what providers' own clients would try again, as far as the provider doesn't object."""

    def covers(self, error: BaseException) -> bool:
        if isinstance(error, HttpStatusError) and (said := error.headers.get("x-should-retry")) is not None:
            return said == "true"
        return is_transient(error) or http_status(error) == 409


DEFAULT_RETRY: Retry = _Transient()


@dataclass(frozen=True, slots=True)
class Rules:
    """How requests become steps. See `durable_http`."""

    hosts: tuple[Allowed, ...]
    stream: str | None = None
    ignored: frozenset[str] = frozenset()
    headers: frozenset[str] = frozenset()
    retry: Retry = DEFAULT_RETRY
    limits: tuple[Limited, ...] = ()
    count_streams: bool | None = None

    def cover(self, url: Any) -> bool:
        """Whether a request to this address is recorded."""
        return any(entry.covers(url) for entry in self.hosts)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request on its way.

    Attributes:
        library: the module of the client, httpx or httpx2.
        send: the transport's own way.
        sync: that is to be called in a thread.
    """

    library: Any
    request: Any
    rules: Rules
    send: Callable[[Any], Any]
    called: Endpoint
    secrets: tuple[str, ...]
    sync: bool

    @property
    def host(self) -> str:
        return str(self.request.url.host)

    @property
    def provider(self) -> str | None:
        return provider_at(self.host)


def exchange(library: Any, request: Any, rules: Rules, send: Callable[[Any], Any], *, sync: bool) -> Exchange:
    """Look at a request whose body is in memory.

    Raises:
        ForbiddenInWorkflowError: it isn't one that is recorded.
    """
    url = request.url
    if not rules.cover(url):
        msg = (
            f"workflow code sends a request to {url.host}{url.path}, which durable_http doesn't cover, and so can't "
            f'be replayed: add "{url.host}{url.path}" to hosts= if its answer may be recorded; or put the call into a '
            "@step function and await that"
        )
        raise ForbiddenInWorkflowError(msg)
    body: bytes = request.content
    data = json_of(body)
    query = parse_qsl(url.query.decode("ascii", "replace"))
    secrets = secrets_of(request.headers.multi_items(), query, data)
    return Exchange(library, request, rules, send, endpoint(url.path, data), secrets, sync)


def as_step(what: Exchange) -> InlineCall[Answer]:
    """The step that a request becomes."""
    request, called, rules = what.request, what.called, what.rules
    url, port = request.url, request.url.port
    address = f"{url.scheme}://{url.host}{'' if port is None else f':{port}'}{url.path}"
    asked = {  # neither headers nor parameters
        "method": request.method,
        "url": crossed_out(address, what.secrets),
        "fingerprint": fingerprint(
            request.content,
            called.body,
            url.query,
            request.headers.get("content-type", ""),
            rules.ignored,
        ),
    }
    options = StepOptions(
        retry=rules.retry, limits=rules.limits, spends=at_most(called, what.provider or called.speaks)
    )

    async def body(asked: Any) -> Answer:
        return await _attempt(what)

    return inline_step(_name(what), body, given=asked, result=Answer, options=options)


def _name(what: Exchange) -> str:
    model = what.called.model
    name = f"http:{what.host}" if model is None or not what.called.billed else f"llm:{model}"
    return "".join(
        ":" if char == "/" else "-" if char in "#[]" or not char.isprintable() else char for char in name
    )[:255]


# -- what the step does -------------------------------------------------------------------------------------


async def _attempt(what: Exchange) -> Answer:
    """Make the call, and read all of its answer. Nothing secret leaves here, not in errors either."""
    failure: Exception
    try:
        return await _call(what)
    except HttpStatusError:
        raise
    except Exception as error:
        text = crossed_out(str(error), what.secrets)
        if text == str(error) and error.__cause__ is None and error.__context__ is None:
            raise
        failure = _without_history(error, text)
    raise failure


def _without_history(error: Exception, text: str) -> Exception:
    """The same error without what led to it, whose texts would be recorded, too."""
    kind = type(error)
    try:
        made = kind(text)
    except Exception:  # noqa: BLE001 - made in its own way
        made = OSError(f"{kind.__name__}: {text}")
    return (
        made.with_traceback(error.__traceback__) if str(made) == text else OSError(f"{kind.__name__}: {text}")
    )


async def _call(what: Exchange) -> Answer:
    request, hidden = what.request, False
    if what.called.untold and (
        what.rules.count_streams or (what.rules.count_streams is None and what.provider)
    ):
        request, hidden = _asking(what), True
    if what.sync:
        status, headers, read = await asyncio.to_thread(_answer_in_thread, what, request)
    else:
        response = await what.send(request)
        try:
            status, headers = response.status_code, response.headers.multi_items()
            read = _Read(what, hidden, status, response.headers)
            async for piece in response.aiter_bytes():
                read.take(piece)
        finally:
            await response.aclose()
    read.end()
    return _answer(what, status, headers, read)


def _answer_in_thread(what: Exchange, request: Any) -> tuple[int, Any, _Read]:
    response = what.send(request)
    try:
        read = _Read(what, request is not what.request, response.status_code, response.headers)
        for piece in response.iter_bytes():
            read.take(piece)
    finally:
        response.close()
    return response.status_code, response.headers.multi_items(), read


def _asking(what: Exchange) -> Any:
    """The same request, so that the stream tells its usage."""
    original = what.request
    assert what.called.body is not None
    body = asking_for_usage(what.called.body)
    headers = [(name, value) for name, value in original.headers.multi_items() if name != "content-length"]
    return what.library.Request(
        original.method, original.url, headers=headers, content=body, extensions=original.extensions
    )


class _Read:
    """An answer's body as it comes.

    Args:
        hidden: the program didn't ask for the usage of its stream, and isn't to see it.
    """

    def __init__(self, what: Exchange, hidden: bool, status: int, headers: Mapping[str, str]) -> None:
        self._what = what
        self._hidden = hidden
        self._pieces: list[bytes] = []
        streams = status < 400 and headers.get("content-type", "").startswith("text/event-stream")
        self._reader = Reader() if streams else None
        self.events: list[Mapping[str, Any]] = []

    def take(self, piece: bytes) -> None:
        """More of it has come."""
        if self._reader is None:
            self._pieces.append(piece)
        else:
            self._take_events(self._reader.feed(piece))

    def end(self) -> None:
        """All of it has come."""
        if self._reader is not None:
            self._take_events(self._reader.rest())

    def _take_events(self, events: list[bytes]) -> None:
        for raw in events:
            event = crossed_out_bytes(raw, self._what.secrets)
            data = data_of(event)
            if data is not None:
                self.events.append(data)
                if (status := failed_in_stream(data)) is not None:
                    self._fail(status, data)
            if self._hidden and only_usage(data):
                continue
            self._pieces.append(event)
            if data is not None and self._what.rules.stream is not None:
                emit(self._what.rules.stream, data)

    def _fail(self, status: int, data: Mapping[str, Any]) -> None:
        _book(self._what, None, self.events)  # what was made so far is billed
        raise _error(self._what, status, [], json.dumps(data))

    @property
    def body(self) -> bytes:
        return crossed_out_bytes(b"".join(self._pieces), self._what.secrets)

    @property
    def streams(self) -> bool:
        return self._reader is not None


def _answer(what: Exchange, status: int, headers: list[tuple[str, str]], read: _Read) -> Answer:
    kept = [
        (name, crossed_out(value, what.secrets))
        for name, value in recorded_headers(headers, what.rules.headers)
    ]
    if status >= 400:
        raise _error(what, status, kept, read.body.decode("utf-8", "replace"))
    if status in _REDIRECTS:
        kept += [("location", _target(what, value)) for name, value in headers if name.lower() == "location"]
    body = read.body
    _book(what, None if read.streams else json_of(body), read.events)
    return Answer.of(status, kept, body)


def _target(what: Exchange, location: str) -> str:
    """Where a redirection leads, which is recorded.

    Raises:
        ForbiddenInWorkflowError: with parameters, which may be a signature that gives access.
    """
    target = what.request.url.join(location)
    if target.query or target.userinfo:
        msg = (
            f"{what.host} redirects a request to {target.host}{target.path} with parameters, which may give access to "
            "whoever reads them, and so aren't recorded: put the call into a @step function and await that"
        )
        raise ForbiddenInWorkflowError(msg)
    return crossed_out(location, what.secrets)


def _error(what: Exchange, status: int, headers: list[tuple[str, str]], text: str) -> HttpStatusError:
    text = crossed_out(text, what.secrets)[:_FAILURE_TEXT]
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    return HttpStatusError(
        f"{what.host} answered {phrase}: {message_of(text)}",
        status_code=status,
        provider=what.provider or what.host,
        speaks=what.called.speaks,
        headers=dict(headers),
        text=text,
    )


def _book(what: Exchange, whole: Mapping[str, Any] | None, events: list[Mapping[str, Any]]) -> None:
    """Put what was used into the ledger."""
    step = current_step.get()
    if step is None:
        return
    for used in used_by(what.called, what.provider, whole, events):
        outlay_of(step).spend(used)


# -- what the client gets -----------------------------------------------------------------------------------

#: The last error of a task's request: clients that ask once more get it again, without another step.
_given_up: weakref.WeakKeyDictionary[asyncio.Task[Any], Exception] = weakref.WeakKeyDictionary()


async def through_step(what: Exchange) -> Any:
    """Let a step make the call; return the response that the client gets.

    Raises:
        Exception: no answer came; the client library's own.
    """
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    again = what.request.headers.get("x-stainless-retry-count", "0") != "0"
    if again and (error := _given_up.get(task)) is not None:
        raise error
    try:
        answer = await cast("Awaitable[Answer]", as_step(what))
    except HttpStatusError as error:
        return failed_response(what.library, error)
    except StepFailed as error:
        failure = _given_up[task] = _rebuilt(what.library, error)
        raise failure from error
    except Exception as error:
        _given_up[task] = error
        raise
    return response_of(what.library, answer)


def _rebuilt(library: Any, error: StepFailed) -> Exception:
    """An error of httpx's that couldn't be rebuilt by its arguments alone."""
    kind = getattr(library, error.type.rpartition(".")[2], None)
    if isinstance(kind, type) and issubclass(kind, library.RequestError):
        made: Exception = kind(str(error))
        return made
    return error
