"""What proves that a webhook comes from where it should: a signature made with a shared secret.

    standard   Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over `id.timestamp.body`, in base64
    github     `X-Hub-Signature-256`: HMAC-SHA256 over the body, in hex; neither its id nor a time is signed
    stripe     `Stripe-Signature`: HMAC-SHA256 over `timestamp.body`, in hex; the id is in the body

A sender that changes its secret signs with the old and the new one for a while, and a receiver may know several: one
match is enough, all are compared, and each comparison takes the same time wherever the difference is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets as chance
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from perdure.errors import ConfigurationError

Scheme: TypeAlias = Literal["standard", "github", "stripe"]
SCHEMES: Final[tuple[str, ...]] = get_args(Scheme)

TOLERANCE: Final = 300.0  #: seconds by which a signature may be older or newer than now

PREFIX: Final = "whsec_"
_FEWEST, _MOST = 24, 64  # bytes of a standard secret
_LEAST_TEXT = 8  # characters of a secret that others' schemes take as it is
_SIGNATURES = 20  # that are looked at; a sender has one for each of its secrets
_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)


class Proof(NamedTuple):
    """What a valid signature says.

    Attributes:
        id: of the delivery; the same when it is delivered again.
        at: when it was signed, as a POSIX time; None if that isn't signed.
    """

    id: str
    at: int | None


class BadSignature(Exception):
    """The request doesn't prove that it comes from who has the secret."""


class Untimely(BadSignature):
    """It does, but its signature is too old, or from the future: it may be somebody's copy."""


def keys_of(scheme: Scheme, secrets: Sequence[str]) -> list[bytes]:
    """The keys for signatures that secrets stand for.

    Raises:
        ConfigurationError: one is no such secret. The message doesn't have it.
    """
    return [_standard_key(text) if scheme == "standard" else _plain_key(text) for text in secrets]


def _standard_key(text: str) -> bytes:
    coded = text.removeprefix(PREFIX)
    try:
        key = base64.b64decode(coded + "=" * (-len(coded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _FEWEST <= len(key) <= _MOST:
        msg = (
            f"a webhook's secret must be {PREFIX} and {_FEWEST} to {_MOST} random bytes in base64, and one of those "
            "given isn't: copy it whole, or make one with perdure.web.new_secret()"
        )
        raise ConfigurationError(msg) from None
    return key


def _plain_key(text: str) -> bytes:
    if len(text) < _LEAST_TEXT:
        msg = f"a webhook's secret must have {_LEAST_TEXT} characters at least, and one of the given ones is shorter"
        raise ConfigurationError(msg)
    return text.encode()


def new_secret() -> str:
    """A random secret for a sender and a receiver of Standard Webhooks.

    Example:
        >>> new_secret()[:6]
        'whsec_'
    """
    return PREFIX + base64.b64encode(chance.token_bytes(32)).decode()


def sign(body: bytes | str, secret: str, *, id: str | None = None, at: float | None = None) -> dict[str, str]:
    """The headers with which a body is sent as a Standard Webhook: for tests of a receiver, and for sending.

    Args:
        secret: as the receiver has it, `whsec_...`.
        id: of the delivery; the same one when it is sent again. A random one by default.
        at: when it is sent, as a POSIX time; now by default.

    Raises:
        ConfigurationError: the secret is none.

    Example:
        >>> sorted(sign(b"{}", new_secret()))
        ['webhook-id', 'webhook-signature', 'webhook-timestamp']
    """
    id = id or f"msg_{chance.token_hex(12)}"
    stamp = str(int(time.time() if at is None else at))
    data = body.encode() if isinstance(body, str) else body
    signature = base64.b64encode(_digest(_standard_key(secret), f"{id}.{stamp}.".encode(), data)).decode()
    return {"webhook-id": id, "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}


def prove(
    scheme: Scheme, headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], *, now: float
) -> Proof:
    """Make sure that whoever sent this has one of the keys.

    Args:
        headers: whose names are looked up in small letters.
        now: as a POSIX time.

    Raises:
        BadSignature: they haven't, as far as this shows.
        Untimely: they had, but not at this time.
    """
    proof = _WAYS[scheme](headers, body, keys)
    if proof.at is not None and abs(now - proof.at) > TOLERANCE:
        raise Untimely
    return proof


def _standard(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes]) -> Proof:
    id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = [
        value
        for version, _, value in (
            item.partition(",") for item in headers.get("webhook-signature", "").split(" ")
        )
        if version == "v1"
    ]
    signed = f"{id}.{stamp}.".encode("latin-1", "replace")
    made = [base64.b64encode(_digest(key, signed, body)) for key in keys]
    if not (_any_equal(made, given) and id and _TIME.fullmatch(stamp)):
        raise BadSignature
    return Proof(id, int(stamp))


def _github(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes]) -> Proof:
    kind, _, given = headers.get("x-hub-signature-256", "").partition("=")
    made = [_digest(key, b"", body).hex().encode() for key in keys]
    id = headers.get("x-github-delivery", "")
    if not (_any_equal(made, [given] if kind == "sha256" else []) and id):
        raise BadSignature
    return Proof(id, None)


def _stripe(headers: Mapping[str, str], body: bytes, keys: Sequence[bytes]) -> Proof:
    parts = [item.strip().partition("=") for item in headers.get("stripe-signature", "").split(",")]
    stamp = next((value for name, _, value in parts if name == "t"), "")
    given = [value for name, _, value in parts if name == "v1"]
    made = [_digest(key, f"{stamp}.".encode("latin-1", "replace"), body).hex().encode() for key in keys]
    if not (_any_equal(made, given) and _TIME.fullmatch(stamp)):
        raise BadSignature
    try:
        id = msgspec.json.decode(body, type=_Identified).id
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise BadSignature from None
    return Proof(id, int(stamp))


class _Identified(msgspec.Struct):
    id: str


_WAYS: Final[dict[str, Callable[[Mapping[str, str], bytes, Sequence[bytes]], Proof]]] = {
    "standard": _standard,
    "github": _github,
    "stripe": _stripe,
}


def _digest(key: bytes, before: bytes, body: bytes) -> bytes:
    made = hmac.new(key, before, hashlib.sha256)
    made.update(body)
    return made.digest()


def _any_equal(made: Sequence[bytes], given: Sequence[str]) -> bool:
    found = False
    for signature in given[:_SIGNATURES]:
        said = signature.encode("latin-1", "replace")
        for expected in made:
            found |= hmac.compare_digest(expected, said)
    return found
