"""`perdure limits`: what rate limits allow at the moment, and blocking them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from perdure.api.limits import LimitInfo, Limits
from perdure.cli.database import UrlOption, reader
from perdure.cli.lengths import length, moment_of
from perdure.cli.output import clock_time, duration, out, print_json, printable, tell
from perdure.cli.trouble import Trouble, did_you_mean

limits = typer.Typer(
    name="limits", invoke_without_command=True, help="List rate limits, block and unblock them."
)

NameArgument = Annotated[str, typer.Argument(help="The rate limit's name.")]


@limits.callback()
def ls(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
    url: UrlOption = None,
) -> None:
    """List rate limits, with what may begin right now and what waits; or block one."""
    if context.invoked_subcommand is not None:
        return

    async def look() -> list[LimitInfo]:
        async with reader(url) as engine:
            return await engine.limits.list()

    found = asyncio.run(look())
    if as_json:
        print_json([_facts(info) for info in found])
    elif found:
        out().print(_table(found, datetime.now(UTC)))
    else:
        tell("No step has been under a rate limit yet.")


@limits.command()
def block(
    name: NameArgument,
    for_: Annotated[
        str | None,
        typer.Option("--for", metavar="LENGTH", help="Such as 90s, 5m, 1h30m.", show_default=False),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DATE", help="When it is over.", show_default=False)
    ] = None,
    url: UrlOption = None,
) -> None:
    """Let nothing begin for a while that is under a rate limit, on any worker."""
    if (for_ is None) == (until is None):
        raise Trouble("Say for how long: either --for, such as --for 10m, or --until with a date.")
    after = None if for_ is None else length(for_, "--for")
    end = None if until is None else moment_of(until, "--until")

    async def do(known: Limits) -> LimitInfo | None:
        await known.block(name, after=after, until=end)
        return await known.get(name)

    info = _do(url, do)
    if info is None or info.blocked_until is None:
        tell(f"The rate limit {name} isn't blocked: that moment is over.")
    else:
        tell(f"The rate limit {name} is blocked until {clock_time(info.blocked_until)}.")


@limits.command()
def unblock(name: NameArgument, url: UrlOption = None) -> None:
    """End a block. Steps that wait for its end look again within 15 minutes."""
    _do(url, lambda known: _known(known, name, known.unblock))
    tell(f"The rate limit {name} isn't blocked any more.")


@limits.command()
def reset(name: NameArgument, url: UrlOption = None) -> None:
    """Forget what was used of a rate limit, who waits, and a block."""
    _do(url, lambda known: _known(known, name, known.reset))
    tell(f"The rate limit {name} begins anew.")


async def _known(known: Limits, name: str, action: Callable[[str], Awaitable[None]]) -> None:
    names = [info.name for info in await known.list()]
    if name not in names:
        raise Trouble(f"There is no rate limit {name!r}.{did_you_mean(name, names)}")
    await action(name)


def _do(url: str | None, action: Callable[[Limits], Awaitable[Any]]) -> Any:
    async def do() -> Any:
        async with reader(url) as engine:
            return await action(engine.limits)

    return asyncio.run(do())


def _facts(info: LimitInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "blocked_until": None if info.blocked_until is None else info.blocked_until.isoformat(),
        "next_at": info.next_at.isoformat(),
        "units": {
            name: {
                "limit": unit.rate.limit,
                "per": unit.rate.per,
                "burst": unit.rate.burst,
                "free": unit.free,
                "waiting": unit.waiting,
            }
            for name, unit in info.units.items()
        },
    }


def _table(found: list[LimitInfo], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("name", "unit", "rate", "free now", "waiting", "next", "blocked until"):
        table.add_column(title, no_wrap=True, justify="right" if title in ("free now", "waiting") else "left")
    for info in found:
        blocked = "" if info.blocked_until is None else clock_time(info.blocked_until)
        ahead = (info.next_at - now).total_seconds()
        following = "now" if ahead <= 0 else f"in {duration(ahead)}"
        first = [Text(printable(info.name)), Text(following), Text(blocked, style="yellow")]
        for name, unit in info.units.items() or [("", None)]:
            cells = [Text(""), Text(""), Text("")] if unit is None else [
                Text(f"{unit.rate.limit} per {duration(unit.rate.per)}"),
                Text(str(unit.free)),
                Text(str(unit.waiting)),
            ]  # fmt: skip
            table.add_row(first[0], Text(printable(name)), *cells, first[1], first[2])
            first = [Text(""), Text(""), Text("")]
    return table
