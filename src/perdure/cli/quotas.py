"""`perdure quotas`: how much each namespace may have."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from rich.table import Table

from perdure.api.quotas import QuotaInfo, Quotas
from perdure.cli.database import UrlOption, reader
from perdure.cli.output import out, print_json, tell
from perdure.cli.trouble import Trouble
from perdure.core.quotas import Quota
from perdure.core.rates import Rate

quotas = typer.Typer(name="quotas", invoke_without_command=True, help="How much each namespace may have.")

NamespaceArgument = Annotated[str, typer.Argument(metavar="NAMESPACE", help="The namespace's name.")]
_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}


@quotas.callback()
def ls(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False,
    url: UrlOption = None,
) -> None:
    """List quotas, with what is used of them; or give one."""
    if context.invoked_subcommand is None:
        _list(as_json, url)


@quotas.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON array.")] = False, url: UrlOption = None
) -> None:
    """List quotas, with what is used of them."""
    _list(as_json, url)


@quotas.command("set")
def set_(
    name: NamespaceArgument,
    runs: Annotated[int | None, typer.Option("--runs", metavar="N", help="Live runs at once.")] = None,
    starts: Annotated[
        str | None, typer.Option("--starts", metavar="N/SECONDS", help="Starts in how long, such as 100/60.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option("--storage", metavar="SIZE", help="Of histories, such as 500M or 20G.")
    ] = None,
    usd: Annotated[
        float | None, typer.Option("--usd", metavar="AMOUNT", help="What calls of models may cost.")
    ] = None,
    per: Annotated[str, typer.Option("--per", help="day, month or ever: in which --usd holds.")] = "month",
    url: UrlOption = None,
) -> None:
    """Give a namespace a quota, in place of the one it has. What isn't given isn't limited."""
    if runs is None and starts is None and storage is None and usd is None:
        raise Trouble("Say how much: at least one of --runs, --starts, --storage and --usd.")
    if per not in ("day", "month", "ever"):
        raise Trouble(f"--per {per} must be day, month or ever.")
    quota = Quota(
        runs=runs,
        starts=None if starts is None else _rate(starts),
        storage=None if storage is None else _size(storage),
        usd=usd,
        per=per,  # type: ignore[arg-type]
    )
    _do(url, lambda known: known.set(name, quota))
    tell(f"Namespace {name} may have {_told(quota)}.")


@quotas.command()
def remove(name: NamespaceArgument, url: UrlOption = None) -> None:
    """Let a namespace have as much as it likes."""
    _do(url, lambda known: known.remove(name))
    tell(f"Namespace {name} has no quota any more.")


def _list(as_json: bool, url: str | None) -> None:
    found: list[QuotaInfo] = _do(url, lambda known: known.list())
    if as_json:
        print_json([_facts(info) for info in found])
    elif not found:
        tell("No namespace has a quota.")
    else:
        table = Table(box=None, pad_edge=False)
        for title in ("namespace", "runs", "starts", "storage", "usd"):
            table.add_column(title, no_wrap=True, justify="left" if title == "namespace" else "right")
        for info in found:
            quota = info.quota
            rate = quota.starts
            table.add_row(
                info.namespace,
                f"{info.runs} of {quota.runs}" if quota.runs is not None else str(info.runs),
                "" if rate is None else f"{rate.limit} per {rate.per:g} s, {info.starts} now",
                "" if quota.storage is None else f"{info.storage:,} of {quota.storage:,}",
                "" if quota.usd is None else f"{info.usd:.2f} of {quota.usd:.2f}, {quota.per}",
            )
        out().print(table)


def _facts(info: QuotaInfo) -> dict[str, Any]:
    quota = info.quota
    rate = quota.starts
    return {
        "namespace": info.namespace,
        "runs": {"limit": quota.runs, "used": info.runs},
        "starts": None if rate is None else {"limit": rate.limit, "per": rate.per, "free": info.starts},
        "storage": None if quota.storage is None else {"limit": quota.storage, "used": info.storage},
        "usd": None if quota.usd is None else {"limit": quota.usd, "used": info.usd, "per": quota.per},
    }


def _told(quota: Quota) -> str:
    parts = [
        f"{quota.runs} live runs" if quota.runs is not None else "",
        f"{quota.starts.limit} starts in {quota.starts.per:g} s" if quota.starts is not None else "",
        f"{quota.storage:,} bytes" if quota.storage is not None else "",
        f"{quota.usd:.2f} USD ({quota.per})" if quota.usd is not None else "",
    ]
    return ", ".join(part for part in parts if part)


def _rate(text: str) -> Rate:
    match = re.fullmatch(r"(\d+)/(\d+(?:\.\d+)?)s?", text)
    if match is None or int(match[1]) < 1 or float(match[2]) <= 0:
        raise Trouble(f"--starts {text} is no rate: give a number and seconds, such as 100/60.")
    limit = int(match[1])
    return Rate(limit, per=float(match[2]), burst=(limit + 1) // 2)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.lower())
    if match is None:
        raise Trouble(
            f"--storage {text} is no size: give bytes, or a number with K, M, G or T, such as 500M."
        )
    return int(float(match[1]) * _UNITS[match[2]])


def _do(url: str | None, action: Callable[[Quotas], Awaitable[Any]]) -> Any:
    async def do() -> Any:
        async with reader(url) as engine:
            return await action(engine.quotas)

    return asyncio.run(do())
