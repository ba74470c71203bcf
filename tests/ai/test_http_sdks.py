"""Programs with the clients of OpenAI, Anthropic and Google, not changed at all, become durable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from http_kit import Clients, World, of_kind, run, step_ids, until

import perdure
from perdure.ai import durable_http

CLIENTS: list[Clients] = []
GPT, CLAUDE, GEMINI = "gpt-5", "claude-sonnet-4-5", "gemini-2.5-flash"
weathers: list[str] = []


@perdure.step
async def weather(city: str) -> str:
    weathers.append(city)
    return f"sunny in {city}"


async def openai_chat(question: str) -> str:
    messages: list[Any] = [{"role": "user", "content": question}]
    function = {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    while True:
        answer = await CLIENTS[-1].openai.chat.completions.create(
            model=GPT, messages=messages, tools=[{"type": "function", "function": function}]
        )
        message = answer.choices[0].message
        if not message.tool_calls:
            return f"{message.content} ({answer.usage.total_tokens}, {answer._request_id})"
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            told = await weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": told})


async def openai_stream(question: str) -> str:
    stream = await CLIENTS[-1].openai.chat.completions.create(
        model=GPT, messages=[{"role": "user", "content": question}], stream=True
    )
    return "".join([piece.choices[0].delta.content or "" async for piece in stream])


async def openai_responses(question: str) -> str:
    first = await CLIENTS[-1].openai.responses.create(model=GPT, input=question)
    stream = await CLIENTS[-1].openai.responses.create(model=GPT, input=first.output_text, stream=True)
    kinds = [event.type async for event in stream]
    return f"{GPT} has heard: {first.output_text} {kinds}"


async def openai_broken_off(question: str) -> str:
    stream = await CLIENTS[-1].openai.chat.completions.create(
        model=GPT, messages=[{"role": "user", "content": question}], stream=True
    )
    async for piece in stream:
        break
    await stream.close()
    return piece.id


async def openai_raw(question: str) -> str:
    raw = await CLIENTS[-1].openai.chat.completions.with_raw_response.create(
        model=GPT, messages=[{"role": "user", "content": question}]
    )
    return f"{raw.parse().choices[0].message.content} {raw.headers['x-request-id']} {raw.status_code}"


async def anthropic_messages(question: str) -> str:
    messages: list[Any] = [{"role": "user", "content": question}]
    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    while True:
        answer = await CLIENTS[-1].anthropic.messages.create(
            model=CLAUDE, max_tokens=100, messages=messages, tools=[tool]
        )
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            return f"{answer.content[0].text} {answer.usage.output_tokens}"
        told = [
            {"type": "tool_result", "tool_use_id": call.id, "content": await weather(**call.input)}
            for call in calls
        ]
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": told}]


async def anthropic_stream(question: str) -> str:
    async with CLIENTS[-1].anthropic.messages.stream(
        model=CLAUDE, max_tokens=100, messages=[{"role": "user", "content": question}]
    ) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        whole = await stream.get_final_message()
    return f"{text} {whole.usage.output_tokens}"


async def google_content(question: str) -> str:
    answer = await CLIENTS[-1].google.aio.models.generate_content(model=GEMINI, contents=question)
    if answer.function_calls:
        told = await weather(**answer.function_calls[0].args)
        answer = await CLIENTS[-1].google.aio.models.generate_content(model=GEMINI, contents=told)
    return f"{answer.text} {answer.usage_metadata.total_token_count}"


async def google_stream(question: str) -> str:
    pieces = await CLIENTS[-1].google.aio.models.generate_content_stream(model=GEMINI, contents=question)
    return "".join([piece.text or "" async for piece in pieces])


async def openai_helpers(question: str) -> str:
    client, said = CLIENTS[-1].openai, [{"role": "user", "content": question}]
    async with client.chat.completions.stream(model=GPT, messages=said) as stream:
        kinds = [event.type async for event in stream]
        chat = await stream.get_final_completion()
    async with client.responses.stream(model=GPT, input=question) as stream:
        kinds += [event.type async for event in stream]
        response = await stream.get_final_response()
    async with client.responses.with_streaming_response.create(model=GPT, input=question) as raw:
        lines = [line async for line in raw.iter_lines()]
    return f"{chat.choices[0].message.content} {response.output_text} {kinds} {len(lines)} {raw.status_code}"


async def openai_made_here(question: str) -> str:
    import openai

    theirs = CLIENTS[-1].openai
    async with openai.AsyncOpenAI(base_url=theirs.base_url, api_key=theirs.api_key) as client:
        answer = await client.chat.completions.create(
            model=GPT, messages=[{"role": "user", "content": question}]
        )
    return str(answer.choices[0].message.content)


async def anthropic_and_google_made_here(question: str) -> str:
    import anthropic
    from google import genai

    theirs = CLIENTS[-1].anthropic
    async with anthropic.AsyncAnthropic(base_url=theirs.base_url, api_key=theirs.api_key) as client:
        answer = await client.messages.create(
            model=CLAUDE, max_tokens=10, messages=[{"role": "user", "content": question}]
        )
    url = str(theirs.base_url)
    google = genai.Client(api_key="AIza0123456789abcdef", http_options={"base_url": url})
    other = await google.aio.models.generate_content(model=GEMINI, contents=question)
    return f"{answer.content[0].text} {other.function_calls}"


PROGRAMS: list[tuple[Callable[[str], Awaitable[str]], int]] = [
    (openai_chat, 2),
    (openai_stream, 1),
    (openai_responses, 2),
    (openai_broken_off, 1),
    (openai_raw, 1),
    (openai_helpers, 3),
    (openai_made_here, 1),
    (anthropic_messages, 2),
    (anthropic_stream, 1),
    (anthropic_and_google_made_here, 2),
    (google_content, 2),
    (google_stream, 1),
]


@perdure.workflow
async def program(name: str, question: str) -> str:
    made = next(each for each, _ in PROGRAMS if each.__name__ == name)
    first = await made(question)
    await asyncio.sleep(0)
    return first


@perdure.workflow
async def stops_in_the_middle(name: str, question: str) -> str:
    made = next(each for each, _ in PROGRAMS if each.__name__ == name)
    first = await made(question)
    await perdure.receive("go on", bool)
    return f"{first} and {await made(first)}"


@pytest.mark.parametrize(("made", "calls"), PROGRAMS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_second_time_the_provider_hears_nothing(
    world: World, made: Callable[[str], Awaitable[str]], calls: int
) -> None:
    """Neither for the run that is done, nor for one that is driven from its history, nor for a fork."""
    name = made.__name__
    question = "weather of Oslo"

    async def main() -> None:
        CLIENTS.append(Clients(world.llm))
        async with world.engine() as engine:
            said = await engine.run(program(name, question), id="r")
            assert world.hits == calls
            begun = await engine.start(stops_in_the_middle(name, question), id="s")

            async def waits() -> bool:
                return bool(await of_kind(begun, perdure.events.MessageAwaited))

            await until(waits)
            assert world.hits == 2 * calls
        await CLIENTS.pop().close()
        CLIENTS.append(Clients(world.llm))
        async with world.engine() as engine:
            assert await engine.run(program(name, question), id="r") == said
            assert await (await engine.get("r").fork()).result() == said
            assert world.hits == 2 * calls
            await engine.get("s").send("go on", True)
            assert " and " in await engine.get("s").result()
            assert world.hits > 2 * calls
            assert all(id.startswith(("llm:", "test_http_sdks.")) for id in await step_ids(engine.get("r")))
        await CLIENTS.pop().close()

    with durable_http(["127.0.0.1"]):
        run(main)


@perdure.workflow
async def many(count: int) -> list[str]:
    return list(await asyncio.gather(*(openai_stream(f"question {number % 3}") for number in range(count))))


def test_equal_requests_at_once_have_answers_of_their_own(world: World) -> None:
    async def main() -> None:
        CLIENTS.append(Clients(world.llm))
        async with world.engine() as engine:
            first = await engine.run(many(9), id="r")
            assert world.hits == 9
            assert await (await engine.get("r").fork()).result() == first
            assert world.hits == 9
            assert set(await step_ids(engine.get("r"))) == {f"{n}/llm:gpt-5#1" for n in range(1, 10)}
        await CLIENTS.pop().close()

    with durable_http(["127.0.0.1"]):
        run(main)


def test_a_counterfactual_fork_may_ask(world: World) -> None:
    """What a model answers changes nothing."""

    async def main() -> None:
        CLIENTS.append(Clients(world.llm))
        async with world.engine() as engine:
            await engine.run(program("openai_stream", "why"), id="r")
            fork = await engine.get("r").fork(effects="reuse", input=perdure.Args("openai_stream", "why not"))
            assert "why not" in await fork.result()
            assert world.hits == 2
        await CLIENTS.pop().close()

    with durable_http(["127.0.0.1"]):
        run(main)


@perdure.workflow
async def spends(count: int) -> int:
    for number in range(count):
        await CLIENTS[-1].openai.chat.completions.create(
            model=GPT, messages=[{"role": "user", "content": f"question {number}"}], max_tokens=100
        )
    return count


def test_a_budget_stops_it_before_a_call(world: World) -> None:
    """Each call may cost a tenth of a cent, and does cost much less."""

    async def main() -> None:
        CLIENTS.append(Clients(world.llm))
        budget = perdure.Budget(usd="0.0015", per="run", on_exhausted="fail")
        async with world.engine(budgets=[budget]) as engine:
            with pytest.raises(perdure.RunFailed, match="BudgetExceeded"):
                await engine.run(spends(50), id="r")
            assert 1 <= world.hits < 50
            (total,) = await engine.usage()
            assert 0 < total.usage.cost <= Decimal("0.0015")
        await CLIENTS.pop().close()

    with durable_http(["127.0.0.1"]):
        run(main)


def test_what_was_used_is_in_the_ledger(world: World) -> None:
    """Also of streams that don't tell it unless they are asked, which the program doesn't notice."""

    async def main() -> None:
        CLIENTS.append(Clients(world.llm))
        async with world.engine() as engine:
            for made, _ in PROGRAMS:
                await engine.run(program(made.__name__, "weather of Oslo"), id=made.__name__)
            total = (await engine.usage())[0].usage
            paid = world.llm.tokens
            assert (total.calls, total.input_tokens, total.output_tokens) == (
                len(world.llm.billed),
                paid.input,
                paid.output,
            )
            assert total.unknown_calls == total.calls_in_flight == total.unpriced_calls == 0
            models = {line.name: line.usage.calls for line in await engine.usage("model")}
            assert set(models) == {GPT, CLAUDE, GEMINI}
            (started,) = await of_kind(engine.get("openai_stream"), perdure.events.StepCompleted)
            assert b'"usage"' not in started.result
        await CLIENTS.pop().close()

    with durable_http(["127.0.0.1"], count_streams=True):
        run(main)


def test_a_stream_that_tells_no_usage_is_estimated(world: World) -> None:
    async def main() -> None:
        CLIENTS.append(Clients(world.llm))
        async with world.engine() as engine:
            await engine.run(program("openai_stream", "weather in Oslo, please"), id="r")
            (total,) = await engine.usage()
            assert total.usage.calls == 1
            assert total.usage.input_tokens > 0 < total.usage.output_tokens
        await CLIENTS.pop().close()

    with durable_http(["127.0.0.1"]):
        run(main)


@pytest.mark.parametrize("made", ["openai_stream", "openai_responses", "anthropic_stream", "google_stream"])
def test_the_text_of_a_stream_is_put_out_as_it_comes(world: World, made: str) -> None:
    async def main() -> None:
        CLIENTS.append(Clients(world.llm))
        async with world.engine() as engine:
            said = await engine.run(program(made, "hello"), id="r")
            text = "".join([item.value async for item in engine.get("r").stream("tokens")])
            assert text
            assert text in said
        await CLIENTS.pop().close()

    with durable_http(["127.0.0.1"], emit="tokens"):
        run(main)


@perdure.workflow
async def with_its_own_client(library: str) -> str:
    answer = await OWN[library].post(
        "/v1/chat/completions", json={"model": GPT, "messages": [{"content": "hi"}]}
    )
    answer.raise_for_status()
    assert answer.elapsed.total_seconds() >= 0
    return str(answer.json()["choices"][0]["message"]["content"])


OWN: dict[str, Any] = {}


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_client_may_be_given_the_transport(world: World, library: Any) -> None:
    pytest.importorskip(library)

    async def main() -> None:
        durable = durable_http(["127.0.0.1"])
        async with durable.async_client(library=library, base_url=world.llm.url) as OWN[library]:
            async with world.engine() as engine:
                said = await engine.run(with_its_own_client(library), id="r")
        async with durable.async_client(library=library, base_url=world.llm.url) as OWN[library]:
            async with world.engine() as engine:
                assert await (await engine.get("r").fork()).result() == said
                assert world.hits == 1
            body = {"model": GPT, "messages": [{"content": "hi"}]}
            assert (await OWN[library].post("/v1/chat/completions", json=body)).status_code == 200
            assert world.hits == 2  # outside of runs all is as ever

    run(main)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_openai_may_be_given_such_a_client(world: World, library: Any) -> None:
    openai = pytest.importorskip("openai")
    pytest.importorskip(library)

    async def main() -> None:
        clients = Clients(world.llm)
        kept, clients.openai = (
            clients.openai,
            openai.AsyncOpenAI(
                base_url=world.llm.openai_url,
                api_key="sk-0123456789",
                http_client=durable_http(["127.0.0.1"]).async_client(library=library),
            ),
        )
        CLIENTS.append(clients)
        async with world.engine() as engine:
            said = await engine.run(program("openai_chat", "weather of Rome"), id="r")
            assert world.hits == 2
            assert await (await engine.get("r").fork()).result() == said
            assert world.hits == 2
        await CLIENTS.pop().close()
        await kept.close()

    run(main)


def test_google_may_be_given_such_a_client(world: World) -> None:
    from google import genai

    async def main() -> None:
        clients = Clients(world.llm)
        kept, given = clients.google, durable_http(["127.0.0.1"]).async_client()
        options = {"base_url": world.llm.url, "httpx_async_client": given}
        clients.google = genai.Client(api_key="AIza0123456789", http_options=options)
        CLIENTS.append(clients)
        async with world.engine() as engine:
            said = await engine.run(program("google_content", "weather of Rome"), id="r")
            assert world.hits == 2
            assert await (await engine.get("r").fork()).result() == said
            assert world.hits == 2
        await CLIENTS.pop().close()
        await given.aclose()
        await kept.aio.aclose()

    run(main)
