"""Asking people: a run waits for somebody's answer, which has the form of a type.

    decision = await perdure.ask("Publish this?", Decision, details=draft, timeout=86_400)

The question is durable and visible: `perdure questions` lists it, and `perdure answer`, `engine.answer` or a page give
the answer. It is a callback that shows itself (see storage/callbacks.py), so it is answered once, it times out and it
outlasts crashes as callbacks do. An answer that the type refuses, because its code knows more than its JSON Schema
tells, doesn't reach the code: the question is asked again, and says what was wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from typing import Any, TypeVar, overload

import msgspec

from perdure.api.context import run_machine
from perdure.api.messages import Awaiting
from perdure.codec.canonical import encode_canonical
from perdure.codec.explain import non_finite, unwritable
from perdure.codec.foreign import encode_json
from perdure.codec.forms import schema_of
from perdure.codec.values import ValueCodec, cannot_carry, check_size
from perdure.core.events import Question
from perdure.core.machine import Machine
from perdure.core.retry import seconds
from perdure.core.scope import checked_key, keyed_operation
from perdure.errors import CallbackFailed, UndecodableError, UsageError
from perdure.runtime.tokens import question_hash, question_id
from perdure.storage.callbacks import WithdrawCallback

T = TypeVar("T")
D = TypeVar("D")

#: Where nothing was given, and None could be.
MISSING: Any = object()

_DIGEST_BYTES = 16
_PROBLEM_MAX = 1000  # characters


@overload
async def ask(
    text: str,
    *,
    details: Any = None,
    default: Any = MISSING,
    to: str | None = None,
    about: Any = MISSING,
    key: str | None = None,
    timeout: float | timedelta | None = None,
) -> bool: ...
@overload
async def ask(
    text: str,
    type: type[T],
    *,
    details: Any = None,
    choices: Sequence[T] | None = None,
    default: Any = MISSING,
    to: str | None = None,
    about: Any = MISSING,
    key: str | None = None,
    timeout: float | timedelta | None = None,
) -> T: ...
@overload
async def ask(
    text: str,
    type: type[T],
    *,
    details: Any = None,
    choices: Sequence[T] | None = None,
    default: Any = MISSING,
    to: str | None = None,
    about: Any = MISSING,
    key: str | None = None,
    timeout: float | timedelta | None,
    on_timeout: D,
) -> T | D: ...
@overload
async def ask(
    text: str,
    type: Any = ...,
    *,
    details: Any = None,
    choices: Sequence[Any] | None = None,
    default: Any = MISSING,
    to: str | None = None,
    about: Any = MISSING,
    key: str | None = None,
    timeout: float | timedelta | None = None,
    on_timeout: Any = MISSING,
) -> Any: ...
async def ask(
    text: str,
    type: Any = MISSING,
    *,
    details: Any = None,
    choices: Sequence[Any] | None = None,
    default: Any = MISSING,
    to: str | None = None,
    about: Any = MISSING,
    key: str | None = None,
    timeout: float | timedelta | None = None,
    on_timeout: Any = MISSING,
) -> Any:
    """Ask a person, and wait for the answer. While it waits the run needs no worker and no memory.

    The question is durable, and known from outside (`perdure questions`, `engine.questions()`). It is answered once,
    and the run's history keeps who did so, when, and through what. Code that gives up the wait withdraws the question.

    Args:
        text: the question.
        type: what the answer is: anything that a step may return. A form is made of its JSON Schema, so a dataclass
            or model gives one with fields. By default it is yes or no (bool), or any of `choices`.
        details: what is shown to help with the answer: plain data, or anything else that has a JSON form.
        choices: the values that may be chosen from: plain data.
        default: the answer that the form begins with.
        to: whom it is for: a name, a role, an address; nothing but a hint, by which questions can be listed.
        about: what the answer is bound to, such as the arguments of what is to be approved. A digest of it is kept with
            the question; if a replay or a fork asks about something else, an answer to this doesn't count there.
        key: names the question within the run instead of its position, such as the id of a tool call; it is asked once.
        timeout: how long to wait, in seconds; for ever by default.
        on_timeout: what is returned when time is up; by default TimeoutError is raised. Once that is recorded it stays,
            and an answer is refused.

    Returns:
        The answer, as its type.

    Raises:
        TimeoutError: nobody has answered in time, and there is no `on_timeout`.
        NotSerializableError: the type has no form, or what is shown has none.
        PayloadTooLargeError: what is shown is larger than the engine's `max_payload`.
        UsageError: outside of workflow code, or an argument can't be used.

    Example:
        >>> decision = await perdure.ask("Publish this?", Decision, details=draft, timeout=86_400)  # doctest: +SKIP
    """
    machine = run_machine("perdure.ask()")
    asked = _asked(text, type, details, choices, default, to, about)
    try:
        answer, _ = await answered(
            machine, asked, _decoder(type, choices), wait_of(timeout), named("ask", machine, key)
        )
    except TimeoutError:
        if on_timeout is MISSING:
            raise
        return on_timeout
    return answer


def digest_of(about: Any) -> str:
    """The digest of what an answer is bound to: equal values have equal ones, in every process.

    Args:
        about: anything that has a JSON form.

    Example:
        >>> digest_of({"to": "ann", "cents": 5}) == digest_of({"cents": 5, "to": "ann"})
        True
    """
    try:
        data = encode_canonical(about)
    # The serializers of a model are user code, and raise what they like.
    except Exception as error:
        raise cannot_carry("ask(about=)", unwritable(about)) from error
    return blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def named(kind: str, machine: Machine, key: str | None) -> Callable[[int], str]:
    """Makes the op ids of one question, by how often it was asked before.

    Args:
        key: names it wherever it is in the run; None = its position does.
    """
    if key is None:
        return lambda _: machine.loop.scope().numbered(kind)
    checked_key(key)
    return lambda times: keyed_operation(kind, key if times == 0 else f"{key} ({times + 1})")


def wait_of(timeout: float | timedelta | None) -> float | None:
    """How long an answer is waited for, in seconds."""
    limit = None if timeout is None else seconds(timeout, "timeout")
    if limit == 0:
        msg = f"timeout={timeout!r}: give a number of seconds > 0, or leave it out to wait for ever"
        raise UsageError(msg)
    return limit


async def answered(
    machine: Machine,
    asked: Question,
    decode: Callable[[bytes], Any],
    limit: float | None,
    name: Callable[[int], str],
    presumed: bytes | None = None,
) -> tuple[Any, str | None]:
    """Ask until there is an answer that can be read.

    Args:
        asked: the question, but for its id.
        decode: reads an answer; raises UndecodableError, which tells people what is wrong with it.
        limit: how long to wait, in seconds.
        name: gives the op id, by how often it was asked before.
        presumed: the answer that is taken for given; nobody is asked.

    Returns:
        The answer, and who gave it.
    """
    shown = asked.form + (asked.details or b"") + (asked.default or b"")
    check_size(shown, machine.max_payload, f"question {asked.text[:60]!r}")
    started = machine.started
    assert started is not None
    until = None if limit is None else machine.loop.now + limit
    for times in count():
        op_id = name(times)
        id = question_id(started.seed, machine.run_id, op_id)
        hashed = question_hash(id)
        wait = machine.ask(
            op_id,
            token_hash=hashed,
            decode=decode,
            timeout=limit if until is None or times == 0 else until - machine.loop.now,
            question=msgspec.structs.replace(asked, id=id),
            withdrawing=(WithdrawCallback(hashed),),
            presumed=presumed,
        )
        try:
            answer: tuple[Any, str | None] = await Awaiting(wait)
            return answer
        except CallbackFailed as error:
            asked = msgspec.structs.replace(asked, problem=str(error)[:_PROBLEM_MAX])
        if until is not None and until <= machine.loop.now:
            break
    msg = f"no answer to {asked.text!r} has come in time that could be read; the last one: {asked.problem}"
    raise TimeoutError(msg)


def _asked(
    text: str,
    type: Any,
    details: Any,
    choices: Sequence[Any] | None,
    default: Any,
    to: str | None,
    about: Any,
) -> Question:
    if not isinstance(text, str) or not text.strip():
        msg = f"ask() takes the question as a text, not {text!r}"
        raise UsageError(msg)
    check_to(to)
    if choices is not None and (isinstance(choices, str) or not choices):
        msg = f"ask(choices={choices!r}): give a list of the values that may be chosen from"
        raise UsageError(msg)
    _, form = _shape(_type(type, choices))
    if choices is not None:
        allowed = msgspec.json.decode(plain(list(choices), "choices of a question"))
        form = msgspec.json.encode(schema_of(Any, allowed))
    return Question(
        id="",
        text=text,
        form=form,
        details=None if details is None else plain(details, "details of a question"),
        default=None if default is MISSING else plain(default, "default of a question"),
        to=to,
        digest=None if about is MISSING else digest_of(about),
    )


def check_to(to: object) -> None:
    """Raises UsageError if nobody can be meant by it."""
    if to is not None and (not isinstance(to, str) or not to.strip()):
        msg = f"to={to!r}: give a name, a role or an address, as a text; or leave it out"
        raise UsageError(msg)


def _type(type: Any, choices: Sequence[Any] | None) -> Any:
    if type is MISSING:
        return bool if choices is None else Any
    return type


def _decoder(type: Any, choices: Sequence[Any] | None) -> Callable[[bytes], Any]:
    codec, _ = _shape(_type(type, choices))
    if choices is None:
        return codec.decode
    allowed = [encode_canonical(choice) for choice in choices]

    def chosen(data: bytes) -> Any:
        value = codec.decode(data)
        if encode_canonical(value) not in allowed:
            msg = f"it isn't one of {list(choices)!r}"
            raise UndecodableError(msg)
        return value

    return chosen


def _shape(type: Any) -> tuple[ValueCodec[Any], bytes]:
    """How answers of a type are read, and the schema of their form."""
    try:
        return _known_shape(type)
    except TypeError:  # an unhashable annotation
        return _known_shape.__wrapped__(type)


@lru_cache(maxsize=1000)
def _known_shape(type: Any) -> tuple[ValueCodec[Any], bytes]:
    codec = ValueCodec[Any](type, "answer")
    codec.check()
    return codec, msgspec.json.encode(schema_of(type))


def plain(value: Any, where: str) -> bytes:
    """What is shown to people, as JSON."""
    try:
        data = encode_json(value)
        problem = non_finite(value)
    # The serializers of a model are user code, and raise what they like.
    except Exception as error:
        raise cannot_carry(where, unwritable(value)) from error
    if problem is not None:
        raise cannot_carry(where, problem)
    return data
