"""Streams, sessions, approvals and traces of the Agents SDK in runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, SQLiteSession, function_tool, trace
from agents.tracing import TracingProcessor, get_trace_provider, set_trace_processors
from agents_kit import Brain, calls, counts, dies_everywhere, drives, says, team, wants, weather
from engine_kit import Place, Places, of_kind, reaches, recorded, run, until

import perdure
from perdure.integrations.openai_agents import (
    Decision,
    DurableRunner,
    DurableSession,
    ask,
    durable_agent,
)


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


# -- streams --------------------------------------------------------------------------------------------


def wordy() -> Agent[Any]:
    def think(call: Any, answered: int) -> Any:
        return wants("weather", "call-1", city="Ulm") if answered == 0 else says("well it is sunny")

    return Agent("Wordy", model=Brain("wordy", think), tools=[weather])


@perdure.workflow
async def streams(question: str) -> list[Any]:
    result = DurableRunner.run_streamed(wordy(), question, emit="answer")
    seen: list[str] = []
    async for event in result.stream_events():
        seen.append(event.data.type if event.type == "raw_response_event" else event.type)
    return [result.final_output, seen]


def test_events_come_live_and_again_on_replay(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            text, seen = await engine.run(streams("go"), id="r")
            assert text == "well it is sunny"
            assert seen.count("response.completed") == 2
            assert "run_item_stream_event" in seen
            live = [item.value["type"] async for item in engine.get("r").stream("answer")]
            assert [kind for kind in seen if kind.startswith("response.")] == live
            before = calls.copy()
            forked = await engine.get("r").fork(id="again")
            assert await forked.result() == [text, seen]
            assert calls == before
            usage = await engine.get("r").usage()
            assert (usage.calls, usage.input_tokens) == (2, 200)

    run(main)


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_a_streamed_agent_survives_a_crash_at_any_append(commits: bool) -> None:
    async def main() -> None:
        assert await dies_everywhere(Places("memory", Place), lambda: streams("go"), commits) >= 3

    run(main)


# -- sessions -------------------------------------------------------------------------------------------


def listener() -> Agent[Any]:
    def think(call: Any, answered: int) -> Any:
        return says(f"that is message {sum(item.get('role') == 'user' for item in call.input)}")

    return Agent("Listener", model=Brain("listener", think))


@perdure.workflow
async def chats(times: int) -> list[Any]:
    session = DurableSession("chat-1")
    for number in range(times):
        result = await DurableRunner.run(listener(), f"message {number}", session=session)
    items = await session.get_items()
    popped = await session.pop_item()
    return [result.final_output, len(items), popped["content"][0]["text"], len(await session.get_items(1))]


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_a_session_keeps_what_was_said_once(commits: bool, tmp_path: Path) -> None:
    numbers = iter(range(1000))

    def make_place() -> Place:
        return Place(tmp_path / f"{next(numbers)}.db")

    async def main() -> None:
        await dies_everywhere(Places("sqlite", make_place), lambda: chats(2), commits)
        place = make_place()
        async with place.engine() as engine:
            assert await engine.run(chats(2), id="r") == ["that is message 2", 4, "that is message 2", 1]
            outside = DurableSession("chat-1", engine=engine)
            assert len(await outside.get_items()) == 3
            result = await DurableRunner.run(listener(), "and now?", session=outside)
            assert result.final_output == "that is message 3"
            await outside.clear_session()
            assert await outside.get_items() == []
            assert await outside.pop_item() is None

    run(main)


def test_a_session_outside_of_runs_needs_an_engine() -> None:
    async def main() -> None:
        with pytest.raises(perdure.errors.UsageError, match="engine="):
            await DurableSession("s").get_items()

    run(main)


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_another_session_is_used_by_steps_that_add_nothing_twice(commits: bool, tmp_path: Path) -> None:
    numbers = iter(range(1000))
    opened: list[SQLiteSession] = []

    def make_place() -> Place:
        opened.append(SQLiteSession("s", tmp_path / f"session{next(numbers)}.db"))
        return Place(None)

    @perdure.workflow(name="chats_elsewhere")
    async def chats_elsewhere() -> list[Any]:
        session = opened[-1]
        await DurableRunner.run(listener(), "message", session=session)
        return [(await DurableRunner.run(listener(), "message", session=session)).final_output]

    async def drive(engine: perdure.Engine, call: Any) -> Any:
        ended = await drives(engine, call)
        return [*ended, len(await opened[-1].get_items())]

    async def main() -> None:
        await dies_everywhere(Places("memory", make_place), chats_elsewhere, commits, drive)
        for session in opened:
            session.close()

    run(main)


# -- approvals ------------------------------------------------------------------------------------------


@function_tool(needs_approval=True)
async def pay(amount: int) -> str:
    """Pays."""
    counts(f"pay {amount}")
    return f"paid {amount}"


def payer() -> Agent[Any]:
    def think(call: Any, answered: int) -> Any:
        if answered == 0:
            return [wants("pay", f"pay-{amount}", amount=amount) for amount in (5, 7)]
        return says("; ".join(str(item["output"]) for item in call.input if "output" in item))

    return Agent("Payer", model=Brain("payer", think), tools=[pay])


@perdure.workflow
async def pays(question: str) -> str:
    return str((await DurableRunner.run(payer(), question, approve=ask)).final_output)


@perdure.workflow
async def asks_within(question: str) -> str:
    boss = Agent(
        "Boss",
        model=Brain(
            "boss",
            lambda call, answered: (
                says(f"done: {call.input[-1]['output']}") if answered else wants("payer", "sub-1", input="5")
            ),
        ),
        tools=[payer().as_tool("payer", "Pays.")],
    )
    return str((await DurableRunner.run(boss, question, approve=ask)).final_output)


async def answers(engine: perdure.Engine, id: str, *, others: bool) -> None:
    """Answer what a run asks: yes to 5, and to other amounts what is said."""
    asked: list[perdure.QuestionInfo] = []

    async def both() -> bool:
        asked[:] = [question async for question in engine.questions(run=id, open=False)]
        return len(asked) == 2 or await engine.get(id).status() == "completed"

    await until(both)
    for question in asked:
        approved = others or question.details["arguments"] == {"amount": 5}
        answer = {"approved": approved, "reason": None if approved else "too much"}
        await engine.answer(question.id, answer, by="ann")


async def approves(engine: perdure.Engine, call: Any) -> Any:
    handle = await engine.start(call(), id="a")
    await answers(engine, "a", others=False)
    return await handle.result()


@pytest.mark.parametrize("workflow", [pays, asks_within], ids=["agent", "agent as a tool"])
@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_approvals_survive_a_crash_at_any_append(commits: bool, workflow: Any) -> None:
    async def main() -> None:
        await dies_everywhere(Places("memory", Place), lambda: workflow("go"), commits, approves)
        place = Place()
        async with place.engine() as engine:
            assert "paid 5; too much" in await approves(engine, lambda: workflow("go"))
        assert "pay 7" not in calls

    run(main)


def test_a_run_that_waits_for_an_approval_holds_no_memory(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.05) as engine:
            handle = await engine.start(pays("go"), id="r")
            await reaches(handle, "waiting")
            worker = engine._worker
            assert worker is not None
            await until(lambda: not worker.drivers)
            await answers(engine, "r", others=True)
            assert await handle.result() == "paid 5; paid 7"
        assert calls == {"payer": 2, "pay 5": 1, "pay 7": 1}

    run(main)


@perdure.workflow
async def nobody_answers() -> str:
    async def decide(item: Any) -> bool | Decision:
        return await ask(item, timeout=0.01)

    return str((await DurableRunner.run(payer(), "go", approve=decide)).final_output)


def test_no_answer_in_time_is_a_no(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            told = await engine.run(nobody_answers(), id="r")
        assert told == "Nobody has decided in time.; Nobody has decided in time."

    run(main)


# -- traces ---------------------------------------------------------------------------------------------


class Told(TracingProcessor):
    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[tuple[str, str, str | None]] = []
        self.threads = 0

    def on_trace_start(self, trace: Any) -> None:
        self.started.append(trace.trace_id)

    def on_trace_end(self, trace: Any) -> None:
        with open("/dev/null", "rb"):  # exporters do I/O
            self.ended.append((trace.trace_id, "trace", None))

    def on_span_start(self, span: Any) -> None:
        self.started.append(span.span_id)

    def on_span_end(self, span: Any) -> None:
        self.ended.append((span.span_id, span.span_data.type, span.parent_id))

    def shutdown(self) -> None: ...
    def force_flush(self) -> None: ...


@pytest.fixture
def told() -> Iterator[Told]:
    processor = Told()
    get_trace_provider().set_processors([processor])
    yield processor
    set_trace_processors([])


@perdure.workflow
async def traced(question: str) -> str:
    with trace("our trace"):
        result = await DurableRunner.run(team(), question)
        await perdure.receive("go on")
    return str(result.final_output)


def test_each_span_is_told_once(told: Told, place: Place) -> None:
    """Also where the trace is begun before any agent has run in this process: as when this is its first test."""

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(traced("go"), id="r")
            # The agent has ended then. The status alone says "waiting" between two steps, too.
            await until(lambda: of_kind(handle, perdure.events.MessageAwaited))
        before = len(told.ended)
        assert before > 5
        assert "trace" not in {kind for _, kind, _ in told.ended}
        async with place.engine() as engine:
            await engine.get("r").send("go on", True)
            await engine.get("r").result()
        assert [kind for _, kind, _ in told.ended[before:]] == ["trace"]
        assert len(told.started) == len(set(told.started)), "nothing begins twice"
        ids = [id for id, _, _ in told.ended]
        assert sorted(ids) == sorted(told.started)
        parents = {parent for _, _, parent in told.ended if parent is not None}
        assert parents <= set(ids)

    run(main)


# -- states ---------------------------------------------------------------------------------------------


@perdure.workflow
async def goes_on(state: dict[str, Any], durable: bool) -> str:
    from agents import RunState

    agent = durable_agent(payer()) if durable else payer()
    restored: Any = await RunState.from_json(agent, state)
    for item in restored.get_interruptions():
        restored.approve(item)
    return str((await DurableRunner.run(agent, restored)).final_output)


def test_a_state_from_elsewhere_goes_on(place: Place) -> None:
    async def main() -> None:
        interrupted = await DurableRunner.run(payer(), "go")
        assert len(interrupted.interruptions) == 2
        state = interrupted.to_state().to_json()
        async with place.engine() as engine:
            assert await engine.run(goes_on(state, True), id="r") == "paid 5; paid 7"
            assert "pay[pay-5]" in await recorded(engine.get("r"))
            with pytest.raises(perdure.RunFailed, match="durable_agent"):
                await engine.run(goes_on(state, False), id="s")

    run(main)
