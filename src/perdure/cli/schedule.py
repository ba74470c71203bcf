"""`perdure schedule ...`: make, look at, hold, move and remove what starts runs by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from perdure.api.engine import Engine
from perdure.api.scheduleinfo import ScheduleInfo
from perdure.api.schedules import ScheduleHandle
from perdure.cli.database import UrlOption, chosen, reader, url_again
from perdure.cli.inputs import call_with
from perdure.cli.lengths import length, moment_of
from perdure.cli.loading import load_workflow
from perdure.cli.output import ago, clock_time, duration, out, print_json, printable, tell
from perdure.cli.scope import bound
from perdure.cli.trouble import Trouble, did_you_mean
from perdure.core.schedules import Overlap
from perdure.errors import UnknownScheduleError

T = TypeVar("T")

schedule = typer.Typer(name="schedule", no_args_is_help=True, help="Start runs by the clock.")

NameArgument = Annotated[str, typer.Argument(help="The schedule's name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


@schedule.command()
def ls(as_json: JsonOption = False, url: UrlOption = None) -> None:
    """List schedules, by name."""

    async def look() -> list[ScheduleInfo]:
        async with reader(url) as engine:
            return await engine.schedules.list()

    found = asyncio.run(look())
    if as_json:
        print_json([_facts(info) for info in found])
    elif found:
        out().print(_table(found, datetime.now(UTC)))
    else:
        tell("There are no schedules yet: `perdure schedule create` makes one.")


@schedule.command()
def show(name: NameArgument, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Show a schedule: its next slots, the runs it started last, what overlap and downtime have cost."""
    info = _do(url, name, lambda found: found.info())
    if as_json:
        print_json(_facts(info))
    else:
        out().print(_whole(info, datetime.now(UTC)))


