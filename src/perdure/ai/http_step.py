"""One request as one durable step.

    workflow's loop                      the engine's loop

    client of a provider
      httpx
        transport: what is asked
                      inline step -----> transport, as it was: connections, TLS, time-outs
                                           the whole body is read; of a stream each event is put out meanwhile
                                           a status of 400 or more is raised: HttpStatusError
                      Answer <---------- recorded
        response from the record
      httpx
    client of a provider

How an attempt that was turned away goes on, and what it has cost, is the business of steps. When a step has failed for
good, the client gets the last answer, and makes its own exception of it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable
from typing import Any, cast

from perdure.ai.http_call import attempt
from perdure.ai.http_exchange import Exchange
from perdure.ai.http_record import Answer, failed_response, fingerprint, response_of
from perdure.ai.http_secrets import crossed_out
from perdure.ai.http_wire import at_most
from perdure.api.inline import InlineCall, inline_step
from perdure.errors import HttpStatusError, StepFailed
from perdure.runtime.definitions import StepOptions

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_UNNAMEABLE = str.maketrans({"/": ":", "#": "-", "[": "(", "]": ")"})


def as_step(what: Exchange) -> InlineCall[Answer]:
    """The step that a request becomes."""
    request, called, rules = what.request, what.called, what.rules
    url, port = request.url, request.url.port
    address = f"{url.scheme}://{url.host}{'' if port is None else f':{port}'}{url.path}"
    asked = {  # neither headers nor parameters
        "call": f"{request.method} {crossed_out(address, what.secrets)}",
        "fingerprint": fingerprint(
            request.content,
            called.body,
            url.query,
            request.headers.get("content-type", ""),
            rules.ignored,
        ),
    }
    options = StepOptions(
        retry=rules.retry,
        limits=rules.limits,
        spends=at_most(called, what.provider or called.speaks),
        effect="read" if request.method in _SAFE or called.reads else None,
    )

    async def body(asked: Any) -> Answer:
        return await attempt(what)

    return inline_step(_name(what), body, given=asked, result=Answer, options=options)


def _name(what: Exchange) -> str:
    model = what.called.model
    name = f"http:{what.host}" if model is None or not what.called.billed else f"llm:{model}"
    return "".join(char if char.isprintable() else " " for char in name.translate(_UNNAMEABLE))[:255]


# -- what the client gets -----------------------------------------------------------------------------------

#: The last error of a task's request: clients that ask once more get it again, without another step.
_given_up: weakref.WeakKeyDictionary[asyncio.Task[Any], Exception] = weakref.WeakKeyDictionary()


async def through_step(what: Exchange) -> Any:
    """Let a step make the call; return the response that the client gets.

    Raises:
        Exception: no answer came; the client library's own.
    """
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    again = what.request.headers.get("x-stainless-retry-count", "0") != "0"
    if (error := _given_up.pop(task, None)) is not None and again:
        _given_up[task] = error
        raise error
    try:
        answer = await cast("Awaitable[Answer]", as_step(what))
    except HttpStatusError as error:
        return failed_response(what.library, error)
    except StepFailed as error:
        failure = _given_up[task] = _rebuilt(what.library, error)
        raise failure from error
    except Exception as error:
        _given_up[task] = error
        raise
    return response_of(what.library, answer)


def _rebuilt(library: Any, error: StepFailed) -> Exception:
    """An error of httpx's that couldn't be rebuilt by its arguments alone."""
    kind = getattr(library, error.type.rpartition(".")[2], None)
    if isinstance(kind, type) and issubclass(kind, library.RequestError):
        made: Exception = kind(str(error))
        return made
    return error
