"""Transports of httpx and httpx2 that make steps of requests in workflow code, and pass all others through.

There are two ways to have them: as transports of their own around others, and, for programs that can't be changed, by
putting the same into the libraries' own transports. Nothing here is imported before it is asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import importlib
import importlib.util
import logging
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from perdure.ai.http_exchange import Exchange, Rules, exchange
from perdure.ai.http_step import through_step
from perdure.ai.http_sync import wait_for
from perdure.api.inline import in_run
from perdure.errors import ConfigurationError

logger = logging.getLogger("perdure.ai")

Library: TypeAlias = Literal["httpx", "httpx2"]
LIBRARIES: tuple[Library, ...] = ("httpx2", "httpx")

#: The loops on which transports have opened connections, and on which they are to close them.
_used_on: weakref.WeakKeyDictionary[Any, asyncio.AbstractEventLoop] = weakref.WeakKeyDictionary()


def library_named(name: Library | None) -> Any:
    """The library's module; without a name that which clients of providers use.

    Raises:
        ConfigurationError: it isn't installed.
    """
    for each in LIBRARIES if name is None else (name,):
        if importlib.util.find_spec(each) is not None:
            return importlib.import_module(each)
    msg = f"durable_http needs {name or 'httpx2 or httpx'}: pip install {name or 'httpx2'}"
    raise ConfigurationError(msg)


# -- what they do -------------------------------------------------------------------------------------------


async def send_async(
    library: Any, transport: Any, request: Any, rules: Rules, send: Callable[[Any], Any]
) -> Any:
    """A request in workflow code."""
    await request.aread()

    async def on_real_loop(request: Any) -> Any:
        _used_on[transport] = asyncio.get_running_loop()
        return await send(request)

    return await through_step(exchange(library, request, rules, on_real_loop, sync=False))


def send_sync(library: Any, request: Any, rules: Rules, send: Callable[[Any], Any]) -> Any:
    """The same for a synchronous client."""
    request.read()
    what = exchange(library, request, rules, send, sync=True)
    return wait_for(_in_time(what), f"a request to {what.host}")


async def _in_time(what: Exchange) -> Any:
    """As a synchronous client gets it: it would sleep in workflow code before it asks once more."""
    try:
        return await through_step(what)
    except what.library.RequestError as error:
        text = f"{type(error).__name__}: {error}"
        return what.library.Response(
            504, headers={"x-should-retry": "false"}, json={"error": {"message": text}}
        )


def close_later(transport: Any, close: Callable[[], Any]) -> None:
    """Workflow code closes a transport: its connections are closed where they were opened, and nobody waits for it."""
    loop = _used_on.pop(transport, None)
    if loop is None or loop.is_closed():
        return

    async def closing() -> None:
        try:
            await close()
        except Exception:
            logger.debug("couldn't close connections", exc_info=True)

    loop.call_soon(lambda: loop.create_task(closing()), context=contextvars.Context())


# -- as transports of their own -------------------------------------------------------------------------------


@functools.cache
def async_class(library: Any) -> Any:
    """The class of asynchronous transports for a library."""

    class AsyncDurableTransport(library.AsyncBaseTransport):  # type: ignore[misc]
        """Makes steps of the requests of workflow code; sends them, and all others, by another transport."""

        def __init__(self, inner: Any, rules: Rules) -> None:
            self._inner = inner
            self._rules = rules

        async def handle_async_request(self, request: Any) -> Any:
            send = self._inner.handle_async_request
            if not in_run():
                return await send(request)
            return await send_async(library, self, request, self._rules, send)

        async def aclose(self) -> None:
            if in_run():
                close_later(self, self._inner.aclose)
            else:
                await self._inner.aclose()

    return AsyncDurableTransport


@functools.cache
def sync_class(library: Any) -> Any:
    """The class of synchronous transports for a library."""

    class DurableTransport(library.BaseTransport):  # type: ignore[misc]
        """Makes steps of the requests of workflow code; sends them, and all others, by another transport."""

        def __init__(self, inner: Any, rules: Rules) -> None:
            self._inner = inner
            self._rules = rules

        def handle_request(self, request: Any) -> Any:
            send = self._inner.handle_request
            return send_sync(library, request, self._rules, send) if in_run() else send(request)

        def close(self) -> None:
            self._inner.close()

    return DurableTransport


# -- in the libraries' own transports ---------------------------------------------------------------------------

_lock = threading.Lock()
_installed: list[Rules] = []  # the last one counts
_patches: list[tuple[type, str, Any, Any]] = []  # class, name, what was there, what is there now


def install(rules: Rules) -> None:
    """Let all transports of the libraries that are installed work by these rules.

    Raises:
        ConfigurationError: neither library is there.
    """
    with _lock:
        if not _patches:
            _patch()
        _installed.append(rules)


def uninstall(rules: Rules) -> None:
    """Take rules back; the last ones leave everything as it was."""
    with _lock:
        for index in range(len(_installed) - 1, -1, -1):
            if _installed[index] is rules:
                del _installed[index]
                break
        if not _installed:
            while _patches:
                owner, name, before, now = _patches.pop()
                if vars(owner).get(name) is now:  # else somebody has put more on top, and ours passes through
                    setattr(owner, name, before)


def _rules() -> Rules | None:
    return _installed[-1] if _installed else None


def _patch() -> None:
    library_named(None)
    done: set[type] = set()  # one library may be an alias of the other
    for name in LIBRARIES:
        if importlib.util.find_spec(name) is None:
            continue
        library = importlib.import_module(name)
        if library.AsyncHTTPTransport not in done:
            done.add(library.AsyncHTTPTransport)
            _patch_async(library)
            _patch_sync(library)
    _patch_google()


def _replace(owner: type, name: str, wrapper: Callable[[Any], Any]) -> None:
    before = vars(owner)[name]
    now = functools.wraps(before)(wrapper(before))
    setattr(owner, name, now)
    _patches.append((owner, name, before, now))


def _patch_async(library: Any) -> None:
    def handling(before: Any) -> Any:
        async def handle_async_request(self: Any, request: Any) -> Any:
            rules = _rules()
            if rules is None or not in_run():
                return await before(self, request)
            return await send_async(library, self, request, rules, functools.partial(before, self))

        return handle_async_request

    def closing(before: Any) -> Any:
        async def aclose(self: Any) -> None:
            if not in_run():
                await before(self)
            else:
                close_later(self, functools.partial(before, self))

        return aclose

    def leaving(before: Any) -> Any:
        async def __aexit__(self: Any, *error: Any) -> None:  # noqa: N807
            if not in_run():
                await before(self, *error)
            else:
                close_later(self, functools.partial(before, self))

        return __aexit__

    transport = library.AsyncHTTPTransport
    _replace(transport, "handle_async_request", handling)
    _replace(transport, "aclose", closing)
    _replace(transport, "__aexit__", leaving)


def _patch_sync(library: Any) -> None:
    def handling(before: Any) -> Any:
        def handle_request(self: Any, request: Any) -> Any:
            rules = _rules()
            if rules is None or not in_run():
                return before(self, request)
            return send_sync(library, request, rules, functools.partial(before, self))

        return handle_request

    _replace(library.HTTPTransport, "handle_request", handling)


def _patch_google() -> None:
    """Google's client prefers aiohttp where that is installed; in workflow code it is to do without.

    It need not be imported yet: but then it is only if there is aiohttp, as that takes a second.
    """
    name = "google.genai._api_client"
    if name not in sys.modules and (
        importlib.util.find_spec("aiohttp") is None or not _is_there("google.genai")
    ):
        return
    client = getattr(importlib.import_module(name), "BaseApiClient", None)
    if client is None or "_use_aiohttp" not in vars(client):
        return

    def choosing(before: Any) -> Any:
        def _use_aiohttp(self: Any) -> Any:
            return before(self) and (_rules() is None or not in_run())

        return _use_aiohttp

    _replace(client, "_use_aiohttp", choosing)


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # nor is the package around it
        return False
