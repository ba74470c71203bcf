"""The application as its clients see it: in process, over ASGI, with an engine of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

import perdure
from perdure.web import Access, create_app

Client = httpx.AsyncClient
BASE = "http://127.0.0.1:8700"


@asynccontextmanager
async def serving(
    url: str = "memory:", access: Access | None = None, **options: Any
) -> AsyncIterator[tuple[perdure.Engine, Client]]:
    """An engine, and a client of the application that serves it."""
    async with perdure.Engine(url, **options) as engine:
        transport = httpx.ASGITransport(create_app(engine, access), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=BASE, timeout=30) as client:
            yield engine, client


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run a test's body in an event loop, for a minute at most."""

    async def bounded() -> Any:
        async with asyncio.timeout(60):
            return await main()

    return asyncio.run(bounded())
