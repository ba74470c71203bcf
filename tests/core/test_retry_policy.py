"""When a failed step is tried again: the arithmetic of delays, and which errors are worth another try."""

from __future__ import annotations

import asyncio
import email.utils
import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.retry import (
    DEFAULT_RETRY,
    Retry,
    decide,
    http_status,
    is_transient,
    retry_after,
    seconds,
)
from perdure.errors import NotSerializableError, PerdureError, Permanent, Retryable

NOW = 1_700_000_000.0
EVERY = Retry(max_attempts=5, initial=1.0, jitter=False)

_sizes = st.floats(min_value=0, max_value=1e9)
_policies = st.builds(
    Retry,
    max_attempts=st.integers(1, 10**6),
    initial=_sizes,
    backoff=st.floats(min_value=1, max_value=1e6),
    max_interval=_sizes,
    jitter=st.booleans(),
)
_chances = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(_policies, st.integers(1, 10**6), _chances)
def test_a_delay_is_finite_and_within_its_bounds(policy: Retry, attempt: int, chance: float) -> None:
    delay = policy.delay(attempt, chance)
    assert math.isfinite(delay)
    assert 0 <= delay <= policy.max_interval
    full = policy.delay(attempt, 1.0)
    assert full * 0.5 <= delay <= full or not policy.jitter
    if not policy.jitter:
        assert delay == full


@given(_policies, st.integers(1, 1000))
def test_delays_never_shrink(policy: Retry, attempt: int) -> None:
    assert policy.delay(attempt + 1, 0.5) >= policy.delay(attempt, 0.5)


@given(_policies, st.integers(1, 10**6), _chances, st.none() | st.floats(0, 1e6))
def test_a_decision_keeps_to_attempts_and_deadline(
    policy: Retry, attempt: int, chance: float, left: float | None
) -> None:
    deadline = None if left is None else NOW + left
    decision = decide(policy, ValueError(), attempt=attempt, now=NOW, chance=chance, deadline=deadline)
    if attempt >= policy.max_attempts:
        assert decision.retry_at is None
    elif decision.retry_at is None:
        assert deadline is not None
        assert NOW + policy.delay(attempt, chance) >= deadline
    else:
        assert NOW <= decision.retry_at <= NOW + policy.max_interval + 1e-3
        assert deadline is None or decision.retry_at < deadline
    assert decision.why


@given(st.floats(min_value=0, max_value=1e6), _chances)
def test_what_a_step_asks_for_is_a_minimum(after: float, chance: float) -> None:
    decision = decide(EVERY, Retryable(after=after), attempt=1, now=NOW, chance=chance)
    assert decision.retry_at is not None
    assert decision.retry_at == NOW + max(after, EVERY.delay(1, chance))


@pytest.mark.parametrize(
    "numbers", [{"max_attempts": 0}, {"initial": -1}, {"backoff": 0.5}, {"max_interval": -1}]
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(numbers))):
        Retry(**numbers)


# -- which errors ------------------------------------------------------------------------------------


class Response:
    def __init__(self, status_code: int, **headers: str) -> None:
        self.status_code = status_code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class HttpxLike(Exception):
    """As httpx.HTTPStatusError and requests.HTTPError: the response tells."""

    def __init__(self, status: int, **headers: str) -> None:
        self.response = Response(status, **headers)


class AiohttpLike(Exception):
    """As aiohttp.ClientResponseError: the error itself tells."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class SdkLike(Exception):
    """As the model SDKs' APIStatusError."""

    def __init__(self, status: int) -> None:
        self.status_code = status


def wire_error(module: str, name: str) -> Exception:
    base = type(name, (Exception,), {"__module__": module})
    error: Exception = type("Derived", (base,), {"__module__": module})()
    return error


HTTP_LIKE: tuple[Any, ...] = (HttpxLike, AiohttpLike, SdkLike)

