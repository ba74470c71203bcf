"""The people around simulated runs: they answer, approve, mend what is broken, decide, raise budgets, block limits.

Of most there are two, who don't know of each other. All of them are in the client's process, and use its engine; what
they draw is made of the tags. How they come to look at a run is their affair, so they look at the database itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from perdure.api.budgets import BudgetInfo
from perdure.api.engine import Engine
from perdure.api.handle import Handle
from perdure.api.questions import QuestionInfo
from perdure.core.status import Status
from perdure.errors import (
    InvalidAnswerError,
    NothingToDecideError,
    QuestionAnsweredError,
    QuestionClosedError,
    QuestionError,
    RunConflictError,
    UsageError,
)
from perdure.storage.memory_run import Run
from perdure.testing.simulation.books import SimulatedBooks
from perdure.testing.simulation.bounds import LIMITS, dollars
from perdure.testing.simulation.outsiders import drawn_of
from perdure.testing.simulation.rules.all import Rules
from perdure.testing.simulation.scenario import BlockPlan, BudgetPlan, RunPlan
from perdure.testing.simulation.trouble import DECIDED, EDITABLE
from perdure.testing.torture.programs import Program, instructions, value_of

_LOOK, _LOOK_MAX = 0.1, 2.0  #: seconds between two looks, at first and in the end
_TWO: Final = range(2)


class People:
    """Do what only people can do.

    Args:
        insist: repeats what the store refuses.
        pending: what the client is at; runs that have ended for good aren't in it.
    """

    def __init__(
        self,
        engine: Engine,
        rules: Rules,
        books: SimulatedBooks,
        insist: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]],
        pending: dict[str, None],
    ) -> None:
        self._engine = engine
        self._rules = rules
        self._books = books
        self._insist = insist
        self._pending = pending

    def of(self, plan: RunPlan) -> list[Awaitable[None]]:
        """Those whom a run needs, but for who lets it go on when it has failed."""
        found: list[Awaitable[None]] = []
        for kind, tag, more in instructions(plan.program):
            match kind:
                case "asks" if more[0] is None or drawn_of(tag, True, True, False):
                    found += [self._answer(plan, tag, number) for number in _TWO]
                case "approved":
                    found += [self._answer(plan, tag, number, approves=True, amount=more) for number in _TWO]
                case "doubtful" | "used up":
                    found += [self._decide(plan, tag, f"{DECIDED[kind]}[{tag}]", n) for n in _TWO]
                case _:
                    pass
        return found

    def _is_over(self, plan: RunPlan) -> bool:
        """Whether a run and all that it has started need nobody any more."""
        newest = self._rules.observer.database.find_id(plan.id)
        if newest is not None and newest.status == Status.FAILED and is_broken(plan.program):
            return False  # it is to go on
        return plan.id not in self._pending or all(run.ended for run in self._family(plan))

    def _family(self, plan: RunPlan) -> list[Run]:
        runs = self._rules.observer.database.runs.values()
        return [run for run in runs if run.id.partition("/")[0].partition("~")[0] == plan.id]

    # -- questions ----------------------------------------------------------------------------------

    async def _answer(
        self, plan: RunPlan, tag: str, number: int, *, approves: bool = False, amount: int = 0
    ) -> None:
        """One of two who answer, each something else."""
        await asyncio.sleep(drawn_of(f"{tag}/{number}", 0.0, 0.1, 0.5, 1.5))
        question = await self._question(plan, tag)
        if question is None:
            return
        wrong: Any = {"approved": "who knows"}
        if approves:
            yes = bool(drawn_of(f"{tag}/{number}", 1, 1, 0))
            value: Any = {"approved": yes, "comment": str(number)}
            if amount in EDITABLE and drawn_of(f"{tag}/{number}/edits", 1, 0):
                value["arguments"] = {"amount": amount + number + 1}
                wrong["arguments"] = {"amount": "as much as you like"}
            told = "approved" if yes else "rejected"
        else:
            value = value_of(tag) + number
            told = f"answered {value}"
        observer = self._rules.observer
        try:
            await self._insist(partial(self._engine.answer, question.id, wrong))
        except InvalidAnswerError:
            observer.counts["answers of the wrong form"] += 1
        else:
            observer.wrong(f"{tag}: an answer of the wrong form was taken")
        try:
            await self._insist(partial(self._engine.answer, question.id, value, by=str(number)))
        except QuestionAnsweredError:
            observer.counts["answers too late"] += 1
            return
        except QuestionClosedError as error:
            observer.tell(f"{tag}: {error}")
            return
        self._rules.answers.counts(tag, told)
        try:
            await self._insist(partial(self._engine.answer, question.id, value))
        except QuestionError as error:
            observer.wrong(f"{tag}: {told} counts, and the same again doesn't: {error}")

    async def _question(self, plan: RunPlan, tag: str) -> QuestionInfo | None:
        """The question of a tag, as soon as it is asked; None if its run has ended."""

        async def found() -> list[QuestionInfo]:
            return [one async for one in self._engine.questions(open=False, limit=None) if one.text == tag]

        pause = _LOOK
        while not self._is_over(plan):
            questions: list[QuestionInfo] = await self._insist(found)
            if questions:
                return questions[-1]
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LOOK_MAX)
        return None

    # -- steps that wait for a decision -------------------------------------------------------------

    async def _decide(self, plan: RunPlan, tag: str, step: str, number: int) -> None:
        """One of two who look at a step until it has an outcome; both tell the truth."""
        observer = self._rules.observer
        await asyncio.sleep(drawn_of(f"{tag}/{number}", 0.0, 0.2, 1.0))
        while tag not in observer.recorded and not self._is_over(plan):
            self._books.mended.add(tag)
            for run in [run for run in self._family(plan) if not run.ended]:
                try:
                    await self._insist(partial(self._resolve, self._engine.get(run.id), tag, step))
                except (NothingToDecideError, RunConflictError):
                    continue
            await asyncio.sleep(0.2 + drawn_of(f"{tag}/{number}", 0.0, 0.3))

    async def _resolve(self, handle: Handle[Any], tag: str, step: str) -> None:
        happened = self._rules.observer.happened(tag)
        decision: dict[str, Any] = {"result": [tag, value_of(tag)]} if happened else {"rerun": True}
        await handle.resolve(step, **decision)
        self._rules.observer.tell(f"somebody has decided about {tag}: {decision}")

    # -- runs that failed ---------------------------------------------------------------------------

    async def retries(self, plan: RunPlan, handle: Handle[Any]) -> bool:
        """Mend the causes of a failure and let the run go on; False if it should never have failed."""
        broken = {tag for kind, tag, _ in instructions(plan.program) if kind == "breaks"} & self._books.broken
        if not broken:
            return False
        self._books.mended |= broken
        await asyncio.gather(*(self._retry(handle, number) for number in _TWO))
        return True

    async def _retry(self, handle: Handle[Any], number: int) -> None:
        await asyncio.sleep(drawn_of(f"{handle.id}/{number}", 0.0, 0.1, 0.5))
        try:
            await self._insist(handle.retry)
        except RunConflictError as error:  # somebody else has
            self._rules.observer.tell(f"{handle.id} isn't let go on twice: {error}")
        else:
            self._rules.observer.counts["retries"] += 1

    # -- rate limits --------------------------------------------------------------------------------

    async def block(self, plan: BlockPlan) -> None:
        """Block a limit, and perhaps end that."""
        name, rates = LIMITS[plan.limit].name, self._rules.rates
        await asyncio.sleep(plan.at)
        until = self._rules.observer.now + plan.seconds
        await self._insist(partial(self._engine.limits.block, name, after=plan.seconds))
        rates.was_blocked(name, until)
        if plan.lifted is not None:
            await asyncio.sleep(plan.lifted)
            since = self._rules.observer.now
            await self._insist(partial(self._unblock, name))
            rates.was_unblocked(name, since)

    async def _unblock(self, name: str) -> None:
        self._rules.rates.may_be_unblocked(name)
        await self._engine.limits.unblock(name)

    # -- money --------------------------------------------------------------------------------------

    async def pay(self, plan: BudgetPlan, runs: tuple[RunPlan, ...]) -> None:
        """Raise a budget whenever somebody waits for it."""
        observer = self._rules.observer
        while any(run.id in self._pending for run in runs):
            await asyncio.sleep(plan.looks)
            info: BudgetInfo | None = await self._insist(partial(self._engine.budgets.get, plan.name))
            for account in () if info is None else info.accounts:
                if account.waiting:
                    budgets, owner = self._engine.budgets, account.owner or None
                    raises = partial(budgets.raise_by, plan.name, usd=dollars(plan.raises))
                    if account.tripped_since is not None:
                        observer.counts["breakers closed"] += 1
                        raises = partial(budgets.close_breaker, plan.name)
                    else:
                        observer.counts["budgets raised"] += 1
                    try:
                        await self._insist(partial(raises, owner=owner))
                    except UsageError as error:
                        observer.wrong(f"budget {plan.name}: {error}")


def is_broken(program: Program) -> bool:
    """Whether a run of it fails until something is mended."""
    return any(kind == "breaks" for kind, _, _ in instructions(program))
