"""What a run writes down of its waits, for people to see from outside."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.core import events as ev
from perdure.core.commands import AwaitMessage, Operation, StartTimer


def wait_notes(operations: Iterable[Operation], at: float) -> list[ev.Event]:
    """Notes of the timers and messages among these that have none yet."""
    notes: list[ev.Event] = []
    for operation in operations:
        if isinstance(operation, StartTimer) and not operation.noted:
            notes.append(ev.TimerStarted(at, operation.id, operation.due))
        elif isinstance(operation, AwaitMessage) and not operation.noted:
            notes.append(ev.MessageAwaited(at, operation.id, operation.name))
    return notes
