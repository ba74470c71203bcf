"""An agent of LangGraph that is killed with SIGKILL in the middle, asks a person, and does nothing twice.

    python examples/langgraph_agent.py

The agent looks three plants up at once, and a tool asks a person whether its page may be published. The program starts
it as a process of its own, which dies in the second of the lookups; then again, until the agent waits for an answer,
for which it needs no process; then once more, when there is one. It needs no network: its model is a fake one, which
writes down each time that it is called.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.types import interrupt

import perdure
from perdure.integrations.langgraph import PerdureMiddleware, PerdureSaver, run_to_end

FOLDER = Path(os.environ.get("AGENT_FOLDER", "."))
DONE = FOLDER / "done.txt"  #: a line for each time that the model or a tool was really called
PLANTS = ["moss", "fern", "sundew"]


def note(what: str) -> None:
    with DONE.open("a") as file:
        file.write(what + "\n")


def call(id: str, name: str, **arguments: str) -> dict[str, Any]:
    return {"id": id, "name": name, "args": arguments, "type": "tool_call"}


class Botanist(BaseChatModel):
    """What a model would make of it; a real one is `init_chat_model("openai:gpt-5", max_retries=0)`."""

    @property
    def _llm_type(self) -> str:
        return "botanist"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        note("model")
        last = str(messages[-1].content)
        if "published" in last:
            answer = AIMessage("The page is out.")
        elif "grows where" in last:
            page = "Moss, fern and sundew grow where it is wet."
            answer = AIMessage("", tool_calls=[call("call-4", "publish", page=page)])
        else:
            lookups = [call(f"call-{n}", "look_up", plant=plant) for n, plant in enumerate(PLANTS, 1)]
            answer = AIMessage("Let me see.", tool_calls=lookups)
        return ChatResult(generations=[ChatGeneration(message=answer)])


# -- the agent: plain code of LangChain and LangGraph ---------------------------------------------------


@tool
async def look_up(plant: str) -> str:
    """What is known about a plant."""
    await asyncio.sleep(0.5 * (1 + PLANTS.index(plant)))
    if "AGENT_CRASHES" in os.environ and "look_up" in DONE.read_text():
        os.kill(os.getpid(), signal.SIGKILL)  # the first answer is there, the others are on their way
    note(f"look_up {plant}")
    return f"{plant} grows where it is wet"


@tool
async def publish(page: str) -> str:
    """Put a page where everybody reads it."""
    if interrupt({"question": "Publish this page?", "page": page}) is not True:
        return "nobody wants it"
    return f"published {len(page)} characters"


agent = create_agent(
    Botanist(),
    [look_up, publish],
    middleware=[PerdureMiddleware("botanist", plain=["publish"])],
    checkpointer=PerdureSaver(),
)


@perdure.workflow
async def write(question: str) -> str:
    state = await run_to_end(agent, {"messages": [("user", question)]})
    return str(state["messages"][-1].content)


async def work() -> None:
    async with perdure.Engine(f"sqlite:///{FOLDER / 'plants.db'}") as engine:
        handle = await engine.start(write("What do wet plants have in common?"), id="page-1")
        while (asked := [question async for question in engine.questions(run="page-1")]) == []:
            if await handle.status() == "completed":
                print(await handle.result())
                return
            await asyncio.sleep(0.05)
        print(f"the agent asks: {asked[0].text} {asked[0].details['page']}")


async def answer() -> None:
    async with perdure.Engine(f"sqlite:///{FOLDER / 'plants.db'}", worker=False) as engine:
        (question,) = [question async for question in engine.questions(run="page-1")]
        await engine.answer(question.id, True, by="ann")


# -- the show -------------------------------------------------------------------------------------------


def live(folder: str, what: str = "work", **more: str) -> int:
    """One life of the program."""
    environment = {**os.environ, "AGENT_FOLDER": folder, **more}
    return subprocess.run([sys.executable, __file__, what], env=environment, check=False).returncode


def show() -> None:
    with tempfile.TemporaryDirectory() as folder:
        done = Path(folder, "done.txt")
        died = live(folder, AGENT_CRASHES="1") != 0
        before = done.read_text().splitlines()
        print(f"the first process {'was killed after' if died else 'ended after'}: {', '.join(before)}")
        assert live(folder) == 0
        assert live(folder, "answer") == 0
        assert live(folder) == 0
        after = done.read_text().splitlines()[len(before) :]
        print(f"the others had to do: {', '.join(after)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["work"]:
        asyncio.run(work())
    elif sys.argv[1:] == ["answer"]:
        asyncio.run(answer())
    else:
        show()
