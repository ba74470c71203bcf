"""What the step of a request does, on the engine's loop: it sends the request as it would have been sent anyway, and
reads all of the answer.

Nothing that is a secret leaves here, in errors neither.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from perdure.ai.http_events import Reader, data_of
from perdure.ai.http_exchange import Exchange
from perdure.ai.http_record import Answer, json_of, recorded_headers
from perdure.ai.http_secrets import crossed_out, crossed_out_bytes
from perdure.ai.http_wire import (
    asking_for_usage,
    failed_in_stream,
    message_of,
    only_usage,
    text_in,
    used_by,
)
from perdure.api.streams import emit
from perdure.core.retry import is_transient
from perdure.errors import ForbiddenInWorkflowError, HttpStatusError, Permanent
from perdure.runtime.spending import outlay_of
from perdure.runtime.stepcontext import current_step

#: Of an answer that is an error so many characters are kept.
_FAILURE_TEXT = 16_384
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


async def attempt(what: Exchange) -> Answer:
    """Make the call, and read all of its answer.

    Raises:
        HttpStatusError: the answer says that it went wrong, with its status or in its stream.
        Exception: no answer came, or not all of it.
    """
    failure: Exception
    try:
        return await _call(what)
    except Exception as error:
        if isinstance(error, HttpStatusError) or not _tells(error, what.secrets):
            raise
        failure = _without_secrets(error, what.secrets)
    raise failure  # here, where nothing leads to the original


def _tells(error: BaseException, secrets: tuple[str, ...]) -> bool:
    """Whether a secret is in an error, or in one that led to it."""
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        if (each := left.pop()) is not None and each not in seen:
            seen.append(each)
            left += [each.__cause__, each.__context__]
    texts = [f"{each}\n{each.args!r}\n{vars(each)!r}" for each in seen]
    return any(secret in text for secret in secrets for text in texts)


def _without_secrets(error: Exception, secrets: tuple[str, ...]) -> Exception:
    """An error of the same class, if that can be made, with what may be told."""
    kind, text = type(error), crossed_out(str(error), secrets)
    try:
        made = kind(text)
        told = str(made) == text and not _tells(made, secrets)
    except Exception:  # made in its own way  # noqa: BLE001
        made, told = error, False
    if not told:
        made = (OSError if is_transient(error) else Permanent)(f"{kind.__name__}: {text}")
    return made.with_traceback(error.__traceback__)


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
            if self._what.rules.emit is not None and (text := text_in(self._what.called.speaks, data)):
                emit(self._what.rules.emit, text)

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
