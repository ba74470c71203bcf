"""What the type checkers make of calls of language models. Never executed, only checked."""

# Google's client mentions types of Pillow, which needn't be installed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

from typing import assert_type

import anthropic
import openai
from anthropic.types import Message
from google import genai
from google.genai.types import GenerateContentResponse
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

import perdure
from perdure.ai import BatchItemFailed, batch, llm, no_retries


async def calls(
    chats: openai.AsyncOpenAI,
    blocking: openai.OpenAI,
    talks: anthropic.AsyncAnthropic,
    talks_blocking: anthropic.Anthropic,
    google: genai.Client,
) -> None:
    say = [{"role": "user", "content": "why"}]
    assert_type(await llm(chats.chat.completions.create, model="gpt-5", messages=say), ChatCompletion)
    assert_type(await llm(blocking.chat.completions.create, model="gpt-5", messages=say), ChatCompletion)
    assert_type(await llm(chats.responses.create, model="gpt-5", input="why", emit="tokens"), Response)
    assert_type(await llm(chats.responses.create, model="gpt-5", input="why", background=True), Response)
    assert_type(await llm(blocking.embeddings.create, model="e", input="why"), CreateEmbeddingResponse)
    message = await llm(talks.messages.create, key="x", model="c", max_tokens=5, messages=say)
    assert_type(message, Message)
    patient = llm.with_options(timeout=60, retry=perdure.Retry(max_attempts=3))
    assert_type(await patient(talks_blocking.messages.create, model="c", max_tokens=5, messages=say), Message)
    generated = await llm(google.models.generate_content, model="g", contents="why")
    assert_type(generated, GenerateContentResponse)

    assert_type(await batch(talks.messages.create, [{"model": "c"}]), list[Message | BatchItemFailed])
    assert_type(
        await batch(blocking.chat.completions.create, [{"model": "c"}]),
        list[ChatCompletion | BatchItemFailed],
    )
    assert_type(no_retries(chats), openai.AsyncOpenAI)
