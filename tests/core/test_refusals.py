"""What providers say when they turn one away, as their clients raise it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.core.refusals import Refusal, Why, refusal, span, told
from perdure.testing import fake_llm
from perdure.testing.fake_llm import FakeLLM

NOW = datetime(2027, 3, 10, 12, 0, tzinfo=UTC).timestamp()
SAID: Any = [{"role": "user", "content": "why"}]


def ask_openai(llm: FakeLLM) -> Any:
    openai = pytest.importorskip("openai", reason="the client of OpenAI isn't installed")
    with openai.OpenAI(base_url=llm.openai_url, api_key="any", max_retries=0) as client:
        return client.chat.completions.create(model="gpt-5", messages=SAID)


def ask_anthropic(llm: FakeLLM) -> Any:
    anthropic = pytest.importorskip("anthropic", reason="the client of Anthropic isn't installed")
    with anthropic.Anthropic(base_url=llm.url, api_key="any", max_retries=0) as client:
        return client.messages.create(model="claude-x", max_tokens=5, messages=SAID)


def ask_google(llm: FakeLLM) -> Any:
    genai = pytest.importorskip("google.genai", reason="the client of Google isn't installed")
    client = genai.Client(api_key="any", http_options={"base_url": llm.url})
    try:
        return client.models.generate_content(model="gemini-2.5-flash", contents="why")
    finally:
        client.close()


ASKING = {"openai": ask_openai, "anthropic": ask_anthropic, "google": ask_google}
CAP = datetime(2027, 4, 1, tzinfo=UTC)
UNTIL_MIDNIGHT = datetime(2027, 3, 11, 8, 0, tzinfo=UTC).timestamp() - NOW  # in California


@pytest.fixture
def raised() -> Callable[..., BaseException]:
    def ask(provider: str, fault: fake_llm.Fault | None, **options: Any) -> BaseException:
        with FakeLLM(clock=lambda: NOW, **options) as llm:
            if fault is not None:
                llm.script(fault)
            else:
                ASKING[provider](llm)
            with pytest.raises(Exception) as told:
                ASKING[provider](llm)
        return told.value

    return ask


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
def test_a_refusal_is_read(
    raised: Callable[..., BaseException],
    provider: str,
    fault: fake_llm.Fault,
    why: Why,
    after: float | None,
) -> None:
    error = raised(provider, fault)
    assert refusal(error, NOW) == Refusal(why, provider, after)
    assert told(error, NOW) == (429 if provider != "anthropic" or why is not Why.OVERLOAD else 529, after)


@pytest.mark.parametrize("provider", ASKING)
@pytest.mark.parametrize("fault", [fake_llm.bad_request(), fake_llm.unauthorised(), fake_llm.server_error()])
def test_another_error_is_no_refusal(
    raised: Callable[..., BaseException], provider: str, fault: fake_llm.Fault
) -> None:
    assert refusal(raised(provider, fault), NOW) is None


class Answer:
    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status_code = status
        self.headers = headers


def turned_away(provider: str, message: str = "", status: int = 429, **headers: str) -> Exception:
    kind = type("RateLimitError", (Exception,), {"__module__": f"{provider}._exceptions"})
    error = kind(message)
    error.response = Answer(status, {name.replace("_", "-"): value for name, value in headers.items()})
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (
            turned_away(
                "openai",
                x_ratelimit_remaining_requests="0",
                x_ratelimit_reset_requests="6m0s",
                x_ratelimit_remaining_tokens="5",
                x_ratelimit_reset_tokens="9h",
            ),
            360.0,
        ),
        (turned_away("openai", x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="-1"), None),
        (
            turned_away(
                "anthropic",
                anthropic_ratelimit_input_tokens_remaining="0",
                anthropic_ratelimit_input_tokens_reset="2027-03-10T12:00:30Z",
                anthropic_ratelimit_requests_remaining="0",
                anthropic_ratelimit_requests_reset="2027-03-10T12:00:10Z",
            ),
            30.0,
        ),
        (turned_away("anthropic", "enforced_spend_limit_reached"), CAP.timestamp() - NOW),
        (turned_away("anthropic", "You will regain access on 2027-13-45 at 00:00 UTC."), None),
        (turned_away("httpx", retry_after="5"), 5.0),
        (turned_away("httpx", retry_after="Wed, 10 Mar 2027 12:00:20 GMT"), 20.0),
    ],
)
def test_the_wait_is_read_from_what_there_is(error: Exception, after: float | None) -> None:
    found = refusal(error, NOW)
    assert found is not None
    assert found.after == after


def test_a_cap_that_is_over_asks_for_no_wait() -> None:
    error = turned_away("anthropic", "You will regain access on 2027-03-01 at 00:00 UTC.", status=400)
    assert refusal(error, NOW) == Refusal(Why.CAP, "anthropic", 0.0)  # which is then tried later and later


@pytest.mark.parametrize("text", ["", "soon", "-1", "5", "1h x"])
def test_what_is_no_length_of_time_is_none(text: str) -> None:
    assert span(text) is None


def test_errors_of_others_are_no_refusals() -> None:
    assert refusal(ValueError("regain access on 2027-04-01"), NOW) is None
    assert told(TimeoutError(), NOW) == (None, None)


def test_an_agent_frameworks_errors_are_told_by_their_classes() -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai")
    for kind, status, why, after in (
        ("ModelRateLimitError", 429, Why.RATE, 7.0),
        ("ModelQuotaExceededError", 402, Why.QUOTA, 7.0),
        ("ModelOverloadedError", 529, Why.OVERLOAD, 7.0),
    ):
        error = pydantic_ai.ModelHTTPError.for_category(
            getattr(pydantic_ai.exceptions, kind),
            status_code=status,
            model_name="m",
            headers={"Retry-After": "7"},
        )
        found = refusal(error, NOW)
        assert found is not None
        assert (found.why, found.provider, found.after) == (why, "m", after)
    assert refusal(pydantic_ai.ModelHTTPError(404, "m"), NOW) is None
    assert refusal(pydantic_ai.UserError("no"), NOW) is None
