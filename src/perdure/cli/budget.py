"""`perdure budget`: how budgets stand, raising and setting them, closing their breakers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from perdure.api.budgets import AccountInfo, BudgetInfo, Budgets
from perdure.cli.cost import money
from perdure.cli.database import UrlOption, reader
from perdure.cli.output import clock_time, out, print_json, printable, tell
from perdure.cli.trouble import Trouble, did_you_mean

R = TypeVar("R")

budget = typer.Typer(
    name="budget",
    invoke_without_command=True,
    help="List budgets; raise and set them, close their breakers.",
)

#: So many accounts of a budget are listed; `show` lists all.
LISTED = 10

NameArgument = Annotated[str, typer.Argument(help="The budget's name.")]
OwnerOption = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="OWNER",
        help="Whose: a run's id, a workflow, a key. May be left out if there is only one.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON.")]


@budget.callback()
def ls(context: typer.Context, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """List budgets with their newest accounts; or do something with one."""
    if context.invoked_subcommand is None:
        _list(as_json, url)


@budget.command("list")
def list_(as_json: JsonOption = False, url: UrlOption = None) -> None:
    """List budgets with their newest accounts."""
    _list(as_json, url)


def _list(as_json: bool, url: str | None) -> None:
    found = _do(url, lambda known: known.list())
    if as_json:
        print_json([_facts(info) for info in found])
    elif found:
        for info in found:
            _show(info, LISTED)
    else:
        tell("There is no budget: no engine has opened here whose code declares one.")


@budget.command()
def show(name: NameArgument, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Show all accounts of a budget."""
    info = _do(url, lambda known: _known(known, name))
    if as_json:
        print_json(_facts(info))
    else:
        _show(info, None)


@budget.command("raise")
def raise_(
    name: NameArgument,
    usd: Annotated[
        str | None, typer.Option("--usd", metavar="N", help="By so many US dollars.", show_default=False)
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", metavar="N", help="By so many tokens.", show_default=False)
    ] = None,
    owner: OwnerOption = None,
    url: UrlOption = None,
) -> None:
    """Raise an account's cap (today's, if each day has its own). What waits for it goes on."""
    if usd is None and tokens is None:
        raise Trouble("Say by how much: --usd 5, or --tokens 100000.")

    async def do(known: Budgets) -> None:
        await _known(known, name)
        await known.raise_by(name, usd=usd or 0, tokens=tokens or 0, owner=owner)

    _do(url, do)
    by = " and ".join(
        [*([] if usd is None else [f"{usd} USD"]), *([] if tokens is None else [f"{tokens} tokens"])]
    )
    tell(f"The budget {name} is raised by {by}; what waited for it goes on.")


@budget.command("set")
def set_(
    name: NameArgument,
    usd: Annotated[
        str | None,
        typer.Option("--usd", metavar="N", help="The cap in US dollars, or 'none'.", show_default=False),
    ] = None,
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", metavar="N", help="The cap on tokens, or 'none'.", show_default=False),
    ] = None,
    url: UrlOption = None,
) -> None:
    """Give all accounts of a budget other caps than its code does, until `perdure budget reset`."""
    if usd is None and tokens is None:
        raise Trouble("Say which caps hold: --usd 20, --tokens 'none', or both. What isn't named has none.")
    if tokens not in (None, "none") and not (tokens or "").isdecimal():
        raise Trouble(f"--tokens {tokens!r} is no number: give one, or 'none'.")

    async def do(known: Budgets) -> BudgetInfo:
        await _known(known, name)
        await known.set(
            name,
            usd=None if usd in (None, "none") else usd,
            tokens=None if tokens in (None, "none") else int(tokens or 0),
        )
        return await _known(known, name)

    info = _do(url, do)
    tell(f"The budget {name} allows {info.terms} from now on. `perdure budget reset` takes that back.")


@budget.command()
def reset(name: NameArgument, url: UrlOption = None) -> None:
    """Let the caps hold again that code gives to a budget."""

    async def do(known: Budgets) -> BudgetInfo:
        await _known(known, name)
        await known.reset(name)
        return await _known(known, name)

    tell(f"The budget {name} allows {_do(url, do).terms}, as its code says.")


