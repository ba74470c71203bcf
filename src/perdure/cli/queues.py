"""`perdure queues`: what queues hold, and pausing, draining and limiting them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from perdure.api.queues import QueueInfo, Queues
from perdure.cli.database import UrlOption, reader
from perdure.cli.lengths import length
from perdure.cli.output import ago, clock_time, duration, out, print_json, printable, tell
from perdure.cli.trouble import Trouble, did_you_mean
from perdure.core.rates import Rate
from perdure.errors import ConfigurationError

R = TypeVar("R")

queues = typer.Typer(
    name="queues", invoke_without_command=True, help="List queues; pause, drain and limit them."
)

NameArgument = Annotated[str, typer.Argument(help="The queue's name.")]


def _limit(name: str, help: str) -> Any:
    return typer.Option(name, metavar="N", help=f"{help}, or 'none'.", show_default=False)


@queues.callback()
def ls(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
    url: UrlOption = None,
) -> None:
    """List queues: how many runs wait, how many go on, what limits them; or steer one."""
    if context.invoked_subcommand is not None:
        return
    found = _do(url, lambda known: known.list())
    if as_json:
        print_json([_facts(info) for info in found])
    elif found:
        out().print(_table(found, datetime.now(UTC)))
    else:
        tell("There is no queue: no worker is running, no run is there, and no code has defined one.")


@queues.command()
def pause(name: NameArgument, url: UrlOption = None) -> None:
    """Hold a queue: its runs stay where they are, but for those that workers have in memory."""
    _steer(url, name, lambda known: known.pause(name))
    tell(f"The queue {name} is paused. `perdure queues resume {name}` lets it go on.")


@queues.command()
def resume(name: NameArgument, url: UrlOption = None) -> None:
    """Let a queue go on that was paused or drained."""
    _steer(url, name, lambda known: known.resume(name))
    tell(f"The queue {name} goes on.")


@queues.command()
def drain(
    name: NameArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Return when no run is left that has begun.")] = False,
    url: UrlOption = None,
) -> None:
    """Let nothing begin in a queue; what has begun goes on to its end."""
    _steer(url, name, lambda known: known.drain(name, wait=wait))
    done = "is drained: no run is left that has begun" if wait else "drains: nothing begins there"
    tell(f"The queue {name} {done}. `perdure queues resume {name}` lets it go on.")


@queues.command("set")
def set_(
    name: NameArgument,
    concurrency: Annotated[str | None, _limit("--concurrency", "Runs that hold a slot at once")] = None,
    per_worker: Annotated[str | None, _limit("--per-worker", "Runs that one worker has at once")] = None,
    per_key: Annotated[str | None, _limit("--per-key", "Runs of one key that hold a slot at once")] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            metavar="N/LENGTH",
            help="Runs that begin, such as 100/1m, or 'none'.",
            show_default=False,
        ),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Give a queue other limits than its code does. They hold until `perdure queues reset`."""
    numbers = {"concurrency": concurrency, "per_worker": per_worker, "per_key": per_key}
    limits: dict[str, Any] = {
        limit: _number(text, limit) for limit, text in numbers.items() if text is not None
    }
    if rate is not None:
        limits["rate"] = _rate(rate)
    if not limits:
        raise Trouble("Say which limit, such as --concurrency 20.")
    info = _steer(url, name, lambda known: known.set(name, **limits))
    tell(f"The queue {name} has {_limits(info)} from now on. `perdure queues reset {name}` takes that back.")


@queues.command()
def reset(name: NameArgument, url: UrlOption = None) -> None:
    """Let the limits hold again that code gives to a queue."""
    info = _steer(url, name, lambda known: known.reset(name))
    tell(f"The queue {name} has {_limits(info)}, as its code says.")


def _number(text: str, limit: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal():
        raise Trouble(f"--{limit.replace('_', '-')} {text!r} is no number: give one, or 'none'.")
    return int(text)


def _rate(text: str) -> Rate | None:
    if text == "none":
        return None
    number, slash, per = text.partition("/")
    if not slash or not number.isdecimal():
        raise Trouble(f"--rate {text!r} is no rate: give a number and a length of time, such as 100/1m.")
    try:
        return Rate(int(number), length(per, "--rate").total_seconds())
    except ValueError as error:
        raise Trouble(f"--rate {text!r} is no rate: {error}") from None


def _steer(url: str | None, name: str, action: Callable[[Queues], Awaitable[R]]) -> R:
    """Do something with a queue that is known."""

    async def do(known: Queues) -> R:
        names = [info.name for info in await known.list()]
        if name not in names:
            near = did_you_mean(name, names) or " `perdure queues` lists those that are known."
            raise Trouble(f"There is no queue {name!r}.{near}")
        try:
            return await action(known)
        except ConfigurationError as error:
            raise Trouble(str(error)) from None

    return _do(url, do)


def _do(url: str | None, action: Callable[[Queues], Awaitable[R]]) -> R:
    async def do() -> R:
        async with reader(url) as engine:
            return await action(engine.queues)

    return asyncio.run(do())


def _limits(info: QueueInfo) -> str:
    """The limits of a queue in a line."""
    told = [
        f"{word} {value}"
        for word, value in (
            ("concurrency", info.concurrency),
            ("per worker", info.per_worker),
            ("rate", None if info.rate is None else f"{info.rate.limit} per {duration(info.rate.per)}"),
            ("per key", info.per_key),
        )
        if value is not None
    ]
    if info.priority:
        told.append("priorities")
    if info.fairness:
        told.append(f"fair by {info.fairness}")
    return ", ".join(told) or "no limits"


def _facts(info: QueueInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "queued": info.queued,
        "delayed": info.delayed,
        "running": info.running,
        "oldest": None if info.oldest is None else info.oldest.isoformat(),
        "concurrency": info.concurrency,
        "per_worker": info.per_worker,
        "rate": None if info.rate is None else msgspec.to_builtins(info.rate),
        "per_key": info.per_key,
        "priority": info.priority,
        "fairness": info.fairness,
        "overridden": list(info.overridden),
        "next_at": None if info.next_at is None else info.next_at.isoformat(),
        "paused": info.paused,
        "draining": info.draining,
        "workers": list(info.workers),
    }


def _table(found: list[QueueInfo], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("name", "queued", "delayed", "running", "oldest", "limits", "next", "state", "workers"):
        table.add_column(title, no_wrap=title != "limits")
    for info in found:
        state = "paused" if info.paused else "drains" if info.draining else ""
        limits = _limits(info) if _limits(info) != "no limits" else ""
        cells = (
            printable(info.name),
            str(info.queued),
            str(info.delayed),
            str(info.running),
            "" if info.oldest is None else ago(info.oldest, now),
            f"{limits}{' (set by hand)' if info.overridden else ''}",
            "" if info.next_at is None else clock_time(info.next_at),
            state,
            str(len(info.workers)),
        )
        table.add_row(*map(Text, cells))
    return table
