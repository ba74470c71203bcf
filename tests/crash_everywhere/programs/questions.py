"""Questions and approvals, answered, timed out and withdrawn, by somebody who may die with the run."""

import asyncio
from dataclasses import dataclass
from typing import Any

import perdure


@dataclass
class Verdict:
    publish: bool
    headline: str = ""


@perdure.step(approval=perdure.NeedsApproval(editable=True))
async def publish(headline: str) -> str:
    return headline.upper()


@perdure.workflow
async def child(topic: str) -> bool:
    return await perdure.ask(f"{topic}?", key=topic)


@perdure.workflow
async def asks() -> list[Any]:
    impatient = asyncio.ensure_future(perdure.ask("Withdrawn?"))
    first, late, sure = await asyncio.gather(
        perdure.ask("Publish?", Verdict, details="news", timeout=3600),
        perdure.ask("Late?", timeout=0.01, on_timeout="nobody"),
        child("sure"),
    )
    impatient.cancel()
    try:
        refused = await perdure.approve(publish("no"), "Refuse?")
    except perdure.ApprovalRejected as error:
        refused = error.comment
    return [first.headline, late, sure, refused, await publish(first.headline)]


ANSWERS: dict[str, Any] = {
    "Publish?": Verdict(True, "tea"),
    "sure?": True,
    "Refuse?": perdure.Approval(False, "never"),
    "Approve __main__.publish?": {"approved": True, "arguments": {"headline": "coffee"}},
}


async def answers(engine: perdure.Engine, handle: perdure.Handle[Any]) -> None:
    """As people would: whatever is asked, until the run has ended."""
    while not (await handle.status()).final:
        async for question in engine.questions():
            text = "Approve __main__.publish?" if question.text.startswith("Approve") else question.text
            if text in ANSWERS:
                try:
                    await engine.answer(question.id, ANSWERS[text], by="ann")
                except perdure.QuestionError:
                    pass  # in a former life
        await asyncio.sleep(0.001)


async def main() -> None:
    async with perdure.Engine("sqlite:///questions.db") as engine:
        handle = await engine.start(asks(), id="asks")
        await asyncio.gather(answers(engine, handle), handle.result())
        print(await handle.result())


asyncio.run(main())
