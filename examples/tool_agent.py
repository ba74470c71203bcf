"""An agent with tools, in plain code: a loop, a model, a dictionary of steps. Killed at any time, it pays once.

    python examples/tool_agent.py

The model here is a script in this file, and needs no key: it asks for tools one after the other, as real ones do. Put
`perdure.ai.llm` in its place for a real one. The process is killed amid the third tool; the next goes on from there.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import perdure
from perdure import Engine, step, workflow


@dataclass
class Turn:
    """What the model says: something to do, or that it is done."""

    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    answer: str = ""


SCRIPT = [
    Turn("search", {"topic": "moss"}),
    Turn("search", {"topic": "lichen"}),
    Turn("compare", {"left": "moss", "right": "lichen"}),
    Turn("save", {"name": "report.txt", "text": "moss is a plant, lichen is two"}),
    Turn(answer="The report is in report.txt."),
]


def note(what: str) -> None:
    """A ledger outside of the engine."""
    with Path("ledger").open("a") as ledger:
        ledger.write(f"{what}\n")


@step
def model(transcript: list[str]) -> Turn:
    note("model")
    return SCRIPT[len(transcript)]


@step
def search(topic: str) -> str:
    note(f"search {topic}")
    return f"everything about {topic}"


@step
def compare(left: str, right: str) -> str:
    if not Path("killed").exists():
        Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    note(f"compare {left} {right}")
    return f"{left} isn't {right}"


def is_saved(name: str, text: str) -> perdure.Done[str] | None:
    return perdure.Done(name) if Path(name).exists() else None


@step(once=True, verify=is_saved)
def save(name: str, text: str) -> str:
    note(f"save {name}")
    Path(name).write_text(text)
    return name


TOOLS: dict[str, Callable[..., Awaitable[str]]] = {"search": search, "compare": compare, "save": save}


@workflow
async def agent() -> str:
    transcript: list[str] = []
    while True:
        turn = await model(transcript)
        if turn.answer:
            return turn.answer
        transcript.append(await TOOLS[turn.tool](**turn.arguments))


def works() -> None:
    async def drive() -> None:
        async with Engine("sqlite:///agent.db") as engine:
            print("  the agent says:", await engine.run(agent(), id="agent-1"))

    asyncio.run(drive())


def main() -> None:
    for attempt in ("first", "second"):
        process = multiprocessing.get_context("spawn").Process(target=works)
        process.start()
        process.join()
        print(f"the {attempt} process ended with {process.exitcode}")
        if process.exitcode == 0:
            break
    ledger = Path("ledger").read_text().splitlines()
    print(
        f"{ledger.count('model')} calls of the model; {', '.join(line for line in ledger if line != 'model')}"
    )


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    main()
