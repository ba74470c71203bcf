"""The bytes of an event: one byte of format version, then msgpack of the tagged struct.

Histories outlive the program that wrote them. Fields added with a default need no new format, since msgspec
fills in what is missing and skips what it doesn't know. A change that isn't of this kind (a renamed field,
another unit) raises `FORMAT_VERSION` and registers in `UPCASTERS` a function that turns an event of the
previous format, as plain dicts and lists, into one of the next. Old bytes are never rewritten: they are
lifted step by step each time they are read, so the code that handles events knows today's shape only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import msgspec

from perdure.codec import blobrefs
from perdure.codec.blobrefs import BLOB
from perdure.codec.sealing.envelope import CLOSED, SEALED, head_of, is_sealed, refusal, why_closed
from perdure.core.events import Event, Sealed, Shown
from perdure.errors import NotSerializableError, SealedError, UndecodableError

__all__ = [
    "FORMAT_VERSION",
    "UPCASTERS",
    "Upcaster",
    "decode_event",
    "encode_event",
    "unopened",
    "view_event",
]

#: The format this version of Perdure writes; the first byte of every recorded event.
FORMAT_VERSION: Final = 1

#: Turns the plain data of an event in one format into that of the next format.
Upcaster: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

#: Format version -> the function that lifts it to the version after it. None is needed so far.
UPCASTERS: Final[dict[int, Upcaster]] = {}

_PREFIX: Final = bytes([FORMAT_VERSION])

# Compiled once for the whole union: replay reads hundreds of thousands of events a second through it.
_encode = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes | memoryview], Event] = msgspec.msgpack.Decoder(Event).decode


def encode_event(event: Event) -> bytes:
    """Return the bytes that record `event`, in the current format.

    Raises:
        NotSerializableError: one of its texts can't be expressed in UTF-8.

    Example:
        >>> from perdure.core.events import TimerFired
        >>> encode_event(TimerFired(at=1.0, timer="sleep#1"))[:1]
        b'\\x01'
    """
    try:
        return _PREFIX + _encode(event)
    except UnicodeEncodeError as error:
        raise NotSerializableError(
            f"An event of kind {type(event).__name__} can't be written: one of its texts holds half of a "
            f"surrogate pair ({error}), which UTF-8 can't express. Repair the text where it enters the "
            "program, for example with text.encode(errors='replace').decode()."
        ) from error


def decode_event(data: bytes) -> Event:
    """Read an event that this or any earlier version of Perdure recorded.

    Args:
        data: what `encode_event` returned, then or now.

    Raises:
        UndecodableError: the bytes are damaged, or were written by a newer version of Perdure.
        SealedError: they are sealed, and nothing here has opened them.

    Example:
        >>> from perdure.core.events import TimerFired
        >>> decode_event(encode_event(TimerFired(at=1.0, timer="sleep#1"))).timer
        'sleep#1'
    """
    if data[:1] != _PREFIX:
        return _decode_other_format(data)
    try:
        # A view, so that the payload isn't copied to take its first byte off.
        return _decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _damaged(data, error) from error


def view_event(data: bytes) -> Shown:
    """The same for people who look: of what is sealed its head.

    Raises:
        UndecodableError: as `decode_event` does.
    """
    if not is_sealed(data):
        return decode_event(data)
    head = head_of(data)
    return Sealed(at=head.at, what=head.kind, op=head.op, key=head.key, why=why_closed(data))


def unopened(event: Sealed) -> SealedError:
    """The error for whoever needs more of an event than its head."""
    return SealedError(f"A {event.what} event can't be opened: {event.why}.", key=event.key)


def _decode_other_format(data: bytes) -> Event:
    if not data:
        raise UndecodableError(
            "A recorded event is empty: its bytes were lost, perhaps with a damaged disk. "
            "Restore the database from a backup, or terminate the run and start it anew."
        )
    version = data[0]
    if version in (SEALED, CLOSED):
        raise refusal(data)
    if version == BLOB:
        raise blobrefs.refusal(data)
    if version > FORMAT_VERSION:
        raise UndecodableError(
            f"A recorded event has format {version}, and this version of Perdure reads formats up to "
            f"{FORMAT_VERSION}: it was written by a newer Perdure, or its bytes are damaged. Upgrade Perdure "
            "on this worker; the run goes on by itself then."
        )
    if version not in UPCASTERS:
        raise UndecodableError(
            f"A recorded event says it has format {version}, which no version of Perdure ever wrote: its "
            "bytes are damaged. Restore the database from a backup, or terminate the run and start it anew."
        )
    try:
        plain = msgspec.msgpack.decode(memoryview(data)[1:])
        for step in range(version, FORMAT_VERSION):
            plain = UPCASTERS[step](plain)
        event: Event = msgspec.convert(plain, Event)
    # An upcaster handed damaged data may raise anything at all; to the caller it is all the same.
    except Exception as error:
        raise _damaged(data, error) from error
    return event


def _damaged(data: bytes, error: Exception) -> UndecodableError:
    return UndecodableError(
        f"A recorded event of {len(data)} bytes can't be read: {error}. Its bytes are damaged, or weren't "
        "written by Perdure. Restore the database from a backup, or terminate the run and start it anew."
    )
