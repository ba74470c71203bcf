"""Digests that stores compare, hidden from those who have no key.

A run's row has a fingerprint of its input, an update's row one of its call: by them a repeated start or request is told
from another one. Whoever can read the database could try inputs until one fits. So they are kept as a secret
permutation of them: the same input gives the same bytes, and who has the key gets the fingerprint back.

Its key is the *index key*: it stays the same when keys are rotated, and is kept like those of subjects.
"""

from __future__ import annotations

from hashlib import blake2b

from perdure.codec.sealing.chain import CannotOpen, DataKey
from perdure.errors import SealedError
from perdure.storage.chance import chance
from perdure.storage.keys import INDEX, KeyRow, KeyStore
from perdure.storage.sealing.vault import Vault

_ROUNDS = 4  # an even number, so that the halves have their sizes again in the end


async def find_index(vault: Vault, keys: KeyStore, now: float) -> None:
    """Get the index key of a database, which is made with the first sealed store on it."""
    if vault.encryption is None:
        return
    row = (await keys.of(INDEX) or [await keys.obtain(wrapped(vault, INDEX, now))])[0]
    try:
        assert row.wrapped is not None
        vault.index = vault.encryption.unwrap(row.id, row.ring, row.wrapped).secret
    except CannotOpen as error:
        vault.no_index = str(error)


def wrapped(vault: Vault, subject: str, now: float) -> KeyRow:
    """A new data key, as it is kept."""
    assert vault.encryption is not None
    key = DataKey(chance.token_hex(8), chance.secret(32))
    ring, data = vault.encryption.wrap(key)
    return KeyRow(key.id, subject, ring, data, now)


def hidden(vault: Vault, digest: bytes) -> bytes:
    """A digest as it is kept.

    Raises:
        SealedError: the index key can't be opened.
    """
    if vault.encryption is None or len(digest) < 2:
        return digest
    left, right = _halves(digest)
    for number in range(_ROUNDS):
        left, right = right, _mixed(left, _round(_key(vault), number, right, len(left)))
    return left + right


def shown(vault: Vault, kept: bytes) -> bytes:
    """The digest that was hidden; without the index key what is kept of it."""
    if vault.encryption is None or vault.index is None or len(kept) < 2:
        return kept
    left, right = _halves(kept)
    for number in reversed(range(_ROUNDS)):
        left, right = _mixed(right, _round(vault.index, number, left, len(right))), left
    return left + right


def _halves(data: bytes) -> tuple[bytes, bytes]:
    return data[: len(data) // 2], data[len(data) // 2 :]


def _round(key: bytes, number: int, data: bytes, size: int) -> bytes:
    return (
        blake2b(bytes([number]) + data, digest_size=min(size, 64), key=key, person=b"index")
        .digest()
        .ljust(size, b"\0")
    )


def _mixed(data: bytes, mask: bytes) -> bytes:
    return (int.from_bytes(data, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(data), "big")


def _key(vault: Vault) -> bytes:
    if vault.index is None:
        msg = f"This database's index key can't be opened: {vault.no_index}. Give the engine the keys of this database."
        raise SealedError(msg)
    return vault.index
