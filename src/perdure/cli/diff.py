"""`perdure diff`: two runs side by side."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perdure.api.comparing import Difference, RunDiff, RunSide, StepDiff, StepSide
from perdure.api.spending import Usage
from perdure.cli.cost import money, spent, usage_facts
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.output import STATUS_STYLES, duration, one_line, out, print_json, printable
from perdure.errors import UnknownRunError

_SIGNS = {"same": ("=", "dim"), "changed": ("~", "yellow"), "only_a": ("-", "red"), "only_b": ("+", "green")}
_SHOWN = 6  #: differences of one value, unless all are asked for


def diff(
    a: Annotated[str, typer.Argument(help="A run's id.", show_default=False)],
    b: Annotated[str, typer.Argument(help="Another one's: of a fork of it, say.", show_default=False)],
    whole: Annotated[bool, typer.Option("--all", help="Also what is the same.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Whole values.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
    url: UrlOption = None,
) -> None:
    """Show two runs side by side: their steps, results and costs."""
    told = asyncio.run(_look(url, a, b))
    if as_json:
        print_json(_facts(told))
        return
    console = out()
    console.print(_header(told))
    console.print()
    for step in told.steps:
        if whole or step.verdict != "same":
            _print_step(console, step, full=full)
    if not whole and told.same:
        reused = sum(step.b is not None and step.b.reused for step in told.same)
        taken = f", {reused} of them taken over" if reused else ""
        console.print(Text(f"= {len(told.same)} the same{taken}", style="dim"))
    _print_differences(console, "input", told.input, full=full)
    _print_differences(console, "result", told.result, full=full)


async def _look(url: str | None, a: str, b: str) -> RunDiff:
    async with reader(url) as engine:
        try:
            return await engine.diff(a, b)
        except UnknownRunError as error:
            raise await unknown(engine, error) from None


def _header(told: RunDiff) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    for _ in range(2):
        grid.add_column(overflow="fold")
    a, b = told.a, told.b
    grid.add_row("run", Text(printable(a.id), style="bold"), Text(printable(b.id), style="bold"))
    grid.add_row("workflow", Text(printable(a.workflow)), Text(printable(b.workflow)))
    grid.add_row("status", *(Text(side.status, style=STATUS_STYLES[side.status]) for side in (a, b)))
    grid.add_row("took", Text(duration(a.seconds)), Text(duration(b.seconds)))
    if a.usage != Usage() or b.usage != Usage():
        grid.add_row("spent", Text(spent(a.usage)), Text(spent(b.usage)))
    if a.error or b.error:
        grid.add_row("error", *(Text(one_line(side.error or "", 200)) for side in (a, b)))
    return grid


def _print_step(console: Console, step: StepDiff, *, full: bool) -> None:
    sign, style = _SIGNS[step.verdict]
    side = step.a or step.b
    assert side is not None
    id = side.id
    if step.a is not None and step.b is not None and step.a.id != step.b.id:
        id = f"{step.a.id} → {step.b.id}"
    what = "" if step.kind == "step" else f"{step.kind} {printable(step.name)} "
    line = Text(f"{sign} ", style=style).append(f"{what}{printable(id)}", style="default")
    marks = " → ".join(dict.fromkeys(_standing(one) for one in (step.a, step.b) if one is not None))
    console.print(line.append(f"  {marks}", style="dim"), soft_wrap=True)
    if step.verdict == "changed":
        _print_differences(console, "input", step.input, full=full, indent="    ")
        if "input" in step.changed and not step.input:
            console.print("    input differs, and isn't kept in the history", style="dim")
        _print_differences(console, "result", step.result, full=full, indent="    ")
        if "result" in step.changed and not step.result and step.a and step.b:
            _print_pair(console, "    result", _outcome(step.a), _outcome(step.b), full=full)
    elif step.verdict != "same":
        limit = None if full else 140
        if side.input is not None:
            console.print(Text(f"    input   {one_line(_text(side.input), limit)}"), soft_wrap=True)
        console.print(Text(f"    result  {one_line(_outcome(side), limit)}"), soft_wrap=True)


def _standing(side: StepSide) -> str:
    told = side.outcome
    if side.reused:
        told += ", taken over"
    if side.stubbed:
        told += ", stubbed"
    if side.attempts > 1:
        told += f", {side.attempts} attempts"
    if side.seconds is not None:
        told += f", {duration(side.seconds)}"
    if side.usage.calls:
        told += f", {side.usage.total_tokens:,} tokens, {money(side.usage.cost)} USD"
    return told


def _outcome(side: StepSide) -> str:
    if side.error is not None:
        return side.error
    return side.outcome if side.result is None and side.outcome != "completed" else _text(side.result)


def _print_differences(
    console: Console, what: str, found: Sequence[Difference], *, full: bool, indent: str = ""
) -> None:
    for difference in found if full else found[:_SHOWN]:
        name = f"{indent}{what}" + (f" {printable(difference.path)}" if difference.path else "")
        a = "(nothing)" if difference.only == "b" else difference.a
        b = "(nothing)" if difference.only == "a" else difference.b
        _print_pair(console, name, a, b, full=full)
    if not full and len(found) > _SHOWN:
        console.print(f"{indent}{what}: and {len(found) - _SHOWN} more places; --full shows all", style="dim")


def _print_pair(console: Console, name: str, a: Any, b: Any, *, full: bool) -> None:
    if isinstance(a, str) and isinstance(b, str) and ("\n" in a or "\n" in b):
        console.print(Text(f"{name}:"))
        for line in _lines(a, b):
            style = {"+": "green", "-": "red"}.get(line[:1], "dim")
            console.print(Text(f"      {one_line(line, None if full else 140)}", style=style), soft_wrap=True)
        return
    limit = None if full else 140
    console.print(Text(f"{name}: ").append(one_line(_text(a), limit), style="red"), soft_wrap=True)
    console.print(
        Text(" " * (len(name) + 2)).append(one_line(_text(b), limit), style="green"), soft_wrap=True
    )


def _lines(a: str, b: str) -> Iterator[str]:
    """Lines that differ, with what stands around them."""
    for number, line in enumerate(difflib.unified_diff(a.splitlines(), b.splitlines(), lineterm="", n=1)):
        if number >= 2 and not line.startswith("@@"):  # the first two name files
            yield line


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _facts(told: RunDiff) -> dict[str, Any]:
    return {
        "a": _side(told.a),
        "b": _side(told.b),
        "steps": [
            {
                **asdict(step),
                "a": None if step.a is None else _step_side(step.a),
                "b": None if step.b is None else _step_side(step.b),
            }
            for step in told.steps
        ],
        "input": [asdict(difference) for difference in told.input],
        "result": [asdict(difference) for difference in told.result],
    }


def _side(side: RunSide) -> dict[str, Any]:
    return {**asdict(side), "status": side.status.value, "usage": usage_facts(side.usage)}


def _step_side(side: StepSide) -> dict[str, Any]:
    return {**asdict(side), "usage": usage_facts(side.usage)}
