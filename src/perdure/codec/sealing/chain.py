"""Codecs: what goes over every payload on its way to the database, and back over it on its way from there.

A chain of them is applied in its order when something is written, and backwards by the names in the head when it is
read. So a codec can be added or left out later, and what was written before stays readable as long as the chain has
all the codecs that were used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from perdure.codec.sealing.envelope import Head, build, encode_head, split
from perdure.errors import ConfigurationError, PerdureError


class DataKey(NamedTuple):
    """A key of its own for what belongs to one subject, which can be destroyed."""

    id: str
    secret: bytes


class Place(NamedTuple):
    """Where a payload lies, as codecs are told.

    Attributes:
        scope: whose it is, for example a run's id.
        bound: bytes that say so exactly; what is encoded for one place mustn't be readable in another.
        data_key: encrypt with this one.
    """

    scope: str
    bound: bytes
    data_key: DataKey | None = None


class CannotOpen(PerdureError):
    """A codec can't turn bytes back.

    Attributes:
        damaged: they aren't what was written here. Otherwise something is missing, such as a key.
    """

    def __init__(self, why: str, *, damaged: bool) -> None:
        super().__init__(why)
        self.damaged = damaged


class Codec(ABC):
    """Turns payloads into other bytes, and back. Derive from it for one of your own.

    Attributes:
        name: stands with everything that it has encoded, so it never changes.
        strict: payloads that it hasn't encoded aren't accepted from the database.

    Example:
        >>> class Upside(Codec):
        ...     name = "upside"
        ...
        ...     def encode(self, data: bytes, place: Place) -> bytes | None:
        ...         return data[::-1]
        ...
        ...     def decode(self, data: bytes, place: Place, key: str) -> bytes:
        ...         return data[::-1]
    """

    name: ClassVar[str]
    strict: bool = False

    @abstractmethod
    def encode(self, data: bytes, place: Place) -> bytes | None:
        """The bytes to keep; None leaves them as they are."""

    @abstractmethod
    def decode(self, data: bytes, place: Place, key: str) -> bytes:
        """What `encode` was given.

        Args:
            key: the id that `key_for` gave.

        Raises:
            CannotOpen: that isn't possible.
        """

    def key_for(self, place: Place) -> str:
        """The id of the key that `encode` will use, for people and for `decode`; "" if it uses none."""
        return ""


class Chain:
    """Codecs one after the other.

    Raises:
        ConfigurationError: two have the same name, or one has none.
    """

    def __init__(self, codecs: Sequence[Codec]) -> None:
        self.codecs = tuple(codecs)
        for codec in self.codecs:
            if not isinstance(codec, Codec) or not isinstance(getattr(codec, "name", None), str):
                msg = (
                    f"codec={codec!r}: give objects of classes that derive from perdure.Codec and have a name"
                )
                raise ConfigurationError(msg)
        self._by_name = {codec.name: codec for codec in self.codecs}
        if len(self._by_name) < len(self.codecs):
            names = ", ".join(codec.name for codec in self.codecs)
            msg = f"codec=: two codecs of one engine can't have the same name: {names}"
            raise ConfigurationError(msg)
        self.required = frozenset(codec.name for codec in self.codecs if codec.strict)

    def seal(
        self,
        data: bytes,
        place: Place,
        kind: str = "",
        at: float = 0.0,
        op: str = "",
        seq: int = 0,
        scope: str = "",
        mark: str = "",
    ) -> bytes:
        """Encode a payload. The arguments behind `place` are said in the clear, see Head."""
        names: tuple[str, ...] = ()
        key = ""
        for codec in self.codecs:
            used = codec.key_for(place) or key
            head = encode_head(Head((*names, codec.name), used, kind, at, op, seq, scope, mark))
            encoded = codec.encode(data, Place(place.scope, head + place.bound, place.data_key))
            if encoded is not None:
                names, key, data = (*names, codec.name), used, encoded
        return build(encode_head(Head(names, key, kind, at, op, seq, scope, mark)), data)

    def open(self, data: bytes, place: Place) -> bytes:
        """What was sealed for this place.

        Raises:
            CannotOpen: it can't be opened.
        """
        head, encoded, body = split(data)
        if not self.required.issubset(head.codecs):
            missing = ", ".join(sorted(self.required.difference(head.codecs)))
            raise CannotOpen(f"it isn't encoded by {missing}, which this engine insists on", damaged=True)
        last = len(head.codecs) - 1
        for number in range(last, -1, -1):
            name = head.codecs[number]
            codec = self._by_name.get(name)
            if codec is None:
                told = f"it is encoded by the codec {name!r}, which this engine doesn't have"
                raise CannotOpen(told, damaged=False)
            if number < last:
                encoded = encode_head(_upto(head, number))
            body = codec.decode(body, Place(place.scope, encoded + place.bound, place.data_key), head.key)
        return body


def _upto(head: Head, number: int) -> Head:
    names = head.codecs[: number + 1]
    return Head(names, head.key, head.kind, head.at, head.op, head.seq, head.scope, head.mark)
