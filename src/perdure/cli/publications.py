"""`perdure publish`, `publications`, `subscriptions`: events, and who wants them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from perdure.api.publications import PublicationInfo, SubscriptionInfo, WaitingInfo
from perdure.cli.database import UrlOption, reader
from perdure.cli.inputs import json_value
from perdure.cli.output import ago, duration, one_line, out, print_json, printable, tell
from perdure.cli.trouble import Trouble, did_you_mean
from perdure.core.where import told, where_text

NameArgument = Annotated[str, typer.Argument(help="The event's name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="As a JSON array.")]

subscriptions = typer.Typer(
    name="subscriptions",
    invoke_without_command=True,
    help="List who wants which events, and end subscriptions.",
)


def publish(
    name: NameArgument,
    payload: Annotated[
        str,
        typer.Argument(metavar="[JSON]", help="Its payload, as JSON; null by default.", show_default=False),
    ] = "null",
    key: Annotated[
        str | None,
        typer.Option("--key", help="A second event with this name and key is ignored.", show_default=False),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Publish an event: it starts or resumes every run that subscribed."""
    if asyncio.run(_publish(url, name, json_value(payload), key)):
        tell(f"The event {name} is published. Workers bring it to those who want it.")
    else:
        tell(f"An event {name} with the key {key} was published before: nothing was done.")


async def _publish(url: str | None, name: str, payload: Any, key: str | None) -> bool:
    async with reader(url) as engine:
        return await engine.publish(name, payload, key=key)


def publications(
    name: Annotated[
        str | None, typer.Argument(help="Only events with this name.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 50,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """List published events that are still kept, newest first."""

    async def look() -> list[PublicationInfo]:
        async with reader(url) as engine:
            return [info async for info in engine.publications(name, limit=limit)]

    found = asyncio.run(look())
    if as_json:
        print_json([_facts(info) for info in found])
    elif found:
        out().print(_published(found))
    else:
        tell("No event is kept." if name is None else f"No event {name} is kept.")


def _facts(info: PublicationInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "key": info.key,
        "payload": info.payload,
        "at": info.at.isoformat(),
        "number": info.number,
        "settled": info.settled,
    }


def _published(found: list[PublicationInfo]) -> Table:
    now = datetime.now(UTC)
    table = Table(box=None, pad_edge=False)
    for title in ("name", "key", "published", "state", "payload"):
        table.add_column(title, no_wrap=True)
    for info in found:
        state = (
            Text("with all who want it", style="green") if info.settled else Text("under way", style="yellow")
        )
        payload = one_line(json.dumps(info.payload, ensure_ascii=False))
        cells = (printable(info.name), printable(info.key or ""), ago(info.at, now), state, payload)
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    return table


@subscriptions.callback()
def ls(context: typer.Context, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """List the workflows that events start, and the events that runs wait for; or end a subscription."""
    if context.invoked_subcommand is not None:
        return

    async def look() -> tuple[list[SubscriptionInfo], list[WaitingInfo]]:
        async with reader(url) as engine:
            return await engine.subscriptions(), await engine.awaited()

    found, awaited = asyncio.run(look())
    if as_json:
        print_json([*map(_subscribed, found), *map(_awaited, awaited)])
    elif found or awaited:
        out().print(_wanted(found, awaited))
    else:
        tell("Nobody waits for an event, and no workflow is started by one.")


@subscriptions.command()
def remove(
    workflow: Annotated[str, typer.Argument(help="The workflow that isn't to be started any more.")],
    url: UrlOption = None,
) -> None:
    """End the subscription of a workflow. A worker whose code has it begins it anew when it starts."""

    async def end() -> list[str] | None:
        async with reader(url) as engine:
            if await engine.unsubscribe(workflow):
                return None
            return [info.workflow for info in await engine.subscriptions()]

    others = asyncio.run(end())
    if others is not None:
        raise Trouble(f"No event starts the workflow {workflow!r}.{did_you_mean(workflow, others)}")
    tell(f"The workflow {workflow} isn't started by events any more. Its runs go on.")


def _subscribed(info: SubscriptionInfo) -> dict[str, Any]:
    return {
        "event": info.event,
        "where": dict(info.where),
        "workflow": info.workflow,
        "queue": info.queue,
        "since": info.since.isoformat(),
        "debounce": info.debounce,
        "batch": info.batch,
        "within": info.within,
        "by": info.by,
    }


def _awaited(info: WaitingInfo) -> dict[str, Any]:
    return {"event": info.event, "where": dict(info.where), "runs": info.runs}


def _wanted(found: list[SubscriptionInfo], awaited: list[WaitingInfo]) -> Table:
    now = datetime.now(UTC)
    table = Table(box=None, pad_edge=False)
    for title in ("event", "where", "who", "how", "since"):
        table.add_column(title, no_wrap=True)
    for info in found:
        who = f"starts {info.workflow} in queue {info.queue}"
        table.add_row(*map(Text, _cells(info.event, dict(info.where), who, _how(info), ago(info.since, now))))
    for wait in awaited:
        who = "1 run waits" if wait.runs == 1 else f"{wait.runs} runs wait"
        table.add_row(*map(Text, _cells(wait.event, dict(wait.where), who)))
    return table


def _cells(event: str, where: dict[str, Any], who: str, how: str = "", since: str = "") -> tuple[str, ...]:
    return printable(event), one_line(told(where_text(where))), printable(who), how, since


def _how(info: SubscriptionInfo) -> str:
    each = "" if info.by is None else f", by {printable(info.by)}"
    if info.debounce is not None:
        return f"after {duration(info.debounce)} of quiet{each}"
    if info.batch is not None:
        return f"{info.batch} at a time, or after {duration(info.within or 0.0)}{each}"
    return "each"
