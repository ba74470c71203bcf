"""Rotating keys: everything that is sealed with an older key is sealed anew with the newest one, while workers go on.

A piece is opened for its place, sealed for the same place, and replaced if it hasn't changed meanwhile. An event gets
the pad with which its link stays the same: so neither the links behind it nor the run's chain change, and a driver that
appends meanwhile, whatever chain it knows, appends to a sound history. There is nothing to resume: what is sealed with
the newest key is passed over.

An event in a blob store gets a new blob first, and then its row a new reference, with the same link. The old blob is
left to whoever collects blobs: in between there are two, and each can be read.

Data keys aren't replaced but wrapped anew; what is sealed with them stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from perdure.codec.blobrefs import is_ref, linked, refusal
from perdure.codec.sealing.chain import CannotOpen
from perdure.codec.sealing.encryption import DATA_KEY
from perdure.codec.sealing.envelope import REASON, head_of, is_sealed, padded
from perdure.errors import ConfigurationError, UndecodableError
from perdure.storage.blobs.store import BlobStore
from perdure.storage.chain import END, origin
from perdure.storage.protocol import Store
from perdure.storage.resealing import KINDS, Piece
from perdure.storage.sealing.vault import Vault

_PAGE = 200
#: What counts in the place of a key for what lies in a blob store, if that isn't given here.
BLOBS = "(blobs)"
#: What counts in the place of a key for blobs that are missing or damaged.
LOST = "(blobs that can't be read)"


class Progress(msgspec.Struct):
    """How far a rotation has come.

    Attributes:
        looked: pieces that were looked at.
        sealed: of these, sealed anew.
        wrapped: data keys that were wrapped anew.
        closed: pieces that couldn't be opened, and stay as they are; by the key's id.
        lost: events whose blob is missing or damaged, and that stay as they are.
        why_lost: of the first of these: which it is, and why.
    """

    looked: int = 0
    sealed: int = 0
    wrapped: int = 0
    closed: Counter[str] = msgspec.field(default_factory=Counter[str])
    lost: int = 0
    why_lost: str = ""


async def count_keys(below: Store) -> Counter[str]:
    """How many pieces are sealed with which key; "" stands for what isn't sealed. Data keys count for themselves.

    Args:
        below: where everything is kept sealed; if it has no blobs, events that are blobs count as BLOBS.

    Raises:
        StoreUnavailableError: the blobs' place can't be reached.
    """
    counted: Counter[str] = Counter()
    async for kind, piece in _all(below):
        data = _bytes(piece.data)
        if not _is_blob(kind, data):
            counted[_key_of(data)] += 1
        elif not isinstance(below, BlobStore):
            counted[BLOBS] += 1
        else:
            event = await below.fetched(data)
            if not is_ref(event):
                counted[_key_of(event)] += 1
            elif await _is_there(below, piece):
                counted[LOST] += 1
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
        below: where everything is kept sealed; with its blobs, if it has any.
        tell: called after each page.

    Raises:
        ConfigurationError: nothing is encrypted here.
        StoreUnavailableError: the database or the blobs' place can't be reached, or is full.
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
                if _is_blob(kind, piece.data):
                    await _blob(below, vault, piece, progress)
                    continue
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
    new = _sealed_anew(vault, kind, piece, _bytes(piece.data), progress)
    return REASON + new.hex() if new is not None and isinstance(piece.data, str) else new


async def _blob(below: Store, vault: Vault, piece: Piece, progress: Progress) -> None:
    """One at a time, since they are large. Dying anywhere in here leaves a blob too many, and no event without one."""
    if not isinstance(below, BlobStore):
        progress.closed[BLOBS] += 1
        return
    old = await below.fetched(piece.data)
    if is_ref(old):
        if await _is_there(below, piece):
            progress.lost += 1
            progress.why_lost = progress.why_lost or f"Run {piece.about[0]!r}: {refusal(old)}"
        return
    new = _sealed_anew(vault, "events", piece, old, progress)
    if new is None:
        return
    reference = await below.instead(piece.about[0], old, new)
    reference = linked(reference, _chain(piece), piece.about[2], END)
    progress.sealed += await below.resealing.replace("events", [(piece.key, piece.data, reference)])


async def _is_there(below: Store, piece: Piece) -> bool:
    """Whether the row still has this reference. A run may have been removed meanwhile, and its blobs with it."""
    run, seq = piece.key
    found = await below.resealing.pieces("events", after=(run, seq - 1), limit=1)
    return any(one.key == piece.key and one.data == piece.data for one in found)


def _sealed_anew(vault: Vault, kind: str, piece: Piece, data: bytes, progress: Progress) -> bytes | None:
    assert vault.encryption is not None
    key = _key_of(data)
    if key == vault.encryption.keys.newest or key.startswith(DATA_KEY):
        return None
    try:
        return _PLACES[kind](vault, piece, data)
    except (CannotOpen, UndecodableError):
        progress.closed[key] += 1
        return None


def _event(vault: Vault, piece: Piece, data: bytes) -> bytes:
    id, generation, link, _ = piece.about
    _, seq = piece.key
    opened = vault.open_event(data, id, generation, seq)
    head = head_of(data) if is_sealed(data) else None
    new = vault.event_again(opened, id, generation, seq, head)
    return padded(new, _chain(piece), link, END)


def _chain(piece: Piece) -> int:
    """The chain to which an event was appended."""
    id, generation, _, before = piece.about
    _, seq = piece.key
    chain: int | None = origin(id, generation) if seq == 1 else before
    if chain is None:
        msg = f"event {seq - 1} of run {id!r} is missing"
        raise CannotOpen(msg, damaged=True)
    return chain


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


def _is_blob(kind: str, data: Any) -> bool:
    """Whether it is a reference. Only events are ever kept as blobs, and what others begin with means nothing."""
    return kind == "events" and is_ref(data)


def _key_of(data: bytes) -> str:
    return head_of(data).key if is_sealed(data) else ""


def _bytes(data: Any) -> bytes:
    return bytes.fromhex(data.removeprefix(REASON)) if isinstance(data, str) else data
