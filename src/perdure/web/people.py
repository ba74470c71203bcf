"""What runs ask of people, and what a person decides about money: questions and budgets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from perdure.api.budgets import AccountInfo, BudgetInfo
from perdure.api.questions import QuestionInfo
from perdure.errors import UsageError
from perdure.web.engines import EngineHere, WhoHere
from perdure.web.shapes import AnswerIn, QuestionOut
from perdure.web.shapes_fleet import AccountOut, BudgetOut, CapsIn, RaiseIn

router = APIRouter(tags=["people"])

QuestionId = Annotated[str, Path(min_length=1, max_length=200)]
Named = Annotated[str, Path(min_length=1, max_length=255)]


@router.get("/questions")
async def questions(
    engine: EngineHere,
    open: Annotated[bool, Query(description="Only those that can be answered now.")] = True,
    run: Annotated[str | None, Query(max_length=1000)] = None,
    to: Annotated[str | None, Query(max_length=255, description="Only those for this one.")] = None,
    since: Annotated[datetime | None, Query(description="Asked at or after; with a time zone.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[QuestionOut]:
    """What runs ask of people, oldest first."""
    if since is not None and since.tzinfo is None:
        msg = f"since={since.isoformat()!r} has no time zone: give one, as in 2026-01-31T12:00:00Z"
        raise UsageError(msg)
    found = engine.questions(open=open, run=run, to=to, since=since, limit=limit)
    return [_question(item) async for item in found]


@router.get("/questions/{id}")
async def question(engine: EngineHere, id: QuestionId) -> QuestionOut:
    """A question, and its answer if it has one."""
    return _question(await engine.question(id))


@router.post("/questions/{id}/answer")
async def answer(engine: EngineHere, id: QuestionId, body: AnswerIn, who: WhoHere) -> QuestionOut:
    """Answer a question, once. The run's history keeps who did."""
    return _question(await engine.answer(id, body.value, by=who, via="http", digest=body.digest))


def _question(item: QuestionInfo) -> QuestionOut:
    return QuestionOut(
        id=item.id,
        run=item.run,
        generation=item.generation,
        workflow=item.workflow,
        op=item.op,
        text=item.text,
        form=dict(item.schema),
        details=item.details,
        default=item.default,
        to=item.to,
        digest=item.digest,
        step=item.step,
        problem=item.problem,
        asked_at=item.asked_at,
        expires_at=item.expires_at,
        state=item.state,
        answer=item.answer,
        answered_by=item.answered_by,
        answered_at=item.answered_at,
        via=item.via,
    )


@router.get("/budgets")
async def budgets(engine: EngineHere) -> list[BudgetOut]:
    """All budgets, with the accounts that have asked for money."""
    return [_budget(budget) for budget in await engine.budgets.list()]


@router.post("/budgets/{name:path}/raise", status_code=204)
async def raise_budget(engine: EngineHere, name: Named, body: RaiseIn) -> None:
    """Raise the cap of one account. What waits for it goes on."""
    await engine.budgets.raise_by(name, usd=body.usd, tokens=body.tokens, owner=body.owner)


@router.post("/budgets/{name:path}/close", status_code=204)
async def close_breaker(
    engine: EngineHere, name: Named, owner: Annotated[str | None, Query(max_length=1000)] = None
) -> None:
    """Close a breaker that a spike has opened."""
    await engine.budgets.close_breaker(name, owner=owner)


@router.put("/budgets/{name}", status_code=204)
async def set_budget(engine: EngineHere, name: Named, body: CapsIn) -> None:
    """Give all accounts of a budget other caps than its code does; null is none."""
    await engine.budgets.set(name, usd=body.usd, tokens=body.tokens)


@router.post("/budgets/{name}/reset", status_code=204)
async def reset_budget(engine: EngineHere, name: Named) -> None:
    """Let the caps hold again that its code gives to a budget."""
    await engine.budgets.reset(name)


@router.delete("/budgets/{name}", status_code=204)
async def remove_budget(engine: EngineHere, name: Named) -> None:
    """Forget a budget that no code declares any more."""
    await engine.budgets.remove(name)


def _budget(budget: BudgetInfo) -> BudgetOut:
    return BudgetOut(
        name=budget.name,
        terms=budget.terms,
        per=budget.per,
        daily=budget.daily,
        overridden=budget.overridden,
        accounts=[_account(account) for account in budget.accounts],
    )


def _account(account: AccountInfo) -> AccountOut:
    amounts: dict[str, Any] = {
        name: None if (value := getattr(account, name)) is None else str(value)
        for name in ("usd", "spent", "reserved", "unknown", "left")
    }
    return AccountOut(
        owner=account.owner,
        day=account.day,
        tokens=account.tokens,
        spent_tokens=account.spent_tokens,
        reserved_tokens=account.reserved_tokens,
        unknown_tokens=account.unknown_tokens,
        calls=account.calls,
        unpriced_calls=account.unpriced_calls,
        tripped_since=account.tripped_since,
        waiting=account.waiting,
        **amounts,
    )
