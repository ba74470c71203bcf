"""`perdure pause`, `resume` and `retry`: operating a run without ending it."""

from __future__ import annotations

import asyncio
import shlex
from typing import Any

from perdure.api.engine import Engine
from perdure.api.handle import Handle
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


def retry(id: IdArgument, url: UrlOption = None) -> None:
    """Let a failed run go on from its failed step, keeping what succeeded."""
    asyncio.run(_retry(url, id))


async def existing(engine: Engine, id: str) -> Handle[Any]:
    """The handle of a run that exists."""
    handle = engine.get(id)
    try:
        await handle.status()
    except UnknownRunError as error:
        raise await unknown(engine, error) from None
    return handle


async def _pause(url: str | None, id: str, reason: str | None) -> None:
    async with reader(url) as engine:
        handle = await existing(engine, id)
        await handle.pause(reason)
        status = await handle.status()
    told = "is paused" if status == "paused" else "will be paused when the steps that execute have ended"
    tell(f"Run {id} {told}. Let it go on with: perdure resume {shlex.quote(id)}")


async def _resume(url: str | None, id: str) -> None:
    async with reader(url) as engine:
        await (await existing(engine, id)).resume()
    tell(f"Run {id} goes on.")


async def _retry(url: str | None, id: str) -> None:
    async with reader(url) as engine:
        handle = await existing(engine, id)
        await handle.retry()
        generation = (await handle.info()).generation
    tell(f"Run {id} goes on from where it failed, as generation {generation}: perdure show {shlex.quote(id)}")
