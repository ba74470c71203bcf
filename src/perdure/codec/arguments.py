"""A call's input as JSON: canonical, checked like a call, decoded by the parameters' annotations.

The bytes are `[[positional, ...], {"keyword": ...}]`. They are canonical, so that their fingerprint tells
whether a recorded step was given the same input: equal arguments give equal bytes in every process, and it
makes no difference whether one was passed by position or by keyword.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any, TypeAlias

import msgspec

from perdure.codec.canonical import encode_canonical, only_scalars
from perdure.codec.changing import put, reworded
from perdure.codec.explain import unwritable
from perdure.codec.foreign import encode_json
from perdure.codec.stub import stub_of
from perdure.codec.values import ValueCodec, cannot_carry
from perdure.errors import NotSerializableError, UndecodableError

__all__ = ["Arguments", "Call"]

#: Positional and keyword arguments.
Call: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

# Fetched once: subscribing a generic class for each call would cost more than the decoding.
_decode: Callable[[ValueCodec[Any], msgspec.Raw], Any] = ValueCodec[Any].decode

_split = msgspec.json.Decoder(tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]).decode


class Arguments:
    """Carries the arguments of one function.

    Args:
        function: the function; its annotations aren't resolved before the first decoding.
        where: what is called, for messages: "step app.fetch".
        names: more names the annotations may use, such as the local ones at the place of decoration.

    Attributes:
        fits: called like the function; raises the TypeError that this would.
        positions: names of the parameters that may be given by position.

    Example:
        >>> def fetch(url: str, *, retries: int = 3) -> str: ...
        >>> arguments = Arguments(fetch, "step app.fetch")
        >>> arguments.encode((), {"url": "x"})
        b'[["x"],{}]'
    """

    __slots__ = (
        "_any_keyword",
        "_any_position",
        "_by_any_name",
        "_by_name",
        "_by_position",
        "_movable",
        "_plain",
        "fits",
        "positions",
        "where",
    )

    def __init__(
        self, function: Callable[..., Any], where: str, *, names: Mapping[str, Any] | None = None
    ) -> None:
        self.where = where
        self.fits = stub_of(function)
        self._by_position: list[ValueCodec[Any]] = []
        self._by_name: dict[str, ValueCodec[Any]] = {}
        self._any_position: ValueCodec[Any] | None = None
        self._any_keyword: ValueCodec[Any] | None = None
        #: For each position the keyword that may be used instead, None for positional-only parameters.
        self._movable: list[str | None] = []
        self.positions: list[str] = []
        self._plain: frozenset[tuple[type | None, ...]] | None = None
        self._by_any_name: dict[str, ValueCodec[Any]] = {}
        for parameter in inspect.signature(function).parameters.values():
            label = f"argument {parameter.name!r} of {where}"
            codec = ValueCodec[Any](parameter.annotation, label, owner=function, names=names)
            self._by_any_name[parameter.name] = codec
            if parameter.kind is Parameter.VAR_POSITIONAL:
                self._any_position = codec
            elif parameter.kind is Parameter.VAR_KEYWORD:
                self._any_keyword = codec
            else:
                if parameter.kind is not Parameter.KEYWORD_ONLY:
                    self._by_position.append(codec)
                    self.positions.append(parameter.name)
                    by_keyword = parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
                    self._movable.append(parameter.name if by_keyword else None)
                if parameter.kind is not Parameter.POSITIONAL_ONLY:
                    self._by_name[parameter.name] = codec

    def type_of(self, name: str) -> Any:
        """The declared type of a parameter, of any kind.

        Raises:
            NotSerializableError: its values can't be carried.
        """
        return self._by_any_name[name].resolved()

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """Return the canonical bytes of a call that `fits` has passed.

        Whether the values fit their annotations isn't looked at, and defaults aren't filled in.

        Raises:
            NotSerializableError: some part of them has no JSON form.
        """
        return self._encode(*self._normal(args, kwargs))

    def _encode(self, args: tuple[Any, ...], rest: dict[str, Any]) -> bytes:
        """The canonical bytes of a call in its normal form."""
        try:
            if not rest and only_scalars(map(type, args)):
                return encode_json((args, rest))  # nothing to put in order; replay does this for every step
            return encode_canonical((args, rest))
        # The serializers of a model are user code, and raise what they like.
        except Exception as error:
            raise self._unwritable(args, rest) from error

    def decode(self, data: bytes) -> Call:
        """Read recorded arguments as the types that the function declares today.

        Raises:
            UndecodableError: they don't fit the function or its annotations, or the bytes are damaged.
        """
        try:
            args, kwargs = _split(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise UndecodableError(
                f"The recorded input of {self.where} can't be read: {error}. Its bytes are damaged. Restore "
                "the database from a backup, or start the run again."
            ) from error
        call = self._each(args, kwargs, _decode)
        try:
            self.fits(*call[0], **call[1])
        except TypeError as error:
            raise self._changed(str(error)) from error
        return call

    def change(
        self, data: bytes, parts: Sequence[tuple[str, bytes]], text: Sequence[tuple[str, str]]
    ) -> bytes:
        """The canonical bytes of the same call with other parts (see changing.py).

        Raises:
            Misplaced: a path leads nowhere.
            UndecodableError: the function can't be called so.
        """
        args, kwargs = json.loads(data)
        before = encode_canonical((args, kwargs))
        for path, value in parts:
            put(args, kwargs, path, json.loads(value), positions=self.positions, named=self._takes)
        if text:
            args, kwargs = reworded(args, text), reworded(kwargs, text)
        after = encode_canonical((args, kwargs))
        if after == before:
            return data
        self.decode(after)
        return after

    def _takes(self, name: str) -> bool:
        return name in self._by_name or self._any_keyword is not None

    def record(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bytes, Call]:
        """Encode a call that `fits` has passed, and make sure that nothing is lost.

        Returns:
            Its canonical bytes, and the decoded arguments: what live code must go on with, as replay will.

        Raises:
            NotSerializableError: an argument can't be carried; names it, the place in it, and what to do.
        """
        if self._plain is None:
            types = [codec.exact_type() for codec in self._by_position]
            self._plain = frozenset(tuple(types[:length]) for length in range(len(types) + 1))
        args, rest = self._normal(args, kwargs) if kwargs else (args, {})
        if not rest and tuple(map(type, args)) in self._plain:
            # Ints, texts and bools passed for just that: ids, urls, numbers of pages. Decoding would only make equal
            # objects of them; not doing it makes such a call 2 microseconds cheaper, of 3.
            try:
                return encode_json((args, rest)), (args, rest)
            except Exception as error:  # a text that isn't Unicode, a number that is too large
                raise self._unwritable(args, rest) from error
        data = self._encode(args, rest)
        raw_args, raw_kwargs = _split(data)
        values = iter([*args, *(rest[name] for name in raw_kwargs)])
        return data, self._each(raw_args, raw_kwargs, lambda codec, raw: codec.verify(next(values), raw))

    def _each(
        self,
        args: list[msgspec.Raw],
        kwargs: dict[str, msgspec.Raw],
        read: Callable[[ValueCodec[Any], msgspec.Raw], Any],
    ) -> Call:
        """Read every argument with the codec of its parameter, positional ones first."""
        codecs: list[ValueCodec[Any]] = self._by_position[: len(args)]
        if (surplus := len(args) - len(codecs)) > 0:
            if self._any_position is None:
                raise self._changed(f"it has {len(args)} positional arguments")
            codecs += [self._any_position] * surplus
        values = tuple([read(codec, raw) for codec, raw in zip(codecs, args, strict=True)])
        named: dict[str, Any] = {}
        for name, raw in kwargs.items():
            codec = self._by_name.get(name, self._any_keyword)
            if codec is None:
                raise self._changed(f"it has an argument {name!r}")
            named[name] = read(codec, raw)
        return values, named

    def _normal(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """Pass by position what can be."""
        if not kwargs:
            return args, {}
        rest, moved = dict(kwargs), list(args)
        for name in self._movable[len(args) :]:
            if name is None or name not in rest:
                break
            moved.append(rest.pop(name))
        return tuple(moved), rest

    def _unwritable(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NotSerializableError:
        codecs = [*self._by_position[: len(args)]]
        codecs += [codec for codec in [self._any_position] if codec] * (len(args) - len(codecs))
        named = [(self._by_name.get(name, self._any_keyword), value) for name, value in kwargs.items()]
        for codec, value in [*zip(codecs, args, strict=False), *named]:
            try:
                encode_canonical(value)
            except Exception:  # noqa: BLE001 - it is explained below
                where = codec.where if codec else f"input of {self.where}"
                return cannot_carry(where, unwritable(value, encode_canonical))
        return cannot_carry(f"input of {self.where}", unwritable((args, kwargs), encode_canonical))

    def _changed(self, how: str) -> UndecodableError:
        return UndecodableError(
            f"The recorded input of {self.where} doesn't fit its parameters: {how}. The function's signature "
            "has changed since. Give new parameters a default and keep the old ones, or bring back the code "
            "that recorded it; the run goes on by itself then."
        )
