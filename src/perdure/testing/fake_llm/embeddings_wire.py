"""OpenAI's embeddings: vectors that depend on the text alone."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Sequence

from perdure.testing.fake_llm.exchange import Prompt, Reply, Tokens
from perdure.testing.fake_llm.openai_wire import OpenAIWire
from perdure.testing.fake_llm.wire import Json

#: The vectors have so many numbers.
DIMENSIONS = 8


def vector_of(text: str) -> list[float]:
    """The vector of a text, of numbers from -1 to 1 that 32 bits hold exactly."""
    digest = hashlib.blake2b(text.encode(), digest_size=DIMENSIONS).digest()
    return [(byte - 128) / 128 for byte in digest]


class EmbeddingsWire(OpenAIWire):
    """POST /v1/embeddings. What the model says isn't asked for; only the input is billed."""

    def read(self, path: str, body: Json) -> Prompt | None:
        if not path.endswith("/embeddings"):
            return None
        said = _inputs(body)
        return Prompt(
            api="embeddings",
            model=body["model"],
            text="\n".join(said),
            last=said[-1] if said else "",
            stream=False,
            max_tokens=0,
            usage_in_stream=False,
            body=body,
        )

    def whole(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Json:
        vectors = [vector_of(text) for text in _inputs(prompt.body)]
        packed = prompt.body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens.input, "total_tokens": tokens.input}
        return {"object": "list", "data": data, "model": prompt.model, "usage": usage}

    def stream(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Sequence[bytes]:
        return []  # nobody can ask for it


def _inputs(body: Json) -> list[str]:
    said = body["input"]
    return [said] if isinstance(said, str) else [str(text) for text in said]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
