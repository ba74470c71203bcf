"""What is masked in texts on their way to records and people: values of secrets, and what an engine's `redact=` finds.

Both belong to the process. A value that a `Secret` has given away here may show up in the texts of any library's errors
and in any log, whichever engine runs the step; so every engine's texts are looked through for it. While nobody has
revealed anything and no engine has `redact=`, all of this is one test of a flag.

    mask           values that were revealed, and the redactions in force
    mask_json      the same for the texts within JSON
    mask_logs      see to it that records of Python's logging are masked when they are made

A value is looked for as it is and as texts usually carry it: in a URL, in JSON, in the repr of a string, in base64 and
hex, and line by line. Values of fewer than 8 characters aren't: they would be found in any prose.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import quote, quote_plus

import msgspec

from perdure.codec.kinds import is_dict, is_sequence, is_set

__all__ = [
    "SHORTEST",
    "Redact",
    "active",
    "common",
    "force",
    "forget_all",
    "lift",
    "mask",
    "mask_json",
    "mask_record",
    "mask_value",
    "remember",
]

#: Makes a text fit for people.
Redact: TypeAlias = Callable[[str], str]

SHORTEST: Final = 8  #: characters of a value that is looked for
KEPT_MAX: Final = 1000  #: values that are looked for; those that were revealed last
_LINE_SHORTEST: Final = 16
_UNFIT: Final = re.compile(r"[^\w./:@#-]+")


class _State:
    """What is in force. Replaced as a whole, so that readers need no lock."""

    __slots__ = ("active", "data_forms", "forms", "rules", "values")

    def __init__(self, values: Mapping[str, str], rules: tuple[Redact, ...]) -> None:
        self.values = values
        self.rules = rules
        found = {form: told for value, told in values.items() for form in _forms(value)}
        #: The longest first: one may hold another.
        self.forms = sorted(found.items(), key=lambda item: (-len(item[0]), item[0]))
        self.data_forms = [form.encode("utf-8", "surrogateescape") for form in found]
        self.active = bool(found or rules)


_lock = threading.Lock()
_state = _State({}, ())


def active() -> bool:
    """Whether anything is to be masked in this process."""
    return _state.active


def remember(value: object, name: str = "") -> None:
    """Mask a value from now on.

    Args:
        value: text or bytes; or a container, all of whose texts are meant.
        name: what stands in its place: where it is from.
    """
    global _state
    told = f"[secret {_UNFIT.sub('_', name)}]" if name else "[secret]"
    texts = [text for text in _texts(value) if len(text) >= SHORTEST]
    if not texts or all(_state.values.get(text) == told for text in texts):
        return
    with _lock:
        values = dict(_state.values)
        for text in texts:
            values.pop(text, None)  # it was revealed last now
            values[text] = told
        _state = _State(dict(list(values.items())[-KEPT_MAX:]), _state.rules)
    mask_logs()


def forget_all() -> None:
    """For tests: nothing was revealed here."""
    global _state
    with _lock:
        _state = _State({}, _state.rules)


def force(rules: Sequence[Redact]) -> None:
    """Put redactions of an engine in force."""
    global _state
    if not rules:
        return
    with _lock:
        _state = _State(_state.values, (*_state.rules, *rules))
    mask_logs()


def lift(rules: Sequence[Redact]) -> None:
    """The engine is closed."""
    global _state
    with _lock:
        left = list(_state.rules)
        for rule in rules:
            if rule in left:
                left.remove(rule)
        _state = _State(_state.values, tuple(left))


def mask(text: str) -> str:
    """A text without the values of secrets, as the redactions in force leave it.

    A redaction that raises takes the whole text with it: better nothing than what it would have hidden.
    """
    state = _state
    if not state.active:
        return text
    for form, told in state.forms:
        if form in text:
            text = text.replace(form, told)
    for rule in state.rules:
        try:
            made: object = rule(text)
        except Exception as error:  # noqa: BLE001 - user code
            return f"[a redaction failed: {type(error).__qualname__}]"
        text = made if isinstance(made, str) else f"[a redaction returned {type(made).__qualname__}]"
    return text


def mask_json(data: bytes) -> bytes:
    """The same for the texts in JSON. What isn't JSON stays as it is, unless a value is in it."""
    state = _state
    if not state.active or not (state.rules or any(form in data for form in state.data_forms)):
        return data
    try:
        value = msgspec.json.decode(data)
        masked = mask_value(value)
        return data if masked == value else msgspec.json.encode(masked)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return b'"[masked]"' if any(form in data for form in state.data_forms) else data


def mask_value(value: Any) -> Any:
    """The same for plain data."""
    if not _state.active:
        return value
    return _masked(value)


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return mask(value)
    if is_sequence(value):
        return [_masked(item) for item in value]
    if is_dict(value):
        return {_masked(key): _masked(item) for key, item in value.items()}
    return value


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, bytes | bytearray):
        raw = bytes(value)
        yield raw.decode("utf-8", "surrogateescape")
        if len(raw) >= SHORTEST:
            yield raw.hex()
            yield base64.b64encode(raw).decode().rstrip("=")
            yield repr(raw)[2:-1]
    elif is_dict(value):
        for item in value.values():
            yield from _texts(item)
    elif is_sequence(value) or is_set(value):
        for item in value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool | int | float):
        try:
            plain = msgspec.to_builtins(value)
        except (TypeError, ValueError, RecursionError):
            return
        if type(plain) is not type(value):
            yield from _texts(plain)


