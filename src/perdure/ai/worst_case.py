"""What a call of a model costs at most, before it is made: what a budget sets aside for it.

The output is what the call gives as its limit. The input is estimated, on the high side: a token is at least three
bytes of ordinary text in any language, and an image or a document counts as a fixed amount. Without a limit for the
output nothing is said, as then nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.ai.given import BYTES, LIVE, is_list, is_table
from perdure.core.usage import Spend

BYTES_PER_TOKEN = 3
#: An image, or a page of a document, costs about so many tokens with each of the providers.
TOKENS_PER_FILE = 2_000
#: What every message costs beside its text.
_TOKENS_PER_PART = 4

#: How the clients call the limit of the output.
_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens", "maxOutputTokens")
#: And how many answers they make.
_ANSWERS = ("n", "candidate_count", "candidateCount")


def worst_case(provider: str | None, *, makes_text: bool = True) -> Callable[[dict[str, Any]], Spend]:
    """What a call spends at most, by what it is given; for `StepOptions(spends=...)`.

    Args:
        makes_text: false for embeddings, which have no output.

    Example:
        >>> worst_case("openai")({"model": "gpt-5", "input": "why?", "max_output_tokens": 100})
        Spend(model='gpt-5', provider='openai', input_tokens=9, output_tokens=100, cost=None)
    """

    def spends(given: dict[str, Any]) -> Spend:
        model = given.get("model")
        named = model.rpartition("/")[2] if isinstance(model, str) else None
        config = given.get("config")
        said: dict[str, Any] = {**given, **config} if is_table(config) else given
        limit = next((said[name] for name in _LIMITS if isinstance(said.get(name), int)), None)
        if limit is None and makes_text:
            return Spend(named, provider)
        answers = max([1, *(int(said[name]) for name in _ANSWERS if isinstance(said.get(name), int))])
        return Spend(named, provider, _tokens(given), (limit or 0) * answers)

    return spends


def _tokens(value: Any) -> int:
    if isinstance(value, str):
        return -(-len(value.encode(errors="replace")) // BYTES_PER_TOKEN)
    if is_table(value):
        if (
            BYTES in value
            or LIVE in value
            or value.get("type")
            in (
                "image",
                "image_url",
                "input_image",
                "document",
                "input_file",
            )
        ):
            return TOKENS_PER_FILE
        return _TOKENS_PER_PART + sum(_tokens(key) + _tokens(part) for key, part in value.items())
    if is_list(value):
        return sum(_tokens(part) for part in value)
    return 1
