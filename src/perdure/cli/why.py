"""`perdure why`: why a run doesn't go on, down the chain of what it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from perdure.api.stuck import StuckPage
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.output import ago, clock_time, duration, moment, out, print_json, printable
from perdure.core.why import Cause, Why
from perdure.errors import UnknownRunError

#: Runs of a group that are named.
_NAMED = 3


def why(
    id: Annotated[str | None, typer.Argument(help="The run's id; without one: all that don't go on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
    url: UrlOption = None,
) -> None:
    """Explain why a run doesn't go on, since when, and what to do; or all that don't, grouped by cause."""
    if id is None:
        page = asyncio.run(_look_at_all(url))
        if as_json:
            print_json(msgspec.to_builtins(page))
            return
        for line in stuck_lines(page, datetime.now(UTC)):
            out().print(line, soft_wrap=True)
        return
    found = asyncio.run(_look(url, id))
    if as_json:
        print_json(why_facts(found))
        return
    console = out()
    for line in why_lines(found, datetime.now(UTC)):
        console.print(line, soft_wrap=True)


async def _look(url: str | None, id: str) -> Why:
    async with reader(url) as engine:
        try:
            return await engine.get(id).why()
        except UnknownRunError as error:
            raise await unknown(engine, error) from None


async def _look_at_all(url: str | None) -> StuckPage:
    async with reader(url) as engine:
        return await engine.stuck()


def stuck_lines(page: StuckPage, now: datetime) -> Iterator[str]:
    """What doesn't go on, for people."""
    if not page.groups:
        yield "Nothing is blocked, paused, held back or slow."
    for group in page.groups:
        since = f", since {duration((now - moment(group.since)).total_seconds())}" if group.since else ""
        yield f"{group.count}{'+' if group.more else ''}  {group.title}{since}"
        for line in printable(group.what).splitlines():
            yield f"    {line}"
        if group.runs:
            named = ", ".join(printable(held.id) for held in group.runs[:_NAMED])
            yield f"    runs: {named}" + (", ..." if group.count > _NAMED else "")
        if group.todo:
            yield f"    what to do: {printable(group.todo)}"
    if page.next is not None:
        yield f"({page.looked:,} of {page.stuck:,} blocked and paused runs were looked at.)"


def why_facts(why: Why) -> dict[str, Any]:
    """An explanation as plain data."""
    return {
        "run": why.run,
        "workflow": why.workflow,
        "status": why.status.value,
        "causes": [
            {
                **{name: value for name, value in msgspec.structs.asdict(cause).items() if name != "child"},
                "since": None if cause.since is None else moment(cause.since).isoformat(),
                "until": None if cause.until is None else moment(cause.until).isoformat(),
                "child": None if cause.child is None else why_facts(cause.child),
            }
            for cause in why.causes
        ],
    }


def why_lines(why: Why, now: datetime, depth: int = 0) -> Iterator[str]:
    """An explanation for people, children indented under what waits for them."""
    indent = "    " * depth
    yield f"{indent}{printable(why.run)} ({printable(why.workflow)}) is {why.status}"
    for cause in why.causes:
        first, *rest = printable(cause.what).splitlines() or [""]
        yield f"{indent}  - {first}{_when(cause, now)}"
        for line in rest:
            yield f"{indent}    {line}"
        if cause.child is not None:
            yield from why_lines(cause.child, now, depth + 1)
        elif cause.todo:
            yield f"{indent}    what to do: {printable(cause.todo)}"


def _when(cause: Cause, now: datetime) -> str:
    told: list[str] = []
    if cause.since is not None:
        told.append(f"since {duration(max(0.0, (now - moment(cause.since)).total_seconds()))}")
    if cause.until is not None:
        told.append(f"until {clock_time(moment(cause.until))} ({ago(moment(cause.until), now)})")
    return f", {', '.join(told)}" if told else ""
