"""Which publications somebody wants: fields of the payload, and the values they must have.

`{"customer": "c-7", "items.kind": ["book", "map"]}`: the field `customer` is "c-7", and the field `kind` inside of
`items` is one of the two. It is plain data, so that a store, or a worker that has none of the user's code, can tell
whether a publication fits.

So that a publication finds who waits for it without looking at all who wait, each wait is known by a digest: of the
event's name, and of those fields that must have one certain value. A publication has such a digest for each choice of
fields that anybody waits by (there are few of these).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias, cast

import msgspec

#: A value in JSON that has no parts.
Scalar: TypeAlias = str | int | float | bool | None
Where: TypeAlias = Mapping[str, Scalar | Sequence[Scalar]]

_MATCH_BYTES = 16

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def where_text(where: Where) -> str:
    """The canonical form: conditions that mean the same are the same text; "" for none."""
    return _encode({field: _plain(value) for field, value in where.items()}).decode() if where else ""


def where_of(text: str) -> dict[str, Any]:
    """The condition in that form."""
    return _decode(text) if text else {}


def fits(where: Mapping[str, Any], payload: Any) -> bool:
    """Whether a payload, decoded from JSON, has all these values. A field that isn't there counts as null."""
    return all(_is(value, _field(payload, field)) for field, value in where.items())


def certain_fields(where: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that must have one certain value."""
    return tuple(sorted(field for field, value in where.items() if not isinstance(value, list | tuple)))


def match_of_where(name: str, where: Mapping[str, Any]) -> bytes:
    """The digest of a wait for this event."""
    return _match(name, [(field, where[field]) for field in certain_fields(where)])


def match_of_payload(name: str, fields: Sequence[str], payload: Any) -> bytes | None:
    """The digest of those waits by these fields that a publication may fit; None if it fits none."""
    values = [(field, _field(payload, field)) for field in fields]
    if any(isinstance(value, dict | list) for _, value in values):
        return None
    return _match(name, values)


def group_of(by: str | None, payload: Any) -> str:
    """What a payload has in a field, as a text that tells groups of publications apart."""
    text = "" if by is None else _encode(_plain(_field(payload, by))).decode()
    return text if len(text) <= 200 else blake2b(text.encode(), digest_size=_MATCH_BYTES).hexdigest()


def told(text: str) -> str:
    """A condition for people: `customer = c-7, kind = book or map`."""
    return ", ".join(f"{field} = {_told(value)}" for field, value in where_of(text).items())


def _told(value: Any) -> str:
    if isinstance(value, list):
        return " or ".join(map(_told, cast("Sequence[Any]", value)))
    return value if isinstance(value, str) else _encode(value).decode()


def _match(name: str, values: Sequence[tuple[str, Any]]) -> bytes:
    data = _encode((name, [(field, _typed(value)) for field, value in values]))
    return blake2b(data, digest_size=_MATCH_BYTES).digest()


def _field(payload: Any, path: str) -> Any:
    for part in path.split("."):
        if not isinstance(payload, dict):
            return None
        payload = cast("dict[str, Any]", payload).get(part)
    return payload


def _is(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, list | tuple):
        return any(_is(one, value) for one in cast("Sequence[Any]", wanted))
    return _typed(wanted) == _typed(value)


def _typed(value: Any) -> tuple[str, Any]:
    """A value that equals only its like: true isn't 1, but 1.0 is."""
    return type(value).__name__ if isinstance(value, bool | str) else "", _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_plain(one) for one in cast("Sequence[Any]", value)] if isinstance(value, list | tuple) else value
