"""`perdure logs`: what the steps of a run have logged."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from typing import Annotated

import typer
from rich.text import Text

from perdure.api.steplogs import LogLine
from perdure.cli.control import IdArgument
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.output import out, printable, tell
from perdure.errors import UnknownRunError

_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red", "DEBUG": "dim"}


def logs(
    id: IdArgument,
    step: Annotated[
        str | None, typer.Option("--step", help="Only lines of this step.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    url: UrlOption = None,
) -> None:
    """Print what a run's steps have logged, if a `perdure.StepLogHandler` keeps it."""
    if not asyncio.run(_read(url, id, step, follow=follow, as_json=as_json)):
        tell(
            f"No lines of run {id} are kept. In the worker's code: "
            "logging.getLogger().addHandler(perdure.StepLogHandler())"
        )


async def _read(url: str | None, id: str, step: str | None, *, follow: bool, as_json: bool) -> int:
    count = 0
    console = out()
    async with reader(url) as engine:
        try:
            async for line in engine.get(id).step_logs(follow=follow):
                if step is not None and step != line.step:
                    continue
                count += 1
                if as_json:
                    facts = {**dataclasses.asdict(line), "at": line.at.isoformat()}
                    sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")
                    sys.stdout.flush()
                else:
                    console.print(_told(line), soft_wrap=True)
        except UnknownRunError as error:
            raise await unknown(engine, error) from None
    return count


def _told(line: LogLine) -> Text:
    text = Text(f"{line.at.astimezone():%H:%M:%S}.{line.at.microsecond // 1000:03} ", style="dim")
    text.append(f"{line.level:8}", style=_STYLES.get(line.level, ""))
    attempt = f" (attempt {line.attempt})" if line.attempt > 1 else ""
    text.append(f"{printable(line.step)}{attempt} ", style="cyan")
    text.append(printable(line.text))
    if line.error:
        text.append("\n" + printable(line.error.rstrip()), style="dim")
    return text
