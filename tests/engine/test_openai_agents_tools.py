"""Agents of the OpenAI Agents SDK in runs: kinds of tools, what they return, handoffs, settings, what is refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    CustomTool,
    Handoff,
    ModelSettings,
    RunConfig,
    RunContextWrapper,
    Runner,
    ShellTool,
    ToolOutputImage,
    ToolOutputText,
    function_tool,
    handoff,
)
from agents.editor import ApplyPatchResult
from agents.items import ModelResponse
from agents.tool import ShellCallOutcome, ShellCommandOutput, ShellResult
from agents_kit import Brain, calls, counts, dies_everywhere, forecaster, says, wants, weather
from engine_kit import Place, Places, of_kind, reaches, recorded, redefine, run
from openai.types.responses import (
    ResponseApplyPatchToolCall,
    ResponseCustomToolCall,
    ResponseFunctionShellToolCall,
)
from pydantic import BaseModel

import perdure
from perdure.errors import NotSerializableError, UndecodableError
from perdure.integrations.data import PydanticCarrier, as_data, step_key, step_name
from perdure.integrations.openai_agents import DurableRunner, DurableSettings, StepSettings
from perdure.integrations.openai_agents_outputs import OutputCarrier


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


# -- what tools return ----------------------------------------------------------------------------------


class Point(BaseModel):
    x: int
    when: datetime


@dataclass
class Money:
    amount: int


class Odd:
    def __str__(self) -> str:
        return "odd"


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@function_tool
async def a_point() -> Point:
    counts("a_point")
    return Point(x=1, when=NOON)


@function_tool
async def a_list() -> list[Any]:
    counts("a_list")
    return [ToolOutputText(text="hi"), ToolOutputImage(image_url="https://example.org/a.png")]


@function_tool
def odd() -> Odd:
    counts("odd")
    return Odd()


FINAL: list[Any] = []


@perdure.workflow
async def returns() -> str:
    agent = Agent(
        "Pointer",
        model=Brain("pointer", lambda call, answered: wants("a_point", "p-1")),
        tools=[a_point],
        tool_use_behavior="stop_on_first_tool",
        output_type=Point,
    )
    FINAL.append((await DurableRunner.run(agent, "go")).final_output)

    def think(call: Any, answered: int) -> Any:
        if answered == 0:
            return [wants("a_list", "l-1"), wants("odd", "o-1")]
        return says(str([item["output"] for item in call.input if "output" in item]))

    agent = Agent("Lister", model=Brain("lister", think), tools=[a_list, odd])
    return str((await DurableRunner.run(agent, "go")).final_output)


def test_results_come_back_as_what_they_were(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            said = await engine.run(returns(), id="r")
            assert "https://example.org/a.png" in said
            assert "'odd'" in said
            forked = await engine.get("r").fork(id="again")
            assert await forked.result() == said
        assert len(FINAL) >= 2
        assert all(type(point) is Point and point == Point(x=1, when=NOON) for point in FINAL)
        FINAL.clear()
        assert calls == {"pointer": 1, "a_point": 1, "lister": 2, "a_list": 1, "odd": 1}

    run(main)


@pytest.mark.parametrize(
    ("declared", "value", "back"),
    [
        (None, {"a": [1, 2.5, None, True, "x"]}, {"a": [1, 2.5, None, True, "x"]}),
        (Money, Money(5), Money(5)),
        (None, Money(5), "Money(amount=5)"),
        (None, 2**70, str(2**70)),
        (None, float("nan"), "nan"),
        (None, {"$output": 1}, "{'$output': 1}"),
        (None, {1: 2}, "{1: 2}"),
        (None, [Odd()], None),
    ],
)
def test_outputs_round_trip_or_become_text(declared: Any, value: Any, back: Any) -> None:
    carrier = OutputCarrier(declared, {"text": ToolOutputText})
    data, decoded = carrier.record(value)
    assert decoded == (str(value) if back is None else back)
    assert carrier.decode(data) == decoded


def test_what_cant_be_read_any_more_is_told() -> None:
    with pytest.raises(UndecodableError, match="damaged"):
        OutputCarrier(None, {}).decode(b"{")
    responses = PydanticCarrier(ModelResponse, "response")
    with pytest.raises(UndecodableError, match="installed version"):
        responses.decode(b'{"output": 7}')
    with pytest.raises(NotSerializableError, match="It is a str"):
        responses.record("text")


def test_names_keys_and_data() -> None:
    assert step_name("a/b#1", "x\ny") == "a_b_1.x_y"
    assert len(step_name("n" * 500)) < 255
    assert step_key("x" * 500, 0) == step_key("x" * 500, 0) != step_key("y" * 500, 0)
    assert step_key("call", 2) == "call~3"
    nested: Any = []
    nested.append(nested)
    assert as_data({"a": None, "m": Money(1), "f": float("inf"), "b": b"x", "o": Odd(), "e": (1,)}) == {
        "m": {"amount": 1},
        "f": "inf",
        "b": "1 bytes, " + as_data(b"x").rpartition(" ")[2],
        "o": "Odd",
        "e": [1],
    }
    assert "list" in str(as_data(nested))


# -- contexts -------------------------------------------------------------------------------------------


@dataclass
class Booking:
    seat: str | None = None
    seen: list[str] = field(default_factory=list[str])
    price: Money | None = None
    client: object = None

    def __repr__(self) -> str:
        return f"{self.seat}, {self.seen}"


@function_tool
async def book(context: RunContextWrapper[Any], seat: str) -> str:
    """Books."""
    counts(f"book {seat}")
    notes = context.context
    if isinstance(notes, dict):
        notes["seat"] = seat
        notes.pop("draft", None)
    else:
        notes.seat, notes.price = seat, Money(7)
        notes.seen.append(seat)
    return "booked"


@function_tool
async def confirm(context: RunContextWrapper[Any]) -> str:
    """Tells what is booked."""
    counts("confirm")
    return str(context.context)


@function_tool
async def connects(context: RunContextWrapper[Any]) -> str:
    """Keeps what can't be kept."""
    context.context.client = object()
    return "connected"


