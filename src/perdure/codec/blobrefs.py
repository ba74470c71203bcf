"""References to events that are kept as blobs: what lies in a history in the place of a large event.

    0xC7 | digest, size and place, msgpack | pad, 4 bytes

The digest is that of the bytes as they were to be stored: of sealed ones, where events are sealed. The pad gives a
reference the same link as its event would have (storage/chain.py), so that whoever has computed links from the event
needn't know where it went.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from zlib import crc32

import msgspec

from perdure.codec.sealing.envelope import padded
from perdure.errors import MovingError, UndecodableError

#: The first byte of a reference. Events begin with their format's version, sealed ones with 0xC5 and 0xC6.
BLOB = 0xC7

_FIRST = bytes([BLOB])
_PAD = b"\0\0\0\0"
_POLYNOMIAL = 0xEDB88320


class BlobRef(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where an event is.

    Attributes:
        digest: SHA-256 of its bytes.
        size: how many these are.
        folder: under which they lie.
        why: within a process: why they can't be had.
    """

    digest: bytes
    size: int
    folder: str
    why: str = ""

    @property
    def name(self) -> str:
        """The blob's name within its folder."""
        return self.digest.hex()

    @property
    def path(self) -> str:
        """For people."""
        return f"{self.folder}/{self.name}"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(BlobRef).decode


def ref_to(data: bytes, folder: str) -> BlobRef:
    """A reference to these bytes."""
    return BlobRef(sha256(data).digest(), len(data), folder)


def is_ref(data: bytes) -> bool:
    """Whether an event is a blob."""
    return data[:1] == _FIRST


def encode_ref(ref: BlobRef) -> bytes:
    """What lies in a history in the place of the event, its link aside."""
    return _FIRST + _encode(ref) + _PAD


def decode_ref(data: bytes) -> BlobRef:
    """Read a reference.

    Raises:
        UndecodableError: it is none, or damaged.
    """
    try:
        return _decode(data[1:-4])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        msg = f"A reference to an event that is kept as a blob can't be read: {error}. Its bytes are damaged."
        raise UndecodableError(msg) from error


def refusal(data: bytes) -> UndecodableError:
    """The error for whoever wants to decode a reference as an event."""
    ref = decode_ref(data)
    why = (
        ref.why
        or "nothing here has its blobs: give the engine those that the event was written with, or set PERDURE_BLOBS"
    )
    return UndecodableError(
        f"An event of {ref.size:,} bytes is kept as blob {ref.path}, which can't be read: {why}"
    )


def refuse_refs(id: str, events: Iterable[bytes]) -> None:
    """Let nobody carry a history away while some of it stays behind.

    Raises:
        MovingError: there are references among the run's events.
    """
    for data in events:
        if is_ref(data):
            raise MovingError(f"Run {id!r} can't be moved, exported or archived as it is. {refusal(data)}")


def linked(reference: bytes, chain: int, wanted: int, end: bytes) -> bytes:
    """The reference with the pad that leads from this chain to that link."""
    return padded(reference, chain, wanted, end)


def chain_before(link: int, event: bytes, end: bytes) -> int:
    """The chain to which an event was appended, from the link that it has got."""
    # A checksum is that of the bytes alone, and what became of the chain while as many zeros went by.
    value = link ^ crc32(end, crc32(event, 0))
    length, power = len(event) + len(end), 0
    while length:
        if length & 1:
            value = _applied(_back(power), value)
        length >>= 1
        power += 1
    return value


@lru_cache(maxsize=64)
def _back(power: int) -> tuple[int, ...]:
    """What 2 ** power zero bytes do to each bit of a checksum, the other way round."""
    if power == 0:
        columns = [1 << bit for bit in range(32)]
        for _ in range(8):
            columns = [_bit_back(column) for column in columns]
        return tuple(columns)
    half = _back(power - 1)
    return tuple(_applied(half, column) for column in half)


def _bit_back(value: int) -> int:
    return ((value ^ _POLYNOMIAL) << 1 | 1) & 0xFFFFFFFF if value >> 31 else value << 1


def _applied(columns: tuple[int, ...], value: int) -> int:
    result = 0
    for column in columns:
        if value & 1:
            result ^= column
        value >>= 1
    return result
