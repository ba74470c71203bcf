"""`llm()`: one call of a language model, with the client one has, as one durable step.

workflow code   await llm(client.messages.create, model=..., ...)
                  arguments as data -> a step -> the client, without its own retries -> the response as bytes
a step's body   the call is a part of that step: no retries of the client's, and its usage is recorded
anywhere else   the client is called as it stands
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar, overload

from perdure.ai.background import background_response
from perdure.ai.clients import Method
from perdure.ai.given import Given, is_table
from perdure.ai.pieces import assemble, assemble_async, streaming
from perdure.ai.responses import Responses, response_of
from perdure.ai.worst_case import worst_case
from perdure.api.durable import OnCancel, checked_key, checked_on_cancel, time_limit
from perdure.api.inline import InlineCall, in_run, inline_step
from perdure.api.spending import record_usage
from perdure.api.streams import checked_stream
from perdure.core.retry import Retry, seconds
from perdure.errors import UsageError
from perdure.runtime.checks import checked_spends
from perdure.runtime.definitions import Spends, StepOptions
from perdure.runtime.limits import Limits, limits_of
from perdure.runtime.stepcontext import current_step

R = TypeVar("R")

#: Arguments by which a call says as what its text is to be parsed.
_SCHEMAS = ("response_format", "text_format", "output_format")
_UNNAMEABLE = str.maketrans({"/": ":", "#": "-", "[": "(", "]": ")", "\n": " "})


class Llm:
    """What `llm` is: a function with options."""

    __slots__ = ("_emit", "_every", "_name", "_options")

    def __init__(
        self,
        options: StepOptions = StepOptions(),  # noqa: B008 - frozen
        name: str | None = None,
        emit: str | None = None,
        every: float | None = None,
    ) -> None:
        self._options = options
        self._name = name
        self._emit = emit
        self._every = every

    @overload
    def __call__(
        self,
        method: Callable[..., Awaitable[R]],
        /,
        *args: Any,
        key: str | None = None,
        emit: str | None = None,
        **arguments: Any,
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def __call__(
        self,
        method: Callable[..., R],
        /,
        *args: Any,
        key: str | None = None,
        emit: str | None = None,
        **arguments: Any,
    ) -> Coroutine[Any, Any, R]: ...
    def __call__(
        self,
        method: Callable[..., Any],
        /,
        *args: Any,
        key: str | None = None,
        emit: str | None = None,
        **arguments: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Call a language model, durably.

        In a workflow this is one step, recorded once with the response; what the client is given is the step's input,
        so that forks can change the prompt or the model. The client doesn't retry by itself: the step does, by its
        policy, and waits durably while the provider turns it away. In the body of a step it is a part of that step.
        Anywhere else the client is called as it stands.

        With `background=True`, OpenAI's responses are begun in one step and asked for in others: whatever happens to
        the worker meanwhile, the same response is waited for.

        Args:
            method: of a client of openai, anthropic or google.genai, sync or async, such as
                `client.messages.create`; or a function of litellm's.
            key: names the step within its run instead of its position: an id that comes with the data.
            emit: the run's stream that gets the text, piece by piece, while it is made. The call still returns the
                whole response.
            arguments: what the method takes. Headers, keys and time limits among them aren't recorded.

        Raises:
            UsageError: it isn't the method of a client that is known here; `stream=True` (give `emit=`).

        Example:
            >>> message = await llm(  # doctest: +SKIP
            ...     client.messages.create,
            ...     model="claude-haiku-4-5",
            ...     max_tokens=500,
            ...     messages=[{"role": "user", "content": "Why do tardigrades survive?"}],
            ... )
        """
        target = Method(method)
        named = target.named(args, arguments)
        if named.get("stream"):
            msg = 'llm() returns the whole response: give emit="tokens" instead of stream=True to stream its text'
            raise UsageError(msg)
        stream = checked_stream(emit) if emit is not None else self._emit
        if not in_run():
            return _directly(target, named, stream)
        options = self._options if key is None else dataclasses.replace(self._options, key=checked_key(key))
        background = named.get("background") is True and target.name == "Responses.create"
        if background and stream is not None:
            msg = (
                "a response that is made in the background can't be streamed: leave out emit= or background="
            )
            raise UsageError(msg)
        call, responses = _durably(target, named, stream, options, self._name)
        return background_response(target, call, responses, options, self._every) if background else call

    def with_options(
        self,
        *,
        key: str | None = None,
        name: str | None = None,
        emit: str | None = None,
        retry: Retry | None = None,
        timeout: float | timedelta | None = None,
        deadline: float | timedelta | None = None,
        record_inputs: int | None = None,
        on_cancel: OnCancel | None = None,
        limit: Limits | None = None,
        spends: Spends | None = None,
        every: float | timedelta | None = None,
    ) -> Llm:
        """`llm` with other options, for the calls made through it.

        Args:
            key, emit: as for a call.
            name: the step's durable name; `llm:` and the model by default.
            retry: which failures are tried again; by default transient ones, up to 10 attempts.
            timeout: seconds that one attempt may take. The client's own limit holds, too.
            deadline: seconds from the first attempt in which attempts may start.
            record_inputs: largest input in bytes that the history keeps whole; of larger ones a fingerprint.
            on_cancel: as for `@step`.
            limit: as for `@step`: the provider's rate limits.
            spends: what a call may spend at most, as for `@step`; by default it is estimated from what it is given and
                its limit of tokens.
            every: seconds between two looks at a response that is made in the background; by default a growing time,
                up to a minute.

        Raises:
            ConfigurationError: an option is out of range.

        Example:
            >>> patient = llm.with_options(retry=perdure.Retry(max_attempts=30))  # doctest: +SKIP
            >>> await patient(client.messages.create, model=..., ...)  # doctest: +SKIP
        """
        changes: dict[str, Any] = {
            "key": checked_key(key),
            "retry": retry,
            "timeout": time_limit(timeout, "timeout"),
            "deadline": time_limit(deadline, "deadline"),
            "record_inputs": record_inputs,
            "on_cancel": None if on_cancel is None else checked_on_cancel(on_cancel),
            "limits": None if limit is None else limits_of(limit),
            "spends": checked_spends(spends),
        }
        given = {name: value for name, value in changes.items() if value is not None}
        return Llm(
            dataclasses.replace(self._options, **given),
            self._name if name is None else name,
            self._emit if emit is None else checked_stream(emit),
            self._every if every is None else seconds(every, "every"),
        )

    def __repr__(self) -> str:
        return "<llm>"


