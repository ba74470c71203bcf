"""A research agent over forty documents that everything happens to, and that pays for each call once.

    pip install 'perdure[ai,cli]' anthropic
    python examples/paid_once.py

A fake provider on this machine answers; it lets in two requests a second, and so many tokens a minute, and counts what
it bills. The agent is killed with SIGKILL three times, is turned away by the provider, runs out of its budget, and asks
a person before it publishes. At the end the provider's own books are laid beside those of the agent.

From top to bottom: the agent, and the show, which starts it as a process, kills it, raises its budget, answers its
question, and adds up.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from decimal import Decimal
from pydoc_data.topics import topics as documents

import anthropic
from rich.console import Console
from rich.table import Table

import perdure
from perdure.ai import llm
from perdure.testing.fake_llm import FakeLLMProcess

MODEL = "claude-haiku-4-5"
RUN_ID = "report-1"
TOPICS = [name for name, text in sorted(documents.items()) if len(text) > 500][:40]
KILLS_AFTER = (8, 17, 29)  #: calls that the provider has billed
BUDGET = Decimal("0.030")  #: US dollars, for one run; not enough, so that somebody has to raise it
LIMITS = ("--requests-per-minute", "120", "--burst", "2", "--tokens-per-minute", "250000", "--latency", "0.3")


# -- the agent ------------------------------------------------------------------------------------------


@dataclass
class Decision:
    """What a person says about the report."""

    publish: bool
    remark: str = ""


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@perdure.step
def publish(report: str, folder: str) -> str:
    """Deliver the report: here that is a file, and a second time would write the same one."""
    path = os.path.join(folder, "report.md")
    with open(path, "w", encoding="utf-8") as file:
        file.write(report)
    return f"published {len(report):,} characters"


@perdure.workflow(name="paid_once.research", budget=perdure.Budget(usd=BUDGET, on_exhausted="pause"))
async def research(topics: list[str], folder: str) -> str:
    """Plain asyncio code. Every call of the model is a step: recorded once, and never paid for again."""
    url = os.environ["PROVIDER"]  # noqa: PDR008 - no history holds it
    async with anthropic.AsyncAnthropic(base_url=url, api_key="no key is needed here") as client:

        async def analyse(topic: str) -> str:
            prompt = f"Sum up the chapter on {topic}:\n\n{documents[topic][:3000]}"
            message = await llm(
                client.messages.create,
                key=topic,
                model=MODEL,
                max_tokens=200,
                messages=[{"role": "user", "content": prompt}],
            )
            return text_of(message)

        notes = [note or "" for note in await perdure.map(analyse, topics, concurrency=4)]
        message = await llm(
            client.messages.create,
            key="report",
            emit="report",
            model=MODEL,
            max_tokens=800,
            messages=[{"role": "user", "content": "Write a report of these notes:\n\n" + "\n".join(notes)}],
        )
    report = text_of(message)
    decision = await perdure.ask("Publish the report?", Decision, details={"report": report})
    if not decision.publish:
        return f"not published: {decision.remark}"
    return await publish(report, folder)


def agent(url: str, folder: str) -> None:
    """The agent's process: the same command, however often it was killed."""
    perdure.run(research(TOPICS, folder), url=url, id=RUN_ID)


# -- the show -------------------------------------------------------------------------------------------

console = Console(highlight=False, soft_wrap=True)


async def main(folder: str) -> int:
    url = f"sqlite:///{folder}/agent.db"
    console.print(f"{len(TOPICS)} documents; two requests a second; a budget of {BUDGET} USD.")
    with FakeLLMProcess(LIMITS) as provider:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [sys.executable, __file__, "agent", url, folder], env={**os.environ, "PROVIDER": provider.url}
            )

        process, in_flight = start(), 0
        try:
            async with perdure.Engine(url, worker=False) as engine:
                run = engine.get(RUN_ID)
                for kill in KILLS_AFTER:
                    while len(provider.billed) < kill:
                        await look_after(engine)
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    billed, known = len(provider.billed), (await run.usage()).calls
                    console.print(
                        f"[red]kill -9[/red]: {billed} calls are billed, {known} of them are recorded."
                    )
                    in_flight = billed - known
                    process = start()
                while not (await run.status()).final:
                    await look_after(engine)
                result, usage = await run.result(), await run.usage()
            process.wait()
        finally:
            process.kill()
            process.wait()
        return add_up(provider, usage, str(result), in_flight)


async def look_after(engine: perdure.Engine) -> None:
    """What a person does about it: raise the budget, and answer what is asked."""
    await asyncio.sleep(0.05)
    try:
        status = await engine.get(RUN_ID).status()
    except perdure.UnknownRunError:  # it isn't started yet
        return
    if status == "blocked":
        why = (await engine.get(RUN_ID).why()).causes[0]
        console.print(f"[yellow]blocked[/yellow]: {why.what}")
        await engine.budgets.raise_by("paid_once.research", usd="0.05")
        console.print("The budget is raised by 0.05 USD.")
        while await engine.get(RUN_ID).status() == "blocked":  # noqa: ASYNC110 - it is another process's
            await asyncio.sleep(0.05)
    async for question in engine.questions(run=RUN_ID):
        await engine.answer(question.id, Decision(publish=True), by="ada")
        console.print(f"The agent asks: {question.text} ada says yes.")


def add_up(provider: FakeLLMProcess, usage: perdure.Usage, result: str, in_flight: int) -> int:
    """Lay the books side by side."""
    billed, needed = len(provider.billed), len(TOPICS) + 1
    turned_away = sum(call.status == 429 for call in provider.calls)
    table = Table(title="The bill", show_header=False)
    table.add_row("result", result)
    table.add_row("calls of an uninterrupted run", str(needed))
    table.add_row("calls in flight when it was killed", str(in_flight))
    table.add_row("calls that the provider has billed", str(billed))
    table.add_row("requests that it has turned away", str(turned_away))
    table.add_row("calls that weren't made again", str(usage.saved_calls))
    table.add_row(
        "paid, with perdure", f"{usage.cost} USD, and at most {usage.unknown_cost} for calls in flight"
    )
    table.add_row("without: each life from the first document on", f"{usage.cost + usage.saved_cost} USD")
    right = billed == needed + in_flight and usage.calls == needed
    verdict = "every call was paid once, but for those in flight" if right else "MISMATCH between the books"
    table.add_row("verdict", f"[{'green' if right else 'red'}]{verdict}[/]")
    console.print(table)
    return 0 if right else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["agent"]:
        agent(*sys.argv[2:])
    else:
        with tempfile.TemporaryDirectory() as place:
            sys.exit(asyncio.run(main(place)))
