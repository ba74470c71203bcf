"""Calls of models by `llm` are forked with another model or prompt, also where nothing else may be done."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from perdure import Change, Engine, events, step, workflow
from perdure.testing.fake_llm import FakeLLM

openai: Any = pytest.importorskip("openai")

from perdure.ai import llm  # noqa: E402

PLACE: dict[str, str] = {}
SENT: list[str] = []


@step(name="forked.mail")
async def mail(text: str) -> None:
    SENT.append(text)


@workflow(name="forked.answers")
async def answers(question: str) -> list[str]:
    async with openai.AsyncOpenAI(base_url=f"{PLACE['url']}/v1", api_key="none") as client:
        told = []
        for prompt in ("be short", "be kind"):
            said = await llm(
                client.chat.completions.create,
                model="gpt-5",
                max_completion_tokens=50,
                messages=[{"role": "system", "content": prompt}, {"role": "user", "content": question}],
            )
            told.append(f"{said.model}: {said.choices[0].message.content}")
        await mail(told[-1])
        return told


def test_another_model_and_another_prompt(tmp_path: Path) -> None:
    async def main() -> None:
        SENT.clear()
        with FakeLLM() as provider:
            PLACE["url"] = provider.url
            async with Engine(f"sqlite:///{tmp_path / 'runs.db'}") as engine:
                handle = await engine.start(answers("why"), id="r")
                await handle.result()
                assert (len(provider.billed), len(SENT)) == (2, 1)

                every = {"llm:*": Change({"model": "gpt-5-mini"})}
                plan = await handle.fork(edits=every, effects="reuse", dry_run=True)
                assert plan.runs == ("llm:gpt-5#1",)
                other = await handle.fork(edits=every, effects="stub")
                assert [line.partition(":")[0] for line in await other.result()] == ["gpt-5-mini"] * 2
                assert len(provider.billed) == 4
                (line,) = await engine.usage("model", run=other.id)
                assert line.name == "gpt-5-mini"
                assert line.usage.calls == 2

                kinder = {"llm:gpt-5#2": Change({"messages.0.content": "be very kind"})}
                third = await handle.fork(edits=kinder, effects="stub")
                await third.result()
                assert len(provider.billed) == 5
                told = await engine.diff("r", third.id)
                assert [one.path for one in told.changed[0].input] == ["messages.0.content"]

                fourth = await handle.fork(edits={"llm:*": Change(text={"why": "how"})}, effects="stub")
                await fourth.result()
                assert len(provider.billed) == 7
                assert len(SENT) == 1

    asyncio.run(main())


def test_a_call_that_is_edited_gets_its_result(tmp_path: Path) -> None:
    async def main() -> None:
        with FakeLLM() as provider:
            PLACE["url"] = provider.url
            async with Engine(f"sqlite:///{tmp_path / 'runs.db'}") as engine:
                handle = await engine.start(answers("why"), id="r")
                before = await handle.result()
                (first, *_) = [one async for one in handle.history() if isinstance(one, events.StepCompleted)]
                said = json.loads(first.result)
                text = json.dumps(said).replace(before[0].partition(": ")[2], "something else")
                fork = await handle.fork(edits={"llm:gpt-5#1": json.loads(text)}, effects="stub")
                assert (await fork.result())[0] == "gpt-5: something else"
                assert len(provider.billed) == 2

    asyncio.run(main())
