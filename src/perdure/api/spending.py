"""Money: what steps record of their calls of language models, and what came of it all."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from perdure.api.call import current_machine
from perdure.api.connection import Connection
from perdure.core.usage import Sums, Used, dollars, nanos
from perdure.errors import UsageError
from perdure.runtime.prices import priced
from perdure.runtime.spending import outlay_of, read
from perdure.runtime.stepcontext import current_step
from perdure.storage.ledger import Query, Share

#: What `engine.usage` tells sums apart by.
By: TypeAlias = Literal["step", "workflow", "model", "key", "day", "month", "run"]


def record_usage(
    response: object = None,
    *,
    model: str | None = None,
    provider: str | None = None,
    input_tokens: int = 0,
    output_tokens: int = 0,
    cached_tokens: int = 0,
    cache_write_tokens: int = 0,
    reasoning_tokens: int = 0,
    cost: Decimal | float | str | None = None,
    key: str | None = None,
) -> None:
    """Record a call of a language model, or of anything else that costs money. For use in steps.

    It is kept in the transaction that records the step's outcome, also if the attempt fails. A replay records nothing
    again. Responses that a step *returns* are recorded by themselves. Outside of an engine it does nothing.

    Args:
        response: what the client of OpenAI, Anthropic, Google GenAI, litellm or pydantic-ai has returned: usage, model
            and provider are read from it. Without one, give the numbers.
        model: the model's name; counts instead of the response's, as does the provider.
        provider: whose model it is, if its name doesn't tell.
        input_tokens: tokens of the prompt, cached ones included.
        output_tokens: tokens of the answer, reasoning included.
        cached_tokens: tokens of the prompt that were read from the provider's cache.
        cache_write_tokens: tokens of the prompt that were written to it.
        reasoning_tokens: tokens that the model thought.
        cost: in US dollars, if you know it. Else it is looked up in the price list of the package genai-prices (the
            extra `perdure[ai]`); what isn't there is recorded as of unknown price, never as 0.
        key: who is charged, instead of the key of the run or of its parents.

    Raises:
        UsageError: in workflow code; the response isn't one that is known here, or tells of no usage; an amount is
            negative.

    Example:
        >>> perdure.record_usage(message)  # doctest: +SKIP
        >>> perdure.record_usage(model="gpt-5", input_tokens=1200, output_tokens=300)  # doctest: +SKIP
    """
    if current_machine() is not None:
        msg = "record_usage() works only inside a step: workflow code calls no models, it asks steps to"
        raise UsageError(msg)
    amounts = (input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens)
    known = None if cost is None else nanos(cost)
    if min(amounts) < 0 or (known is not None and known < 0):
        msg = "record_usage() got a negative amount: give what was used as a number of tokens, and dollars"
        raise UsageError(msg)
    step = current_step.get()
    if response is None:
        calls = [
            Used(
                input=input_tokens,
                output=output_tokens,
                cached=cached_tokens,
                written=cache_write_tokens,
                reasoning=reasoning_tokens,
            )
        ]
    else:
        calls = _told_by(response)
    if step is None:
        return
    outlay = outlay_of(step)
    for used in calls:
        outlay.spend(_as_told(used, model, provider, known, key), response)


def _told_by(response: object) -> list[Used]:
    """The calls of which a client's response tells, of which there are some."""
    if calls := read(response):
        return calls
    msg = (
        f"record_usage() can't read the usage of a {type(response).__qualname__}: it isn't a response that is "
        "known here, or has no usage (of a stream only the last chunk has one, if it was asked for). "
        "Give the numbers: record_usage(model=..., input_tokens=..., output_tokens=...)"
    )
    raise UsageError(msg)


def _as_told(used: Used, model: str | None, provider: str | None, cost: int | None, key: str | None) -> Used:
    """The same call with what was said explicitly, and its price."""
    changes: dict[str, object] = {}
    if (model is not None and model != used.model) or (provider is not None and provider != used.provider):
        changes |= {"model": model or used.model, "provider": provider or used.provider}
        changes |= {"cost": None, "price": None}  # another model's
    if cost is not None:
        changes |= {"cost": cost, "price": "given"}
    if key is not None:
        changes["key"] = key
    return priced(msgspec.structs.replace(used, **changes) if changes else used)