@budget.command()
def close(name: NameArgument, owner: OwnerOption = None, url: UrlOption = None) -> None:
    """Close the breaker that a spike has opened. What waits for it goes on."""

    async def do(known: Budgets) -> None:
        await _known(known, name)
        await known.close_breaker(name, owner=owner)

    _do(url, do)
    tell(f"The breaker of the budget {name} is closed; what waited for it goes on.")


@budget.command()
def remove(name: NameArgument, url: UrlOption = None) -> None:
    """Forget a budget that no code declares any more. An engine whose code does brings it back when it opens."""

    async def do(known: Budgets) -> None:
        await _known(known, name)
        await known.remove(name)

    _do(url, do)
    tell(f"The budget {name} is forgotten, with what was spent of it.")


async def _known(known: Budgets, name: str) -> BudgetInfo:
    info = await known.get(name)
    if info is None:
        names = [each.name for each in await known.list()]
        near = did_you_mean(name, names) or " `perdure budget` lists those that code has declared."
        raise Trouble(f"There is no budget {name!r}.{near}")
    return info


def _do(url: str | None, action: Callable[[Budgets], Awaitable[R]]) -> R:
    async def do() -> R:
        async with reader(url) as engine:
            return await action(engine.budgets)

    return asyncio.run(do())


# -- showing --------------------------------------------------------------------------------------------


def _facts(info: BudgetInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "terms": info.terms,
        "per": info.per,
        "daily": info.daily,
        "overridden": info.overridden,
        "accounts": [_account_facts(account) for account in info.accounts],
    }


def _account_facts(account: AccountInfo) -> dict[str, Any]:
    def usd(amount: Decimal | None) -> str | None:
        return None if amount is None else f"{amount:f}"

    return {
        "owner": account.owner,
        "day": account.day,
        "usd": usd(account.usd),
        "spent": usd(account.spent),
        "reserved": usd(account.reserved),
        "unknown": usd(account.unknown),
        "left": usd(account.left),
        "tokens": account.tokens,
        "spent_tokens": account.spent_tokens,
        "reserved_tokens": account.reserved_tokens,
        "unknown_tokens": account.unknown_tokens,
        "calls": account.calls,
        "unpriced_calls": account.unpriced_calls,
        "tripped_since": None if account.tripped_since is None else account.tripped_since.isoformat(),
        "waiting": account.waiting,
    }


def _show(info: BudgetInfo, limit: int | None) -> None:
    overridden = " (set by a person)" if info.overridden else ""
    out().print(Text(f"{printable(info.name)}: {printable(info.terms)}{overridden}"))
    shown = sorted(info.accounts, key=lambda each: (each.day, each.waiting, each.spent), reverse=True)[:limit]
    if not shown:
        out().print(Text("  nothing was spent of it", style="dim"))
        return
    table = Table(box=None, pad_edge=False)
    for title in ("  ", "spent USD", "reserved", "unknown", "of", "tokens", "of", "waiting", ""):
        table.add_column(title, no_wrap=True, justify="left" if title in ("  ", "") else "right")
    for account in shown:
        table.add_row(*_cells(account))
    out().print(table)
    left = len(info.accounts) - len(shown)
    if left > 0:
        out().print(Text(f"  and {left} more: perdure budget show {printable(info.name)}", style="dim"))


def _cells(account: AccountInfo) -> list[Text]:
    who = " ".join(filter(None, [account.owner, account.day])) or "all"
    remarks = [
        *([f"breaker open since {clock_time(account.tripped_since)}"] if account.tripped_since else []),
        *([f"{account.unpriced_calls} calls without a price"] if account.unpriced_calls else []),
    ]
    used = account.spent_tokens + account.reserved_tokens + account.unknown_tokens
    return [
        Text(f"  {printable(who)}"),
        Text(money(account.spent)),
        Text(money(account.reserved)),
        Text(money(account.unknown), style="yellow" if account.unknown else ""),
        Text("-" if account.usd is None else money(account.usd)),
        Text(f"{used:,}"),
        Text("-" if account.tokens is None else f"{account.tokens:,}"),
        Text(str(account.waiting), style="yellow" if account.waiting else ""),
        Text("; ".join(remarks), style="yellow"),
    ]
