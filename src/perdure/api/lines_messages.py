"""The lines of messages in a timeline: what came and what became of it, what was sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from perdure.api.wording import one_line, printable
from perdure.core import events as ev
from perdure.core.timeline import set_aside, unread

MESSAGES = (
    ev.MessageReceived,
    ev.MessageAwaited,
    ev.MessageSetAside,
    ev.MessageSent,
    ev.MessageRefused,
)


class MessageLine(NamedTuple):
    """What a timeline's line says of a message."""

    sign: str
    style: str
    what: str
    detail: str


class MessageTeller:
    """Tells of the messages of one history.

    Args:
        shown: a payload as text.
    """

    def __init__(self, history: Sequence[ev.Event], shown: Callable[[bytes], str]) -> None:
        self._shown = shown
        self._aside = dict(set_aside(history))
        self._unread = frozenset(unread(history))

    def line(self, number: int, event: ev.Event) -> MessageLine:
        """The line of one event, which is the history's `number`th."""
        match event:
            case ev.MessageReceived():
                return self._received(number, event)
            case ev.MessageAwaited():
                return MessageLine("·", "dim", f"message {printable(event.name)}", "is waited for")
            case ev.MessageSetAside():
                told = f"message {event.op.rpartition(':')[2]} was set aside: {event.why}"
                return MessageLine("!", "yellow", "set aside", one_line(told, None))
            case ev.MessageSent():
                value = "" if event.payload is None else f": {self._shown(event.payload)}"
                told = f"message {printable(event.name)} to run {printable(event.run)}{value}"
                if event.withheld:
                    return MessageLine("⊘", "yellow", event.message, f"{told} (withheld)")
                return MessageLine("→", "green", event.message, told)
            case ev.MessageRefused():
                why = "there is no such run" if event.why == "unknown_run" else "that run has ended"
                told = f"message {printable(event.name)} not delivered to run {printable(event.run)}: {why}"
                return MessageLine("✗", "red", event.message, told)
            case _:
                raise AssertionError(event)

    def _received(self, number: int, event: ev.MessageReceived) -> MessageLine:
        told = self._shown(event.payload)
        if event.sender is not None:
            told += f" from run {printable(event.sender)}"
        if event.key is not None:
            told += f", key {printable(event.key)}"
        what = f"message {printable(event.name)}"
        if number in self._aside:
            return MessageLine("✉", "yellow", what, f"{told}; set aside, as message {number}")
        if number in self._unread:
            return MessageLine("✉", "yellow", what, f"{told}; undelivered")
        return MessageLine("✉", "cyan", what, told)