TRANSIENT = [
    OSError("disk"),
    ConnectionResetError(),
    BrokenPipeError(),
    TimeoutError(),
    *(
        kind(status)
        for kind in (HttpxLike, AiohttpLike, SdkLike)
        for status in (408, 425, 429, 500, 502, 503, 504, 529)
    ),
    wire_error("httpx._exceptions", "TransportError"),
    wire_error("aiohttp.client_exceptions", "ClientConnectionError"),
]
LASTING = [
    ValueError(),
    KeyError("x"),
    TypeError(),
    AssertionError(),
    FileNotFoundError(),
    PermissionError(),
    *(
        kind(status)
        for kind in (HttpxLike, AiohttpLike, SdkLike)
        for status in (400, 401, 403, 404, 409, 422)
    ),
    wire_error("somewhere.else", "TransportError"),
    RuntimeError("status 503"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_transient_errors_are_tried_again_by_default(error: Exception) -> None:
    assert is_transient(error)
    assert decide(DEFAULT_RETRY, error, attempt=1, now=NOW, chance=0.5).retry_at is not None
    assert decide(DEFAULT_RETRY, error, attempt=10, now=NOW, chance=0.5).retry_at is None


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_mistakes_are_not_tried_again_by_default(error: Exception) -> None:
    assert not is_transient(error)
    assert decide(DEFAULT_RETRY, error, attempt=1, now=NOW, chance=0.5).retry_at is None
    assert decide(EVERY, error, attempt=1, now=NOW, chance=0.5).retry_at is not None


def test_permanent_and_what_cannot_be_mended_end_under_every_policy() -> None:
    for error in (
        Permanent(),
        NotSerializableError(),
        SystemExit(),
        asyncio.CancelledError(),
        GeneratorExit(),
    ):
        assert decide(EVERY, error, attempt=1, now=NOW, chance=0.5).retry_at is None


def test_retryable_overrules_the_class_and_not_the_count() -> None:
    narrow = Retry(max_attempts=2, on=(OSError,), never=(Retryable,))
    assert decide(narrow, Retryable(), attempt=1, now=NOW, chance=0.5).retry_at is not None
    assert decide(narrow, Retryable(), attempt=2, now=NOW, chance=0.5).retry_at is None
    assert decide(narrow, ValueError(), attempt=1, now=NOW, chance=0.5).retry_at is None


def test_attributes_that_only_look_like_a_status_are_no_status() -> None:
    class Odd(Exception):
        status = "503"
        status_code = 7
        response = None

    assert http_status(Odd()) is None
    assert http_status(AiohttpLike(503)) == 503


# -- Retry-After ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [HttpxLike, AiohttpLike])
@pytest.mark.parametrize("name", ["Retry_After", "retry_after"])
def test_the_servers_wait_is_read_as_seconds_and_as_a_date(kind: Any, name: str) -> None:
    assert retry_after(kind(429, **{name: "17"}), NOW) == 17
    assert retry_after(kind(429, **{name: "0"}), NOW) == 0
    date = email.utils.formatdate(NOW + 90, usegmt=True)
    assert retry_after(kind(429, **{name: date}), NOW) == pytest.approx(90)
    past = email.utils.formatdate(NOW - 90, usegmt=True)
    assert retry_after(kind(429, **{name: past}), NOW) == 0


@pytest.mark.parametrize(
    "value", ["", "soon", "nan", "inf", "-inf", "1e400", "99999999999999", "Mon, 99 Foo"]
)
def test_nonsense_from_the_server_is_no_wait(value: str) -> None:
    found = retry_after(HttpxLike(429, Retry_After=value), NOW)
    assert found is None or found == 0
    decision = decide(EVERY, HttpxLike(429, Retry_After=value), attempt=1, now=NOW, chance=0.0)
    assert decision.retry_at == NOW + 1.0


def test_errors_without_headers_ask_for_nothing() -> None:
    assert retry_after(ValueError(), NOW) is None

    class Strange(Exception):
        headers = 5
        response = "text"

    assert retry_after(Strange(), NOW) is None


# -- durations ------------------------------------------------------------------------------------------


def test_durations_are_seconds_or_timedeltas() -> None:
    assert seconds(timedelta(minutes=2), "x") == 120
    assert seconds(3, "x") == 3.0
    for bad in (-1, float("nan"), timedelta(seconds=-1)):
        with pytest.raises(PerdureError, match="x is"):
            seconds(bad, "x")
