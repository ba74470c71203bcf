"""What of a request is a secret: it is in nothing that is recorded.

Of a request only method, address and a fingerprint are recorded, so its headers never are. But servers repeat keys in
what they answer, and clients in the texts of their errors. So the values of everything that looks like a credential
are looked for in answers and errors, and crossed out.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast
from urllib.parse import quote, quote_plus

#: Names of headers and parameters whose values are credentials.
_SECRET = re.compile(
    r"(^|[-_.])(auth|key|token|secret|password|credential|cookie|signature|sig|code|session)s?($|[-_.])"
    r"|authorization|apikey|accesstoken|password|secret",
    re.IGNORECASE,
)
#: And those of fields of a body, where more is data.
_SECRET_FIELD = re.compile(
    r"^(api|access|auth|refresh|client)[-_]?(key|token|secret)$|^password$", re.IGNORECASE
)
_HARMLESS = frozenset({"idempotency-key", "x-idempotency-key"})
_SEPARATORS = re.compile(r"[\s,;=\"']+")
_SHORTEST = 8  #: shorter texts aren't crossed out: they would be found in any prose


def is_secret(name: str) -> bool:
    """Whether a header or parameter of this name holds a credential.

    >>> is_secret("x-goog-api-key"), is_secret("Authorization"), is_secret("idempotency-key"), is_secret("monkey")
    (True, True, False, False)
    """
    return name.lower() not in _HARMLESS and _SECRET.search(name) is not None


def is_secret_field(name: str) -> bool:
    """The same for a field of a body."""
    return _SECRET_FIELD.search(name) is not None


def secrets_of(
    headers: Iterable[tuple[str, str]], query: Iterable[tuple[str, str]], body: Any
) -> tuple[str, ...]:
    """The credentials that a request carries, the longest first."""
    found: set[str] = set()
    for name, value in (*headers, *query):
        if is_secret(name):
            found.update(_parts(value))
    if isinstance(body, Mapping):
        for name, value in cast("Mapping[str, Any]", body).items():
            if isinstance(value, str) and is_secret_field(name):
                found.update(_parts(value))
    for secret in list(found):  # as addresses and JSON have them
        found |= {
            quote(secret, safe=""),
            quote_plus(secret),
            secret.replace("/", "\\/"),
            json.dumps(secret)[1:-1],
        }
    return tuple(sorted(found, key=lambda text: (-len(text), text)))


def _parts(value: str) -> Iterator[str]:
    yield from _long((value.strip(),))
    for part in _SEPARATORS.split(value):
        yield from _long((part,))
        try:  # user and password, as basic authentication has them
            plain = base64.b64decode(part + "=" * (-len(part) % 4), validate=True).decode()
        except (binascii.Error, ValueError):
            continue
        if ":" in plain and plain.isprintable():
            yield from _long((plain, *plain.split(":", 1)))


def _long(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if len(text) >= _SHORTEST)


def crossed_out(text: str, secrets: Iterable[str]) -> str:
    """A text without the secrets.

    >>> crossed_out("Incorrect API key: sk-0123456789", ("sk-0123456789",))
    'Incorrect API key: *************'
    """
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, "*" * len(secret))
    return text


def crossed_out_bytes(data: bytes, secrets: Iterable[str]) -> bytes:
    """The same for bytes."""
    for secret in secrets:
        raw = secret.encode("utf-8", "surrogateescape")
        if raw in data:
            data = data.replace(raw, b"*" * len(raw))
    return data
