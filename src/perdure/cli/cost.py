"""`perdure cost`: what runs have spent, and what wasn't spent again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from perdure.api.spending import Usage, UsageLine
from perdure.cli.database import UrlOption, reader, unknown
from perdure.cli.ls import since_when
from perdure.cli.output import one_line, out, print_json, tell
from perdure.errors import UnknownRunError


class By(StrEnum):
    """What the sums are told apart by."""

    STEP = "step"
    WORKFLOW = "workflow"
    MODEL = "model"
    KEY = "key"
    DAY = "day"
    MONTH = "month"
    RUN = "run"


@dataclass(frozen=True)
class _Bill:
    """What the command shows."""

    by: str
    total: Usage
    lines: list[UsageLine]
    left_out: bool = False  #: runs were removed of which nobody knows whether they had the key


def cost(
    run: Annotated[
        str | None,
        typer.Argument(help="A run's id: what it and all that it started have spent.", show_default=False),
    ] = None,
    by: Annotated[
        By | None,
        typer.Option("--by", help="Tell sums apart by this.", show_default="step of a run, else workflow"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="2h|DATE", help="Only what was spent since.", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="2h|DATE", help="Only what was spent before.", show_default=False),
    ] = None,
    workflow: Annotated[
        str | None, typer.Option("--workflow", help="Only runs of this workflow.", show_default=False)
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", help="Only what is charged to this key, by runs that are there.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
    url: UrlOption = None,
) -> None:
    """Show what calls of models have cost, and what replays have saved, also of runs that were removed since."""
    now = datetime.now(UTC)
    start, end = (None if text is None else since_when(text, now) for text in (since, until))
    share = by or (By.WORKFLOW if run is None else By.STEP)
    only = {"run": run, "since": start, "until": end, "workflow": workflow, "key": key}
    bill = asyncio.run(_look(url, share, only))
    if as_json:
        print_json(_facts(bill))
    elif not bill.lines and not bill.left_out:
        tell("No call of a model is in the ledger: steps record theirs with perdure.record_usage(...).")
    else:
        console = out()
        console.print(_table(bill))
        for remark in remarks(bill.total):
            console.print(remark)
        if bill.left_out:
            console.print(
                "runs that were removed aren't in it: nobody knows any more what each key had spent"
            )


async def _look(url: str | None, by: By, filters: dict[str, Any]) -> _Bill:
    async with reader(url) as engine:
        try:
            (whole,) = await engine.usage(**filters)
            lines = await engine.usage(by.value, **filters)
            left_out = False
            if filters["key"] is not None and filters["run"] is None:
                everybody = await engine.usage("key", **{**filters, "key": None})
                left_out = any(line.removed for line in everybody)
            return _Bill(by.value, whole.usage, lines, left_out)
        except UnknownRunError as error:
            raise await unknown(engine, error) from None


def usage_facts(usage: Usage) -> dict[str, Any]:
    """A sum for programs; dollars are texts, which lose nothing."""
    facts = msgspec.structs.asdict(usage)
    return {name: money(value) if isinstance(value, Decimal) else value for name, value in facts.items()}


def _facts(bill: _Bill) -> dict[str, Any]:
    lines = [{"name": line.name, "removed": line.removed, **usage_facts(line.usage)} for line in bill.lines]
    return {"by": bill.by, "total": usage_facts(bill.total), "lines": lines, "left_out": bill.left_out}


def _table(bill: _Bill) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(bill.by, overflow="fold")
    for title in ("calls", "input", "output", "cached", "thought", "USD", "unknown", "saved USD"):
        table.add_column(title, justify="right", no_wrap=True)
    for line in bill.lines:
        table.add_row(_name(line), *_cells(line.usage))
    if len(bill.lines) > 1:
        table.add_row(Text("total", style="bold"), *_cells(bill.total))
    return table


def _name(line: UsageLine) -> Text:
    if line.removed:
        return Text("(removed runs)", style="dim")
    return Text("(none)" if line.name is None else one_line(line.name, 80))


def _cells(usage: Usage) -> list[Text]:
    tokens = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens)
    price = money(usage.cost)
    if usage.unpriced_calls:
        price = "?" if usage.unpriced_calls == usage.calls else f"{price} + ?"
    return [
        Text(f"{usage.calls:,}"),
        *(Text(f"{count:,}") for count in tokens),
        Text(price),
        Text(str(usage.unknown_calls) if usage.unknown_calls else "", style="yellow"),
        Text(money(usage.saved_cost) if usage.saved_calls else "", style="green"),
    ]


def remarks(usage: Usage) -> list[str]:
    """What the figures leave out, one line each."""
    told: list[str] = []
    if usage.unknown_calls:
        most = f", at most {money(usage.unknown_cost)} USD" if usage.unknown_cost else ""
        without = usage.unknown_unpriced_calls
        rest = f", and {_calls(without)} of unknown price" if most and without else ""
        told.append(
            f"unknown: {_calls(usage.unknown_calls)} begun, and nobody knows whether billed{most}{rest}"
        )
    if usage.unpriced_calls:
        told.append(f"no price is known of {_calls(usage.unpriced_calls)}: their cost isn't in the sums")
    if usage.calls_in_flight:
        told.append(f"in flight: {_calls(usage.calls_in_flight)}")
    if usage.saved_calls:
        told.append(
            f"saved by replay: {_calls(usage.saved_calls)}, {usage.saved_tokens:,} tokens, "
            f"{money(usage.saved_cost)} USD"
        )
    return told


def spent(usage: Usage) -> str:
    """A sum in one line."""
    line = f"{money(usage.cost)} USD, {_calls(usage.calls)}, {usage.total_tokens:,} tokens"
    return "; ".join([line, *remarks(usage)])


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count:,} calls"


def money(amount: Decimal) -> str:
    """US dollars, to a millionth, with two places at least.

    Example:
        >>> money(Decimal("0.2")), money(Decimal("0.0036")), money(Decimal("12")), money(Decimal("0.0000004"))
        ('0.20', '0.0036', '12.00', '0.0000004')
    """
    places = max(2, 6 if amount >= Decimal("0.000001") or not amount else 9)
    text = f"{amount:.{places}f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"{whole}.{part.ljust(2, '0')}"
