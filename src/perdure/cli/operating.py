"""`perdure pause`, `resume`, `retry` and `fork`: operating a run without ending it."""

from __future__ import annotations

import asyncio
import shlex
from typing import Annotated, Any

import msgspec
import typer

from perdure.api.engine import Engine
from perdure.api.forkplans import ForkPlan
from perdure.api.handle import Handle
from perdure.cli.control import IdArgument, ReasonOption
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.loading import load_module
from perdure.cli.output import out, printable, tell
from perdure.cli.trouble import Trouble
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


def fork(
    id: IdArgument,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="SEQ|STEP",
            help="Take nothing over from this event, or this step's end, on.",
            show_default=False,
        ),
    ] = None,
    edits: Annotated[
        list[str] | None,
        typer.Option(
            "--edit",
            metavar="STEP=JSON",
            help="Another result for a step; may be repeated.",
            show_default=False,
        ),
    ] = None,
    new_id: Annotated[str | None, typer.Option("--id", help="The new run's id.", show_default=False)] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Start nothing; tell what would be taken over, and what would run."),
    ] = False,
    module: Annotated[
        str | None,
        typer.Option(
            "--module",
            metavar="MODULE",
            help="Where the workflow's code is, to check edits and try it.",
            show_default=False,
        ),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Start a run of its own that goes on from what this one has done."""
    if module is not None:
        load_module(module)
    place: int | str | None = int(at) if at is not None and at.isdigit() else at
    asyncio.run(_fork(url, id, place, dict(_edit(edit) for edit in edits or ()), new_id, dry_run))


def _edit(text: str) -> tuple[str, Any]:
    step, sign, value = text.partition("=")
    if not sign or not step:
        raise Trouble(f"--edit {text!r} names no step: give STEP=JSON, such as --edit 'app.price#1=99'.")
    try:
        return step, msgspec.json.decode(value.encode())
    except msgspec.DecodeError as error:
        raise Trouble(
            f"--edit {text!r}: the part after = isn't JSON: {error}. Texts need double quotes."
        ) from None


async def _handle(engine: Engine, id: str) -> Handle[Any]:
    """The handle of a run that exists."""
    handle = engine.get(id)
    try:
        await handle.status()
    except UnknownRunError as error:
        raise await unknown(engine, error) from None
    return handle


async def _pause(url: str | None, id: str, reason: str | None) -> None:
    async with reader(url) as engine:
        handle = await _handle(engine, id)
        await handle.pause(reason)
        status = await handle.status()
    told = "is paused" if status == "paused" else "will be paused when the steps that execute have ended"
    tell(f"Run {id} {told}. Let it go on with: perdure resume {shlex.quote(id)}")


async def _resume(url: str | None, id: str) -> None:
    async with reader(url) as engine:
        await (await _handle(engine, id)).resume()
    tell(f"Run {id} goes on.")


async def _retry(url: str | None, id: str) -> None:
    async with reader(url) as engine:
        handle = await _handle(engine, id)
        await handle.retry()
        generation = (await handle.info()).generation
    tell(f"Run {id} goes on from where it failed, as generation {generation}: perdure show {shlex.quote(id)}")


async def _fork(
    url: str | None, id: str, at: int | str | None, edits: dict[str, Any], new_id: str | None, dry_run: bool
) -> None:
    async with reader(url) as engine:
        handle = await _handle(engine, id)
        if dry_run:
            _show(await handle.fork(at, edits=edits, id=new_id, dry_run=True))
            return
        made = await handle.fork(at, edits=edits, id=new_id)
    out().print(printable(made.id), soft_wrap=True)
    tell(f"Run {made.id} goes on from run {id}: perdure show {shlex.quote(made.id)}")


def _show(plan: ForkPlan) -> None:
    console = out()
    for step in plan.reused:
        note = "  (edited)" if step in plan.edited else ""
        console.print(f"taken over  {printable(step)}{note}", soft_wrap=True)
    for step in plan.runs:
        console.print(f"runs        {printable(step)}", soft_wrap=True)
    if not plan.exact:
        tell("This is what the history tells; with --module the workflow's code is tried.")
