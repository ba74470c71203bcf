"""Rings of keys. The newest key encrypts, and any of them decrypts what was encrypted with it.

A key is written as `id:secret`, the secret being 32 bytes in URL-safe base64. A ring is written as keys with white
space or commas between them, the newest last; lines of a file may begin with `#`. Where a ring is asked for, `@` and
a path mean the file there.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from perdure.errors import ConfigurationError

#: The environment variable that engines of the command line take their keys from.
KEYS = "PERDURE_KEYS"

_SIZE = 32
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


class KeyRing:
    """Keys by their ids, the newest last.

    Args:
        keys: secrets of 32 bytes each, by id.

    Raises:
        ConfigurationError: there is none, or one can't be used.

    Example:
        >>> ring = KeyRing({"2026": bytes(32)})
        >>> ring.newest
        '2026'
    """

    __slots__ = ("_secrets", "newest")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            msg = "a key ring needs at least one key: `perdure keys new` makes one"
            raise ConfigurationError(msg)
        for id, secret in keys.items():
            if not _ID.fullmatch(id):
                msg = f"{id!r} can't be the id of a key: take up to 40 letters, digits, dots, - and _"
                raise ConfigurationError(msg)
            if not isinstance(secret, bytes) or len(secret) != _SIZE:
                msg = (
                    f"the secret of key {id!r} isn't {_SIZE} bytes long: `perdure keys new` makes such a key"
                )
                raise ConfigurationError(msg)
        self._secrets = dict(keys)
        self.newest = next(reversed(self._secrets))

    @classmethod
    def from_text(cls, text: str, *, where: str = "the text") -> KeyRing:
        """The ring that a text holds; `where` it is from goes into errors."""
        if text.startswith("@"):
            return cls.from_file(text[1:].strip())
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        keys: dict[str, bytes] = {}
        for number, word in enumerate(re.split(r"[\s,]+", "\n".join(lines).strip()), 1):
            id, colon, secret = word.partition(":")
            if not word:
                continue
            try:
                if not colon:
                    raise ValueError
                raw = base64.b64decode(secret + "=" * (-len(secret) % 4), altchars=b"-_", validate=True)
            except (binascii.Error, ValueError):
                # never the text itself: it may be a secret
                msg = f"key {number} in {where} can't be read: a key is written as id:secret, see `perdure keys new`"
                raise ConfigurationError(msg) from None
            if id in keys:
                msg = f"{where} has two keys with the id {id!r}: each key has an id of its own"
                raise ConfigurationError(msg)
            keys[id] = raw
        if not keys:
            msg = f"there is no key in {where}: `perdure keys new` makes one"
            raise ConfigurationError(msg)
        return cls(keys)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> KeyRing:
        """The ring in a file."""
        try:
            text = Path(path).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            kind = getattr(error, "strerror", None) or "it isn't a text of keys"
            msg = f"the keys in {os.fspath(path)} can't be read: {kind}"
            raise ConfigurationError(msg) from None
        return cls.from_text(text.removeprefix("@"), where=os.fspath(path))

    @classmethod
    def from_env(cls, name: str = KEYS) -> KeyRing:
        """The ring in an environment variable."""
        text = os.environ.get(name, "")
        if not text.strip():
            msg = f"the environment variable {name} holds no keys: `perdure keys new` makes one"
            raise ConfigurationError(msg)
        return cls.from_text(text, where=f"the environment variable {name}")

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its keys, the newest last."""
        return tuple(self._secrets)

    def secret(self, id: str) -> bytes | None:
        """The secret of a key, None if the ring doesn't have it."""
        return self._secrets.get(id)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.ids)})"


def new_key(id: str | None = None) -> str:
    """A new key, as it is written. Without an id it is called by today's date and a few random letters."""
    named = id or f"{datetime.now(UTC):%Y%m%d}-{os.urandom(2).hex()}"
    secret = os.urandom(_SIZE)
    KeyRing({named: secret})  # says what is wrong with the id
    return f"{named}:{base64.urlsafe_b64encode(secret).decode().rstrip('=')}"