llm = Llm()


def _durably(
    target: Method, named: dict[str, Any], stream: str | None, options: StepOptions, name: str | None
) -> tuple[InlineCall[Any], Responses]:
    """The call as a step of the run whose code is executing."""
    given = Given(named, target.is_secret)
    name = name or step_name(given.data)
    responses = carrier(target, named, name)
    if options.spends is None:
        makes_text = "embed" not in target.name.casefold()
        options = dataclasses.replace(options, spends=worst_case(target.provider, makes_text=makes_text))

    async def ask(data: dict[str, Any]) -> Any:
        return await _once_async(target, given.arguments(data), stream, responses)

    def ask_in_thread(data: dict[str, Any]) -> Any:
        return _once(target, given.arguments(data), stream, responses)

    body: Any = ask if target.is_async else ask_in_thread
    call: InlineCall[Any] = inline_step(
        name,
        body,
        given=given.data,
        result=responses,
        options=options,
        editable=True,
        returns_response=True,
        in_thread=not target.is_async,
    )
    return call, responses


def carrier(target: Method, named: dict[str, Any], name: str) -> Responses:
    """What carries the responses of a call."""
    schema = next((named[each] for each in _SCHEMAS if isinstance(named.get(each), type)), None)
    if target.package == "google":
        schema = _schema_of(named.get("config"))
    return Responses(response_of(target.plain()), f"result of step {name}", schema)


def _schema_of(config: Any) -> Any:
    """As what a call of google's wants its text parsed."""
    for name in ("response_schema", "responseSchema", "response_json_schema", "responseJsonSchema"):
        said = config.get(name) if is_table(config) else getattr(config, name, None)
        if said is not None:
            return said
    return None


def step_name(given: dict[str, Any], kind: str = "llm") -> str:
    """`llm:` and the model.

    >>> step_name({"model": "meta/llama-4"})
    'llm:meta:llama-4'
    """
    model = given.get("model")
    if not isinstance(model, str):
        return kind
    named = "".join(char for char in model.translate(_UNNAMEABLE) if char.isprintable())
    return f"{kind}:{named}"[:255] if named else kind


async def _directly(target: Method, named: dict[str, Any], stream: str | None) -> Any:
    """Outside of workflow code: as a part of the step that is executing, or just so."""
    step = current_step.get()
    if step is None and stream is None:
        asked = target.plain()
        return await (asked(**named) if target.is_async else asyncio.to_thread(asked, **named))
    responses = carrier(target, named, step_name(named))
    if target.is_async:
        response = await _once_async(target, named, stream, responses)
    else:
        response = await asyncio.to_thread(_once, target, named, stream, responses)
    if step is not None:
        try:
            record_usage(response)
        except UsageError:  # it tells of none
            pass
    return response


async def _once_async(
    target: Method, arguments: dict[str, Any], stream: str | None, responses: Responses
) -> Any:
    method, arguments = _made(target, arguments, stream)
    answer = await method(**arguments)
    return answer if stream is None else await assemble_async(target, answer, stream, responses)


def _once(target: Method, arguments: dict[str, Any], stream: str | None, responses: Responses) -> Any:
    method, arguments = _made(target, arguments, stream)
    answer = method(**arguments)
    return answer if stream is None else assemble(target, answer, stream, responses)


def _made(
    target: Method, arguments: dict[str, Any], stream: str | None
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What to call, and with what."""
    name = None
    if stream is not None:
        name, arguments = streaming(target, arguments)
    step = current_step.get()
    if step is None:
        return target.plain() if name is None else getattr(target.resource, name), arguments
    return target.unretried(name), target.once(arguments, step.idempotency_key())
