"""`perdure blobs`: removes large events' files that no history refers to any more."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated

import typer

from perdure.cli.database import UrlOption, reader
from perdure.cli.lengths import length
from perdure.cli.output import print_json, tell
from perdure.cli.trouble import Trouble
from perdure.storage.blobs.collecting import Collected
from perdure.storage.blobs.config import ENVIRONMENT, named_by_environment


def blobs(
    place: Annotated[
        str | None,
        typer.Option(
            "--place", metavar="URL", help=f"Where they are; by default {ENVIRONMENT}.", show_default=False
        ),
    ] = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="How old they have to be: 1d, 2h, 0s.")
    ] = "1d",
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
    url: UrlOption = None,
) -> None:
    """Remove blobs that no event refers to, as workers do now and then, and count the others."""
    seconds = length(grace, "--grace").total_seconds()
    if place is not None:
        os.environ[ENVIRONMENT] = place
    if named_by_environment() is None:
        raise Trouble(
            f"Where are the blobs? Give --place, or set {ENVIRONMENT}, to what the engines have as blobs=."
        )
    found = asyncio.run(_collect(url, seconds))
    if as_json:
        print_json({"removed": found.removed, "bytes": found.bytes, "kept": found.kept, "young": found.young})
        return
    tell(
        f"{found.removed} removed ({found.bytes:,} bytes); {found.kept} are needed, and {found.young} are younger "
        f"than {grace}."
    )


async def _collect(url: str | None, grace: float) -> Collected:
    async with reader(url) as engine:
        return await engine.collect_blobs(grace=grace)
