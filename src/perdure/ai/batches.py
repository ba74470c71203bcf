"""`batch()`: many calls of a model as one batch of the provider's, at half the price, some time within a day.

    a step      makes the batch, and records its id
    steps       look how it stands, with durable waits between
    steps       fetch the responses, some at a time, each recorded as the client's own object

Providers keep no order: each request has a number, by which its response finds its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, overload

import msgspec

from perdure.ai.background import called, look, looking, until_over
from perdure.ai.calls import carrier, step_name
from perdure.ai.clients import Method, no_retries
from perdure.ai.given import Given
from perdure.ai.responses import Responses
from perdure.api.durable import checked_key
from perdure.api.inline import in_run, inline_step
from perdure.core.retry import Retry, seconds
from perdure.core.usage import Used
from perdure.errors import UndecodableError, UsageError
from perdure.runtime.definitions import StepOptions
from perdure.runtime.spending import outlay_of, read
from perdure.runtime.stepcontext import current_step

R = TypeVar("R")

#: So many responses are fetched and recorded by one step.
AT_ONCE = 50
#: Providers charge this share of the price for calls in batches.
_SHARE = 2
_ENDPOINTS = {
    "chat.Completions.create": "/v1/chat/completions",
    "Responses.create": "/v1/responses",
    "Embeddings.create": "/v1/embeddings",
}
_MARK = "perdure"  #: the name under which OpenAI's batches tell whose they are
_OVER_WITHOUT_RESULT = frozenset({"cancelled", "cancelling", "expired", "failed"})
_NO_RETRIES = Retry(max_attempts=2)


@dataclass(frozen=True, slots=True)
class BatchItemFailed:
    """What `batch()` gives in the place of a response that there isn't.

    Attributes:
        kind: "errored", "expired" or "canceled".
        message: what the provider tells.
    """

    kind: str
    message: str


@overload
def batch(
    method: Callable[..., Awaitable[R]],
    requests: Iterable[Mapping[str, Any]],
    *,
    key: str | None = None,
    every: float | timedelta | None = None,
) -> Coroutine[Any, Any, list[R | BatchItemFailed]]: ...
@overload
def batch(
    method: Callable[..., R],
    requests: Iterable[Mapping[str, Any]],
    *,
    key: str | None = None,
    every: float | timedelta | None = None,
) -> Coroutine[Any, Any, list[R | BatchItemFailed]]: ...
def batch(
    method: Callable[..., Any],
    requests: Iterable[Mapping[str, Any]],
    *,
    key: str | None = None,
    every: float | timedelta | None = None,
) -> Coroutine[Any, Any, list[Any]]:
    """Make many calls of a language model as one batch of OpenAI's or Anthropic's, and wait for it durably.

    It costs half as much, and takes up to a day. The batch's id is recorded when the provider has told it; after a
    crash the same batch is waited for. When the code that waits is cancelled, so is the batch.

    Args:
        method: whose calls they are: `client.messages.create`, `client.chat.completions.create`,
            `client.responses.create` or `client.embeddings.create`.
        requests: the arguments of each call.
        key: names the batch within its run instead of its position.
        every: seconds between two looks; by default a growing time, up to a minute.

    Returns:
        For each request, in their order, its response, or a `BatchItemFailed`.

    Raises:
        UsageError: outside of workflow code; there are no batches of this method; there is nothing to ask.

    Example:
        >>> found = await batch(  # doctest: +SKIP
        ...     client.messages.create,
        ...     [{"model": "claude-haiku-4-5", "max_tokens": 500, "messages": say(text)} for text in texts],
        ... )
    """
    target = Method(method)
    work = [dict(each) for each in requests]
    if not in_run():
        msg = "batch() waits for up to a day, so it works in workflow code only: call it from a @workflow"
        raise UsageError(msg)
    if (target.package, target.name) != ("anthropic", "Messages.create") and (
        target.package != "openai" or target.name not in _ENDPOINTS
    ):
        msg = (
            f"batch() got {target.name}: it knows batches of OpenAI's and Anthropic's create methods. Make other calls "
            "one by one"
        )
        raise UsageError(msg)
    if not work:
        msg = "batch() got no requests: leave it out where there is nothing to ask"
        raise UsageError(msg)
    interval = None if every is None else seconds(every, "every")
    provider = (
        _Anthropic(target) if target.package == "anthropic" else _OpenAI(target, _ENDPOINTS[target.name])
    )
    return _batch(target, provider, work, checked_key(key), interval)


async def _batch(
    target: Method,
    provider: _Anthropic | _OpenAI,
    requests: list[dict[str, Any]],
    key: str | None,
    every: float | None,
) -> list[Any]:
    given = [Given(request, target.is_secret) for request in requests]
    name = step_name(given[0].data, "batch")
    options = StepOptions(key=key, effect="read")  # as all calls of models: nobody but the provider has it

    async def begin(about: dict[str, Any]) -> dict[str, str]:
        arguments = [each.body() for each in given]
        return {"batch": await provider.begin(arguments, about["digest"])}

    text = json.dumps([each.data for each in given], sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    about = {"requests": len(requests), "digest": digest}
    job = await inline_step(name, begin, given=about, result=dict[str, str], options=options)

    async def ask(job: dict[str, str]) -> str:
        return await provider.look(job["batch"])

    async def cancel(job: dict[str, str]) -> None:
        await provider.cancel(job["batch"])

    await until_over(
        lambda: look(f"{name}:look", ask, job, str, looking(options)),
        lambda status: status not in provider.under_way,
        lambda: look(f"{name}:cancel", cancel, job, None, StepOptions(retry=_NO_RETRIES, spends=False)),
        every,
    )
    several = _Several(carrier(target, requests[0], name))
    found: list[Any] = []
    for first in range(0, len(requests), AT_ONCE):
        wanted = {**job, "from": first, "to": min(first + AT_ONCE, len(requests))}

        async def fetch(wanted: dict[str, Any]) -> list[Any]:
            numbers = range(wanted["from"], wanted["to"])
            results = await provider.results(wanted["batch"], set(numbers), several.responses)
            missing = BatchItemFailed("errored", "the provider tells nothing of it")
            _book(results.values())
            return [results.get(number, missing) for number in numbers]

        found += await look(f"{name}:results", fetch, wanted, several, looking(options))
    return found


def _book(results: Iterable[Any]) -> None:
    """What the calls have used, at the price of batches."""
    step = current_step.get()
    assert step is not None
    for response in results:
        for used in [] if isinstance(response, BatchItemFailed) else read(response):
            outlay_of(step).spend(_cheaper(used), response)


def _cheaper(used: Used) -> Used:
    if used.cost is None:
        return used
    return msgspec.structs.replace(used, cost=used.cost // _SHARE, price=f"{used.price}, batch")


class _Several:
    """Carries lists of responses."""

    def __init__(self, responses: Responses) -> None:
        self.responses = responses

    def record(self, value: list[Any]) -> tuple[bytes, list[Any]]:
        parts = [
            {"failed": {"kind": each.kind, "message": each.message}}
            if isinstance(each, BatchItemFailed)
            else {"response": msgspec.Raw(self.responses.encode(each))}
            for each in value
        ]
        data = msgspec.json.encode(parts)
        return data, self.decode(data)

    def decode(self, data: bytes | msgspec.Raw) -> list[Any]:
        try:
            parts = msgspec.json.decode(data, type=list[dict[str, msgspec.Raw]])
        except msgspec.MsgspecError as error:
            msg = f"the recorded responses of a batch can't be read: {error}"
            raise UndecodableError(msg) from error
        return [
            self.responses.decode(part["response"])
            if "response" in part
            else msgspec.json.decode(part["failed"], type=BatchItemFailed)
            for part in parts
        ]


class _Anthropic:
    """Message batches."""

    under_way = frozenset({"in_progress", "canceling"})

    def __init__(self, method: Method) -> None:
        self._method = method
        self._batches = no_retries(method.resource._client).messages.batches

    async def begin(self, requests: Sequence[dict[str, Any]], digest: str) -> str:
        numbered = [{"custom_id": str(number), "params": each} for number, each in enumerate(requests)]
        made = await called(self._method, self._batches.create, requests=numbered)
        return str(made.id)

    async def look(self, id: str) -> str:
        found = await called(self._method, self._batches.retrieve, id)
        return str(found.processing_status)

    async def cancel(self, id: str) -> None:
        await called(self._method, self._batches.cancel, id)

    async def results(self, id: str, wanted: set[int], responses: Responses) -> dict[int, Any]:
        lines = await called(self._method, self._batches.results, id)
        found: dict[int, Any] = {}
        for line in [line async for line in lines] if self._method.is_async else lines:
            if (number := int(line.custom_id)) not in wanted:
                continue
            result = line.result
            if result.type == "succeeded":
                found[number] = result.message
            else:
                told = getattr(getattr(getattr(result, "error", None), "error", None), "message", "")
                found[number] = BatchItemFailed(result.type, told or f"the request has {result.type}")
        return found


class _OpenAI:
    """Files of requests, and of responses."""

    under_way = frozenset({"validating", "in_progress", "finalizing", "cancelling"})

    def __init__(self, method: Method, endpoint: str) -> None:
        self._method = method
        self._client = no_retries(method.resource._client)
        self._endpoint = endpoint

    async def begin(self, requests: Sequence[dict[str, Any]], digest: str) -> str:
        step = current_step.get()
        assert step is not None
        mark = f"{step.idempotency_key()}-{digest}"
        if (known := await self._begun(mark)) is not None:
            return known
        lines = [
            json.dumps({"custom_id": str(number), "method": "POST", "url": self._endpoint, "body": each})
            for number, each in enumerate(requests)
        ]
        file = ("perdure.jsonl", "\n".join(lines).encode())
        kept = await called(self._method, self._client.files.create, file=file, purpose="batch")
        made = await called(
            self._method,
            self._client.batches.create,
            input_file_id=kept.id,
            endpoint=self._endpoint,
            completion_window="24h",
            metadata={_MARK: mark},
        )
        return str(made.id)

    async def _begun(self, mark: str) -> str | None:
        """The batch that an earlier attempt has made, whose answer got lost."""
        page = await called(self._method, self._client.batches.list, limit=100)
        for each in page.data:
            marks: dict[str, str] = each.metadata or {}
            if marks.get(_MARK) == mark and each.status not in _OVER_WITHOUT_RESULT:
                return str(each.id)
        return None

    async def look(self, id: str) -> str:
        found = await called(self._method, self._client.batches.retrieve, id)
        return str(found.status)

    async def cancel(self, id: str) -> None:
        await called(self._method, self._client.batches.cancel, id)

    async def results(self, id: str, wanted: set[int], responses: Responses) -> dict[int, Any]:
        batch = await called(self._method, self._client.batches.retrieve, id)
        found: dict[int, Any] = {}
        for file in (batch.output_file_id, batch.error_file_id):
            if file is None:
                continue
            content = await called(self._method, self._client.files.content, file)
            lines: list[str] = content.text.splitlines()
            for line in lines:
                told = json.loads(line)
                if (number := int(told["custom_id"])) in wanted:
                    found[number] = _of_line(told, responses)
        if batch.status in _OVER_WITHOUT_RESULT:
            kind = "expired" if batch.status == "expired" else "canceled"
            for number in wanted - set(found):
                found[number] = BatchItemFailed(kind, f"the batch has {batch.status}")
        return found


def _of_line(told: dict[str, Any], responses: Responses) -> Any:
    response: dict[str, Any] = told.get("response") or {}
    if response.get("status_code") == 200:
        return responses.build(response["body"])
    body: dict[str, Any] = response.get("body") or {}
    error: dict[str, Any] = told.get("error") or body.get("error") or {}
    kind = "expired" if error.get("code") == "batch_expired" else "errored"
    return BatchItemFailed(kind, str(error.get("message") or error))
