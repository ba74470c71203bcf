"""An agent of Pydantic AI that is killed with SIGKILL in the middle, asks a person, and pays for nothing twice.

    python examples/pydantic_ai_agent.py

The agent looks three plants up at once, writes a page about them, and may only publish it if somebody approves. The
program starts it as a process of its own, which dies in the second of the tools; then again, until the agent waits for
approval, for which it needs no process; then once more, when there is an answer. It needs no network: the provider is a
fake one, which speaks OpenAI's wire format and keeps books of what it would have charged for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import perdure
from perdure.integrations.pydantic_ai import AskPeople, PerdureDurability
from perdure.testing.fake_llm import FakeLLM, Prompt, Reply, Tool

FOLDER = Path(os.environ.get("AGENT_FOLDER", "."))
DONE = FOLDER / "done.txt"  #: a line for each time that a tool was really executed
PLANTS = ["moss", "fern", "sundew"]

# -- the agent: plain code of Pydantic AI ---------------------------------------------------------------

provider = OpenAIProvider(
    openai_client=AsyncOpenAI(base_url=os.environ.get("AGENT_PROVIDER", "http://unused"), api_key="none")
)
agent = Agent(
    OpenAIChatModel("gpt-5-mini", provider=provider),
    name="botanist",
    instructions="You write pages about plants.",
    capabilities=[PerdureDurability(), AskPeople(to="editors")],
)


@agent.tool_plain
async def look_up(plant: str) -> str:
    """What is known about a plant."""
    await asyncio.sleep(0.5 * (1 + PLANTS.index(plant)))
    if "AGENT_CRASHES" in os.environ and DONE.exists():
        os.kill(os.getpid(), signal.SIGKILL)  # the first answer is there, the others are on their way
    with DONE.open("a") as file:
        file.write(f"look_up {plant}\n")
    return f"{plant} grows where it is wet"


@agent.tool_plain(requires_approval=True)
def publish(page: str) -> str:
    """Put a page where everybody reads it."""
    with DONE.open("a") as file:
        file.write("publish\n")
    return f"published {len(page)} characters"


@perdure.workflow
async def write(question: str) -> str:
    return (await agent.run(question)).output


async def work() -> None:
    async with perdure.Engine(f"sqlite:///{FOLDER / 'plants.db'}") as engine:
        handle = await engine.start(write("What do wet plants have in common?"), id="page-1")
        while (asked := [question async for question in engine.questions(run="page-1")]) == []:
            if await handle.status() == "completed":
                usage = await handle.usage()
                print(f"{await handle.result()} ({usage.calls} calls of models)")
                return
            await asyncio.sleep(0.05)
        print(f"the agent asks the {asked[0].to}: {asked[0].text} {asked[0].details['arguments']}")


async def approve() -> None:
    async with perdure.Engine(f"sqlite:///{FOLDER / 'plants.db'}", worker=False) as engine:
        (question,) = [question async for question in engine.questions(run="page-1")]
        await engine.answer(question.id, {"approved": True}, by="ann")


# -- the provider, and the show -------------------------------------------------------------------------


def think(prompt: Prompt) -> Reply:
    """What a model would make of it."""
    if "published" in prompt.last:
        return Reply("The page is out.")
    if "grows where" in prompt.text:
        return Reply(tools=(Tool("publish", {"page": "Moss, fern and sundew grow where it is wet."}),))
    return Reply("Let me see.", tools=tuple(Tool("look_up", {"plant": plant}) for plant in PLANTS))


def live(folder: str, url: str, what: str = "work", **more: str) -> int:
    """One life of the program."""
    environment = {**os.environ, "AGENT_FOLDER": folder, "AGENT_PROVIDER": url, **more}
    return subprocess.run([sys.executable, __file__, what], env=environment, check=False).returncode


def show() -> None:
    with tempfile.TemporaryDirectory() as folder, FakeLLM(think) as llm:
        died = live(folder, llm.openai_url, AGENT_CRASHES="1") != 0
        print(
            f"the first process {'was killed' if died else 'ended'} after {len(llm.billed)} calls of models"
        )
        assert live(folder, llm.openai_url) == 0
        assert live(folder, llm.openai_url, "approve") == 0
        assert live(folder, llm.openai_url) == 0
        done = Path(folder, "done.txt").read_text().splitlines()
        print(f"the provider has charged for {len(llm.billed)} calls in all")
        print(f"tools were executed: {', '.join(done)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run({"work": work, "approve": approve}[sys.argv[1]]())
    else:
        show()
