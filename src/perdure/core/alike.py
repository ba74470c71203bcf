"""Whether something that code asks for is what another run's history tells of: the same call, under whatever id.

A step that is put in before others moves the numbers of all after it. What they are is told by their names and inputs
then. Operations with a key aren't moved: the key is what they are.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeVar

import msgspec

from perdure.core import events as ev
from perdure.core.commands import Operation, RunStep, SendMessage, StartChild
from perdure.core.finding import fingerprint
from perdure.core.scope import operation_name

E = TypeVar("E", bound=msgspec.Struct)


def same_input(event: ev.Event, asked: bytes) -> bool:
    """Whether a step or a child had this input."""
    assert isinstance(event, ev.StepCompleted | ev.StepFailed | ev.ChildStarted)
    if event.input is not None:
        return event.input == asked
    return event.fingerprint is not None and event.fingerprint == fingerprint(asked)


def same_message(operation: SendMessage, event: ev.Event) -> bool:
    """Whether this is the message that was sent."""
    assert isinstance(event, ev.MessageSent | ev.MessageRefused)
    if (event.run, event.name) != (operation.to, operation.name):
        return False
    if isinstance(event, ev.MessageRefused):
        return True
    if event.payload is not None:
        return event.payload == operation.payload
    return event.fingerprint == fingerprint(operation.payload)


def of_event(event: ev.Event) -> tuple[str, Hashable] | None:
    """The id of what an event begins or ends, and what it is; None if it has a key, or can't be moved."""
    match event:
        case ev.StepCompleted() | ev.StepFailed():
            id, what = (
                event.step,
                ("step", operation_name(event.step), _digest(event.input, event.fingerprint)),
            )
        case ev.ChildStarted():
            id, what = event.child, ("child", event.workflow, _digest(event.input, event.fingerprint))
        case ev.MessageSent():
            digest = _digest(event.payload, event.fingerprint)
            id, what = event.message, (event.run, event.name, digest)
        case _:
            return None
    return None if id.endswith("]") or what[2] is None else (id, what)


def of_operation(operation: Operation) -> Hashable | None:
    """The same of what the code asks for."""
    if operation.id.endswith("]"):
        return None
    match operation:
        case RunStep() if operation.unfit is None:
            return "step", operation.name, fingerprint(operation.input)
        case StartChild():
            return "child", operation.workflow, fingerprint(operation.input)
        case SendMessage():
            return operation.to, operation.name, fingerprint(operation.payload)
        case _:
            return None


def under(event: E, id: str) -> E:
    """The same event of an operation with another id."""
    for name in ("step", "child", "message"):
        if hasattr(event, name):
            changed: dict[str, Any] = {name: id}
            return msgspec.structs.replace(event, **changed)
    return event


def _digest(whole: bytes | None, digest: bytes | None) -> bytes | None:
    return digest if whole is None else fingerprint(whole)
