"""Values as JSON, by their annotations, and nothing lost on the way.

A result is recorded once and read many times: after a crash, on another machine, by next year's code. Live
code must see what replay will see, so `record` hands back the decoded value, and refuses one that would not
come back as what it was: a NaN (JSON would make it null), a key that the declared type drops, an object where
the type says nothing. Better a refusal in the first run, which names the place, than a surprise in a replay.

The usual case costs one encoding, one decoding and one `==`; only if that says no do the walks of explain.py
look for the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast

import msgspec

from perdure.codec.depth import SHALLOW, check_depth
from perdure.codec.explain import Problem, describe, difference, equal, non_finite, unwritable
from perdure.codec.foreign import encode_json
from perdure.codec.schema import Schema, build, resolve, show, unusable
from perdure.codec.sealing.envelope import is_sealed, why_closed
from perdure.errors import NotSerializableError, PayloadTooLargeError, SealedError, UndecodableError

__all__ = ["ValueCodec", "cannot_carry", "check_size"]

T = TypeVar("T")

#: JSON carries their values unchanged, and nobody can change them.
_PLAIN = (int, str, bool)


class ValueCodec(Generic[T]):
    """Carries the values of one declared type as JSON.

    Args:
        annotation: the declared type as it stands in the signature, `inspect.Parameter.empty` if there is
            none. It isn't looked at before the first use, so it may name what doesn't exist yet.
        where: what is carried, for messages: "result of step app.fetch".
        owner: the function that holds the annotation; the names that it knows give it its meaning.
        names: more names it may use, such as the local ones at the place of decoration.

    Example:
        >>> codec = ValueCodec[set[int]](set[int], "result of step app.ids")
        >>> codec.record({7})
        (b'[7]', {7})
    """

    __slots__ = ("_annotation", "_names", "_owner", "_plain", "_schema", "where")

    def __init__(
        self,
        annotation: Any,
        where: str,
        *,
        owner: Callable[..., Any] | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        self.where = where
        self._annotation = annotation
        self._owner = owner
        self._names = names
        self._schema: Schema | None = None
        self._plain: type | None = None  # the declared type, if JSON carries its values unchanged

    def encode(self, value: T) -> bytes:
        """Return the value's JSON, without checking that it fits the annotation.

        Raises:
            NotSerializableError: some part of it has no JSON form.
        """
        try:
            return encode_json(value)
        # The serializers of a model are user code, and raise what they like.
        except Exception as error:
            raise cannot_carry(self.where, unwritable(value)) from error

    def decode(self, data: bytes | msgspec.Raw) -> T:
        """Read a recorded value as the type that the code declares today.

        Raises:
            UndecodableError: it doesn't fit that type, the type can't be used, or the bytes are damaged.
        """
        try:
            schema = self._schema or self._build()
            return cast("T", schema.decode(data))
        except NotSerializableError as error:
            raise UndecodableError(f"The recorded {self.where} can't be read. {error}") from error
        # Validators of models and __post_init__ of dataclasses are user code, and raise what they like.
        except Exception as error:
            if is_sealed(whole := bytes(data)):  # a Raw isn't indexed
                raise SealedError(f"The recorded {self.where} can't be read: {why_closed(whole)}.") from None
            raise UndecodableError(
                f"The recorded {self.where} can't be read as `{show(self._annotation)}`: {_told(error)}. The "
                "type has changed since it was recorded, or the bytes are damaged. Let the type read the old "
                "value again (keep the names of fields, give new ones a default), or bring back the code "
                "that wrote it; the run goes on by itself then."
            ) from error

    def record(self, value: T) -> tuple[bytes, T]:
        """Encode a value, and decode it back to make sure that nothing is lost.

        Returns:
            Its JSON bytes, and the decoded value: what live code must go on with, since replay will.

        Raises:
            NotSerializableError: it can't be carried; names the place and what to do.
        """
        if self._schema is None:
            # First, so that a type which can't be carried is told before its first value is.
            self._build()
        if type(value) is self._plain:  # decoding would only make an equal object
            try:
                return encode_json(value), value
            except Exception as error:  # a text that isn't Unicode, a number that is too large
                raise cannot_carry(self.where, unwritable(value)) from error
        data = self.encode(value)
        return data, self.verify(value, data)

    def verify(self, value: T, data: bytes | msgspec.Raw) -> T:
        """Decode `data`, the JSON of `value`, and make sure that nothing is lost. See `record`."""
        schema = self._schema or self._build()
        try:
            decoded: T = schema.decode(data)
            problem = None if schema.loose is None else schema.loose(value)
            if schema.same is not None:
                problem = non_finite(value) or (None if schema.same(value, decoded) else _otherwise(value))
            elif problem is None and not (schema.comparable and equal(value, decoded)):
                problem = difference(value, decoded)
        except RecursionError as error:
            raise cannot_carry(self.where, unwritable(value)) from error
        # Validators and properties of the value's class are user code, and raise what they like.
        except Exception as error:
            raise self._misfit(value, error) from error
        if problem is not None:
            raise cannot_carry(self.where, problem)
        return decoded

    def check(self) -> None:
        """Make sure that values of the declared type can be carried at all.

        Raises:
            NotSerializableError: they can't; names the type and what to do.
        """
        if self._schema is None:
            self._build()

    def resolved(self) -> Any:
        """The declared type itself, not the text that names it.

        Raises:
            NotSerializableError: its values can't be carried.
        """
        self.check()
        return self._annotation

    def exact_type(self) -> type | None:
        """The declared type, if it is plain."""
        try:
            annotation = resolve(self._annotation, self._owner, self._names)
        # Evaluating an annotation can raise whatever the expression in it does; the first use will say so.
        except Exception:  # noqa: BLE001
            return None
        return annotation if annotation in _PLAIN else None

    def _build(self) -> Schema:
        try:
            annotation = resolve(self._annotation, self._owner, self._names)
        # Evaluating an annotation can raise whatever the expression in it does.
        except Exception as error:
            raise unusable(
                self._annotation,
                self.where,
                f"it can't be resolved ({type(error).__name__}: {error})",
                "Define what it names at the top level of the module, or import it there, and not only under "
                "`if TYPE_CHECKING`.",
            ) from error
        self._annotation = annotation
        self._plain = annotation if annotation in _PLAIN else None
        self._schema = build(annotation, self.where)
        return self._schema

    def _misfit(self, value: object, error: Exception) -> NotSerializableError:
        try:
            problem = non_finite(value)
        except RecursionError:
            problem = unwritable(value)
        if problem is not None:
            return cannot_carry(self.where, problem)
        return NotSerializableError(
            f"The {self.where} is declared as `{show(self._annotation)}`, and {describe(value)} doesn't fit: "
            f"{_told(error)}. Give what the type says, or correct the annotation."
        )


def cannot_carry(where: str, problem: Problem) -> NotSerializableError:
    """The error for a value that can't be carried."""
    return NotSerializableError(
        f"The {where} can't be recorded: at `{problem.path}`, {problem.what}. {problem.advice}"
    )


