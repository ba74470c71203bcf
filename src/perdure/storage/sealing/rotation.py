"""Rotating keys: everything that is sealed with an older key is sealed anew with the newest one, while workers go on.

A piece is opened for its place, sealed for the same place, and replaced if it hasn't changed meanwhile. An event gets
the pad with which its link stays the same: so neither the links behind it nor the run's chain change, and a driver that
appends meanwhile, whatever chain it knows, appends to a sound history. There is nothing to resume: what is sealed with
the newest key is passed over.

Data keys aren't replaced but wrapped anew; what is sealed with them stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from perdure.codec.blobrefs import is_ref
from perdure.codec.sealing.chain import CannotOpen
from perdure.codec.sealing.encryption import DATA_KEY
from perdure.codec.sealing.envelope import REASON, head_of, is_sealed, padded
from perdure.errors import ConfigurationError, UndecodableError
from perdure.storage.chain import END, origin
from perdure.storage.protocol import Store
from perdure.storage.resealing import KINDS, Piece
from perdure.storage.sealing.vault import Vault

_PAGE = 200
#: What counts in the place of a key for what lies in a blob store. It isn't sealed anew.
BLOBS = "(blobs)"


class Progress(msgspec.Struct):
    """How far a rotation has come.

    Attributes:
        looked: pieces that were looked at.
        sealed: of these, sealed anew.
        wrapped: data keys that were wrapped anew.
        closed: pieces that couldn't be opened, and stay as they are; by the key's id.
    """

    looked: int = 0
    sealed: int = 0
    wrapped: int = 0
    closed: Counter[str] = msgspec.field(default_factory=Counter[str])


async def count_keys(below: Store) -> Counter[str]:
    """How many pieces are sealed with which key; "" stands for what isn't sealed. Data keys count for themselves."""
    counted: Counter[str] = Counter()
    async for _, piece in _all(below):
        data = _bytes(piece.data)
        counted[BLOBS if is_ref(data) else head_of(data).key if is_sealed(data) else ""] += 1
    after = ""
    while page := await below.keys.page(after=after, limit=_PAGE):
        for row in page:
            if row.wrapped is not None:
                counted[row.ring] += 1
        after = page[-1].id
    return counted


async def rotate(
    below: Store, vault: Vault, tell: Callable[[Progress], None] = lambda progress: None
) -> Progress:
    """Seal everything with the newest key of the ring.

    Args:
        below: where everything is kept sealed.
        tell: called after each page.

    Raises:
        ConfigurationError: nothing is encrypted here.
    """
    if vault.encryption is None:
        msg = "there is no key to rotate to: set PERDURE_KEYS, the newest key last"
        raise ConfigurationError(msg)
    progress = Progress()
    await _rewrap(below, vault, progress)
    for kind in KINDS:
        after = KINDS[kind]
        while page := await below.resealing.pieces(kind, after=after, limit=_PAGE):
            changed: list[tuple[Any, Any, Any]] = []
            for piece in page:
                progress.looked += 1
                new = _resealed(vault, kind, piece, progress)
                if new is not None:
                    changed.append((piece.key, piece.data, new))
            if changed:
                progress.sealed += await below.resealing.replace(kind, changed)
            after = page[-1].key
            tell(progress)
    return progress


async def _rewrap(below: Store, vault: Vault, progress: Progress) -> None:
    encryption = vault.encryption
    assert encryption is not None
    after = ""
    while page := await below.keys.page(after=after, limit=_PAGE):
        for row in page:
            if row.wrapped is None or row.ring == encryption.keys.newest:
                continue
            try:
                key = encryption.unwrap(row.id, row.ring, row.wrapped)
            except CannotOpen:
                progress.closed[row.ring] += 1
                continue
            ring, wrapped = encryption.wrap(key)
            progress.wrapped += await below.keys.rewrap(row.id, row.ring, to=ring, wrapped=wrapped)
        after = page[-1].id


def _resealed(vault: Vault, kind: str, piece: Piece, progress: Progress) -> Any:
    """What takes its place; None if it stays."""
    assert vault.encryption is not None
    data = _bytes(piece.data)
    if is_ref(data):
        progress.closed[BLOBS] += 1
        return None
    key = head_of(data).key if is_sealed(data) else ""
    if key == vault.encryption.keys.newest or key.startswith(DATA_KEY):
        return None
    try:
        new = _PLACES[kind](vault, piece, data)
    except (CannotOpen, UndecodableError):
        progress.closed[key] += 1
        return None
    return REASON + new.hex() if isinstance(piece.data, str) else new


def _event(vault: Vault, piece: Piece, data: bytes) -> bytes:
    id, generation, link, before = piece.about
    _, seq = piece.key
    opened = vault.open_event(data, id, generation, seq)
    head = head_of(data) if is_sealed(data) else None
    new = vault.event_again(opened, id, generation, seq, head)
    chain = origin(id, generation) if seq == 1 else before
    if chain is None:
        msg = f"event {seq - 1} of run {id!r} is missing"
        raise CannotOpen(msg, damaged=True)
    return padded(new, chain, link, END)


def _mail(vault: Vault, piece: Piece, data: bytes) -> bytes:
    id = piece.about[0]
    return vault.mail_again(vault.open_mail(data, id), id, head_of(data) if is_sealed(data) else None)


def _value(table: str, place: Callable[[Piece], tuple[Any, ...]]) -> Callable[[Vault, Piece, bytes], bytes]:
    def again(vault: Vault, piece: Piece, data: bytes) -> bytes:
        row = place(piece)
        mark = head_of(data).mark if is_sealed(data) else ""
        return vault.value(vault.open_value(data, table, *row), table, *row, mark=mark)

    return again


_PLACES: dict[str, Callable[[Vault, Piece, bytes], bytes]] = {
    "events": _event,
    "mail": _mail,
    "answers": _mail,
    "money": _mail,
    "details": _value("detail", lambda piece: (piece.about[0], piece.key[1])),
    "questions": _value("question", lambda piece: (piece.about[0], piece.key[0].hex())),
    "items": _value("stream", lambda piece: piece.about),
    "updates": _value("update", lambda piece: piece.key),
    "schedules": _value("schedule", lambda piece: piece.key),
    "publications": _value("publication", lambda piece: piece.key),
    "gathered": _value("gathered", lambda piece: piece.key),
    "metadata": _value("checkpoint metadata", lambda piece: piece.key[1:]),
    "checkpoints": _value("checkpoint", lambda piece: piece.key[1:]),
    "channels": _value("channel", lambda piece: piece.key[1:]),
    "writes": _value(
        "write", lambda piece: (piece.key[1], piece.key[2], piece.key[3], piece.key[4], piece.about[0])
    ),
    "reasons": _value("reason", lambda piece: piece.about),
}


async def _all(below: Store) -> AsyncIterator[tuple[str, Piece]]:
    for kind in KINDS:
        after = KINDS[kind]
        while page := await below.resealing.pieces(kind, after=after, limit=_PAGE):
            for piece in page:
                yield kind, piece
            after = page[-1].key


def _bytes(data: Any) -> bytes:
    return bytes.fromhex(data.removeprefix(REASON)) if isinstance(data, str) else data
