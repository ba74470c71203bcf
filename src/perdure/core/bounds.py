"""What may be how large: every limit that isn't about rates, money or queues, stated in one place.

A database lives for years, and what is in it is read again and again: a payload by every replay, a history as a
whole. So each door refuses what would make that slow or impossible, before anything of it is written, with an error
that says what, how much, and what to do instead. docs/guide/limits.md shows them as a table.

Those that a program may set are the fields of `Bounds` (and the engine's `max_payload`). The others are constants: how
many operations a run may have open decides what its code sees, so every replay, by whatever engine, has to count alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Final

from perdure.errors import ConfigurationError

KIB: Final = 1024
MIB: Final = 1024 * KIB

#: Largest encoded value, in bytes, if an engine says nothing else.
PAYLOAD_MAX: Final = 2 * MIB

#: Arrays and objects within each other, in a value's JSON. Python's own readers give up at a depth that depends on
#: how deep the program stands itself; what was written here can be read anywhere.
DEPTH_MAX: Final = 200

#: Steps, timers, children, callbacks and other waits that one run may have open at once.
PENDING_MAX: Final = 10_000

#: Messages and updates that may wait in a run's inbox. Who sends more is refused.
INBOX_MAX: Final = 10_000

#: Messages of one name that a run takes into its history and its code hasn't received. The others stay in the inbox.
UNREAD_MAX: Final = 10_000

#: Characters of a run id, and of the key of a message or update.
RUN_ID_MAX: Final = 1000

#: Characters of names: workflows, steps, queues, limits, budgets, schedules; and of the keys of runs and steps.
NAME_MAX: Final = 255

#: Characters of what you call the version of your code.
VERSION_MAX: Final = 100

#: Characters of the names of streams, messages and published events.
TOPIC_MAX: Final = 200

#: Attributes that are set at once; characters of an attribute's name, and of its text; texts in a list of tags.
ATTRIBUTES_MAX: Final = 100
ATTRIBUTE_MAX: Final = 100
TEXT_MAX: Final = 1000
TAGS_MAX: Final = 100

#: Characters of what a provider calls a model, an answer, itself.
LABEL_MAX: Final = 1000

#: Bytes of what a heartbeat tells.
DETAIL_MAX: Final = 64 * KIB

#: Characters of a reason that somebody gives for what they do.
REASON_MAX: Final = 10_000

#: The share of the limits beyond a full history that a run has for its own cleaning up, once it is cancelled.
RESERVE: Final = 0.1

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long histories may become. Entities, whose replays begin at their newest checkpoint, aren't meant.

    Args:
        history_events: a run whose history has so many events is blocked, and says that it needs `continue_as`.
            None = no limit.
        history_bytes: the same for the bytes of its events.
        warn_events: a run whose history has so many events is told of in the log, and by `perdure why`. None = never.
        warn_bytes: the same for bytes, in the log.

    Attributes:
        least_events: with fewer events and bytes than `least_bytes`, `full` and `long` have nothing to say.

    Raises:
        ConfigurationError: a number isn't a whole one greater than 0.

    Example:
        >>> Bounds(history_events=20_000).history_bytes
        268435456
    """

    history_events: int | None = 100_000
    history_bytes: int | None = 256 * MIB
    warn_events: int | None = 10_000
    warn_bytes: int | None = 50 * MIB
    least_events: float = field(init=False, repr=False, default=0)
    least_bytes: float = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        for given in fields(self)[:4]:
            value = getattr(self, given.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                msg = f"Bounds({given.name}={value!r}): give a whole number greater than 0, or None for no limit"
                raise ConfigurationError(msg)
        object.__setattr__(self, "least_events", min(_inf(self.history_events), _inf(self.warn_events)))
        object.__setattr__(self, "least_bytes", min(_inf(self.history_bytes), _inf(self.warn_bytes)))

    def full(self, events: int, size: int) -> str | None:
        """Why a history of so many events and bytes takes nothing more that its code asks for; None if it does."""
        if self.history_events is not None and events >= self.history_events:
            return f"its history has {events:,} events, and the limit is {self.history_events:,}"
        if self.history_bytes is not None and size >= self.history_bytes:
            return f"its history has {size:,} bytes, and the limit is {self.history_bytes:,}"
        return None

    def long(self, events: int, size: int) -> str | None:
        """What to say of a history of so many events and bytes; None if that is nothing."""
        if self.warn_events is not None and events >= self.warn_events:
            told = f"{events:,} events"
        elif self.warn_bytes is not None and size >= self.warn_bytes:
            told = f"{size:,} bytes"
        else:
            return None
        return (
            f"the history has {told}, and each replay reads them all: end the run with "
            "perdure.continue_as(...), which goes on with an empty one"
        )


def _inf(limit: int | None) -> float:
    """A limit as a number to compare with."""
    return float("inf") if limit is None else limit


def storable(text: str) -> bool:
    """Whether every store can keep a text: PostgreSQL has no NUL, and UTF-8 no halves of surrogate pairs."""
    return _UNSTORABLE.search(text) is None


def mended(text: str) -> str:
    """A text for people as every store can keep it, and not longer than need be."""
    if not storable(text):
        text = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= REASON_MAX else f"{text[:REASON_MAX]}... ({len(text):,} characters)"
