"""Serving the application with uvicorn, in the event loop of its engine, until somebody says stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from perdure.api.engine import Engine
from perdure.errors import ConfigurationError
from perdure.web.access import Access
from perdure.web.app import create_app

if TYPE_CHECKING:
    from collections.abc import Generator

_LAST_ANSWERS = 3.0  # seconds that open connections have to end; streams of events last for ever


class _Server(uvicorn.Server):
    """Leaves signals to whoever started it: the engine stops after the server, and in good order."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(
    engine: Engine,
    access: Access,
    *,
    host: str,
    port: int,
    stop: asyncio.Event,
    ready: Callable[[str], None],
) -> None:
    """Serve an open engine until `stop` is set.

    Args:
        host, port: where to listen; port 0 is any free one.
        ready: called with the address when connections are accepted.

    Raises:
        ConfigurationError: others would get in there unasked, or the address can't be had.
    """
    access.check_bind(host)
    listening = _listen(host, port)
    with listening:
        app = create_app(engine, access)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,  # who connects is what counts for a proxy's header, not whom it speaks of
            timeout_graceful_shutdown=_LAST_ANSWERS,  # type: ignore[arg-type]
        )
        server = _Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not (server.started or serving.done()):  # noqa: ASYNC110 - it has nothing to wait for
                await asyncio.sleep(0.01)
            if server.started:
                ready(_address(listening, host))
            await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            server.should_exit = True
            await serving
            await app.stop()


def _listen(host: str, port: int) -> socket.socket:
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(256)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        msg = f"the server can't listen at {host}:{port}: {error}. Stop what listens there, or give another --port"
        raise ConfigurationError(msg) from error
    return listening


def _address(listening: socket.socket, host: str) -> str:
    port = listening.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
