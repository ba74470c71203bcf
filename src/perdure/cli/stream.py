"""`perdure stream`: what a run puts into one of its streams, as it comes."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Annotated, Any

import typer

from perdure.api.streams import StreamItem
from perdure.cli.control import IdArgument
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.output import tell
from perdure.errors import UnknownRunError


def stream(
    id: IdArgument,
    name: Annotated[str, typer.Argument(help="The stream's name.")],
    after: Annotated[int, typer.Option("--after", min=0, help="Begin behind the item with this offset.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    superseded: Annotated[
        bool, typer.Option("--superseded", help="With the items of failed attempts, which don't count.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With offset and step, one JSON object a line.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """Print the items of a run's stream, one a line."""
    read = asyncio.run(_read(url, id, name, after, follow=follow, superseded=superseded, as_json=as_json))
    if not read and not after:
        tell(f"There is nothing in the stream {name!r} of run {id}. perdure show {id} tells what it does.")


async def _read(
    url: str | None, id: str, name: str, after: int, *, follow: bool, superseded: bool, as_json: bool
) -> int:
    count = 0
    async with reader(url) as engine:
        try:
            items = engine.get(id).stream(name, after, superseded=superseded, follow=follow)
            async for item in items:
                count += 1
                sys.stdout.write((_facts(item) if as_json else _line(item)) + "\n")
                sys.stdout.flush()
        except UnknownRunError as error:
            raise await unknown(engine, error) from None
    return count


def _line(item: StreamItem[Any]) -> str:
    if item.kind == "superseded":
        return f"-- void: what step {item.step} has put out so far, its attempt {item.attempt} failed --"
    return json.dumps(item.value, ensure_ascii=False)


def _facts(item: StreamItem[Any]) -> str:
    facts = {
        "offset": item.offset,
        "kind": item.kind,
        "value": item.value,
        "step": item.step,
        "attempt": item.attempt,
        "at": item.at.isoformat(),
    }
    return json.dumps(facts if item.since is None else {**facts, "since": item.since}, ensure_ascii=False)