class Usage(msgspec.Struct, frozen=True):
    """What calls of language models have used, and what they have cost in US dollars.

    Attributes:
        calls: calls whose usage is known.
        input_tokens, output_tokens: theirs; input includes what was cached, output what was thought.
        cached_tokens, cache_write_tokens, reasoning_tokens: parts of these.
        cost: of the calls whose price is known.
        unpriced_calls: the others.
        unknown_calls: calls that were begun and of which nobody knows whether they were billed: their worker died, or
            no answer came. They aren't in `calls`.
        unknown_cost: what these cost at most.
        unknown_unpriced_calls: those of them for which that isn't known either.
        calls_in_flight: calls that are being made.
        saved_calls: calls that weren't made again, since the result was in the history when a worker had died or was
            stopped in the middle, or since a retry or a fork took it over. Each counts as often as that happened.
        saved_tokens, saved_cost: what these would have used.
        saved_unpriced_calls: those of them whose price isn't known.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal = Decimal(0)
    unpriced_calls: int = 0
    unknown_calls: int = 0
    unknown_cost: Decimal = Decimal(0)
    unknown_unpriced_calls: int = 0
    calls_in_flight: int = 0
    saved_calls: int = 0
    saved_tokens: int = 0
    saved_cost: Decimal = Decimal(0)
    saved_unpriced_calls: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens


class UsageLine(msgspec.Struct, frozen=True):
    """One line of `engine.usage(by=...)`.

    Attributes:
        name: of the step, workflow, model, key or run, or the day or month (in UTC); None for what has none: calls
            without a key, say.
        removed: of a report by key or run, the line of all that runs had spent which were removed since: nobody can
            tell it apart any more.
    """

    name: str | None
    usage: Usage
    removed: bool = False


def usage_of(sums: Sums) -> Usage:
    """The sums as people see them."""
    return Usage(
        calls=sums.calls,
        input_tokens=sums.input,
        output_tokens=sums.output,
        cached_tokens=sums.cached,
        cache_write_tokens=sums.written,
        reasoning_tokens=sums.reasoning,
        cost=dollars(sums.cost),
        unpriced_calls=sums.unpriced,
        unknown_calls=sums.unknown,
        unknown_cost=dollars(sums.unknown_cost),
        unknown_unpriced_calls=sums.unknown_unpriced,
        calls_in_flight=sums.in_flight,
        saved_calls=sums.spared,
        saved_tokens=sums.spared_input + sums.spared_output,
        saved_cost=dollars(sums.spared_cost),
        saved_unpriced_calls=sums.spared_unpriced,
    )


async def report(
    connection: Connection,
    by: By | None,
    *,
    run: str | None = None,
    workflow: str | None = None,
    key: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[UsageLine]:
    """Sums of what was spent. See `Engine.usage`.

    Raises:
        UnknownRunError, StoreError.
    """
    connection.check()
    if run is not None:
        await connection.row(run)
    query = Query(
        by=None if by is None else Share(by),
        run=run,
        workflow=workflow,
        key=key,
        since=None if since is None else since.timestamp(),
        until=None if until is None else until.timestamp(),
    )
    lines = await connection.store.ledger.report(query)
    return [UsageLine(line.name, usage_of(line.sums), line.removed) for line in lines]


class Spending:
    """The part of an engine that tells of money."""

    if TYPE_CHECKING:

        def _open(self) -> Connection: ...

    async def usage(
        self,
        by: By | None = None,
        *,
        run: str | None = None,
        workflow: str | None = None,
        key: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[UsageLine]:
        """What was spent, added up. What runs had spent that were removed by retention since counts, too; but their
        keys and ids aren't known any more, nor the time of day.

        Args:
            by: what the sums are told apart by; None for one line. Of `day` and `month` those in UTC. The key is that
                of the run, or of the nearest of its parents that has one.
            run: only what this run has spent, its earlier generations and everything that it has started included.
            workflow: only what runs of this workflow have spent, by its durable name.
            key: only what is charged to this key, by runs that are there.
            since, until: only what was spent from then on, before then; with a time zone. Of removed runs a day (in
                UTC) counts as a whole, if it begins within that.

        Raises:
            UnknownRunError: no run has this id.

        Example:
            >>> for line in await engine.usage(by="model"):  # doctest: +SKIP
            ...     print(line.name, line.usage.cost)
        """
        chosen: dict[str, Any] = {
            "run": run,
            "workflow": workflow,
            "key": key,
            "since": since,
            "until": until,
        }
        return await report(self._open(), by, **chosen)
