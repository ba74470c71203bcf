"""What steps have spent, by OpenTelemetry's names for calls of language models.

It is booked in the append that records an attempt's outcome, so it is told with the attempt's span.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from perdure.core.usage import Used, dollars
from perdure.integrations.opentelemetry.story import Value
from perdure.storage.ledger import Book, Entry, EntryState

#: Calls, by the step and the attempt that have made them.
Spent: TypeAlias = dict[tuple[str, int], list[Used]]


def spent_in(effects: Sequence[Any]) -> Spent:
    """The calls that an append books."""
    return spent_by(entry for effect in effects if isinstance(effect, Book) for entry in effect.entries)


def spent_by(entries: Iterable[Entry]) -> Spent:
    """The calls that entries of the ledger tell of."""
    found: Spent = {}
    for entry in entries:
        if entry.state is EntryState.SPENT:
            found.setdefault((entry.step, entry.attempt), []).append(entry.used)
    return found


def usage_attributes(calls: Sequence[Used]) -> dict[str, Value]:
    """What a span says of the calls of its attempt. Of several, tokens and cost are their sums."""
    first = calls[0]
    told: dict[str, Value] = {
        "gen_ai.usage.input_tokens": sum(used.input for used in calls),
        "gen_ai.usage.output_tokens": sum(used.output for used in calls),
    }
    if first.provider is not None:
        told["gen_ai.provider.name"] = first.provider
    if first.model is not None:
        told["gen_ai.request.model"] = told["gen_ai.response.model"] = first.model
    if len(calls) == 1 and first.response is not None:
        told["gen_ai.response.id"] = first.response
    for name, amount in (
        ("cache_read.input_tokens", sum(used.cached for used in calls)),
        ("cache_creation.input_tokens", sum(used.written for used in calls)),
        ("reasoning.output_tokens", sum(used.reasoning for used in calls)),
    ):
        if amount:
            told[f"gen_ai.usage.{name}"] = amount
    costs = [used.cost for used in calls if used.cost is not None]
    if costs:
        told["perdure.cost.usd"] = float(dollars(sum(costs)))
    if len(calls) > 1:
        told["perdure.calls"] = len(calls)
    return told