@schedule.command()
def create(
    name: NameArgument,
    target: Annotated[str, typer.Argument(metavar="MODULE:WORKFLOW", help="Such as app:report.")],
    input: Annotated[
        str | None,
        typer.Option("--input", "-i", metavar="JSON", help="As for `perdure run`.", show_default=False),
    ] = None,
    cron: Annotated[
        str | None, typer.Option("--cron", help='Such as "30 2 * * *".', show_default=False)
    ] = None,
    tz: Annotated[str, typer.Option("--tz", help="The time zone in which --cron is read.")] = "UTC",
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="LENGTH", help="Such as 90s, 5m, 1h30m.", show_default=False),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="DATE", help="Once, at this moment.", show_default=False)
    ] = None,
    jitter: Annotated[
        str, typer.Option("--jitter", metavar="LENGTH", help="Start up to so much later.")
    ] = "0s",
    overlap: Annotated[
        Overlap, typer.Option("--overlap", help="What happens while an earlier slot's run is going.")
    ] = Overlap.SKIP,
    catch_up: Annotated[
        str, typer.Option("--catch-up", metavar="LENGTH", help="How old slots are started that were missed.")
    ] = "1d",
    queue: Annotated[str, typer.Option("--queue", help="Where its runs go.")] = "default",
    paused: Annotated[bool, typer.Option("--paused", help="Begin with a pause.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Change one of this name that is there.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """Let a workflow be started by the clock. Give exactly one of --cron, --every and --at."""
    where = chosen(url)
    call = call_with(load_workflow(target), input)

    async def make() -> ScheduleInfo:
        async with Engine(where, worker=False, namespace=bound.get()) as engine:
            made = await engine.schedules.create(
                name,
                call,
                cron=cron,
                tz=tz,
                every=None if every is None else length(every, "--every"),
                at=None if at is None else moment_of(at, "--at"),
                jitter=length(jitter, "--jitter"),
                overlap=overlap.value,
                catch_up=length(catch_up, "--catch-up"),
                queue=queue,
                paused=paused,
                if_exists="update" if replace else "attach",
            )
            return await made.info()

    try:
        info = asyncio.run(make())
    finally:
        call.close()
    told = f"The next slot is {clock_time(info.next[0])}." if info.next else "It is paused." if paused else ""
    tell(f"Schedule {name} is there. {told} A worker has to be up then: perdure worker ...{url_again(where)}")


@schedule.command()
def pause(
    name: NameArgument,
    reason: Annotated[str | None, typer.Option("--reason", help="Why.", show_default=False)] = None,
    url: UrlOption = None,
) -> None:
    """Let it start nothing until it is resumed."""
    _do(url, name, lambda found: found.pause(reason))
    tell(f"Schedule {name} is paused. Runs that are going are left alone.")


@schedule.command()
def resume(name: NameArgument, url: UrlOption = None) -> None:
    """Go on after a pause, with the next slot."""
    _do(url, name, lambda found: found.resume())
    tell(f"Schedule {name} goes on.")


@schedule.command()
def trigger(name: NameArgument, url: UrlOption = None) -> None:
    """Start a run now, and print its id."""
    handle = _do(url, name, lambda found: found.trigger())
    typer.echo(handle.id)


@schedule.command()
def backfill(
    name: NameArgument,
    start: Annotated[str, typer.Argument(metavar="FROM", help="A date, or a length of time ago such as 7d.")],
    end: Annotated[str, typer.Argument(metavar="TO", help="The same.")] = "0s",
    url: UrlOption = None,
) -> None:
    """Start runs for slots of the past that had none."""
    first, last = moment_of(start, "FROM"), moment_of(end, "TO")
    count = _do(url, name, lambda found: found.backfill(first, last))
    tell(f"There are {count} slots in that time; those without a run get one.")


@schedule.command()
def delete(name: NameArgument, url: UrlOption = None) -> None:
    """Remove a schedule. Its runs stay, and go on."""
    _do(url, name, lambda found: found.delete())
    tell(f"Schedule {name} is gone.")


def _do(url: str | None, name: str, action: Callable[[ScheduleHandle], Awaitable[T]]) -> T:
    """Do something with a schedule, which must exist."""

    async def act() -> T:
        async with reader(url) as engine:
            try:
                return await action(engine.schedules.get(name))
            except UnknownScheduleError:
                known = [info.name for info in await engine.schedules.list()]
                near = did_you_mean(name, known) or " `perdure schedule ls` lists the schedules."
                raise Trouble(f"No schedule has the name {name!r} in {engine.url}.{near}") from None

    return asyncio.run(act())


# -- how it reads ---------------------------------------------------------------------------------------


def _facts(info: ScheduleInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "workflow": info.workflow,
        "queue": info.queue,
        "cron": info.cron,
        "tz": info.tz,
        "every": None if info.every is None else info.every.total_seconds(),
        "at": None if info.at is None else info.at.isoformat(),
        "jitter": info.jitter.total_seconds(),
        "overlap": info.overlap.value,
        "catch_up": info.catch_up.total_seconds(),
        "created_at": info.created_at.isoformat(),
        "paused": info.paused,
        "reason": info.reason,
        "next": [slot.isoformat() for slot in info.next],
        "recent": [
            {
                "id": run.id,
                "at": run.at.isoformat(),
                "slot": None if run.slot is None else run.slot.isoformat(),
            }
            for run in info.recent
        ],
        "running": list(info.running),
        "buffered": [slot.isoformat() for slot in info.buffered],
        "fired": info.fired,
        "skipped": info.skipped,
        "missed": info.missed,
    }


def _timing(info: ScheduleInfo) -> str:
    if info.cron is not None:
        return f"{printable(info.cron)} ({printable(info.tz)})"
    if info.every is not None:
        return f"every {duration(info.every.total_seconds())}"
    return f"once, {clock_time(info.at)}" if info.at is not None else ""


def _standing(info: ScheduleInfo, now: datetime) -> Text:
    if info.paused:
        return Text(f"paused{f': {printable(info.reason)}' if info.reason else ''}", style="yellow")
    return Text(ago(info.next[0], now)) if info.next else Text("no slot is left", style="dim")


def _table(found: list[ScheduleInfo], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("name", "workflow", "when", "next", "fired", "skipped", "missed"):
        table.add_column(title, justify="right" if title in ("fired", "skipped", "missed") else "left")
    for info in found:
        counts = (info.fired, info.skipped, info.missed)
        table.add_row(
            Text(printable(info.name)),
            Text(printable(info.workflow)),
            Text(_timing(info)),
            _standing(info, now),
            *(Text(str(count)) for count in counts),
        )
    return table


def _whole(info: ScheduleInfo, now: datetime) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("schedule", Text(printable(info.name), style="bold"))
    grid.add_row("workflow", Text(printable(info.workflow)))
    grid.add_row("when", Text(_timing(info)))
    if info.jitter:
        grid.add_row("jitter", Text(f"up to {duration(info.jitter.total_seconds())}"))
    grid.add_row("overlap", Text(info.overlap.value))
    grid.add_row("catch-up", Text(duration(info.catch_up.total_seconds())))
    grid.add_row("queue", Text(printable(info.queue)))
    if not info.next:
        grid.add_row("next", _standing(info, now))
    for slot in info.next:
        grid.add_row("next" if slot == info.next[0] else "", Text(f"{clock_time(slot)} ({ago(slot, now)})"))
    if info.buffered:
        grid.add_row("buffered", Text(", ".join(map(clock_time, info.buffered[:5]))))
    grid.add_row("slots", Text(f"{info.fired} fired, {info.skipped} skipped, {info.missed} missed"))
    for run in info.recent:
        grid.add_row(
            "runs" if run is info.recent[0] else "", Text(f"{printable(run.id)}  {ago(run.at, now)}")
        )
    return grid
