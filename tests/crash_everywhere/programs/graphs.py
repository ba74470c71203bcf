"""A graph with branches, a subgraph that asks, tools by the ids of their calls, and a thread in the run's database."""

import asyncio
import operator
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt

import perdure
from perdure.integrations.langgraph import PerdureSaver, durable_node, durable_tool, run_to_end

BODIES = Path("bodies")


def done(what: str) -> None:
    with BODIES.open("a") as file:
        file.write(f"{what}\n")


class State(TypedDict, total=False):
    found: Annotated[list[str], operator.add]
    messages: Annotated[list[Any], add_messages]


@tool
def weighs(what: str) -> int:
    """Weigh something."""
    done(f"weighs {what}")
    return len(what)


def plans(state: State) -> State:
    calls = [{"id": f"c-{what}", "name": "weighs", "args": {"what": what}} for what in ("moss", "fern")]
    return {"messages": [AIMessage("", tool_calls=calls)]}


async def reads(state: State) -> State:
    done("reads")
    return {"found": ["read"]}


async def asks(state: State) -> State:
    return {"found": [str(interrupt({"question": "Go on?"}))]}


async def sums_up(state: State) -> State:
    done("sums up")
    return {"found": ["+".join(str(message.content) for message in state["messages"][1:])]}


inner = StateGraph(State)
inner.add_node("read", durable_node(reads, name="reads"))
inner.add_node("ask", asks)
inner.add_edge(START, "read")
inner.add_edge("read", "ask")

outer = StateGraph(State)
outer.add_node("plan", plans)
outer.add_node("weigh", ToolNode([durable_tool(weighs)]))
outer.add_node("inner", inner.compile())
outer.add_node("sum", durable_node(sums_up, name="sums_up"))
outer.add_edge(START, "plan")
outer.add_edge("plan", "weigh")
outer.add_edge("plan", "inner")
outer.add_edge(["weigh", "inner"], "sum")
outer.add_edge("sum", END)
graph = outer.compile(checkpointer=PerdureSaver())

doubles = task(durable_node(lambda number: number * 2, name="doubles"))


@entrypoint()
async def counts(number: int) -> int:
    return sum([await one for one in [doubles(number), doubles(number + 1)]])


@perdure.workflow
async def research() -> list[str]:
    async def answer(question: Any) -> str:
        await asyncio.sleep(0.001)
        return f"yes to {question.value['question']}"

    state = await run_to_end(graph, {"found": []}, answer=answer)
    kept = await graph.aget_state({"configurable": {"thread_id": perdure.info().id}})
    assert kept.values["found"] == state["found"]
    return [*sorted(state["found"]), str(await counts.ainvoke(3))]


async def main() -> None:
    async with perdure.Engine("sqlite:///graphs.db") as engine:
        print(await engine.run(research(), id="r"))
        saver = PerdureSaver(engine)
        own = {it.config["configurable"]["checkpoint_id"] async for it in saver.alist(None)}
        parents = {
            it.parent_config["configurable"]["checkpoint_id"]
            async for it in saver.alist(None)
            if it.parent_config
        }
        assert parents <= own, (parents, own)


asyncio.run(main())
