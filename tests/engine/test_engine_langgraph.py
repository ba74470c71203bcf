"""LangGraph in runs: graphs and agents survive a crash at every append, ask people, and are replayed as they ran."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest
from engine_kit import Ledger, Place, Places, bury, crash, history, of_kind, reaches, recorded, run, until
from test_engine_crashes import LEDGERS, begins, disturbed, undisturbed

pytest.importorskip("langchain")

from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt
from langgraph_kit import Scripted, calls, says

import perdure
from perdure import Engine, events, workflow
from perdure.integrations.langgraph import (
    PerdureMiddleware,
    PerdureSaver,
    durable_node,
    run_to_end,
    stable,
)


class State(TypedDict):
    found: Annotated[list[str], operator.add]


#: Branches wait here until a test lets them end.
gates: dict[str, asyncio.Event] = {}
entered: list[str] = []


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    calls.clear()
    gates.clear()
    entered.clear()
    seen.clear()
    LEDGERS.append(Ledger())


def searches(name: str) -> Any:
    async def search(state: State) -> dict[str, list[str]]:
        begins()
        calls[name] += 1
        entered.append(name)
        if name in gates:
            await gates[name].wait()
        return {"found": [name]}

    return durable_node(search, name=f"search.{name}")


def sums_up(state: State) -> dict[str, list[str]]:
    begins()
    calls["sum"] += 1
    return {"found": [f"sum of {len(state['found'])}"]}


async def approves(state: State) -> dict[str, list[str]]:
    answer = interrupt({"question": "Publish?", "found": state["found"]})
    return {"found": [f"answer: {answer}"]}


def fans_out(state: State) -> Any:
    return [Send(name, state) for name in ("a", "b", "c")]


async def chooses(state: State) -> Command[Any]:
    begins()
    return Command(update={"found": ["chosen"]}, goto="sum")


def builder() -> StateGraph[Any, Any, Any, Any]:
    made = StateGraph(State)
    for name in "abc":
        made.add_node(name, searches(name))
        made.add_edge(name, "sum")
    made.add_node("sum", durable_node(sums_up))
    made.add_conditional_edges(START, fans_out)
    return made


GRAPH = builder().add_edge("sum", END).compile()
ASKING = builder().add_node("approve", approves).add_edge("sum", "approve").add_edge("approve", END).compile()
KEPT = (
    builder()
    .add_node("choose", durable_node(chooses), destinations=("sum",))
    .add_edge("sum", END)
    .compile(checkpointer=PerdureSaver())
)


@tool
async def weather(city: str) -> str:
    """Tell the weather."""
    begins()
    calls[f"weather {city}"] += 1
    return f"sunny in {city}"


@tool
def population(city: str) -> int:
    """Count the people."""
    begins()
    calls[f"population {city}"] += 1
    return len(city)


MODEL = Scripted(
    script=[
        says(
            "", tools=[("c1", "weather", {"city": "Rome"}), ("c2", "population", {"city": "Oslo"})], tokens=7
        ),
        says("", tools=[("c3", "weather", {"city": "Bern"})], tokens=8),
        says("All is well.", tokens=9),
    ]
)
AGENT = create_agent(MODEL, [weather, population], middleware=[PerdureMiddleware()])


@workflow
async def graph_run() -> list[str]:
    state = await GRAPH.ainvoke({"found": []})
    return list(state["found"])


@workflow
async def agent_run() -> list[str]:
    state = await AGENT.ainvoke({"messages": [("user", "How are Rome, Oslo and Bern?")]})
    return [str(message.content) for message in state["messages"]]


@workflow
async def kept_run() -> list[str]:
    config: Any = {"configurable": {"thread_id": "t"}}
    for _ in range(2):
        await KEPT.ainvoke({"found": []}, config)
    checkpoints = [it async for it in KEPT.aget_state_history(config)]
    parents = {it.parent_config["configurable"]["checkpoint_id"] for it in checkpoints if it.parent_config}
    own = {it.config["configurable"]["checkpoint_id"] for it in checkpoints}
    assert parents < own
    return [*checkpoints[0].values["found"], f"{len(checkpoints)} checkpoints"]


@workflow
async def asking_run() -> list[str]:
    async def answer(question: Any) -> str:
        await asyncio.sleep(0.001)
        return str(len(question.value["found"]))

    state = await run_to_end(ASKING, {"found": []}, answer=answer)
    return list(state["found"])


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
@pytest.mark.parametrize(
    "shape", [graph_run, agent_run, kept_run, asking_run], ids=lambda shape: shape.name.rpartition(".")[2]
)
def test_a_crash_at_any_append_changes_nothing(shape: Any, commits: bool, make_place: Places) -> None:
    async def main() -> None:
        expected = await undisturbed(make_place(), shape)
        number, died = 0, True
        while died:
            number += make_place.stride
            *found, died = await disturbed(make_place(), shape, number, commits)
            assert tuple(found) == expected, f"died at append {number}"
        assert number > 2

    run(main)


def test_branches_that_end_in_reverse_are_replayed_so(place: Place) -> None:
    async def main() -> None:
        gates.update({name: asyncio.Event() for name in "abc"})
        engine = place.engine()
        await engine.__aenter__()
        handle = await engine.start(graph_run(), id="r")
        await until(lambda: len(entered) == 3)
        for name, count in (("c", 1), ("b", 2)):
            gates[name].set()

            async def ended(count: int = count) -> bool:
                return len(await recorded(handle)) == count

            await until(ended)
        await crash(engine)
        await bury(place)
        gates.clear()
        async with place.engine() as engine:
            handle = engine.get("r")
            assert await handle.result() == ["a", "b", "c", "sum of 3"]
            found = [name.rpartition("/")[2] for name in await recorded(handle)]
        assert found[:3] == ["search.c#1", "search.b#1", "search.a#1"]
        assert calls == {"a": 2, "b": 1, "c": 1, "sum": 1}

    run(main)


def test_tools_that_end_in_reverse_are_found_by_their_ids(place: Place) -> None:
    agent = create_agent(
        Scripted(
            script=[
                says("", tools=[(f"c{n}", "slow", {"number": n}) for n in range(4)]),
                says("done"),
            ]
        ),
        [slow],
        middleware=[PerdureMiddleware("reverse")],
    )
    agents.append(agent)

    async def main() -> None:
        gates.update({str(number): asyncio.Event() for number in range(4)})
        engine = place.engine()
        await engine.__aenter__()
        handle = await engine.start(slow_run(), id="r")
        await until(lambda: len(entered) == 4)
        for number in (3, 2):
            gates[str(number)].set()

            async def ended(id: str = f"reverse.slow[c{number}]") -> bool:
                return id in await recorded(handle)

            await until(ended)
        await crash(engine)
        await bury(place)
        gates.clear()
        async with place.engine() as engine:
            assert await engine.get("r").result() == ["0", "1", "2", "3"]
        assert calls == {"model": 2, "0": 2, "1": 2, "2": 1, "3": 1}

    run(main)


agents: list[Any] = []


@tool
async def slow(number: int) -> int:
    """Take its time."""
    calls[str(number)] += 1
    entered.append(str(number))
    if (gate := gates.get(str(number))) is not None:
        await gate.wait()
    return number


@workflow
async def slow_run() -> list[str]:
    state = await agents[-1].ainvoke({"messages": [("user", "go")]})
    return [str(message.content) for message in state["messages"][2:-1]]


def test_an_interrupt_is_a_question_that_outlives_its_worker(place: Place) -> None:
    async def main() -> None:
        engine = place.engine()
        await engine.__aenter__()
        await engine.start(person_run(), id="r")
        handle = engine.get("r")
        await until(lambda: opened(engine))
        (question,) = await opened(engine)
        assert question.text == "Publish?"
        assert question.details == {"question": "Publish?", "found": ["a", "b", "c", "sum of 3"]}
        await crash(engine)
        await bury(place)
        async with place.engine(evict_after=0.01) as engine:
            handle = engine.get("r")
            await reaches(handle, "waiting")
            await until(lambda: engine._worker is not None and not engine._worker.drivers)
            (again,) = await opened(engine)
            assert again.id == question.id
            await engine.answer(question.id, "yes", by="ann")
            assert await handle.result() == ["a", "b", "c", "sum of 3", "answer: yes"]
            (answered,) = await of_kind(handle, events.QuestionAnswered)
            assert answered.by == "ann"
        assert calls == {"a": 1, "b": 1, "c": 1, "sum": 1}
        assert len(set(seen)) == 1  # the interrupt's id
        assert len(seen) >= 2

    run(main)


seen: list[str] = []


@workflow
async def person_run() -> list[str]:
    from perdure.integrations.langgraph import ask_person

    async def answer(question: Any) -> Any:
        seen.append(question.id)
        return await ask_person(question)

    state = await run_to_end(ASKING, {"found": []}, answer=answer)
    return list(state["found"])


async def opened(engine: Engine) -> list[Any]:
    return [question async for question in engine.questions()]


def test_ids_are_those_of_the_first_time(place: Place) -> None:
    @workflow(name=f"ids.{place.url.partition(':')[0]}")
    async def ids_run() -> str:
        from langgraph.graph.message import add_messages
        from langgraph.pregel._checkpoint import empty_checkpoint

        made.append([empty_checkpoint()["id"] for _ in range(3)] + [add_messages([], [("user", "hi")])[0].id])
        await perdure.sleep(0.02)
        return "done"

    made: list[list[str]] = []

    async def main() -> None:
        async with place.engine(evict_after=0.001) as engine:
            handle = await engine.start(ids_run(), id="r")
            assert await handle.result() == "done"
            await (await handle.fork()).result()
        assert len(made) >= 2
        ordered = made[0][:3]
        assert ordered == sorted(set(ordered))
        assert all(len(ids) == 4 for ids in made)

    run(main)
    assert stable.missing() == []


def test_a_graph_streams_what_its_steps_return(place: Place) -> None:
    @workflow(name=f"stream.{place.url.partition(':')[0]}")
    async def stream_run() -> list[str]:
        return [next(iter(update)) async for update in GRAPH.astream({"found": []}, stream_mode="updates")]

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(stream_run(), id="r")
            names = await handle.result()
            assert sorted(names) == ["a", "b", "c", "sum"]
            assert [event for event in await history(handle) if isinstance(event, events.StepFailed)] == []

    run(main)