def check_size(data: bytes, limit: int, where: str) -> None:
    """Refuse an encoded value that is larger than the engine's limit, or nested too deeply.

    Args:
        data: the encoded value.
        limit: the most bytes it may have.
        where: what it is, for the message: "result of step app.fetch".

    Raises:
        PayloadTooLargeError: it has more.
        NotSerializableError: its arrays and objects are nested deeper than `DEPTH_MAX`.

    Example:
        >>> check_size(b"[1]", 1000, "result of step app.ids")
    """
    if len(data) > limit:
        raise PayloadTooLargeError(
            f"The {where} has {len(data):,} bytes, and the limit is {limit:,}: histories are read as a "
            "whole, so large values slow down every replay. Store the value elsewhere (a file, an object "
            "store) and return a reference to it, or raise the engine's `max_payload`."
        )
    if len(data) > SHALLOW:  # asked here, as this is done twice for each step
        check_depth(data, where)


def _otherwise(value: object) -> Problem:
    advice = "Give what the declared type says, or correct the type."
    return Problem("$", f"{describe(value)} would come back otherwise", advice)


def _told(error: Exception) -> str:
    # msgspec leaves out the place if it is the value itself.
    text = str(error) or type(error).__name__
    named = isinstance(error, msgspec.ValidationError) and " - at `" not in text
    return f"{text} - at `$`" if named else text
