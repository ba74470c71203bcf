"""Graphs that ask: what `interrupt()` wants to know becomes a question of the run, however long the answer takes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.pregel import Pregel
from langgraph.types import Command, Interrupt

from perdure.api.asking import ask
from perdure.api.context import info, uuid4
from perdure.api.inline import in_run
from perdure.errors import UsageError


async def ask_person(interrupt: Interrupt) -> Any:
    """Ask a person what a graph wants to know, and wait for the answer; see `perdure.ask`.

    The text of the question is the interrupt's value, if that is a text, or what it has under "question"; all of the
    value is shown with it. The answer may be any JSON.
    """
    value = interrupt.value
    text: Any = value
    if isinstance(value, dict):
        text = cast("dict[str, Any]", value).get("question") or cast("dict[str, Any]", value).get(
            "description"
        )
    if not isinstance(text, str) or not text:
        text = "The graph waits for an answer."
    return await ask(text, Any, details=value, about=value)


async def run_to_end(
    graph: Pregel[Any, Any, Any, Any],  # what compile() and create_agent() return
    input: Any,
    config: RunnableConfig | None = None,
    *,
    answer: Callable[[Interrupt], Awaitable[Any]] = ask_person,
    **options: Any,
) -> Any:
    """Run a graph in workflow code until it asks nothing any more.

    Each of its interrupts is answered, those that come together at once, and the graph goes on with the answers. The
    run needs no worker and no memory while it waits.

    Args:
        graph: a compiled graph. Without a checkpointer of its own it gets one in memory, which a replay fills again.
        input: as for `graph.ainvoke`.
        config: as for `graph.ainvoke`. The thread is that of the run's id, if it names none.
        answer: gets an interrupt, and returns what `interrupt()` is to return. It is workflow code; by default it asks
            a person.
        options: more for `graph.ainvoke`. With a checkpointer of its own, the graph's state is written when it ends or
            asks (`durability="exit"`), if you don't say otherwise: the run's history is there for all between.

    Returns:
        What `graph.ainvoke` returns at last.

    Raises:
        UsageError: outside of workflow code. And whatever the graph raises.

    Example:
        >>> state = await run_to_end(agent, {"messages": [("user", "Book a flight")]})  # doctest: +SKIP
    """
    if not in_run():
        msg = "run_to_end() works only in workflow code, where it can wait: use graph.ainvoke() elsewhere"
        raise UsageError(msg)
    compiled: Any = graph
    if compiled.checkpointer is None:
        compiled = compiled.copy({"checkpointer": InMemorySaver()})
    elif not isinstance(compiled.checkpointer, bool):
        options.setdefault("durability", "exit")
    given: dict[str, Any] = {**(config or {})}
    given["configurable"] = {"thread_id": info().id, **given.get("configurable", {})}
    while True:
        result: Any = await compiled.ainvoke(input, {"run_id": uuid4(), **given}, **options)
        interrupts = _interrupts(result)
        if not interrupts:
            return result
        answers = await asyncio.gather(*(answer(interrupt) for interrupt in interrupts))
        input = Command(resume={it.id: value for it, value in zip(interrupts, answers, strict=True)})


def _interrupts(result: Any) -> list[Interrupt]:
    if isinstance(result, dict):
        found: Any = cast("dict[str, Any]", result).get("__interrupt__")
    else:
        found = getattr(result, "interrupts", None)
    return list(found or ())
