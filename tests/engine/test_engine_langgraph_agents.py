"""Agents and tools of LangChain in runs: what is recorded, what is tried again, what is refused, what it costs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Any, TypedDict

import pytest
from engine_kit import Place, of_kind, recorded, run, until

pytest.importorskip("langchain")

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from langgraph_kit import Scripted, calls, says
from pydantic import BaseModel

import perdure
from perdure import events, workflow
from perdure.core.forbidden import called_on_the_spot
from perdure.integrations.langgraph import (
    PerdureMiddleware,
    durable_node,
    durable_tool,
    run_to_end,
)


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    calls.clear()
    programs.clear()


#: What the one workflow of this module does, in the test that runs.
programs: list[Callable[[], Awaitable[Any]]] = []


@workflow
async def program_run() -> Any:
    return await programs[-1]()


def executed(place: Place, program: Callable[[], Awaitable[Any]], **options: Any) -> Any:
    """Let an engine run a program; then another replays it."""
    programs.append(program)

    async def main() -> Any:
        async with place.engine(**options) as engine:
            result = await engine.run(program_run(), id="r")
            before = calls.copy()
            assert await (await engine.get("r").fork()).result() == result
            assert calls == before
            return result

    return run(main)


def to(agent: Any, **more: Any) -> Callable[[], Awaitable[Any]]:
    async def program() -> Any:
        state = await agent.ainvoke({"messages": [("user", "hi")], **more})
        return [[type(message).__name__, message.content] for message in state["messages"]]

    return program


@tool
async def flaky(times: int) -> str:
    """Fail for a while."""
    calls["flaky"] += 1
    if calls["flaky"] < times:
        raise OSError("not yet")
    return "at last"


@tool
def wrong() -> str:
    """Refuse."""
    raise ValueError("never")


@tool
async def asks(question: str) -> str:
    """Ask a person."""
    return f"they said {interrupt({'question': question})}"


def test_tools_are_tried_again_and_their_refusals_are_answers(place: Place) -> None:
    class Lenient(AgentMiddleware):  # type: ignore[type-arg]
        async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
            try:
                return await handler(request)
            except ValueError as error:
                from langchain_core.messages import ToolMessage

                return ToolMessage(f"refused: {error}", tool_call_id=request.tool_call["id"], status="error")

    agent = create_agent(
        Scripted(script=[says("", tools=[("c1", "flaky", {"times": 3}), ("c2", "wrong", {})]), says("done")]),
        [flaky, wrong],
        middleware=[
            Lenient(),
            PerdureMiddleware("retrying", tool_retry=perdure.Retry(initial=0.001, never=(ValueError,))),
        ],
    )
    found = executed(place, to(agent))
    assert found[2:] == [
        ["ToolMessage", "at last"],
        ["ToolMessage", "refused: never"],
        ["AIMessage", "done"],
    ]
    assert calls["flaky"] == 3


def test_ids_that_come_again_are_told_apart(place: Place) -> None:
    agent = create_agent(
        Scripted(
            script=[
                says("", tools=[("call_0", "flaky", {"times": 0})]),
                says("", tools=[("call_0", "flaky", {"times": 0})]),
                says("done"),
            ]
        ),
        [flaky],
        middleware=[PerdureMiddleware("again")],
    )
    executed(place, to(agent))
    assert calls == {"model": 3, "flaky": 2}


class Verdict(BaseModel):
    good: bool
    why: str


def test_structured_responses_come_back_as_what_they_are(place: Place) -> None:
    agent = create_agent(
        Scripted(script=[says("", tools=[("c1", "Verdict", {"good": True, "why": "it works"})])]),
        [],
        response_format=ToolStrategy(Verdict),
        middleware=[PerdureMiddleware("judge")],
    )

    async def program() -> Any:
        state = await agent.ainvoke({"messages": [("user", "judge")]})
        assert type(state["structured_response"]) is Verdict
        return state["structured_response"].why

    assert executed(place, program) == "it works"


def test_usage_goes_into_the_ledger_once_and_text_into_a_stream(place: Place) -> None:
    @tool
    async def researches() -> str:
        """Ask another model."""
        answer = await Scripted(script=[says("because", tokens=100)]).ainvoke([HumanMessage("why?")])
        get_stream_writer()({"done": True})
        return str(answer.content)

    agent = create_agent(
        Scripted(script=[says("", tools=[("c1", "researches", {})], tokens=10), says("so it is", tokens=1)]),
        [researches],
        middleware=[PerdureMiddleware("spender", stream="tokens")],
    )
    programs.append(to(agent))

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(program_run(), id="r")
            assert (await handle.result())[-1] == ["AIMessage", "so it is "]
            used = await handle.usage()
            assert (used.calls, used.input_tokens, used.output_tokens) == (3, 111, 111)
            assert used.cost > Decimal(0)
            items = [item.value async for item in handle.stream("tokens")]
            assert items == ["because ", {"done": True}, "so ", "it ", "is "]
            begun = await of_kind(handle, events.StepStarted)
            assert (
                len({event.step for event in begun} & set(await recorded(handle))) >= 2
            )  # the model's calls

    run(main)


def test_plain_tools_ask_and_sleep_in_the_run(place: Place) -> None:
    agent = create_agent(
        Scripted(script=[says("", tools=[("c1", "asks", {"question": "How many?"})]), says("done")]),
        [asks],
        middleware=[PerdureMiddleware("curious", plain=["asks"])],
    )

    async def program() -> Any:
        state = await run_to_end(agent, {"messages": [("user", "hi")]})
        return [message.content for message in state["messages"]][2]

    programs.append(program)

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(program_run(), id="r")
            questions: list[Any] = []

            async def asked() -> bool:
                questions[:] = [question async for question in engine.questions()]
                return bool(questions)

            await until(asked)
            assert questions[0].text == "How many?"
            await engine.answer(questions[0].id, 3, by="ann")
            assert await handle.result() == "they said 3"

    run(main)
    assert calls == {"model": 2}


def test_a_durable_tool_that_interrupts_is_told_what_to_do(place: Place) -> None:
    agent = create_agent(
        Scripted(script=[says("", tools=[("c1", "asks", {"question": "?"})]), says("done")]),
        [asks],
        middleware=[PerdureMiddleware("rash")],
    )
    programs.append(lambda: run_to_end(agent, {"messages": [("user", "hi")]}))

    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(perdure.RunFailed, match="PerdureMiddleware\\(plain="):
                await engine.run(program_run(), id="r")

    run(main)


def test_langchains_own_approval_of_tools_is_a_question(place: Place) -> None:
    agent = create_agent(
        Scripted(script=[says("", tools=[("c1", "flaky", {"times": 0})]), says("done")]),
        [flaky],
        middleware=[
            HumanInTheLoopMiddleware(interrupt_on={"flaky": True}),
            PerdureMiddleware("approved"),
        ],
    )
    asked: list[Any] = []

    async def program() -> Any:
        async def answer(question: Any) -> Any:
            asked.append(question.value["action_requests"][0]["name"])
            await asyncio.sleep(0.001)
            return {"decisions": [{"type": "approve"}]}

        state = await run_to_end(agent, {"messages": [("user", "hi")]}, answer=answer)
        return [message.content for message in state["messages"]]

    assert executed(place, program) == ["hi", "", "at last", "done"]
    assert set(asked) == {"flaky"}
    assert calls == {"model": 2, "flaky": 1}


# -- nodes and tools of graphs of one's own -------------------------------------------------------------


@dataclasses.dataclass
class Page:
    title: str


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]
    pages: list[Any]


def graph_of(*nodes: tuple[str, Any]) -> Any:
    builder = StateGraph(State)
    for name, node in nodes:
        builder.add_node(name, node)
    for before, after in zip(
        [START, *(name for name, _ in nodes)], [*(name for name, _ in nodes), END], strict=True
    ):
        builder.add_edge(before, after)
    return builder.compile()


def test_tools_of_a_graph_are_steps_by_the_ids_of_their_calls(place: Place) -> None:
    @tool
    def shouts(text: str) -> str:
        """Shout."""
        calls["shouts"] += 1
        return text.upper()

    graph = graph_of(("tools", ToolNode([durable_tool(shouts), durable_tool(flaky, name="tool.patient")])))
    wanted = says("", tools=[("c1", "shouts", {"text": "a"}), ("c2", "flaky", {"times": 0})])

    async def program() -> Any:
        state = await graph.ainvoke({"messages": [wanted]})
        return [message.content for message in state["messages"]][1:]

    assert executed(place, program) == ["A", "at last"]
    assert calls == {"shouts": 1, "flaky": 1}

    async def names() -> list[str]:
        async with place.engine() as engine:
            return await recorded(engine.get("r"))

    assert sorted(run(names)) == ["tool.patient[c2]", "tool.shouts[c1]"]


def test_nodes_return_classes_that_are_allowed(place: Place) -> None:
    async def reads(state: State) -> State:
        calls["reads"] += 1
        return {"pages": [Page("one"), ("a", {1, 2})]}

    async def program() -> Any:
        state = await graph_of(("read", durable_node(reads, allow=[Page]))).ainvoke({})
        assert state["pages"] == [Page("one"), ("a", {1, 2})]
        return "fine"

    assert executed(place, program) == "fine"


def test_a_class_that_is_not_is_refused_in_the_first_run(place: Place) -> None:
    async def reads(state: State) -> State:
        return {"pages": [Page("one")]}

    programs.append(lambda: graph_of(("read", durable_node(reads, name="read"))).ainvoke({}))

    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(perdure.RunFailed, match=r"result of node read .* is a Page.*allow=\[Page\]"):
                await engine.run(program_run(), id="r")

    run(main)


def test_sync_code_is_called_on_the_spot_and_may_not_block(place: Place) -> None:
    def routes(state: State) -> str:
        return "go"

    def plain(state: State) -> State:
        return {"pages": ["plain"]}

    def blocks(state: State) -> State:
        open("/dev/null").close()
        return {}

    builder = StateGraph(State)
    builder.add_node("go", plain)
    builder.add_conditional_edges(START, routes)
    graph = builder.compile()

    async def program() -> Any:
        return (await graph.ainvoke({}))["pages"]

    assert executed(place, program) == ["plain"]
    programs.append(lambda: graph_of(("blocks", blocks)).ainvoke({}))

    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(perdure.RunFailed, match="ForbiddenInWorkflowError"):
                await engine.run(program_run(), id="forbidden")

    run(main)
    assert "langchain_core.runnables.config" in called_on_the_spot


def test_outside_of_runs_nothing_is_different() -> None:
    async def reads(state: State) -> State:
        return {"pages": [Page("one")]}

    def counts(state: State) -> State:
        return {"pages": [*state["pages"], 1]}

    graph = graph_of(("read", durable_node(reads)), ("count", durable_node(counts)))
    agent = create_agent(
        Scripted(script=[says("", tools=[("c1", "flaky", {"times": 0})]), says("done")]),
        [durable_tool(flaky)],
        middleware=[PerdureMiddleware()],
    )

    async def main() -> None:
        assert (await graph.ainvoke({}))["pages"] == [Page("one"), 1]
        state = await agent.ainvoke({"messages": [("user", "hi")]})
        assert state["messages"][-1].content == "done"
        with pytest.raises(perdure.errors.UsageError, match="only in workflow code"):
            await run_to_end(graph, {})

    asyncio.run(main())
    sync = create_agent(Scripted(script=[says("done")]), [], middleware=[PerdureMiddleware()])
    assert sync.invoke({"messages": [("user", "hi")]})["messages"][-1].content == "done"


def test_a_thing_that_is_no_tool_is_refused() -> None:
    with pytest.raises(perdure.errors.UsageError, match="@tool"):
        durable_tool(print)  # type: ignore[type-var]


def test_commands_of_nodes_are_kept_whole(place: Place) -> None:
    async def jumps(state: State) -> Command[Any]:
        calls["jumps"] += 1
        return Command(update={"messages": [HumanMessage("jumped")]}, goto="land")

    async def lands(state: State) -> State:
        return {"pages": ["landed"]}

    builder = StateGraph(State)
    builder.add_node("jump", durable_node(jumps), destinations=("land",))
    builder.add_node("land", lands)
    builder.add_edge(START, "jump")
    graph = builder.compile()

    async def program() -> Any:
        state = await graph.ainvoke({})
        return [state["messages"][0].content, *state["pages"]]

    assert executed(place, program) == ["jumped", "landed"]


def test_a_counterfactual_fork_asks_the_model_and_only_executes_what_reads(place: Place) -> None:
    @tool
    async def looks(place: str) -> str:
        """Look."""
        calls["looks"] += 1
        return f"seen {place}"

    @tool
    async def books(place: str) -> str:
        """Book."""
        calls["books"] += 1
        return f"booked {place}"

    asked = ["Rome"]

    def planner() -> Any:
        return create_agent(
            Scripted(
                script=[
                    says("", tools=[("c1", "looks", {"place": asked[-1]})]),
                    says("", tools=[("c2", "books", {"place": asked[-1]})]),
                    says("done"),
                ]
            ),
            [looks, books],
            system_prompt=f"Plan for {asked[-1]}",
            middleware=[PerdureMiddleware("planner", reads=["looks"])],
        )

    async def program() -> Any:
        state = await planner().ainvoke({"messages": [("user", "plan")]})
        return [message.content for message in state["messages"]][2::2]

    programs.append(program)

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(program_run(), id="r")
            assert await handle.result() == ["seen Rome", "booked Rome"]
            asked.append("Oslo")
            trial = await handle.fork(effects="stub")
            assert await trial.result() == ["seen Oslo", "booked Rome"]
        assert calls == {"model": 6, "looks": 2, "books": 1}

    run(main)


def test_what_a_call_may_cost_is_reserved_if_it_is_limited(place: Place) -> None:
    class Limited(Scripted):
        max_tokens: int = 1000

    agent = create_agent(
        Limited(script=[says("done", tokens=5)], model_name="gpt-5"),
        [],
        middleware=[PerdureMiddleware("thrifty")],
    )
    programs.append(to(agent))

    async def main() -> None:
        budget = perdure.Budget(usd="0.001", on_exhausted="fail", name="tiny")
        async with place.engine(budgets=[budget]) as engine:
            with pytest.raises(perdure.RunFailed, match="tiny"):
                await engine.run(program_run(), id="r")

    run(main)
    assert calls == {}


def test_a_graphs_own_streams_are_replayed_whole(place: Place) -> None:
    agent = create_agent(
        Scripted(script=[says("", tools=[("c1", "flaky", {"times": 0})]), says("so it is")]),
        [flaky],
        middleware=[PerdureMiddleware("streaming")],
    )

    async def program() -> Any:
        seen: list[Any] = []
        asked = {"messages": [("user", "hi")]}
        async for kind, item in agent.astream(asked, stream_mode=["messages", "updates"]):
            await asyncio.sleep(0.001)  # a durable timer for each
            seen.append([kind, item[0].content] if kind == "messages" else [kind, *item])
        return seen

    found = executed(place, program)
    assert [item for item in found if item[0] == "messages"] == [
        ["messages", ""],
        ["messages", "at last"],
        ["messages", "so it is"],
    ]
    assert [item for item in found if item[0] == "updates"] == [
        ["updates", "model"],
        ["updates", "tools"],
        ["updates", "model"],
    ]


def test_plain_nodes_may_write_into_the_graphs_streams(place: Place) -> None:
    async def writes(state: State) -> State:
        get_stream_writer()({"done": 1})
        return {"pages": ["one"]}

    async def program() -> Any:
        graph = graph_of(("write", writes))
        return [item async for item in graph.astream({}, stream_mode="custom")]

    assert executed(place, program) == [{"done": 1}]
