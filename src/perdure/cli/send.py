"""`perdure send`: a message for a run."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from perdure.cli.control import IdArgument
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.inputs import json_value
from perdure.cli.output import tell
from perdure.errors import UnknownRunError


def send(
    id: IdArgument,
    name: Annotated[str, typer.Argument(help="The message's name.")],
    value: Annotated[
        str, typer.Argument(metavar="[JSON]", help="Its value, as JSON; null by default.", show_default=False)
    ] = "null",
    key: Annotated[
        str | None,
        typer.Option("--key", help="A second message of this name and key is ignored.", show_default=False),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Send a run a message, which its code receives with perdure.receive(NAME)."""
    asyncio.run(_send(url, id, name, json_value(value), key))


async def _send(url: str | None, id: str, name: str, value: Any, key: str | None) -> None:
    async with reader(url) as engine:
        try:
            await engine.get(id).send(name, value, key=key)
        except UnknownRunError as error:
            raise await unknown(engine, error) from None
    tell(f"Message {name} is sent to run {id}. It stays with the run until its code receives it.")