def _forms(value: str) -> Iterator[str]:
    """A value as texts carry it."""
    yield value
    yield quote(value, safe="", errors="replace")
    yield quote_plus(value, errors="replace")
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield json.dumps(value)[1:-1].replace("/", "\\/")
    yield repr(value)[1:-1]
    yield base64.b64encode(value.encode("utf-8", "surrogateescape")).decode().rstrip("=")
    if stripped := value.strip():
        yield from (stripped,) if len(stripped) >= SHORTEST else ()
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (
            line.strip() for line in lines if len(line.strip()) >= _LINE_SHORTEST and "-----" not in line
        )


# -- logs -------------------------------------------------------------------------------------------------


def mask_logs() -> None:
    """Have every record of Python's logging masked when it is made, whoever makes it and whoever handles it.

    A filter on a logger doesn't hear of the records of loggers below it, and handlers are the program's. So this is
    where records are made. It isn't touched in programs that reveal no secrets and have no redactions.
    """
    made_by = logging.getLogRecordFactory()
    if getattr(made_by, "masks_secrets", False):
        return

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = made_by(*args, **kwargs)
        mask_record(record)
        return record

    make.masks_secrets = True  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    logging.setLogRecordFactory(make)


def mask_record(record: logging.LogRecord) -> None:
    """Mask a record's message and traceback; one without anything to mask stays as it is."""
    if not _state.active:
        return
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that don't fit; the handler will tell
        return
    if (masked := mask(text)) != text:
        record.msg, record.args = masked, ()
    if record.exc_info and record.exc_info[1] is not None:
        told = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
        if (masked := mask(told)) != told:
            # Handlers that format it themselves would tell all, so they don't get it.
            record.exc_text, record.exc_info = masked, None
    elif record.exc_text:
        record.exc_text = mask(record.exc_text)
    if record.stack_info:
        record.stack_info = mask(record.stack_info)


# -- common shapes ----------------------------------------------------------------------------------------

_HIDDEN: Final = "[hidden]"

_NAME: Final = (
    r"(?:api[_-]?key|access[_-]?key|(?:access|auth|refresh|session)[_-]?token|client[_-]?secret|secret[_-]?(?:access[_-]?)?key"
    r"|passw(?:or)?d|passphrase|private[_-]?key)"
)

#: What is looked for, and what takes its place. Each takes time that grows with the text's length only.
_COMMON: Final[Sequence[tuple[re.Pattern[str], str]]] = (
    # -----BEGIN ... PRIVATE KEY-----
    (
        re.compile(
            r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-]{1,20000}(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
        ),
        r"\1" + _HIDDEN,
    ),
    # scheme://user:password@host
    (
        re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]{1,30}://[^\s/:@\"']{0,200}):[^\s@\"'/]{1,500}@"),
        r"\1:" + _HIDDEN + "@",
    ),
    # Authorization: Bearer ...
    (
        re.compile(
            r"(?i)(\bauthorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:(?:bearer|basic|token|digest|apikey)\s{1,3})?)"
            r"(?!(?:bearer|basic|token|digest|apikey)\b)[a-z0-9._~+/=-]{6,}"
        ),
        r"\1" + _HIDDEN,
    ),
    (
        re.compile(r"(?i)\b(bearer|basic)\s{1,3}(?=[a-z._~+/=-]{0,200}[0-9])[a-z0-9._~+/=-]{8,}"),
        r"\1 " + _HIDDEN,
    ),
    # password=..., "api_key": "..."
    (
        re.compile(r"(?i)((?:\b|_)" + _NAME + r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?)[^\s\"',;&})\[\]]+"),
        r"\1" + _HIDDEN,
    ),
    # the keys of well-known services
    (re.compile(r"\b(?:AKIA|ASIA|AIDA|AROA|AGPA|ANPA)[A-Z0-9]{16}\b"), _HIDDEN),
    (re.compile(r"\b(?:sk|rk|pk)[-_](?:[A-Za-z0-9]{1,12}[-_]){0,3}[A-Za-z0-9_-]{16,}"), _HIDDEN),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}"), _HIDDEN),
    (re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"), _HIDDEN),
    (re.compile(r"\bAIza[0-9A-Za-z_-]{30,}"), _HIDDEN),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), _HIDDEN),
)


def common(text: str) -> str:
    """Hide what looks like a credential: passwords in URLs, bearer tokens, keys of AWS and others, private keys.

    Shapes are guesses: it hides what isn't one now and then, and misses what has no shape. What a `Secret` revealed
    is masked exactly, with or without this.

    Example:
        >>> common("connecting to postgresql://app:hunter2@db/app")
        'connecting to postgresql://app:[hidden]@db/app'
        >>> common("401 for Authorization: Bearer abcdef0123456789")
        '401 for Authorization: Bearer [hidden]'
    """
    for pattern, told in _COMMON:
        text = pattern.sub(told, text)
    return text
