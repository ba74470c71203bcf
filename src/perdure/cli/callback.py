"""`perdure callback`: complete, fail or keep alive what a run waits for, by its token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from perdure.api.callbacks import Callbacks
from perdure.cli.database import UrlOption, reader
from perdure.cli.inputs import json_value
from perdure.cli.output import tell

TokenArgument = Annotated[str, typer.Argument(help="The callback's token.")]

callback = typer.Typer(
    name="callback", help="Complete, fail or keep alive a callback, by its token.", no_args_is_help=True
)


@callback.command()
def complete(
    token: TokenArgument,
    value: Annotated[str, typer.Argument(help="What the run gets, as JSON.", metavar="JSON")] = "null",
    url: UrlOption = None,
) -> None:
    """Complete a callback with a value."""
    given = json_value(value)
    asyncio.run(_act(url, lambda callbacks: callbacks.complete(token, given)))
    tell("The callback is completed.")


@callback.command()
def fail(
    token: TokenArgument,
    message: Annotated[str, typer.Argument(help="What the run is told.")],
    url: UrlOption = None,
) -> None:
    """Fail a callback: its run gets CallbackFailed."""
    asyncio.run(_act(url, lambda callbacks: callbacks.fail(token, message)))
    tell("The callback is failed.")


@callback.command()
def heartbeat(token: TokenArgument, url: UrlOption = None) -> None:
    """Say that the work behind a callback goes on."""
    asyncio.run(_act(url, lambda callbacks: callbacks.heartbeat(token)))
    tell("The heartbeat is noted.")


async def _act(url: str | None, act: Callable[[Callbacks], Awaitable[None]]) -> None:
    async with reader(url) as engine:
        await act(engine.callbacks)