def booker(*tools: str) -> Agent[Any]:
    def think(call: Any, answered: int) -> Any:
        if answered == len(tools):
            return says(str(call.input[-1]["output"]))
        given = {"seat": "7A"} if tools[answered] == "book" else {}
        return wants(tools[answered], f"{tools[answered]}-1", **given)

    return Agent("Booker", model=Brain("booker", think), tools=[book, confirm, connects])


CLIENT = object()


@perdure.workflow
async def books(kind: str) -> str:
    context: Any = {"draft": 1} if kind == "dict" else Booking(client=CLIENT)
    result = await DurableRunner.run(booker("book", "confirm"), "go", context=context)
    assert kind == "dict" or (context.client is CLIENT and context.price == Money(7))
    return str(result.final_output)


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
@pytest.mark.parametrize(("kind", "told"), [("dict", "{'seat': '7A'}"), ("dataclass", "7A, ['7A']")])
def test_what_tools_write_into_the_context_survives(kind: str, told: str, commits: bool) -> None:
    async def main() -> None:
        await dies_everywhere(Places("memory", Place), lambda: books(kind), commits)
        async with Place().engine() as engine:
            assert await engine.run(books(kind), id="a") == told

    run(main)


@perdure.workflow
async def keeps_a_client() -> str:
    return str((await DurableRunner.run(booker("connects"), "go", context=Booking())).final_output)


