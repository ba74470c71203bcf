"""Tools of agents that wait for people: `perdure questions` shows what is asked, and the run needs no process then.

agent = Agent(..., capabilities=[PerdureDurability(), AskPeople(to="treasurers")])

@agent.tool_plain(requires_approval=True)
def pay(account: str, cents: int) -> str: ...
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.capabilities.abstract import CapabilityOrdering
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import AgentDepsT, DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied

from perdure.api.approving import ToolApproval, ask_approval
from perdure.api.asking import ask
from perdure.api.call import current_machine
from perdure.codec.forms import JsonSchema
from perdure.integrations.pydantic_ai_keys import call_key

__all__ = ["AskPeople"]

_TOO_LATE = "Nobody has answered in time."


class AskPeople(AbstractCapability[AgentDepsT]):
    """Asks people about tools that need approval, and what tools themselves want to know, and goes on with the answers.

    Each call of a tool is a question of its own (`perdure questions`, `engine.questions()`), bound to the call's
    arguments; the history keeps who has answered, when, and through what. Calls that neither need approval nor ask
    anything are left to others. Outside of workflow code it does nothing: the agent's run ends with what is pending.

    Args:
        text: the question; made of the tool's name by default.
        to: whom it is for, as of `perdure.ask`.
        timeout: seconds to wait; then the model is told that nobody has answered. For ever by default.
        editable: whoever approves may change the arguments.

    Example:
        >>> capabilities = [PerdureDurability(), AskPeople(to="treasurers")]  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        text: str | None = None,
        to: str | None = None,
        timeout: float | timedelta | None = None,
        editable: bool = False,
    ) -> None:
        self._text = text
        self._to = to
        self._timeout = timeout
        self._editable = editable

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="innermost")  # who can decide without people goes first

    @classmethod
    def get_serialization_name(cls) -> str | None:
        return None

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[AgentDepsT], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        if current_machine() is None:
            return None
        kinds: dict[str, str] = getattr(requests, "_kinds", {})
        questions = [call for call in requests.calls if kinds.get(call.tool_call_id) == "question"]
        said = await asyncio.gather(*(self._approval(ctx, requests, call) for call in requests.approvals))
        answers = await asyncio.gather(*(self._answer(requests, call) for call in questions))
        if not said and not answers:
            return None
        ids = [call.tool_call_id for call in requests.approvals]
        results = DeferredToolResults(
            approvals={id: _result(approval) for id, approval in zip(ids, said, strict=True)},
            calls={call.tool_call_id: answer for call, answer in zip(questions, answers, strict=True)},
        )
        by = {id: approval.by for id, approval in zip(ids, said, strict=True) if approval and approval.by}
        if by and hasattr(results, "answered_by"):
            results.answered_by.update(by)
        return results

    async def _approval(
        self, ctx: RunContext[AgentDepsT], requests: DeferredToolRequests, call: ToolCallPart
    ) -> ToolApproval | None:
        try:
            return await ask_approval(
                call.tool_name,
                call.args_as_dict(),
                text=self._text,
                form=_form(ctx, call.tool_name) if self._editable else None,
                details=requests.metadata.get(call.tool_call_id),
                to=self._to,
                key=_key("approval", call),
                timeout=self._timeout,
            )
        except TimeoutError:
            return None

    async def _answer(self, requests: DeferredToolRequests, call: ToolCallPart) -> Any:
        details = {"tool": call.tool_name, "arguments": call.args_as_dict()}
        if metadata := requests.metadata.get(call.tool_call_id):
            details["details"] = metadata
        late = ToolFailed(_TOO_LATE)
        return await ask(
            self._text or f"{call.tool_name}?",
            Any,
            details=details,
            to=self._to,
            key=_key("ask", call),
            timeout=self._timeout,
            on_timeout=late,
        )


def _result(approval: ToolApproval | None) -> bool | ToolApproved | ToolDenied:
    if approval is None:
        return ToolDenied(_TOO_LATE)
    if approval.approved:
        return ToolApproved(override_args=approval.arguments)
    return ToolDenied(approval.comment) if approval.comment else ToolDenied()


def _form(ctx: RunContext[Any], tool: str) -> JsonSchema | None:
    """The schema of a tool's arguments."""
    manager = getattr(ctx, "tool_manager", None)
    found = None if manager is None else manager.get_tool_def(tool)
    return None if found is None else found.parameters_json_schema


def _key(kind: str, call: ToolCallPart) -> str:
    machine = current_machine()
    assert machine is not None
    return call_key(machine, kind, call.tool_call_id)
