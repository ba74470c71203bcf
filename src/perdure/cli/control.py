"""`perdure cancel` and `perdure terminate`: the two ways to end a run from outside."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.output import tell
from perdure.errors import UnknownRunError

IdArgument = Annotated[str, typer.Argument(help="The run's id.")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Why; its history keeps it.", show_default=False)
]


def cancel(id: IdArgument, reason: ReasonOption = None, url: UrlOption = None) -> None:
    """Ask a run to cancel: its code sees a CancelledError and may tidy up."""
    asyncio.run(_cancel(url, id, reason))


def terminate(
    id: IdArgument,
    reason: ReasonOption = None,
    compensate: Annotated[
        bool, typer.Option("--compensate", help="Let its finally blocks and sagas do their work first.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """End a run at once, without running any of its code; or let it compensate first."""
    asyncio.run(_terminate(url, id, reason, compensate))


async def _cancel(url: str | None, id: str, reason: str | None) -> None:
    async with reader(url) as engine:
        handle = engine.get(id)
        try:
            status = await handle.status()
            if status.final:
                tell(f"Run {id} has ended already ({status}); there is nothing to cancel.")
                return
            await handle.cancel(reason)
        except UnknownRunError as error:
            raise await unknown(engine, error) from None
    tell(f"Run {id} is asked to cancel. It ends when a worker has run its clean-up code: perdure show {id}")


async def _terminate(url: str | None, id: str, reason: str | None, compensate: bool) -> None:
    async with reader(url) as engine:
        try:
            await engine.get(id).terminate(reason, compensate=compensate)
        except UnknownRunError as error:
            raise await unknown(engine, error) from None
    if compensate:
        tell(f"Run {id} is asked to compensate, and then ends as terminated: perdure show {id}")
    else:
        tell(f"Run {id} is terminated.")