def test_what_cant_be_kept_is_told(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(keeps_a_client(), id="r")
            await handle.result()  # the model is told that the tool has failed
            (failed,) = await of_kind(handle, perdure.events.StepFailed)
            assert "'client' of the run's context" in failed.failure.message

    run(main)


# -- other kinds of tools -------------------------------------------------------------------------------


def handy() -> Agent[Any]:
    async def shell(request: Any) -> ShellResult:
        counts("shell")
        return ShellResult([ShellCommandOutput(stdout="files", outcome=ShellCallOutcome("exit", 0))])

    class Editor:
        async def create_file(self, operation: Any) -> ApplyPatchResult:
            counts(f"create {operation.path}")
            return ApplyPatchResult("completed", "made")

        update_file = delete_file = create_file

    async def custom(context: Any, input: str) -> str:
        counts(f"custom {input}")
        return input.upper()

    def think(call: Any, answered: int) -> Any:
        if answered:
            return says(str([item["output"] for item in call.input if "output" in item]))
        return [
            ResponseFunctionShellToolCall.model_validate(
                {
                    "id": "s",
                    "call_id": "s-1",
                    "type": "shell_call",
                    "status": "completed",
                    "action": {"commands": ["ls"]},
                }
            ),
            ResponseApplyPatchToolCall.model_validate(
                {
                    "id": "e",
                    "call_id": "e-1",
                    "type": "apply_patch_call",
                    "status": "completed",
                    "operation": {"type": "create_file", "path": "a.txt", "diff": "+hi"},
                }
            ),
            ResponseCustomToolCall(call_id="c-1", input="abc", name="shout", type="custom_tool_call"),
        ]

    return Agent(
        "Handy",
        model=Brain("handy", think),
        tools=[
            ShellTool(executor=shell),
            ApplyPatchTool(editor=Editor()),
            CustomTool(name="shout", description="Shouts.", on_invoke_tool=custom),
        ],
    )


@perdure.workflow
async def handiwork() -> str:
    return str((await DurableRunner.run(handy(), "go")).final_output)


def test_shells_edits_and_custom_tools_are_steps(place: Place) -> None:
    async def main() -> None:
        plain = (await Runner.run(handy(), "go")).final_output
        calls.clear()
        async with place.engine() as engine:
            assert await engine.run(handiwork(), id="r") == plain
            names = await recorded(engine.get("r"))
            assert {"shell[s-1]", "shout[c-1]"} <= set(names)
            assert any("apply_patch.create_file" in name for name in names)
            forked = await engine.get("r").fork(id="again")
            assert await forked.result() == plain
        assert calls == {"handy": 2, "shell": 1, "create a.txt": 1, "custom abc": 1}

    run(main)


# -- handoffs -------------------------------------------------------------------------------------------


def relay() -> tuple[Agent[Any], list[str]]:
    told: list[str] = []
    last = Agent("Last", model=Brain("last", lambda call, answered: says(f"{len(call.input)} items")))

    async def on_handoff(context: Any) -> None:
        told.append("handed over")

    def only_the_newest(data: Any) -> Any:
        return data.clone(input_history=(), pre_handoff_items=())

    first: Agent[Any] = Agent(
        "First",
        model=Brain("first", lambda call, answered: wants("pass_on", "h-1")),
        handoffs=[
            handoff(last, tool_name_override="pass_on", on_handoff=on_handoff, input_filter=only_the_newest)
        ],
    )
    return first, told


@perdure.workflow
async def relays() -> list[Any]:
    first, told = relay()
    result = await DurableRunner.run(first, "go")
    assert isinstance(first.handoffs[0], Handoff)
    return [result.final_output, told, result.last_agent is not first, result.last_agent.name]


def test_handoffs_keep_their_callbacks_and_filters(memory: Place) -> None:
    async def main() -> None:
        first, told = relay()
        plain = await Runner.run(first, "go")
        async with memory.engine() as engine:
            assert await engine.run(relays(), id="r") == [plain.final_output, told, True, "Last"]

    run(main)


# -- ids, settings, refusals ----------------------------------------------------------------------------


@perdure.workflow
async def twice() -> list[str]:
    first, second = await asyncio.gather(
        DurableRunner.run(forecaster("A"), "go"), DurableRunner.run(forecaster("B"), "go")
    )
    third = await DurableRunner.run(forecaster("A"), "go")
    return [first.final_output, second.final_output, third.final_output]


def test_ids_of_calls_may_come_again(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert len(set(await engine.run(twice(), id="r"))) == 1
            names = await recorded(engine.get("r"))
            assert {"weather[call-1]", "weather[call-1~2]", "weather[call-1~3]"} <= set(names)
            forked = await engine.get("r").fork(id="again")
            await forked.result()
        assert calls == {"brain-1": 6, "weather Ulm": 3, "thread Bonn": 3}

    run(main)


class Slow(Brain):
    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        counts("slow")
        if calls["slow"] == 1:
            await asyncio.sleep(60)
        return await super().get_response(*args, **kwargs)


@perdure.workflow
async def hurries(where: str) -> str:
    short = ModelSettings(timeout=0.05)
    agent = Agent(
        "Slow",
        model=Slow("brain", lambda call, answered: says("at last")),
        model_settings=short if where == "agent" else ModelSettings(),
    )
    config = RunConfig(model_settings=short) if where == "config" else None
    settings = DurableSettings(model=StepSettings(retry=perdure.Retry(initial=0.001)))
    return str((await DurableRunner.run(agent, "go", run_config=config, durable=settings)).final_output)


@pytest.mark.parametrize("where", ["agent", "config"])
def test_the_sdks_timeout_is_the_steps(where: str, memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(hurries(where), id="r") == "at last"
            assert len(await of_kind(engine.get("r"), perdure.events.StepAttemptFailed)) == 1

    run(main)


LIMIT = perdure.RateLimit("agents-tests", requests=perdure.Rate(1000, per=1))


@perdure.workflow
async def limited_agent() -> str:
    settings = DurableSettings(model=StepSettings(limit=LIMIT), tool={"weather": StepSettings(limit=LIMIT)})
    return str((await DurableRunner.run(forecaster(), "go", durable=settings)).final_output)


def test_models_and_tools_are_under_limits(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            assert "sunny" in await engine.run(limited_agent(), id="r")
            assert "agents-tests" in [limit.name for limit in await engine.limits.list()]

    run(main)


@perdure.workflow
async def in_vain(how: str) -> None:
    agent = forecaster()
    if how == "sync":
        DurableRunner.run_sync(agent, "go")
    elif how == "sandbox":
        await DurableRunner.run(agent, "go", run_config=RunConfig(sandbox={}))  # type: ignore[arg-type]
    else:
        from agents import ComputerTool

        screen: Any = object.__new__(ComputerTool)
        await DurableRunner.run(agent.clone(tools=[screen]), "go")


@pytest.mark.parametrize(
    ("how", "told"), [("sync", "workflow code is async"), ("sandbox", "sandbox"), ("computer", "screen")]
)
def test_what_cant_be_durable_is_refused(how: str, told: str, memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(perdure.RunFailed, match=told):
                await engine.run(in_vain(how), id="r")

    run(main)


def test_another_prompt_is_noticed(memory: Place) -> None:
    def version(instructions: str) -> Any:
        async def prompted() -> str:
            agent = Agent(
                "Prompted",
                instructions=instructions,
                model=Brain("prompted", lambda c, n: says("fine")),
                tools=[weather],
            )
            said = (await DurableRunner.run(agent, "go")).final_output
            await perdure.receive("go on")
            return str(said)

        return redefine("prompted", prompted)

    async def main() -> None:
        async with memory.engine() as engine:
            await engine.start(version("Be kind.")(), id="r")
            await reaches(engine.get("r"), "waiting")
        version("Be rude.")
        async with memory.engine() as engine:
            await engine.get("r").send("go on", True)
            await reaches(engine.get("r"), "blocked")
            assert "Prompted.model" in str((await engine.get("r").info()).reason)
            assert calls == {"prompted": 1}
            version("Be kind.")
        async with memory.engine() as engine:
            assert await engine.get("r").result() == "fine"

    run(main)


@pytest.mark.parametrize(("package", "extra"), [("agents", "openai_agents"), ("mcp", "mcp")])
def test_a_missing_package_is_told(package: str, extra: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import perdure; import perdure.integrations.{extra}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'perdure[{extra.replace('_', '-')}]'" in done.stderr
