"""An agent that asks: it drafts, an editor changes the draft, and what costs money needs an approval.

    python examples/approval.py [database]

No model and no network are needed. This script plays the people, who would come by the command line (`perdure
questions`, `perdure answer`) or a page. The agent's process is killed while it waits; a person answers while no agent
is there, and a second process goes on from that.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import tempfile
from dataclasses import dataclass

import perdure
from perdure import ApprovalRejected, Engine, NeedsApproval, step, workflow


@dataclass
class Review:
    """What the editor says."""

    publish: bool
    text: str = ""


@step
async def draft(topic: str) -> str:
    print(f"  agent {os.getpid()}: drafts something about {topic}")
    return f"Ten facts about {topic}"


def is_dear(name: str, cents: int) -> bool:
    return cents > 1000


@step(approval=NeedsApproval("Buy this picture?", to="treasurers", when=is_dear))
async def buy_picture(name: str, cents: int) -> str:
    print(f"  agent {os.getpid()}: buys {name} for {cents / 100:.2f}")
    return f"{name}.png"


@workflow
async def article(topic: str) -> str:
    text = await draft(topic)
    review = await perdure.ask("Publish this?", Review, details=text, to="editors", timeout=86_400)
    if not review.publish:
        return "nothing was published"
    pictures = [await buy_picture("a small one", 500)]
    try:
        pictures.append(await buy_picture("a large one", 9900))
    except ApprovalRejected as error:
        print(f"  agent {os.getpid()}: {error.by} says {error.comment!r}, so there is one picture only")  # noqa: PDR008 - printed only
    return f"{review.text or text}, with {', '.join(pictures)}"


ANSWERS: dict[str, tuple[object, str]] = {
    "Publish this?": (Review(publish=True, text="Nine facts about tardigrades"), "ann"),
    "Buy this picture?": (perdure.Approval(False, "too expensive"), "bob"),
}


def works(url: str) -> None:
    """The agent's process."""

    async def drive() -> None:
        async with Engine(url) as engine:
            print(f"  agent {os.getpid()}: at work")
            await engine.get("article-1").result()

    asyncio.run(drive())


async def answer_next(url: str) -> None:
    """A person looks for a question and answers it; no agent is needed for that."""
    async with Engine(url, worker=False) as engine:
        while True:
            async for question in engine.questions():
                answer, who = ANSWERS[question.text]
                print(f"{who} is asked: {question.text} {question.details}")
                await engine.answer(question.id, answer, by=who)
                return
            await asyncio.sleep(0.05)


async def is_asked(url: str) -> None:
    async with Engine(url, worker=False) as engine:
        while True:
            async for _ in engine.questions():
                return
            await asyncio.sleep(0.05)


async def outcome(url: str) -> str:
    async with Engine(url, worker=False) as engine:
        result: str = await engine.get("article-1").result()
        return result


async def place(url: str) -> None:
    async with Engine(url, worker=False) as engine:
        await engine.start(article("tardigrades"), id="article-1")


def main(url: str) -> None:
    asyncio.run(place(url))
    processes = multiprocessing.get_context("spawn")
    first = processes.Process(target=works, args=(url,))
    first.start()
    asyncio.run(is_asked(url))
    print("the agent waits for a person, and is killed")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    asyncio.run(answer_next(url))  # while no agent is there
    second = processes.Process(target=works, args=(url,))
    second.start()
    asyncio.run(answer_next(url))
    print(asyncio.run(outcome(url)))
    second.join()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(f"sqlite:///{sys.argv[1]}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(f"sqlite:///{folder}/approval.db")
