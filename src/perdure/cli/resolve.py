"""`perdure resolve`: a person decides about a step that waits for one."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from perdure.cli.control import IdArgument
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.output import tell
from perdure.cli.trouble import Trouble
from perdure.cli.who import login
from perdure.core.timeline import wait_named
from perdure.errors import UnknownRunError


def resolve(
    id: IdArgument,
    step: Annotated[str, typer.Argument(help="The step's id, as `perdure show` names it, or its name.")],
    message: Annotated[str | None, typer.Argument(help="With --fail: what it fails with.")] = None,
    result: Annotated[
        str | None, typer.Option("--result", help="It is done, with this JSON result.", show_default=False)
    ] = None,
    rerun: Annotated[bool, typer.Option("--rerun", help="Run it again, with fresh attempts.")] = False,
    fail: Annotated[bool, typer.Option("--fail", help="Let it fail in the workflow.")] = False,
    by: Annotated[
        str | None, typer.Option("--by", help="Who decides; your login name by default.", show_default=False)
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; its history keeps it.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="MOMENT",
            help="Only if it waits since then, as its reason says.",
            show_default=False,
        ),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Decide how a step goes on that waits for a person."""
    if (result is not None) + rerun + fail != 1:
        raise Trouble("Give one of --result JSON, --rerun and --fail [MESSAGE].")
    if message is not None and not fail:
        raise Trouble(f"A message goes with --fail only; don't know what to do with {message!r}.")
    given: dict[str, Any] = {"rerun": True} if rerun else {"fail": message or True}
    if result is not None:
        given = {"result": _parsed(result)}
    given |= {"by": by or login(), "why": reason, "since": None if since is None else _moment(since)}
    asyncio.run(_resolve(url, id, step, given))
    told = "is to be run again" if rerun else "counts as failed" if fail else "counts as done"
    tell(f"Step {step} of run {id} {told}. A worker takes the run on: perdure show {id}")


async def _resolve(url: str | None, id: str, step: str, given: dict[str, Any]) -> None:
    async with reader(url) as engine:
        try:
            await engine.get(id).resolve(step, **given)
        except UnknownRunError as error:
            raise await unknown(engine, error) from None


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Trouble(
            f"--since {text!r} is no moment: give the one that the reason names (perdure show), such as "
            f"{wait_named(0.0)}."
        ) from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        hint = "" if text.startswith(('"', "{", "[")) else f" A text is given as '\"{text}\"'."
        raise Trouble(f"--result isn't JSON: {error}.{hint}") from None
