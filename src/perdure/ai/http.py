"""`durable_http()`: calls of language models become durable steps without a change to the code that makes them.

http.py             what users see
http_transports.py  transports, and how they get into the libraries
http_step.py        one request as one step
http_record.py      what is recorded of request and answer; http_secrets.py: what isn't
http_hosts.py       which requests
http_wire.py        whose wire format it is, which model, what was used; http_events.py: streams
http_sync.py        synchronous clients
http_clients.py     what clients do in workflow code besides
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from perdure.ai.http_clients import prepare
from perdure.ai.http_exchange import DEFAULT_RETRY, PassingTrouble, Rules
from perdure.ai.http_hosts import LANGUAGE_MODELS, allowed
from perdure.ai.http_sync import call_sync
from perdure.ai.http_transports import Library, async_class, install, library_named, sync_class, uninstall
from perdure.api.streams import checked_stream
from perdure.core.retry import Retry
from perdure.errors import ConfigurationError
from perdure.runtime.limits import Limits, limits_of

if TYPE_CHECKING:
    import httpx2

__all__ = ["LANGUAGE_MODELS", "DurableHttp", "call_sync", "durable_http"]

#: Options of a client that are its transport's.
_TRANSPORT = ("verify", "cert", "http1", "http2", "limits", "proxy", "trust_env")


def durable_http(
    hosts: Iterable[str] = LANGUAGE_MODELS,
    *,
    emit: str | None = None,
    retry: Retry | None = None,
    limit: Limits | None = None,
    ignore: Iterable[str] = (),
    headers: Iterable[str] = (),
    count_streams: bool | None = None,
) -> DurableHttp:
    """Make durable steps of the requests that workflow code sends by httpx or httpx2, as clients of language models do.

    Nothing happens before it is put to work, in one of two ways:

    - as a context manager, or by `install()`: then all clients in the process work so, whoever has made them;
    - by a client or transport that is given to one client: `AsyncOpenAI(http_client=durable_http().async_client())`.

    Only workflow code is concerned. In steps and outside of runs requests are sent as ever. In workflow code a request
    that isn't on the list raises ForbiddenInWorkflowError, as it couldn't be replayed.

    Recorded are method, address without parameters, a fingerprint of what is asked, and the answer: status, the
    headers that matter, and body. Headers of requests never are; credentials that an answer or an error repeats are
    crossed out.

    Args:
        hosts: what may be recorded: "HOST" or "HOST:PORT" for the endpoints of language models there, "HOST/PATH" for
            others; with * for anything. Without it the known providers.
        emit: the run's stream that gets the text of streamed answers, piece by piece, while it comes.
        retry: how often and when failures are tried again that may pass: network errors, 408, 409, 425, 429 and 5xx,
            unless the provider says not to. Other answers never are.
        limit: rate limits that calls are under, as of `@step(limit=...)`.
        ignore: fields of JSON bodies that don't count when a replay compares requests: what a new version of a client
            has added, say.
        headers: more headers of answers that are recorded.
        count_streams: whether OpenAI's streams of chat completions are asked for their usage, which they don't tell by
            themselves; the program doesn't see it. None: those of known providers.

    Raises:
        ConfigurationError: an entry of `hosts` can't be one.
        UsageError: a stream can't have that name.

    Example:
        >>> with perdure.ai.durable_http():  # doctest: +SKIP
        ...     perdure.run(research("tardigrades"), url="sqlite:///agents.db", id="r-1")
    """
    prepare()
    rules = Rules(
        hosts=allowed(hosts),
        emit=None if emit is None else checked_stream(emit),
        ignored=frozenset(ignore),
        headers=frozenset(name.lower() for name in headers),
        retry=DEFAULT_RETRY if retry is None else PassingTrouble.of(retry),
        limits=limits_of(limit),
        count_streams=count_streams,
    )
    return DurableHttp(rules)


class DurableHttp:
    """What `durable_http()` returns: rules by which requests become steps, and the ways to put them to work."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._entered = 0
        self._stays = False

    # -- for the whole process --------------------------------------------------------------------------

    def install(self) -> Self:
        """Let all clients of httpx and httpx2 in this process work so, until `uninstall()`. Once more does nothing.

        Raises:
            ConfigurationError: neither library is installed.
        """
        if not self._stays:
            install(self._rules)
            self._stays = True
        return self

    def uninstall(self) -> None:
        """Leave everything as it was. Once more does nothing."""
        if self._stays:
            self._stays = False
            uninstall(self._rules)

    def __enter__(self) -> Self:
        install(self._rules)
        self._entered += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._entered:
            self._entered -= 1
            uninstall(self._rules)

    # -- for one client -----------------------------------------------------------------------------------

    def async_client(self, *, library: Library | None = None, **options: Any) -> httpx2.AsyncClient:
        """An asynchronous HTTP client that works so, for `AsyncOpenAI(http_client=...)` and the like.

        Args:
            library: "httpx2" or "httpx"; without it the first that is installed.
            options: the client's.
        """
        module = library_named(library)
        inner = module.AsyncHTTPTransport(**_of_transport(options))
        options.setdefault("follow_redirects", True)
        client: httpx2.AsyncClient = module.AsyncClient(
            transport=async_class(module)(inner, self._rules), **options
        )
        return client

    def client(self, *, library: Library | None = None, **options: Any) -> httpx2.Client:
        """The same for synchronous clients, which workflow code uses by `perdure.ai.call_sync`."""
        module = library_named(library)
        inner = module.HTTPTransport(**_of_transport(options))
        options.setdefault("follow_redirects", True)
        client: httpx2.Client = module.Client(transport=sync_class(module)(inner, self._rules), **options)
        return client

    def transport(self, inner: Any = None, *, library: Library | None = None) -> Any:
        """A transport that works so.

        Args:
            inner: the transport by which requests are sent, synchronous or not: the transport is of its kind. Without
                it an asynchronous one is made.
            library: "httpx2" or "httpx"; without it that of `inner`.

        Raises:
            ConfigurationError: `inner` is none.
        """
        if inner is None:
            module = library_named(library)
            return async_class(module)(module.AsyncHTTPTransport(), self._rules)
        for name in ("httpx2", "httpx") if library is None else (library,):
            try:
                module = library_named(name)
            except ConfigurationError:
                continue
            if isinstance(inner, module.AsyncBaseTransport) and hasattr(inner, "handle_async_request"):
                return async_class(module)(inner, self._rules)
            if isinstance(inner, module.BaseTransport):
                return sync_class(module)(inner, self._rules)
        msg = f"durable_http().transport({inner!r}): give a transport of httpx or httpx2"
        raise ConfigurationError(msg)


def _of_transport(options: dict[str, Any]) -> dict[str, Any]:
    """Take those of a client's options that its transport gets."""
    return {name: options.pop(name) for name in _TRANSPORT if name in options}
