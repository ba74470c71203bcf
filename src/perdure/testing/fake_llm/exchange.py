"""What goes through the fake provider, whatever wire format it came in: a prompt, a reply, the record of a call."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: So many characters count as one token.
CHARACTERS_PER_TOKEN = 4
#: What is streamed at a time: so many words.
WORDS_PER_CHUNK = 3


def tokens_of(text: str) -> int:
    """How many tokens the fake provider takes a text for: a quarter of its characters, at least one."""
    return max(1, -(-len(text) // CHARACTERS_PER_TOKEN))


@dataclass(frozen=True)
class Tool:
    """A tool that the reply asks the caller to use.

    Attributes:
        name: the tool's name.
        arguments: what to call it with.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Reply:
    """What the fake model says.

    Attributes:
        text: its words.
        tools: the tools it wants called, after the words.
        cached_tokens: how many tokens of the prompt count as read from the provider's cache.
        reasoning_tokens: how many tokens it has thought; they count as output.
        input_tokens, output_tokens: what it is billed as, instead of what `tokens_of` makes of the texts.
    """

    text: str = ""
    tools: tuple[Tool, ...] = ()
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True)
class Prompt:
    """What was asked.

    Attributes:
        api: "chat", "responses", "messages", "generate" or "embeddings".
        model: the model's name, as the caller gave it.
        text: everything that the caller said, a line for each part.
        last: the last thing that was said; a tool's result counts.
        stream: the reply is wanted piece by piece.
        max_tokens: the most that the reply may have, if that was said.
        usage_in_stream: OpenAI's chat tells the usage of a stream only to those who ask.
        body: the request as it came.
    """

    api: str
    model: str
    text: str
    last: str
    stream: bool
    max_tokens: int | None
    usage_in_stream: bool
    body: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that stand for what was asked."""
        return hashlib.blake2b(f"{self.model}\n{self.text}".encode(), digest_size=6).hexdigest()


#: What the fake model says to a prompt.
Answer = Callable[[Prompt], "Reply | str"]


def echo(prompt: Prompt) -> Reply:
    """The answer without any other: it names the model and repeats the beginning of what was said last."""
    said = " ".join(prompt.last.split()[:12])
    return Reply(f"{prompt.model} says {prompt.digest}: {said}".strip())


@dataclass(frozen=True)
class Tokens:
    """What a call is billed as. Input includes what was cached, output what was thought."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


def billed(prompt: Prompt, reply: Reply) -> Tokens:
    """The tokens of a call."""
    said = reply.text + "".join(tool.name + json.dumps(dict(tool.arguments)) for tool in reply.tools)
    given = tokens_of(prompt.text) if reply.input_tokens is None else reply.input_tokens
    made = tokens_of(said) + reply.reasoning_tokens if reply.output_tokens is None else reply.output_tokens
    return Tokens(max(given, reply.cached_tokens), made, reply.cached_tokens, reply.reasoning_tokens)


def pieces(text: str) -> list[str]:
    """A text as it is streamed. Joined, they are the text again."""
    words = text.split(" ")
    spaced = [word + " " for word in words[:-1]] + words[-1:]
    return ["".join(spaced[at : at + WORDS_PER_CHUNK]) for at in range(0, len(spaced), WORDS_PER_CHUNK)]


@dataclass(frozen=True)
class Call:
    """One request that came in, and what became of it.

    Attributes:
        number: from 1, in the order of arrival.
        api, model, text, stream: as in Prompt; empty if the request couldn't be read.
        key: its `Idempotency-Key` header.
        status: the HTTP status of the answer.
        billed: the provider has done the work, and charges for it, whether or not the answer arrived.
        tokens: what it charges for.
        fault: the name of the fault that was played, if any.
        at: wall-clock time of its arrival.
    """

    number: int
    api: str
    model: str
    text: str
    stream: bool
    key: str | None
    status: int
    billed: bool
    tokens: Tokens | None
    fault: str | None
    at: float
