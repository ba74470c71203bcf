"""What is different inside a durable step of a graph: what its code finds in LangGraph's and LangChain's context.

The body executes in the context of the node that waits for it, so a model called there finds the callbacks and settings
of the graph. But it doesn't execute on a replay, and live it executes beside the run's event loop. So what it would put
into the graph's own streams is left out (it may go into a stream of the run), and what its models use goes into the
ledger.
"""

from __future__ import annotations

import dataclasses
import weakref
from asyncio.events import _get_running_loop
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.callbacks.base import BaseCallbackManager
from langchain_core.outputs import LLMResult
from langchain_core.runnables.config import RunnableConfig, var_child_runnable_config
from langgraph.errors import GraphBubbleUp

from perdure.api.spending import record_usage
from perdure.api.streams import emit
from perdure.core.retry import DEFAULT_RETRY, Retry, seconds
from perdure.errors import Permanent
from perdure.runtime.definitions import StepOptions
from perdure.runtime.responses import usage_of

_RUNTIME = "__pregel_runtime"  # where LangGraph keeps what a node's code may use
_STREAM = "__pregel_stream"  # by which a graph in a node streams through the one around it


def options_of(
    retry: Retry | None, timeout: float | timedelta | None, key: str | None = None, **more: Any
) -> StepOptions:
    return StepOptions(
        retry=retry or DEFAULT_RETRY,
        timeout=None if timeout is None else seconds(timeout, "timeout"),
        key=key,
        **more,
    )


class Purse(BaseCallbackHandler):
    """Records what the models called in a step have used."""

    run_inline = True  # in the step's context, which tells whose it is

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        for generations in response.generations:
            for generation in generations:
                message = getattr(generation, "message", None)
                if message is not None and usage_of(message):
                    record_usage(message)


class Tokens(BaseCallbackHandler):
    """Puts the text that models called in a step make into a stream of the run, as it comes.

    Models stream by themselves where a handler has the two methods called tap.
    """

    run_inline = True

    def __init__(self, stream: str) -> None:
        self._name = stream

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        if isinstance(token, str) and token:
            emit(self._name, token)

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[Any]) -> AsyncIterator[Any]:
        return output

    def tap_output_iter(self, run_id: UUID, output: Iterator[Any]) -> Iterator[Any]:
        return output


def within(config: RunnableConfig | None, stream: str | None) -> RunnableConfig:
    """The config of a graph, as the body of a step is to find it."""
    config = config or {}
    return cast(
        RunnableConfig,
        {
            **config,
            "callbacks": _callbacks(config.get("callbacks"), stream),
            "configurable": _configurable(config.get("configurable") or {}, stream),
        },
    )


def _callbacks(callbacks: Any, stream: str | None) -> Any:
    own: list[BaseCallbackHandler] = [Purse(), *([] if stream is None else [Tokens(stream)])]
    if not isinstance(callbacks, BaseCallbackManager):
        return [*(handler for handler in callbacks or () if not _of_the_graph(handler)), *own]
    manager = callbacks.copy()
    for handler in {*manager.handlers, *manager.inheritable_handlers}:
        if _of_the_graph(handler):
            manager.remove_handler(handler)
    for handler in own:
        manager.add_handler(handler)
    return manager


def _of_the_graph(handler: Any) -> bool:
    """Whether a handler puts what it hears into the graph's streams."""
    return type(handler).__module__.startswith("langgraph.pregel.") or isinstance(handler, Purse | Tokens)


def _configurable(configurable: dict[str, Any], stream: str | None) -> dict[str, Any]:
    kept = {name: value for name, value in configurable.items() if name != _STREAM}
    if _RUNTIME in kept:
        kept[_RUNTIME] = quiet(kept[_RUNTIME], stream)
    return kept


def quiet(runtime: Any, stream: str | None) -> Any:
    """A runtime of LangGraph whose writer puts things into a stream of the run, if anywhere."""
    if not dataclasses.is_dataclass(runtime) or isinstance(runtime, type):
        return runtime
    changes: dict[str, Any] = {"stream_writer": writer_to(stream)}
    if getattr(runtime, "config", None) is not None:
        changes["config"] = within(runtime.config, stream)  # type: ignore[attr-defined]
    return dataclasses.replace(runtime, **changes)


def writer_to(stream: str | None) -> Callable[[Any], None]:
    """What code in a step gets as LangGraph's stream writer."""

    def write(item: Any) -> None:
        if stream is not None:
            emit(stream, item)

    return write


async def executed(what: str, call: Callable[[], Awaitable[Any]], stream: str | None) -> Any:
    """Execute a body: in the context as it is to be, and without what only a graph could act on."""
    var_child_runnable_config.set(within(var_child_runnable_config.get(), stream))
    try:
        return await call()
    except GraphBubbleUp as error:
        raise no_way_out(what, error) from error


def no_way_out(what: str, error: GraphBubbleUp) -> Permanent:
    """The error for a body that wanted to talk to the graph around it."""
    return Permanent(
        f"{what} raised {type(error).__name__}, as interrupt() does: a durable step is recorded once, can't be left "
        "and entered again. Call interrupt() where nothing is durable: in an ordinary node, or in a tool that "
        "PerdureMiddleware(plain=[...]) names. Such code is replayed, and awaits durable calls itself"
    )


# -- keys -----------------------------------------------------------------------------------------------

_asked: weakref.WeakKeyDictionary[Any, Counter[str]] = weakref.WeakKeyDictionary()


def key_of(name: str, id: str | None) -> str | None:
    """The key of a call that came with an id. Ids that come again (some models count from 1 each time) get a number."""
    if not id:
        return None
    seen = _asked.setdefault(_get_running_loop(), Counter())
    seen[f"{name} {id}"] += 1
    number = seen[f"{name} {id}"]
    return id if number == 1 else f"{id}~{number}"
