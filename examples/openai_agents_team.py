"""A team of the OpenAI Agents SDK that is killed with SIGKILL in the middle, and pays for nothing twice.

    python examples/openai_agents_team.py

A triage agent hands a question over to a writer, who asks a researcher (an agent as a tool) and looks up three
temperatures at once. The program starts the team as a process of its own, which dies in the second tool; then it starts
the team again, which goes on. It needs no network: the provider is a fake one, which speaks OpenAI's wire format and
keeps books of what it would have charged for.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from agents import Agent, OpenAIProvider, RunConfig, function_tool
from openai import AsyncOpenAI

import perdure
from perdure.integrations.openai_agents import DurableRunner
from perdure.testing.fake_llm import FakeLLM, Prompt, Reply, Tool

FOLDER = Path(os.environ.get("TEAM_FOLDER", "."))
LOOKED_UP = FOLDER / "looked_up.txt"  #: a line for each time that a tool was really executed
PLAN_A_CRASH = "TEAM_CRASHES"
CITIES = ["Rome", "Oslo", "Lisbon"]

# -- the team: plain code of the Agents SDK -------------------------------------------------------------


@function_tool
async def temperature(city: str) -> str:
    """The temperature in a city."""
    await asyncio.sleep(0.5 * (1 + CITIES.index(city)))
    if PLAN_A_CRASH in os.environ and LOOKED_UP.exists():
        os.kill(os.getpid(), signal.SIGKILL)  # the first answer is there, the others are on their way
    with LOOKED_UP.open("a") as file:
        file.write(city + "\n")
    return f"{city}: {15 + len(city)} degrees"


researcher = Agent("Researcher", instructions="You know about cities.")
writer = Agent(
    "Writer",
    instructions="You write weather reports.",
    tools=[temperature, researcher.as_tool("ask_researcher", "Asks what is worth knowing about cities.")],
)
triage = Agent("Triage", instructions="You pass questions on to whoever can answer them.", handoffs=[writer])


@perdure.workflow
async def report(question: str) -> str:
    url = os.environ["TEAM_PROVIDER"]  # noqa: PDR008 - no history holds it
    client = AsyncOpenAI(base_url=url, api_key="none")
    config = RunConfig(
        model="gpt-5-mini", model_provider=OpenAIProvider(openai_client=client), tracing_disabled=True
    )
    result = await DurableRunner.run(triage, question, run_config=config)
    return str(result.final_output)


async def work() -> None:
    async with perdure.Engine(f"sqlite:///{FOLDER / 'team.db'}") as engine:
        handle = await engine.start(report("How warm is it in Rome, Oslo and Lisbon?"), id="report-1")
        print(await handle.result())
        usage = await handle.usage()
        print(f"{usage.calls} calls of models, {usage.input_tokens + usage.output_tokens} tokens")


# -- the provider, and the show -------------------------------------------------------------------------


def think(prompt: Prompt) -> Reply:
    """What a model would make of it."""
    if "You know about cities" in prompt.text:
        return Reply("All three lie at the water.")
    if "You pass questions on" in prompt.text and "transfer_to_writer" not in prompt.last:
        return Reply(tools=(Tool("transfer_to_writer"),))
    if "degrees" not in prompt.text:
        cities = tuple(Tool("temperature", {"city": city}) for city in CITIES)
        return Reply("Let me see.", tools=(*cities, Tool("ask_researcher", {"input": ", ".join(CITIES)})))
    return Reply("Rome has 19 degrees, Oslo 19 and Lisbon 21. All three lie at the water.")


def live(folder: str, url: str, **more: str) -> int:
    """One life of the team."""
    environment = {**os.environ, "TEAM_FOLDER": folder, "TEAM_PROVIDER": url, **more}
    return subprocess.run([sys.executable, __file__, "work"], env=environment, check=False).returncode


def show() -> None:
    with tempfile.TemporaryDirectory() as folder, FakeLLM(think) as llm:
        died = live(folder, llm.openai_url, **{PLAN_A_CRASH: "1"}) != 0
        print(
            f"the first process {'was killed' if died else 'ended'} after {len(llm.billed)} calls of models"
        )
        assert live(folder, llm.openai_url) == 0
        looked_up = Path(folder, "looked_up.txt").read_text().split()
        print(f"the provider has charged for {len(llm.billed)} calls in all")
        print(f"tools were executed for {', '.join(looked_up)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["work"]:
        asyncio.run(work())
    else:
        show()
