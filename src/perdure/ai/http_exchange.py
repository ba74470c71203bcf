"""One request on its way, and the rules by which it becomes a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import parse_qsl

from perdure.ai.http_hosts import Allowed, provider_at
from perdure.ai.http_record import json_of
from perdure.ai.http_secrets import secrets_of
from perdure.ai.http_wire import Endpoint, endpoint
from perdure.core.answers import http_status
from perdure.core.retry import Retry, is_transient
from perdure.errors import ForbiddenInWorkflowError, HttpStatusError
from perdure.runtime.limits import Limited


class PassingTrouble(Retry):
    """What is tried again: what providers' own clients would try again, as far as the provider doesn't object."""

    @classmethod
    def of(cls, retry: Retry) -> Retry:
        """The same policy for what passes."""
        return cls(**{field.name: getattr(retry, field.name) for field in fields(Retry)})

    def covers(self, error: BaseException) -> bool:
        if not super().covers(error):
            return False
        if isinstance(error, HttpStatusError) and (said := error.headers.get("x-should-retry")) is not None:
            return said == "true"
        return is_transient(error) or http_status(error) == 409


DEFAULT_RETRY: Retry = PassingTrouble()


@dataclass(frozen=True, slots=True)
class Rules:
    """How requests become steps. See `durable_http`."""

    hosts: tuple[Allowed, ...]
    emit: str | None = None
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
