"""Recognises what the clients of language models return, and reads the usage in it.

No client is imported: an object is known by the package that its class comes from, and by its attributes. Providers
count differently; here input includes what was read from or written to a cache, and output what was thought.

    openai        chat completions and their chunks, responses, embeddings
    anthropic     messages
    google.genai  generated content
    litellm       its model responses, of whichever provider
    pydantic_ai   model responses; of an agent's result each of its requests
    langchain_core  the messages of models, of whichever provider
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec

from perdure.core.usage import Used, nanos


def package_of(kind: type) -> str:
    """The package that a class comes from, as far as it matters here."""
    return kind.__module__.partition(".")[0]


def usage_of(response: object) -> list[Used]:
    """The calls that a response tells of. Empty if it isn't one that is known here, or tells of no usage."""
    read = _READERS.get(package_of(type(response)))
    return [] if read is None else list(read(response))


def usage_of_wire(speaks: str, answer: Mapping[str, Any]) -> list[Used]:
    """The same for what comes over the wire, as the JSON object that it is.

    Args:
        speaks: whose wire format it has: "openai", "anthropic" or "google".
    """
    return list(_READERS[speaks](_Facts(answer)))


class _Facts:
    """A JSON object with attributes, as clients make of it."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = facts

    def __getattr__(self, name: str) -> Any:
        first, *rest = name.split("_")
        for key in (name, first + "".join(word.title() for word in rest)):
            if key in self._facts:
                value = self._facts[key]
                return _Facts(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else value
        raise AttributeError(name)


def returns_response(function: Callable[..., Any]) -> bool | None:
    """Whether a function is declared to return a response; None if only a value will tell."""
    try:
        hint = typing.get_type_hints(function).get("return", Any)
    except Exception:  # names that are only there for type checkers, say  # noqa: BLE001
        return None
    return _is_response(hint)


def _is_response(hint: Any) -> bool | None:
    if hint in (Any, object):
        return None
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        told = [_is_response(part) for part in typing.get_args(hint)]
        return True if True in told else None if None in told else False
    kind = origin if isinstance(origin, type) else hint
    return package_of(kind) in _READERS if isinstance(kind, type) else None


def _int(value: Any, *names: str) -> int:
    """A number somewhere within; 0 if it isn't there."""
    for name in names:
        value = getattr(value, name, None)
    return value if isinstance(value, int) else 0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _openai(response: Any, provider: str = "openai") -> Iterable[Used]:
    usage = getattr(response, "usage", None)
    if usage is None:
        return
    if hasattr(usage, "input_tokens"):
        given, made = _int(usage, "input_tokens"), _int(usage, "output_tokens")
        inside, outside = "input_tokens_details", "output_tokens_details"
    else:
        given, made = _int(usage, "prompt_tokens"), _int(usage, "completion_tokens")
        inside, outside = "prompt_tokens_details", "completion_tokens_details"
    yield Used(
        model=_text(getattr(response, "model", None)),
        provider=provider,
        input=given,
        output=made,
        cached=_int(usage, inside, "cached_tokens"),
        written=_int(usage, inside, "cache_write_tokens"),
        reasoning=_int(usage, outside, "reasoning_tokens"),
        response=_text(getattr(response, "id", None)),
    )


def _anthropic(message: Any) -> Iterable[Used]:
    usage = getattr(message, "usage", None)
    if usage is None or not hasattr(message, "model"):
        return
    read, written = _int(usage, "cache_read_input_tokens"), _int(usage, "cache_creation_input_tokens")
    yield Used(
        model=_text(message.model),
        provider="anthropic",
        input=_int(usage, "input_tokens") + read + written,
        output=_int(usage, "output_tokens"),
        cached=read,
        written=written,
        reasoning=_int(usage, "output_tokens_details", "thinking_tokens"),
        response=_text(getattr(message, "id", None)),
    )


def _google(response: Any) -> Iterable[Used]:
    usage = getattr(response, "usage_metadata", None)
    if usage is None:
        return
    thought = _int(usage, "thoughts_token_count")
    yield Used(
        model=_text(getattr(response, "model_version", None)),
        provider="google",
        input=_int(usage, "prompt_token_count") + _int(usage, "tool_use_prompt_token_count"),
        output=_int(usage, "candidates_token_count") + thought,
        cached=_int(usage, "cached_content_token_count"),
        reasoning=thought,
        response=_text(getattr(response, "response_id", None)),
    )


def _litellm(response: Any) -> Iterable[Used]:
    hidden: Any = getattr(response, "_hidden_params", None)
    facts = cast("dict[str, Any]", hidden) if isinstance(hidden, dict) else {}
    cost = facts.get("response_cost")
    for used in _openai(response, facts.get("custom_llm_provider") or "openai"):
        if isinstance(cost, float) and cost > 0:
            yield msgspec.structs.replace(used, cost=nanos(cost), price="litellm")
        else:
            yield used


def _pydantic_ai(result: Any) -> Iterable[Used]:
    if hasattr(result, "new_messages"):  # an agent's run
        for message in result.new_messages():
            yield from _pydantic_ai(message)
        return
    usage = getattr(result, "usage", None)
    if not hasattr(result, "model_name") or usage is None or callable(usage):
        return
    details: Any = getattr(usage, "details", None)
    thought = cast("dict[str, Any]", details).get("reasoning_tokens", 0) if isinstance(details, dict) else 0
    yield Used(
        model=_text(result.model_name),
        provider=_text(getattr(result, "provider_name", None)),
        input=_int(usage, "input_tokens"),
        output=_int(usage, "output_tokens"),
        cached=_int(usage, "cache_read_tokens"),
        written=_int(usage, "cache_write_tokens"),
        reasoning=thought if isinstance(thought, int) else 0,
        response=_text(getattr(result, "provider_response_id", None)),
    )


def _langchain(message: Any) -> Iterable[Used]:
    found: Any = getattr(message, "usage_metadata", None)
    if not isinstance(found, dict):
        return
    usage = cast("dict[str, Any]", found)
    facts: dict[str, Any] = getattr(message, "response_metadata", None) or {}
    given: dict[str, Any] = usage.get("input_token_details") or {}
    made: dict[str, Any] = usage.get("output_token_details") or {}
    provider = _text(facts.get("model_provider"))
    yield Used(
        model=_text(facts.get("model_name")) or _text(facts.get("model")),
        provider=provider and _LANGCHAIN_PROVIDERS.get(provider, provider),
        input=_count(usage, "input_tokens"),
        output=_count(usage, "output_tokens"),
        cached=_count(given, "cache_read"),
        written=_count(given, "cache_creation"),
        reasoning=_count(made, "reasoning"),
        response=_text(facts.get("id")),
    )


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0


#: What LangChain calls providers, where that isn't their name here.
_LANGCHAIN_PROVIDERS = {"google_genai": "google", "google_vertexai": "google", "bedrock_converse": "aws"}

_READERS: dict[str, Callable[[Any], Iterable[Used]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "google": _google,
    "litellm": _litellm,
    "pydantic_ai": _pydantic_ai,
    "langchain_core": _langchain,
}
