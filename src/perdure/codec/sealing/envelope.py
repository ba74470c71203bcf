"""What sealed bytes look like: a head that anybody can read, and a body that nobody can without the key.

    0xC5 | length of the head, 2 bytes | head, msgpack | body | pad, 4 bytes

The head says what went over the payload (the names of codecs), with which key, and of an event its kind, time and op:
so a history whose key is gone can still be read as a list of what happened when. The body is bound to its head.

The *pad* makes it possible to seal an event anew, with another key, without a change of its link (storage/chain.py):
CRC-32 is linear, so for any bytes there are four that lead to a wanted checksum. Nothing else reads the pad.
"""

from __future__ import annotations

from zlib import crc32

import msgspec

from perdure.errors import SealedError, UndecodableError

#: The first byte of what is sealed. Events in the clear begin with their format's version, JSON never with this byte.
SEALED = 0xC5
#: The first byte of what was sealed and couldn't be opened; such bytes are never kept.
CLOSED = 0xC6

#: What stands before the sealed reason of a run, which is a text.
REASON = "sealed:"

_PAD = b"\0\0\0\0"
_FIRST = bytes([SEALED])


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is said in the clear of sealed bytes.

    Attributes:
        codecs: names of the codecs that went over the payload, in that order.
        key: id of the key, "" if no codec has one.
        kind, at, op: of an event; else "", 0 and "".
        seq: its place in the history; 0 if it has none yet.
        scope: what the body is bound to, if the place where it lies doesn't tell.
        mark: a keyed digest of the payload, by which stores compare what they can't read.
    """

    codecs: tuple[str, ...]
    key: str = ""
    kind: str = ""
    at: float = 0.0
    op: str = ""
    seq: int = 0
    scope: str = ""
    mark: str = ""


class _Closed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    head: Head
    why: str


encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_closed = msgspec.msgpack.Decoder(_Closed).decode


def is_sealed(data: bytes | None) -> bool:
    """Whether these bytes are sealed, or were and couldn't be opened."""
    return data is not None and data[:1] in (_FIRST, b"\xc6")


def build(head: bytes, body: bytes) -> bytes:
    """Sealed bytes of an encoded head and a body."""
    return b"%b%b%b%b%b" % (_FIRST, len(head).to_bytes(2, "big"), head, body, _PAD)


def split(data: bytes) -> tuple[Head, bytes, bytes]:
    """The head, the head as it is encoded, and the body.

    Raises:
        UndecodableError: these bytes aren't sealed, or are damaged.
    """
    if data[:1] != _FIRST:
        msg = "the bytes aren't sealed"
        raise UndecodableError(msg)
    end = 3 + int.from_bytes(data[1:3], "big")
    encoded = data[3:end]
    try:
        return _decode_head(encoded), encoded, data[end:-4]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        msg = f"sealed bytes have a head that can't be read: {error}"
        raise UndecodableError(msg) from error


def head_of(data: bytes) -> Head:
    """What is said in the clear of bytes that are sealed, or couldn't be opened.

    Raises:
        UndecodableError: they aren't, or are damaged.
    """
    return _closed(data).head if data[:1] == b"\xc6" else split(data)[0]


def closed(head: Head, why: str) -> bytes:
    """What stands, within a process, for bytes that can't be opened: whoever decodes them is told why."""
    return bytes([CLOSED]) + encode_head(_Closed(head, why))


def why_closed(data: bytes) -> str:
    """Why these bytes can't be read here."""
    if data[:1] == b"\xc6":
        return _closed(data).why
    head = head_of(data)
    with_key = f" with the key {head.key!r}" if head.key else f" by {', '.join(head.codecs)}"
    return (
        f"it is sealed{with_key}, and nothing here opens it: set PERDURE_KEYS, or give the engine its codec"
    )


def refusal(data: bytes) -> SealedError:
    """The error for whoever wants to decode these bytes."""
    head = head_of(data)
    what = f"A {head.kind} event" if head.kind else "A payload"
    return SealedError(f"{what} can't be opened: {why_closed(data)}.", key=head.key)


def shown_reason(text: str | None) -> str | None:
    """Why a run is at what it is at, for people; of what is sealed that it is."""
    if text is None or not text.startswith(REASON):
        return text
    try:
        return f"({why_closed(bytes.fromhex(text.removeprefix(REASON)))})"
    except (UndecodableError, ValueError):
        return "(sealed)"


def _closed(data: bytes) -> _Closed:
    try:
        return _decode_closed(data[1:])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        msg = f"these bytes can't be read: {error}"
        raise UndecodableError(msg) from error


# -- pads -----------------------------------------------------------------------------------------------


def _steps_back() -> tuple[list[int], list[int]]:
    """CRC-32's table, and which of its entries has this highest byte."""
    table: list[int] = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = (value >> 1) ^ 0xEDB88320 if value & 1 else value >> 1
        table.append(value)
    by_top = [0] * 256
    for number, value in enumerate(table):
        by_top[value >> 24] = number
    return table, by_top


_TABLE, _BY_TOP = _steps_back()


def padded(sealed: bytes, chain: int, wanted: int, end: bytes) -> bytes:
    """The same sealed bytes with the pad that leads from this chain to the wanted link.

    Args:
        end: what the chain puts behind each event.
    """
    state = wanted ^ 0xFFFFFFFF
    for byte in reversed(end):
        place = _BY_TOP[state >> 24]
        state = ((state ^ _TABLE[place]) << 8) & 0xFFFFFFFF | (place ^ byte)
    before = crc32(sealed[:-4], chain) ^ 0xFFFFFFFF
    for _ in range(4):
        place = _BY_TOP[state >> 24]
        state = (((state ^ _TABLE[place]) << 8) & 0xFFFFFFFF) | place
    return sealed[:-4] + (state ^ before).to_bytes(4, "little")
