"""What of one run's history goes into another's: the events of an operation that the code asks for again."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from perdure.core import events as ev
from perdure.core.alike import same_input
from perdure.core.commands import AwaitCallback, AwaitPublication, StartChild
from perdure.core.finding import UNSET
from perdure.core.matching_mail import same_question
from perdure.errors import UndecodableError

#: An event to copy, with its decoded value if that is at hand.
Copy: TypeAlias = tuple[ev.Event, Any]


def with_outcome(operation: StartChild | AwaitCallback, events: list[ev.Event]) -> list[Copy] | None:
    """A child's or a callback's beginning and end, if it is the one that is asked for."""
    if len(events) != 2:
        return None
    begun, ended = events
    assert isinstance(ended, ev.ChildEnded | ev.CallbackEnded)
    if isinstance(operation, StartChild) != isinstance(begun, ev.ChildStarted):
        return None
    if isinstance(operation, StartChild) and not same_input(begun, operation.input):
        return None
    if isinstance(operation, AwaitCallback) and not _same_question(operation, begun):
        return None
    if ended.result is None:
        return [(marked(begun), UNSET), (marked(ended), UNSET)]
    try:
        value = operation.decode(ended.result)
    except UndecodableError:
        return None
    return [(marked(begun), UNSET), (marked(ended), value)]


def _same_question(operation: AwaitCallback, begun: ev.Event) -> bool:
    """An answer counts for the question that it was given to; for a fork's own arguments somebody is asked anew."""
    if operation.question is None or not isinstance(begun, ev.QuestionAsked):
        return operation.question is None and not isinstance(begun, ev.QuestionAsked)
    return same_question(begun.question, operation.question)


def as_it_came(operation: AwaitPublication, events: list[ev.Event]) -> list[Copy] | None:
    """A wait for a publication and what came, if it is the one that is asked for."""
    if len(events) != 2:
        return None
    begun, came = events
    assert isinstance(begun, ev.PublicationAwaited)
    assert isinstance(came, ev.PublicationArrived)
    assert came.payload is not None
    if (begun.name, begun.where) != (operation.name, operation.where):
        return None
    try:
        value = operation.decode(came.payload)
    except UndecodableError:
        return None
    return [(marked(begun), UNSET), (marked(came), value)]


def marked(event: Any) -> ev.Event:
    """The same event as another history holds it."""
    marked: ev.Event = event
    if hasattr(event, "reused"):
        marked = msgspec.structs.replace(event, reused=True)
    if isinstance(marked, ev.StepCompleted | ev.StepFailed) and marked.decision is not None:
        marked = msgspec.structs.replace(marked, decision=None)  # here no step waits for one
    return marked
