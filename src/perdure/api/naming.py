"""Calls of workflows by their names, from data: what comes over HTTP, from a schedule, or from an agent.

If this process has the workflow's code, its own annotations read the arguments, and what doesn't fit is refused here.
Else they are taken as they are, and whoever drives the run reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from perdure.api.call import WorkflowCall
from perdure.codec.arguments import Arguments
from perdure.codec.values import ValueCodec
from perdure.errors import UndecodableError, UsageError
from perdure.runtime.definitions import WorkflowDefinition, durable_name, workflow_named


def named_call(
    name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> WorkflowCall[Any]:
    """The call of the workflow of this name, to hand to an engine.

    Args:
        name: its durable name.
        args, kwargs: plain data, as JSON has it.

    Raises:
        ConfigurationError: the name can't be one.
        UsageError: the arguments don't fit the workflow.

    Example:
        >>> await engine.start(named_call("app.research", ["tardigrades"]), id="r-1")  # doctest: +SKIP
    """
    named = dict(kwargs or {})
    definition = workflow_named(name)
    if definition is None:
        return _handed_on(WorkflowCall(_unknown(name), tuple(args), named))
    try:
        definition.arguments.fits(*args, **named)
        given = definition.arguments.decode(msgspec.json.encode((list(args), named)))
    except (TypeError, UndecodableError) as error:
        msg = f"the arguments don't fit workflow {name!r}: {error.__cause__ or error}"
        raise UsageError(msg) from None
    return _handed_on(WorkflowCall(definition, *given))


def _handed_on(call: WorkflowCall[Any]) -> WorkflowCall[Any]:
    """Nobody has forgotten an `await` here, even if something refuses the call before it is started."""
    call.mark_used()
    return call


def _unknown(name: str) -> WorkflowDefinition:
    durable = durable_name(_anything, name)
    return WorkflowDefinition(
        name=durable,
        function=_anything,
        arguments=Arguments(_anything, f"workflow {durable}"),
        result=ValueCodec(Any, f"result of workflow {durable}"),
        guard=True,
    )


async def _anything(*args: Any, **kwargs: Any) -> Any: ...
