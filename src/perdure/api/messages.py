"""Messages between the world and runs, and waits for a run's own state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, overload

import msgspec

from perdure.api.call import current_machine
from perdure.codec.events import encode_event
from perdure.codec.explain import non_finite
from perdure.codec.schema import show
from perdure.codec.values import ValueCodec, cannot_carry, check_size
from perdure.core import bounds
from perdure.core.bounds import INBOX_MAX
from perdure.core.events import MessageReceived
from perdure.core.machine import Machine
from perdure.core.retry import seconds
from perdure.errors import UndecodableError, UsageError
from perdure.runtime.runs import check_run_id
from perdure.storage.records import NewMail, NewRun

T = TypeVar("T")

#: Longest name and longest key of a message, in characters.
NAME_MAX = bounds.TOPIC_MAX


class Message(NamedTuple):
    """A message to be sent with a start, `engine.start(call, messages=[Message("order", 7)])`.

    Attributes:
        name: which of the run's `receive`s it is for.
        value: plain data, or anything else that has a JSON form.
        key: a second message of this name and key to the same run is ignored.
    """

    name: str
    value: Any
    key: str | None = None


# -- in workflow code ---------------------------------------------------------------------------------


@overload
async def receive(name: str, type: type[T], timeout: float | timedelta | None = None) -> T: ...
@overload
async def receive(name: str, type: Any = None, timeout: float | timedelta | None = None) -> Any: ...
async def receive(name: str, type: Any = None, timeout: float | timedelta | None = None) -> Any:
    """Wait for the next message of this name. Messages wait, too: they may come long before this is called.

    Those of one name are received in the order of their arrival. One that can't be read as `type` is set
    aside, for people to see, and the wait goes on.

    Args:
        name: the message's name, as given to `handle.send`.
        type: what it is read as; plain JSON data by default.
        timeout: how long to wait, in seconds; a durable timer. For ever by default.

    Raises:
        TimeoutError: none has come in time.
        UsageError: outside of workflow code, or the name can't be a message's.
        NotSerializableError: no value can be read as `type`.

    Example:
        >>> approved = await perdure.receive("approval", bool, timeout=86_400)  # doctest: +SKIP
    """
    machine = _machine("receive()")
    check_name(name)
    limit = None if timeout is None else seconds(timeout, "timeout")
    return await Awaiting(machine.receive(name, reader(type), limit))


async def until(predicate: Callable[[], object], timeout: float | timedelta | None = None) -> None:
    """Wait until the predicate is true. It is looked at whenever something has happened in the run.

    Args:
        predicate: looks at the run's own state and changes nothing: a plain function without arguments. An
            error it raises is raised here.
        timeout: how long to wait, in seconds; a durable timer. For ever by default.

    Raises:
        TimeoutError: it hasn't come true in time.
        UsageError: outside of workflow code, or the predicate acts or has to be awaited.

    Example:
        >>> await perdure.until(lambda: len(approvals) >= 2, timeout=3600)  # doctest: +SKIP
    """
    machine = _machine("until()")
    if not callable(predicate):
        msg = f"until() takes a function that tells whether to go on, as in until(lambda: done), not {predicate!r}"
        raise UsageError(msg)
    await Awaiting(machine.until(predicate, None if timeout is None else seconds(timeout, "timeout")))


async def send(run_id: str, name: str, value: Any) -> None:
    """Send a message to another run, from workflow code: durable when this returns, and delivered once.

    Args:
        run_id: the receiver.
        name: the message's name.
        value: plain data, or anything else that has a JSON form.

    Raises:
        UnknownRunError: no run has this id.
        RunEndedError: it has ended.
        NotSerializableError, PayloadTooLargeError: the value can't be recorded.
        UsageError: outside of workflow code (use `engine.get(id).send(...)`), or the name can't be a message's.

    Example:
        >>> await perdure.send("billing-7", "refund", {"amount": 5})  # doctest: +SKIP
    """
    machine = _machine("send()", ": outside of it, use engine.get(id).send(name, value)")
    check_run_id(run_id)
    await Awaiting(machine.send(run_id, name, encode_value(name, value, machine.max_payload)))


class Awaiting:
    """Awaits what a machine gives."""

    __slots__ = ("_generator",)

    def __init__(self, generator: Generator[Any, Any, Any]) -> None:
        self._generator = generator

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._generator


def _machine(what: str, instead: str = "") -> Machine:
    machine = current_machine()
    if machine is None:
        msg = f"perdure.{what} works only in workflow code, while a run executes it{instead}"
        raise UsageError(msg)
    return machine


_readers: dict[Any, _Reader] = {}
_READERS_MAX = 1000
_WHY_MAX = 500  # characters of the reason for which a message is set aside


class _Reader:
    """Decodes messages as a type."""

    __slots__ = ("_codec", "type")

    def __init__(self, codec: ValueCodec[Any], type: Any) -> None:
        self._codec = codec
        self.type = type

    def __call__(self, payload: bytes) -> Any:
        try:
            return self._codec.decode(payload)
        except UndecodableError as error:
            msg = f"it can't be read as `{show(self.type)}`: {error.__cause__ or error}"
            raise UndecodableError(msg[:_WHY_MAX]) from error


def reader(type: Any) -> Callable[[bytes], Any]:
    """Decodes messages as `type`; raises UndecodableError, which tells people why one is set aside."""
    try:
        known = _readers.get(type)
    except TypeError:  # an unhashable annotation
        known = None
    if known is None:
        codec = ValueCodec[Any](Any if type is None else type, "message")
        codec.check()
        known = _Reader(codec, type)
        if len(_readers) < _READERS_MAX:
            with contextlib.suppress(TypeError):
                _readers[type] = known
    return known


# -- from outside -------------------------------------------------------------------------------------


def new_mail(name: str, value: Any, key: str | None, *, at: float, max_payload: int) -> NewMail:
    """A message ready for a run's inbox.

    Raises:
        UsageError: its name or key can't be one.
        NotSerializableError, PayloadTooLargeError: its value can't be recorded.
    """
    event = MessageReceived(at=at, name=name, payload=encode_value(name, value, max_payload), key=key)
    if key is None:
        return NewMail(encode_event(event))
    check_name(key, "key")
    return NewMail(encode_event(event), key=msgspec.json.encode(("message", name, key)).decode())


def with_messages(run: NewRun, messages: Iterable[Any], if_exists: str, max_payload: int) -> NewRun:
    """A run that is started with messages: `Message`s, or plain tuples (name, value) or (name, value, key)."""
    mail: list[NewMail] = []
    for item in messages:
        if not isinstance(item, tuple) or len(item) not in (2, 3):  # pyright: ignore[reportUnknownArgumentType]
            msg = f"messages= takes tuples (name, value) or perdure.Message(name, value, key), not {item!r}"
            raise UsageError(msg)
        name, value, key = Message(*item)
        mail.append(new_mail(name, value, key, at=run.created_at, max_payload=max_payload))
    if len(mail) > INBOX_MAX:
        msg = (
            f"messages= has {len(mail):,} of them, and no more than {INBOX_MAX:,} may wait for a run: "
            "send fewer and larger ones"
        )
        raise UsageError(msg)
    return msgspec.structs.replace(run, mail=tuple(mail), attach=if_exists == "attach")


def encode_value(name: str, value: Any, max_payload: int) -> bytes:
    """A message's value as JSON. Its type is the receiver's to say, so none is checked here."""
    check_name(name)
    where = f"message {name!r}"
    data = ValueCodec[Any](Any, where).encode(value)
    try:
        problem = non_finite(value)
    except RecursionError:
        problem = None  # it was encoded, so it is deep, but finite as far as JSON can tell
    if problem is not None:
        raise cannot_carry(where, problem)
    check_size(data, max_payload, where)
    return data


def check_name(name: object, what: str = "name") -> None:
    """Raises UsageError for names and keys that would make trouble in logs, shells and URLs."""
    if not isinstance(name, str) or not 0 < len(name) <= NAME_MAX or not name.isprintable():
        msg = (
            f"{name!r} can't be a message's {what}: that is a string of 1 to {NAME_MAX} printable characters"
        )
        raise UsageError(msg)
