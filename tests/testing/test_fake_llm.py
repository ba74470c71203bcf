"""The fake provider, asked by the real clients of the providers it plays."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.testing import fake_llm
from perdure.testing.fake_llm import FakeLLM, FakeLLMProcess, Prompt, Reply, RunningLLM, Tool

openai = pytest.importorskip("openai", reason="the client of OpenAI isn't installed")
anthropic = pytest.importorskip("anthropic", reason="the client of Anthropic isn't installed")
genai = pytest.importorskip("google.genai", reason="the client of Google isn't installed")

ASKED = "what do tardigrades eat"


@pytest.fixture
def llm() -> Iterator[FakeLLM]:
    with FakeLLM() as running:
        yield running


class Asking:
    """The three clients, each asked in its own way."""

    def __init__(self, llm: FakeLLM | RunningLLM) -> None:
        self.openai = openai.OpenAI(base_url=llm.openai_url, api_key="any", max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=llm.url, api_key="any", max_retries=0)
        self.gemini = genai.Client(api_key="any", http_options={"base_url": llm.url})

    def chat(self, text: str = ASKED, **options: Any) -> Any:
        messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]
        return self.openai.chat.completions.create(model="gpt-5", messages=messages, **options)

    def responses(self, text: str = ASKED, **options: Any) -> Any:
        return self.openai.responses.create(model="gpt-5", input=text, **options)

    def messages(self, text: str = ASKED, **options: Any) -> Any:
        said = [{"role": "user", "content": [{"type": "text", "text": text}]}]
        return self.anthropic.messages.create(model="claude-x", max_tokens=50, messages=said, **options)

    def generate(self, text: str = ASKED) -> Any:
        return self.gemini.models.generate_content(model="gemini-2.5-flash", contents=text)

    def close(self) -> None:
        self.openai.close()
        self.anthropic.close()
        self.gemini.close()


@pytest.fixture
def ask(llm: FakeLLM) -> Iterator[Asking]:
    asking = Asking(llm)
    yield asking
    asking.close()


def test_each_client_reads_its_answer_and_usage(llm: FakeLLM, ask: Asking) -> None:
    chat, response, message, generated = ask.chat(), ask.responses(), ask.messages(), ask.generate()
    for text in (
        chat.choices[0].message.content,
        response.output_text,
        message.content[0].text,
        generated.text,
    ):
        assert text.endswith(ASKED)
    assert [call.api for call in llm.calls] == ["chat", "responses", "messages", "generate"]
    told = [
        (chat.usage.prompt_tokens, chat.usage.completion_tokens),
        (response.usage.input_tokens, response.usage.output_tokens),
        (message.usage.input_tokens, message.usage.output_tokens),
        (generated.usage_metadata.prompt_token_count, generated.usage_metadata.candidates_token_count),
    ]
    assert told == [(call.tokens.input, call.tokens.output) for call in llm.calls if call.tokens]
    assert llm.tokens.input == sum(given for given, _ in told)


def test_equal_prompts_get_equal_answers(ask: Asking) -> None:
    assert ask.messages().content == ask.messages().content
    assert ask.messages().content != ask.messages("another").content


def test_streams_say_the_same_as_whole_answers(llm: FakeLLM, ask: Asking) -> None:
    chunks = list(ask.chat(stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == ask.chat().choices[0].message.content
    assert chunks[-1].usage == ask.chat().usage
    assert all(chunk.usage is None for chunk in ask.chat(stream=True))

    with ask.openai.responses.stream(model="gpt-5", input=ASKED) as responses:
        deltas = [event.delta for event in responses if event.type == "response.output_text.delta"]
        final = responses.get_final_response()
    assert len(deltas) > 1
    assert "".join(deltas) == final.output_text == ask.responses().output_text
    assert final.usage == ask.responses().usage

    with ask.anthropic.messages.stream(
        model="claude-x", max_tokens=50, messages=[{"role": "user", "content": ASKED}]
    ) as messages:
        assert len(list(messages.text_stream)) > 1
        message = messages.get_final_message()
    assert message.content[0].text == ask.messages().content[0].text
    assert message.usage.output_tokens == ask.messages().usage.output_tokens

    parts = list(ask.gemini.models.generate_content_stream(model="gemini-2.5-flash", contents=ASKED))
    assert len(parts) > 1
    assert "".join(part.text for part in parts) == ask.generate().text
    assert parts[-1].usage_metadata == ask.generate().usage_metadata


def test_a_reply_calls_tools() -> None:
    def answer(prompt: Prompt) -> Reply:
        return Reply("let me look", tools=(Tool("search", {"query": prompt.last}),), reasoning_tokens=30)

    with FakeLLM(answer) as llm:
        ask = Asking(llm)
        (call,) = ask.chat().choices[0].message.tool_calls
        assert (call.function.name, call.function.arguments) == ("search", f'{{"query": "{ASKED}"}}')
        function = ask.responses().output[1]
        assert (function.type, function.name) == ("function_call", "search")
        block = ask.messages().content[1]
        assert (block.name, block.input) == ("search", {"query": ASKED})
        generated = ask.generate()
        assert generated.function_calls[0].args == {"query": ASKED}
        assert generated.usage_metadata.thoughts_token_count == 30
        assert ask.chat().usage.completion_tokens_details.reasoning_tokens == 30
        with ask.anthropic.messages.stream(
            model="claude-x", max_tokens=50, messages=[{"role": "user", "content": ASKED}]
        ) as messages:
            assert messages.get_final_message().content[1].input == {"query": ASKED}
        with ask.openai.responses.stream(model="gpt-5", input=ASKED) as responses:
            assert responses.get_final_response().output[1].name == "search"
        deltas = [chunk.choices[0].delta for chunk in ask.chat(stream=True)]
        assert [d.tool_calls[0].function.name for d in deltas if d.tool_calls] == ["search"]
        ask.close()


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        (fake_llm.rate_limited(2), (429, 429, 429)),
        (fake_llm.overloaded(), (503, 529, 503)),
        (fake_llm.server_error(), (500, 500, 500)),
        (fake_llm.bad_request(), (400, 400, 400)),
        (fake_llm.unauthorised(), (401, 401, 401)),
        (fake_llm.quota_used_up(), (429, 402, 429)),
        (fake_llm.usage_cap(datetime(2030, 2, 1, tzinfo=UTC)), (429, 400, 429)),
    ],
)
def test_refusals_come_as_the_clients_own_errors_and_cost_nothing(
    llm: FakeLLM, ask: Asking, fault: fake_llm.Fault, statuses: tuple[int, int, int]
) -> None:
    llm.script(fault, fault, fault)
    with pytest.raises(openai.APIStatusError) as chat:
        ask.chat()
    with pytest.raises(anthropic.APIStatusError) as message:
        ask.messages()
    with pytest.raises(genai.errors.APIError) as generated:
        ask.generate()
    assert (chat.value.status_code, message.value.status_code, generated.value.code) == statuses
    assert [call.fault for call in llm.calls] == [fault.kind.value] * 3
    assert llm.billed == []
    ask.chat()
    assert len(llm.billed) == 1


def test_refusals_tell_how_long_to_wait(llm: FakeLLM, ask: Asking) -> None:
    llm.script(*[fake_llm.rate_limited(2.5)] * 3, fake_llm.usage_cap(datetime(2030, 2, 1, tzinfo=UTC)))
    with pytest.raises(openai.RateLimitError) as chat:
        ask.chat()
    assert chat.value.response.headers["retry-after"] == "3"
    assert chat.value.response.headers["retry-after-ms"] == "2500"
    with pytest.raises(anthropic.RateLimitError) as message:
        ask.messages()
    assert message.value.response.headers["retry-after"] == "3"
    with pytest.raises(genai.errors.ClientError) as generated:
        ask.generate()
    details = generated.value.details["error"]["details"]
    assert details[-1]["retryDelay"] == "2.5s"
    with pytest.raises(anthropic.BadRequestError, match=r"regain access on 2030-02-01 at 00:00 UTC"):
        ask.messages()


@pytest.mark.parametrize("fault", [fake_llm.lost(), fake_llm.cut()])
def test_an_answer_that_gets_lost_is_billed(llm: FakeLLM, ask: Asking, fault: fake_llm.Fault) -> None:
    llm.script(fault, fault)
    with pytest.raises(openai.APIConnectionError):
        ask.chat()
    with pytest.raises(anthropic.APIConnectionError):
        ask.messages()
    assert len(llm.billed) == 2


def test_a_stream_breaks_off(llm: FakeLLM, ask: Asking) -> None:
    llm.script(fake_llm.cut(after=2))
    got = []
    with pytest.raises(openai.APIConnectionError):
        for chunk in ask.chat(stream=True):
            got.append(chunk)
    assert len(got) == 2
    assert llm.billed[0].fault == "cut"


def test_an_answer_hangs(llm: FakeLLM, ask: Asking) -> None:
    llm.script(fake_llm.hang(30))
    with pytest.raises(openai.APITimeoutError):
        ask.chat(timeout=0.1)
    assert len(llm.billed) == 1


def test_limits_refuse_what_goes_beyond_and_tell_how_they_stand() -> None:
    now = 1_800_000_000.0
    with FakeLLM(requests_per_minute=60, tokens_per_minute=10_000, burst=2, clock=lambda: now) as llm:
        ask = Asking(llm)
        raw = ask.openai.chat.completions.with_raw_response.create(
            model="gpt-5", messages=[{"role": "user", "content": "x" * 400}]
        )
        assert raw.headers["x-ratelimit-limit-requests"] == "60"
        assert raw.headers["x-ratelimit-remaining-requests"] == "1"
        assert raw.headers["x-ratelimit-reset-requests"] == "1s"
        assert raw.headers["x-ratelimit-remaining-tokens"] == "9900"
        assert raw.headers["x-ratelimit-reset-tokens"] == "600ms"
        told = ask.anthropic.messages.with_raw_response.create(
            model="claude-x", max_tokens=5, messages=[{"role": "user", "content": "x"}]
        )
        assert told.headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert told.headers["anthropic-ratelimit-requests-reset"] == "2027-01-15T08:00:02Z"
        with pytest.raises(openai.RateLimitError) as refused:
            ask.chat()
        assert refused.value.response.headers["retry-after-ms"] == "1000"
        now += 1.0
        ask.chat()
        with pytest.raises(anthropic.RateLimitError):
            ask.messages()
        assert len(llm.billed) == 3
        ask.close()


def test_hits_are_counted_by_idempotency_key(llm: FakeLLM, ask: Asking) -> None:
    llm.script(None, fake_llm.server_error())
    ask.chat(extra_headers={"Idempotency-Key": "a"})
    with pytest.raises(openai.InternalServerError):
        ask.chat(extra_headers={"Idempotency-Key": "b"})
    for key in ("b", "b", "c"):
        ask.messages(extra_headers={"Idempotency-Key": key})
    assert llm.hits == {"a": 1, "b": 2, "c": 1}


def test_what_it_does_not_know_is_refused(llm: FakeLLM, ask: Asking) -> None:
    with pytest.raises(openai.NotFoundError, match="doesn't know the path"):
        ask.openai.moderations.create(model="m", input="x")
    with pytest.raises(openai.BadRequestError, match="lacks something"):
        ask.openai.post("/chat/completions", body={"model": "gpt-5"}, cast_to=object)
    assert llm.calls == []


def test_an_answer_function_that_raises_is_told_of() -> None:
    def answer(prompt: Prompt) -> str:
        raise ValueError(prompt.last)

    with FakeLLM(answer) as llm:
        ask = Asking(llm)
        with pytest.raises(openai.InternalServerError, match=f"raised ValueError.*{ASKED}"):
            ask.chat()
        ask.close()


def test_many_at_once(llm: FakeLLM, ask: Asking) -> None:
    def one(call: Callable[[str], Any], number: int) -> None:
        call(f"question {number}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        threads = [
            threading.Thread(target=one, args=(call, number))
            for number in range(8)
            for call in (ask.chat, ask.messages, ask.generate)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(call.number for call in llm.calls) == list(range(1, 25))


def test_embeddings_depend_on_the_text_alone(llm: FakeLLM, ask: Asking) -> None:
    packed = ask.openai.embeddings.create(model="e", input=["a", "b"])
    plain = ask.openai.embeddings.create(model="e", input="b", encoding_format="float")
    assert packed.data[1].embedding == plain.data[0].embedding != packed.data[0].embedding
    assert packed.usage.prompt_tokens == llm.billed[0].tokens.input
    assert llm.tokens.output == 0


def test_background_responses_take_a_while(llm: FakeLLM, ask: Asking) -> None:
    llm.jobs_take(3600)
    begun = ask.responses(background=True)
    assert (begun.status, begun.usage, begun.output_text) == ("queued", None, "")
    assert ask.openai.responses.retrieve(begun.id).status == "in_progress"
    assert ask.openai.responses.cancel(begun.id).status == "cancelled"
    llm.jobs_take(0)
    begun = ask.responses(background=True)
    done = ask.openai.responses.retrieve(begun.id)
    assert (done.status, done.output_text) == ("completed", ask.responses().output_text)
    assert (llm.looks, llm.cancelled, len(llm.billed)) == (2, 1, 3)
    with pytest.raises(openai.NotFoundError):
        ask.openai.responses.retrieve("resp_of_nobody")


def test_batches_tell_their_results_in_any_order(llm: FakeLLM, ask: Asking) -> None:
    said = [{"role": "user", "content": ASKED}]
    params = {"model": "claude-x", "max_tokens": 5, "messages": said}
    requests = [{"custom_id": str(number), "params": params} for number in range(3)]
    made = ask.anthropic.messages.batches.create(requests=requests)
    assert ask.anthropic.messages.batches.retrieve(made.id).processing_status == "ended"
    results = list(ask.anthropic.messages.batches.results(made.id))
    assert sorted(result.custom_id for result in results) == ["0", "1", "2"]
    assert {result.result.message.content[0].text for result in results} == {ask.messages().content[0].text}
    lines = b"""{"custom_id": "0", "method": "POST", "url": "/v1/responses", "body": {"model": "m", "input": "x"}}"""
    file = ask.openai.files.create(file=("requests.jsonl", lines), purpose="batch")
    batch = ask.openai.batches.create(
        input_file_id=file.id, endpoint="/v1/responses", completion_window="24h", metadata={"mine": "yes"}
    )
    assert [each.metadata for each in ask.openai.batches.list()] == [{"mine": "yes"}]
    found = ask.openai.batches.retrieve(batch.id)
    assert found.status == "completed"
    assert '"custom_id": "0"' in ask.openai.files.content(found.output_file_id).text
    assert len(llm.billed) == 5


def test_in_a_process_of_its_own() -> None:
    with FakeLLMProcess(["--requests-per-minute", "600"]) as llm:
        ask = Asking(llm)
        llm.script(fake_llm.overloaded(retry_after=1))
        with pytest.raises(anthropic.APIStatusError):
            ask.messages()
        text = ask.messages(extra_headers={"Idempotency-Key": "k"}).content[0].text
        assert [call.status for call in llm.calls] == [529, 200]
        assert RunningLLM(llm.url).hits == {"k": 1}
        assert text.endswith(ASKED)
        ask.close()
