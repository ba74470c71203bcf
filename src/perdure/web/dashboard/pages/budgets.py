"""Budgets: what may be spent, what is, who waits for more; raising caps and closing breakers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from nicegui import ui

from perdure.api.budgets import AccountInfo, BudgetInfo
from perdure.web.dashboard import fleetfacts, parts, pieces
from perdure.web.dashboard.desk import Desk
from perdure.web.dashboard.frame import page
from perdure.web.dashboard.live import live, live_table

_COLUMNS = [
    parts.Column("name", "Budget", "link"),
    parts.Column("state", "State", "status"),
    parts.Column("terms", "Terms", wide=True),
    parts.Column("accounts", "Accounts", "number", wide=True),
    parts.Column("spent", "Spent", "number"),
    parts.Column("waiting", "Waiting", "number"),
]
_SHOWN = 100  # accounts of a budget on its page
_MONEY = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)


@page("/budgets", "Budgets")
async def budgets(desk: Desk) -> None:
    with parts.bar():
        parts.heading("Budgets")

    async def rows() -> list[dict[str, Any]]:
        return [_row(desk, budget) for budget in await desk.engine.budgets.list()]

    def none() -> None:
        parts.empty(
            "There is no budget.",
            "Code declares what may be spent: in a run, by a workflow, for a key, in a day.",
            "@workflow(budget=Budget(usd=5))",
        )

    await live_table(desk, _COLUMNS, rows, none, label="Budgets", key="name")


def _row(desk: Desk, budget: BudgetInfo) -> dict[str, Any]:
    spent = sum((account.spent + account.unknown for account in budget.accounts), Decimal(0))
    return {
        **parts.link_cells("name", budget.name, desk.url(f"/budgets/{parts.quoted(budget.name)}")),
        **pieces.badge_cells("state", fleetfacts.budget_standing(budget)),
        "terms": budget.terms,
        "accounts": fleetfacts.count(len(budget.accounts)),
        "spent": fleetfacts.usd(spent),
        "waiting": fleetfacts.count(sum(account.waiting for account in budget.accounts)),
    }


@page("/budgets/{name:path}", "Budget")
async def budget(desk: Desk, name: str) -> None:
    async def find() -> BudgetInfo | None:
        return await desk.engine.budgets.get(name)

    found = await find()
    if found is None:
        parts.trouble(f"There is no budget {name!r}: no code has declared it.")
        return
    with parts.bar():
        parts.heading(f"Budget {name}")
    ui.label(found.terms + (" (set by an operator)" if found.overridden else "")).classes("pd-dim")

    def draw(now: BudgetInfo | None) -> None:
        accounts = [] if now is None else fleetfacts.account_rows(now.accounts)
        if now is None or not accounts:
            parts.empty("Nobody has asked for money yet.", "An account is there once a step has.")
            return
        with ui.element("div").classes("pd-grid"):
            for account in accounts[:_SHOWN]:
                _account(desk, now, account)
        if len(accounts) > _SHOWN:
            ui.label(f"And {fleetfacts.count(len(accounts) - _SHOWN)} more.").classes("pd-dim")

    await live(desk, find, draw)


def _account(desk: Desk, budget: BudgetInfo, account: AccountInfo) -> None:
    name = fleetfacts.account_name(account, budget)
    with parts.card():
        with parts.bar():
            parts.heading(name, level=2)
            pieces.badge(fleetfacts.account_standing(account))
        pieces.meter(fleetfacts.account_share(account))
        told: list[tuple[str, Any]] = [("Day", account.day)] if account.day else []
        told.append(("Spent", f"{fleetfacts.usd(account.spent)} in {fleetfacts.count(account.calls)} calls"))
        if account.reserved:
            told.append(("Reserved", f"{fleetfacts.usd(account.reserved)} for calls that are being made"))
        if account.unknown:
            told.append(("Unknown", f"{fleetfacts.usd(account.unknown)} of calls whose outcome nobody knows"))
        if account.unpriced_calls:
            told.append(("Without a price", f"{fleetfacts.count(account.unpriced_calls)} calls"))
        if account.tripped_since is not None:
            told.append(("Breaker open", account.tripped_since))
        parts.facts(told)
        with parts.row():
            _account_actions(desk, budget.name, name, account)


def _account_actions(desk: Desk, budget: str, name: str, account: AccountInfo) -> None:
    api, may = f"/budgets/{parts.quoted(budget)}", desk.administers

    async def raise_it() -> None:
        def draw() -> Callable[[], Awaitable[bool]]:
            ui.label("The cap is raised by so much, and what waits for it goes on.")
            dollars = pieces.field("US dollars", hint="as in 2.50") if account.usd is not None else None
            tokens = pieces.field("Tokens") if account.tokens is not None else None

            async def press() -> bool:
                amount = "0" if dollars is None else str(dollars.value or "").strip().lstrip("$") or "0"
                if dollars is not None:
                    dollars.error = None if _MONEY.fullmatch(amount) else "an amount, as in 2.50"
                    if dollars.error:
                        return False
                try:
                    more = 0 if tokens is None else pieces.number_of(tokens, "Tokens") or 0
                except ValueError:
                    return False
                body = {"usd": amount, "tokens": more, "owner": account.owner}
                return await desk.act(f"{name} has more.", "POST", f"{api}/raise", body)

            return press

        await pieces.ask_for(f"Raise {name}", draw, "Raise")

    async def close() -> None:
        path = f"{api}/close?owner={parts.quoted(account.owner)}"
        await desk.act(f"The breaker of {name} is closed.", "POST", path)

    capped = account.usd is not None or account.tokens is not None
    if capped:
        main = account.waiting > 0 and account.tripped_since is None
        parts.button("Raise", raise_it, icon="add", main=main, allowed=may, needs="admin")
    if account.tripped_since is not None:
        parts.button("Close the breaker", close, main=True, allowed=may, needs="admin")
