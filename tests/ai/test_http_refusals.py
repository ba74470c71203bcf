"""What a provider refuses is told by its bare answer as well as by its client's exception."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from perdure.ai import durable_http
from perdure.ai.http_call import attempt
from perdure.ai.http_exchange import exchange
from perdure.codec.failures import exception_of, failure_of
from perdure.core.refusals import Refusal, Why, refusal, told
from perdure.core.retry import Retry, is_transient
from perdure.errors import HttpStatusError
from perdure.testing import fake_llm
from perdure.testing.fake_llm import FakeLLM

NOW = datetime(2027, 3, 10, 12, tzinfo=UTC).timestamp()
CAP = datetime(2027, 4, 1, tzinfo=UTC)
UNTIL_MIDNIGHT = datetime(2027, 3, 11, 8, 0, tzinfo=UTC).timestamp() - NOW  # in California
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"model": "gpt-5", "messages": [{"role": "user", "content": "why"}]}),
    "anthropic": ("/v1/messages", {"model": "claude", "max_tokens": 9, "messages": []}),
    "google": ("/v1beta/models/gemini:generateContent", {"contents": [{"parts": [{"text": "why"}]}]}),
}


def answered(provider: str, fault: fake_llm.Fault, label: str = "127.0.0.1") -> HttpStatusError:
    """The error of a step that meets a fault, as it comes out of a history."""

    async def main() -> HttpStatusError:
        with FakeLLM(clock=lambda: NOW) as llm:
            llm.script(fault)
            path, body = ASKED[provider]
            async with httpx2.AsyncHTTPTransport() as transport:
                request = httpx2.Request("POST", llm.url + path, json=body)
                rules = durable_http(["127.0.0.1"])._rules
                with pytest.raises(HttpStatusError) as raised:
                    await attempt(
                        exchange(httpx2, request, rules, transport.handle_async_request, sync=False)
                    )
        return raised.value

    error = asyncio.run(main())
    rebuilt = exception_of(failure_of(error))
    assert isinstance(rebuilt, HttpStatusError)
    assert vars(rebuilt) == vars(error)
    assert str(rebuilt) == str(error)
    return rebuilt


@pytest.mark.parametrize(
    ("provider", "fault", "why", "after"),
    [
        ("openai", fake_llm.rate_limited(2.5), Why.RATE, 2.5),
        ("anthropic", fake_llm.rate_limited(2.5), Why.RATE, 3.0),
        ("google", fake_llm.rate_limited(2.5), Why.RATE, 2.5),
        ("openai", fake_llm.rate_limited(None), Why.RATE, None),
        ("openai", fake_llm.overloaded(), Why.OVERLOAD, None),
        ("anthropic", fake_llm.overloaded(7), Why.OVERLOAD, 7.0),
        ("google", fake_llm.overloaded(), Why.OVERLOAD, None),
        ("openai", fake_llm.quota_used_up(), Why.QUOTA, None),
        ("anthropic", fake_llm.quota_used_up(), Why.QUOTA, None),
        ("openai", fake_llm.usage_cap(CAP), Why.QUOTA, None),
        ("anthropic", fake_llm.usage_cap(CAP), Why.CAP, CAP.timestamp() - NOW),
        ("google", fake_llm.usage_cap(CAP), Why.CAP, UNTIL_MIDNIGHT),
    ],
)
def test_a_refusal_is_read(provider: str, fault: fake_llm.Fault, why: Why, after: float | None) -> None:
    error = answered(provider, fault)
    assert refusal(error, NOW) == Refusal(why, "127.0.0.1", after)
    assert told(error, NOW) == (429 if provider != "anthropic" or why is not Why.OVERLOAD else 529, after)


@pytest.mark.parametrize("provider", ASKED)
@pytest.mark.parametrize(
    ("fault", "passes"),
    [(fake_llm.bad_request(), False), (fake_llm.unauthorised(), False), (fake_llm.server_error(), True)],
)
def test_another_error_is_no_refusal(provider: str, fault: fake_llm.Fault, passes: bool) -> None:
    error = answered(provider, fault)
    assert refusal(error, NOW) is None
    assert is_transient(error) is passes


def test_a_server_that_isnt_known_may_turn_away_too() -> None:
    error = HttpStatusError("no", status_code=429, provider="queue.example", headers={"retry-after": "4"})
    assert refusal(error, NOW) == Refusal(Why.RATE, "queue.example", 4.0)


@pytest.mark.parametrize(
    ("status", "said", "again"),
    [
        (500, None, True),
        (409, None, True),
        (408, None, True),
        (422, None, False),
        (500, "false", False),
        (400, "true", True),
    ],
)
def test_what_is_tried_again(status: int, said: str | None, again: bool) -> None:
    error = HttpStatusError(
        "no", status_code=status, headers={} if said is None else {"x-should-retry": said}
    )
    assert durable_http()._rules.retry.covers(error) is again
    stricter = durable_http(retry=Retry(max_attempts=3, never=(HttpStatusError,)))._rules.retry
    assert (stricter.max_attempts, stricter.covers(error)) == (3, False)
    assert durable_http(retry=Retry())._rules.retry.covers(error) is again
