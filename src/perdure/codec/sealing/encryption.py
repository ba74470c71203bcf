"""Encryption with AES-256-GCM, bound to the place where the payload lies.

What is encrypted is a 12-byte random nonce and then ciphertext and tag. No key of the ring encrypts payloads itself: of
it and of the *scope* (a run, a schedule, ...) another key is made, so that no key ever sees so many messages that
random nonces could meet. The associated data holds the head and the place, so nothing can be read in another place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from perdure.codec.sealing.chain import CannotOpen, Codec, DataKey, Place
from perdure.codec.sealing.keys import KeyRing
from perdure.errors import ConfigurationError

_NONCE = 12
#: Keys of scopes that are kept ready. One is about 1 kB.
_READY = 4096
#: Before the id of a data key, in heads.
DATA_KEY = "data:"


class Encryption(Codec):
    """AES-256-GCM with the newest key of a ring.

    Args:
        keys: a ring, or secrets of 32 bytes by id, the newest last.
        strict: refuse what isn't encrypted. Without it a database that isn't encrypted yet can be read; but whoever can
            write to the database could then put payloads of their own there.
        per_run: each run that has no subject gets a key of its own, so that it can be erased alone. Its children share
            it.

    Raises:
        ConfigurationError: a key can't be used, or the package `cryptography` is missing.

    Example:
        >>> Engine("sqlite:///agents.db", codec=Encryption(KeyRing.from_env()))  # doctest: +SKIP
    """

    name = "aes-256-gcm"

    def __init__(
        self, keys: KeyRing | Mapping[str, bytes], *, strict: bool = True, per_run: bool = False
    ) -> None:
        try:
            from cryptography.exceptions import InvalidTag
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            msg = f"encryption needs a package that isn't installed ({error}): pip install 'perdure[crypto]'"
            raise ConfigurationError(msg) from error
        self.strict = strict
        self.per_run = per_run
        self.keys = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        self._newest = self.keys.newest
        self._wrong: type[Exception] = InvalidTag

        @lru_cache(_READY)
        def cipher(secret: bytes, scope: str) -> Any:
            return AESGCM(derived(secret, "payload", scope))

        self._cipher: Callable[[bytes, str], Any] = cipher

    def key_for(self, place: Place) -> str:
        return self._newest if place.data_key is None else DATA_KEY + place.data_key.id

    def encode(self, data: bytes, place: Place) -> bytes | None:
        secret = self._secret_for(place)
        nonce = os.urandom(_NONCE)
        sealed: bytes = nonce + self._cipher(secret, place.scope).encrypt(nonce, data, place.bound)
        return sealed

    def decode(self, data: bytes, place: Place, key: str) -> bytes:
        if key.startswith(DATA_KEY):
            if place.data_key is None or DATA_KEY + place.data_key.id != key:
                told = f"its key {key!r} was destroyed, or isn't in this database"
                raise CannotOpen(told, damaged=False)
            secret: bytes | None = place.data_key.secret
        else:
            secret = self.keys.secret(key)
        if secret is None:
            has = ", ".join(self.keys.ids)
            told = f"it is sealed with the key {key!r}, which isn't in the key ring here (there is {has})"
            raise CannotOpen(told, damaged=False)
        try:
            opened: bytes = self._cipher(secret, place.scope).decrypt(
                data[:_NONCE], data[_NONCE:], place.bound
            )
        except (self._wrong, ValueError):
            told = (
                f"the key {key!r} doesn't open it: it was changed, or was sealed for another place, or that "
                "key isn't the one it was sealed with"
            )
            raise CannotOpen(told, damaged=True) from None
        return opened

    def wrap(self, data_key: DataKey) -> tuple[str, bytes]:
        """The id of the newest key, and a data key encrypted with it."""
        place = Place("data keys", data_key.id.encode())
        sealed = self.encode(data_key.secret, place)
        assert sealed is not None
        return self._newest, sealed

    def unwrap(self, id: str, key: str, wrapped: bytes) -> DataKey:
        """The data key that was wrapped with a key of the ring.

        Raises:
            CannotOpen: that key isn't there, or the bytes aren't what was wrapped.
        """
        return DataKey(id, self.decode(wrapped, Place("data keys", id.encode()), key))

    def _secret_for(self, place: Place) -> bytes:
        if place.data_key is not None:
            return place.data_key.secret
        secret = self.keys.secret(self._newest)
        assert secret is not None
        return secret


def derived(secret: bytes, use: str, scope: str) -> bytes:
    """A key for one use and scope, from which nobody can tell the secret."""
    hashed = blake2b(key=secret, digest_size=32, person=use.encode()[:16])
    hashed.update(scope.encode("utf-8", "surrogatepass"))
    return hashed.digest()
