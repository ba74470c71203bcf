"""`perdure debug`: replays a run under a debugger. Steps are answered from its history, and nothing is written."""

from __future__ import annotations

import asyncio
from typing import Annotated, NamedTuple

import msgspec
import typer

from perdure.cli.database import UrlOption, chosen, reader, unknown
from perdure.cli.loading import load_module
from perdure.cli.trouble import Trouble
from perdure.errors import UnknownRunError
from perdure.runtime.definitions import is_entity, workflow_named
from perdure.storage.records import History, RunRow


class Recorded(NamedTuple):
    """A run as it is in the database."""

    row: RunRow
    history: History


def debug(
    id: Annotated[str, typer.Argument(help="The run's id.", metavar="RUN")],
    module: Annotated[
        str | None,
        typer.Option("--module", "-m", help="The module that defines the workflow.", show_default=False),
    ] = None,
    at: Annotated[
        int | None,
        typer.Option("--at", help="Stop at the first line that runs after this event.", metavar="SEQ", min=1),
    ] = None,
    breaks: Annotated[
        list[str] | None,
        typer.Option("--break", "-b", help="Stop there; may be repeated.", metavar="FILE:LINE"),
    ] = None,
    generation: Annotated[
        int | None, typer.Option("--generation", help="An earlier run of this id, counted from 1.", min=1)
    ] = None,
    url: UrlOption = None,
) -> None:
    """Replay a run under pdb: step through its code, with all answers from its history. Nothing is written.

    It stops at the first line, or with --at and --break only there; `breakpoint()` in the code stops it, too. It ends
    with a prompt where the code diverges from the history, where the run failed, or where it waits.
    """
    chosen(url)
    if module is not None:
        load_module(module)
    recorded = asyncio.run(_load(url, id, generation))
    definition = workflow_named(recorded.row.workflow)
    if definition is None:
        raise Trouble(
            f"Run {id!r} is one of workflow {recorded.row.workflow!r}, which isn't defined here: name the module that "
            "defines it, as in --module app."
        )
    if at is not None and at > len(recorded.history.events):
        raise Trouble(
            f"Run {id!r} has {len(recorded.history.events)} events: --at {at} comes after all of them."
        )
    from perdure.cli.debugreplay import Replay  # with Python's debugger, which other commands don't need

    Replay(recorded.row, recorded.history, definition, at).go(breaks or [])


async def _load(url: str | None, id: str, generation: int | None) -> Recorded:
    async with reader(url) as engine:
        connection = engine._open()
        try:
            row = await connection.generation(id, generation)
        except UnknownRunError as error:
            if generation is not None and "generation" in str(error):
                raise
            raise await unknown(engine, error) from None
        (history,) = await connection.store.load([row.run])
        if is_entity(row.workflow):  # what is loaded of one begins at its last checkpoint
            events: list[bytes] = []
            while page := await connection.store.events(row.run, after=len(events)):
                events += [data for _, data in page]
            history = msgspec.structs.replace(history, events=events)
    if history.damage is not None:
        raise Trouble(
            f"The history of run {id!r} isn't what was recorded: {history.damage.text}. `perdure check` tells more."
        )
    return Recorded(row, history)
