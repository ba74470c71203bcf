"""`perdure pause`, `resume`, `retry` and `fork`: operating a run without ending it."""

from __future__ import annotations

import asyncio

from perdure.cli.control import IdArgument, ReasonOption
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.output import tell
from perdure.errors import UnknownRunError


def pause(id: IdArgument, reason: ReasonOption = None, url: UrlOption = None) -> None:
    """Hold a run: what executes may end, nothing else begins. Messages queue."""
    asyncio.run(_pause(url, id, reason))


def resume(id: IdArgument, url: UrlOption = None) -> None:
    """Let a paused run go on."""
    asyncio.run(_resume(url, id))


async def _pause(url: str | None, id: str, reason: str | None) -> None:
    async with reader(url) as engine:
        handle = engine.get(id)
        try:
            await handle.pause(reason)
            status = await handle.status()
        except UnknownRunError as error:
            raise await unknown(engine, error) from None
    told = "is paused" if status == "paused" else "will be paused when the steps that execute have ended"
    tell(f"Run {id} {told}. Let it go on with: perdure resume {id}")


async def _resume(url: str | None, id: str) -> None:
    async with reader(url) as engine:
        try:
            await engine.get(id).resume()
        except UnknownRunError as error:
            raise await unknown(engine, error) from None
    tell(f"Run {id} goes on.")
