"""Tools that wait for a person: the run waits without a process, and goes on with what they said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias, cast

import msgspec
from agents import RunState
from agents.items import ToolApprovalItem

from perdure.api.asking import ask as question
from perdure.integrations.data import as_data


@dataclass(frozen=True)
class Decision:
    """What a person says to a tool's call.

    Attributes:
        approved: it may be executed.
        reason: if it may not: what the model is told.
        always: the same goes for all later calls of this tool, as the SDK understands it.
    """

    approved: bool
    reason: str | None = None
    always: bool = False


#: Decides about a tool's call: `ask`, or a function of your own, which may await whatever workflow code may.
Approver: TypeAlias = Callable[[ToolApprovalItem], Awaitable[bool | Decision]]


async def ask(
    item: ToolApprovalItem, *, to: str | None = None, timeout: float | timedelta | None = None
) -> Decision:
    """Ask a person, with `perdure.ask`: the run waits without memory, and `perdure answer` or a page goes on with it.

    The answer is bound to the tool and its arguments.

    Args:
        to: whom the question is for.
        timeout: seconds after which the answer is no. For ever by default.

    Example:
        >>> await DurableRunner.run(agent, "Pay it", approve=partial(ask, to="accounting"))  # doctest: +SKIP
    """
    raw: Any = item.raw_item
    fields = cast("dict[str, Any]", raw if isinstance(raw, dict) else as_data(raw))
    given = {"agent": item.agent.name, "tool": item.tool_name, "arguments": _arguments(fields)}
    return await question(
        f"May {item.agent.name} call {item.tool_name}?",
        Decision,
        details=given,
        about=given,
        to=to,
        timeout=timeout,
        on_timeout=Decision(approved=False, reason="Nobody has decided in time."),
    )


def _arguments(fields: dict[str, Any]) -> Any:
    """What the tool is called with, as far as its kind tells."""
    given = next(
        (fields[name] for name in ("arguments", "input", "action", "operation") if name in fields), None
    )
    if isinstance(given, str):
        try:
            return msgspec.json.decode(given)
        except msgspec.DecodeError:
            pass
    return given


async def decided(state: RunState[Any], items: list[ToolApprovalItem], approver: Approver) -> RunState[Any]:
    """Have all of these calls decided about, at once."""
    answers = await asyncio.gather(*(approver(item) for item in items))
    for item, answer in zip(items, answers, strict=True):
        decision = Decision(answer) if isinstance(answer, bool) else answer
        if decision.approved:
            state.approve(item, always_approve=decision.always)
        else:
            state.reject(item, always_reject=decision.always, rejection_message=decision.reason)
    return state
