"""Durable calls of language models, with the clients that one has anyway.

    calls.py         llm(): one call as one durable step
    given.py         its arguments as data, and what of them never gets into a history
    clients.py       what differs between the clients of OpenAI, Anthropic, Google and litellm
    responses.py     responses as bytes, and back
    pieces.py        streamed pieces become the whole response
    worst_case.py    what a call costs at most
    background.py    a response that the provider makes meanwhile, which is asked for until it is there
    batches.py       many calls as one batch of the provider's
    http*.py         durable_http(): requests of code that isn't changed as durable steps

No client is imported here: whoever calls one has imported it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.ai.batches import BatchItemFailed as BatchItemFailed
    from perdure.ai.batches import batch as batch
    from perdure.ai.calls import llm as llm
    from perdure.ai.clients import no_retries as no_retries
    from perdure.ai.http import call_sync as call_sync
    from perdure.ai.http import durable_http as durable_http

#: Where the public names are; they are imported when they are used.
_PLACES = {
    "BatchItemFailed": "perdure.ai.batches",
    "batch": "perdure.ai.batches",
    "call_sync": "perdure.ai.http",
    "durable_http": "perdure.ai.http",
    "llm": "perdure.ai.calls",
    "no_retries": "perdure.ai.clients",
}

__all__ = ["BatchItemFailed", "batch", "call_sync", "durable_http", "llm", "no_retries"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_PLACES[name]), name)
