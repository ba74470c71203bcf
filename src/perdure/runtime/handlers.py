"""Handlers with their types: between the bytes of a call and the function that takes it.

A caller knows nothing of a handler's signature, so its arguments travel as plain JSON and are read here, by the
handler's annotations; whether they fit is found out here, too. Handlers are registered anew in each run, so all
that costs something (signatures, decoders) waits until one is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from perdure.codec.arguments import Arguments
from perdure.codec.canonical import encode_canonical
from perdure.codec.explain import non_finite, unwritable
from perdure.codec.failures import exception_of, failure_of
from perdure.codec.forms import call_schema
from perdure.codec.values import ValueCodec, cannot_carry, check_size
from perdure.core import events as ev
from perdure.errors import (
    HandlerFailed,
    NotSerializableError,
    ReadOnlyError,
    UndecodableError,
    UnknownHandlerError,
)
from perdure.storage.effects import SetUpdate, UpdateState

_split = msgspec.json.Decoder(tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]).decode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(ev.Failure).decode

#: JSON that this process has no type for.
PLAIN = ValueCodec[Any](Any, "answer of a handler this process has no code for")


def encode_call(args: tuple[Any, ...], kwargs: dict[str, Any], where: str) -> bytes:
    """The arguments of a call of a handler whose signature isn't known here.

    Raises:
        NotSerializableError: some part of them has no JSON form.
    """
    try:
        if (problem := non_finite((args, kwargs))) is not None:
            raise cannot_carry(f"input of {where}", problem)
        return encode_canonical((args, kwargs))
    except NotSerializableError:
        raise
    # The serializers of a model are user code, and raise what they like.
    except Exception as error:
        raise cannot_carry(f"input of {where}", unwritable((args, kwargs), encode_canonical)) from error


def encode_failure(failure: ev.Failure) -> bytes:
    """A failure as the answer that a store keeps."""
    return _pack(failure)


def decode_failure(data: bytes) -> ev.Failure:
    return _unpack(data)


def handler_exception(failure: ev.Failure, where: str) -> Exception:
    """What the caller of a handler gets: the original exception where it can be rebuilt here."""
    error = exception_of(failure)
    if error is None:
        error = HandlerFailed(
            f"{where} failed with {failure.type}: {failure.message}\nIt can't be rebuilt as that here: the class "
            "isn't loaded, is local to a function or makes its instances in its own way.",
            type=failure.type,
        )
    if failure.traceback.startswith("Traceback"):  # else it was raised by the engine, and the text says all
        error.add_note(f"Where it was raised in the run:\n{failure.traceback}")
    return error


def unknown_handler(run_id: str, kind: str, name: str, known: Iterable[str]) -> UnknownHandlerError:
    """The error for a name that no handler has."""
    names = ", ".join(sorted(known))
    has = f"It has: {names}" if names else f"It has none; register one with perdure.on_{kind}(fn)"
    return UnknownHandlerError(f"run {run_id!r} has no {kind} handler {name!r}. {has}.")


class Handler:
    """A registered function.

    Args:
        kind: "query" or "update".
        max_payload: largest encoded result in bytes.
    """

    __slots__ = ("_arguments", "_kind", "_max_payload", "_result", "function", "name")

    def __init__(self, function: Callable[..., Any], kind: str, max_payload: int) -> None:
        self.function = function
        self.name: str = function.__name__
        self._kind = kind
        self._max_payload = max_payload
        self._arguments: Arguments | None = None
        self._result: ValueCodec[Any] | None = None

    def arguments(self, input: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call, by the handler's annotations.

        Raises:
            TypeError: they don't fit its parameters or their types.
        """
        if self._arguments is None:
            self._arguments = Arguments(self.function, f"{self._kind} {self.name}")
        args, kwargs = _split(input)
        self._arguments.fits(*args, **kwargs)
        try:
            return self._arguments.decode(input)
        except UndecodableError as error:
            told = error.__cause__ or error
            raise TypeError(
                f"{self.name}{inspect.signature(self.function)} can't be called so: {told}"
            ) from None

    def record(self, value: Any) -> tuple[bytes, Any]:
        """A result's bytes, and the result decoded.

        Raises:
            NotSerializableError: it can't be carried.
        """
        data, decoded = self._codec().record(value)
        check_size(data, self._max_payload, self._codec().where)
        return data, decoded

    def schema(self) -> dict[str, Any] | None:
        """JSON Schema of a call by keywords, None if it can't be told or given so."""
        if self._arguments is None:
            self._arguments = Arguments(self.function, f"{self._kind} {self.name}")
        return call_schema(self.function, self._arguments)

    def decode(self, data: bytes) -> Any:
        return self._codec().decode(data)

    def _codec(self) -> ValueCodec[Any]:
        if self._result is None:
            annotation = inspect.signature(self.function).return_annotation
            where = f"result of {self._kind} {self.name}"
            self._result = ValueCodec(annotation, where, owner=self.function)
        return self._result


class Query(Handler):
    """A query handler."""

    __slots__ = ()

    def __init__(self, function: Callable[..., Any], max_payload: int) -> None:
        super().__init__(function, "query", max_payload)

    def answer(self, input: bytes) -> tuple[bytes, Any]:
        args, kwargs = self.arguments(input)
        return self.record(_seen(self.function(*args, **kwargs), f"query handler {self.name!r}"))


class Update(Handler):
    """An update handler, with its validator."""

    __slots__ = ("_validator",)

    def __init__(
        self, function: Callable[..., Any], validator: Callable[..., Any] | None, max_payload: int
    ) -> None:
        super().__init__(function, "update", max_payload)
        self._validator = validator

    def admit(self, input: bytes) -> None:
        args, kwargs = self.arguments(input)
        if self._validator is not None:
            _seen(self._validator(*args, **kwargs), f"the validator of update {self.name!r}")

    def read(self, input: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call that the history has accepted.

        Raises:
            UndecodableError: they don't fit the function as it is today.
        """
        try:
            return self.arguments(input)
        except TypeError as error:
            raise UndecodableError(
                f"An update that the history accepted can't be read as what its handler takes today: {error}. Let "
                "the handler read the old arguments again, or bring back the code that accepted them; the run goes "
                "on by itself then."
            ) from error

    def prepare(self, input: bytes) -> Callable[[], Any]:
        args, kwargs = self.read(input)
        return lambda: self.function(*args, **kwargs)

    def ended(
        self, update: str, at: float, value: Any, error: BaseException | None
    ) -> tuple[ev.UpdateCompleted, Sequence[SetUpdate]]:
        result = None
        if error is None:
            try:
                result, _ = self.record(value)
            except Exception as unfit:  # noqa: BLE001 - it fails this update, and nothing else
                error = unfit
        if result is not None:
            done = ev.UpdateCompleted(at=at, op=update, result=result)
            return done, (SetUpdate(update, UpdateState.COMPLETED, result),)
        assert error is not None
        failure = failure_of(error)
        failed = ev.UpdateCompleted(at=at, op=update, failure=failure)
        return failed, (SetUpdate(update, UpdateState.FAILED, encode_failure(failure)),)


def _seen(value: Any, what: str) -> Any:
    """The value of a function that only looks: one to be awaited would be an act."""
    if not inspect.isawaitable(value):
        return value
    kind = type(value).__name__  # pyright: ignore[reportUnknownArgumentType]
    getattr(value, "close", int)()
    msg = (
        f"{what} returned {kind}, which is to be awaited: it must be a plain function that only "
        "looks at the run's state. Put what acts into an update handler (perdure.on_update)."
    )
    raise ReadOnlyError(msg)
