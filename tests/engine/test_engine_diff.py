"""Two runs side by side, with what they have cost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal

import pytest
from engine_kit import Place, reaches, run

import perdure
from perdure import Args, Change, Retry, step, workflow


@step(name="diff.extract", effect="read")
async def extract(text: str) -> str:
    perdure.record_usage(model="m", input_tokens=100, cost="0.01")
    return text.upper()


@step(name="diff.write", effect="read")
async def write(prompt: str, facts: list[str]) -> dict[str, object]:
    perdure.record_usage(model="m", input_tokens=len(prompt), cost="0.02")
    return {"title": prompt, "facts": facts}


@step(name="diff.mails")
async def mails(title: str) -> str:
    return f"sent {title}"


@workflow(name="diff.child")
async def child(text: str) -> str:
    return await extract(text)


@workflow(name="diff.research")
async def research(prompt: str, documents: list[str]) -> dict[str, object]:
    facts = await asyncio.gather(*(extract(text) for text in documents))
    facts.append(await child("inner"))
    report = await write(prompt, facts)
    await mails(prompt)
    perdure.publish("diff.done", prompt)
    return report


def test_a_counterfactual_fork_beside_its_original(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(research("Prose", ["a", "b"]), id="r")
            await handle.result()
            fork = await handle.fork(input=Change({"prompt": "Verse"}), effects="stub", id="f")
            await fork.result()
            told = await engine.diff("r", "f")
            assert [step.name for step in told.same] == ["diff.extract", "diff.extract", "diff.child"]
            assert [(step.name, step.changed) for step in told.changed] == [
                ("diff.write", ("input", "result")),
                ("diff.mails", ("input",)),
                ("diff.done", ("input", "outcome")),
            ]
            assert told.only_a == told.only_b == ()
            wrote, mailed, _ = told.changed
            assert wrote.a is not None
            assert wrote.b is not None
            assert [(one.path, one.a, one.b) for one in wrote.input] == [("prompt", "Prose", "Verse")]
            assert [(one.path, one.a, one.b) for one in wrote.result] == [("title", "Prose", "Verse")]
            assert (wrote.b.usage.calls, wrote.b.usage.total_tokens, wrote.b.usage.cost) == (
                1,
                5,
                Decimal("0.02"),
            )
            assert wrote.b.seconds is not None
            assert wrote.b.attempts == 1
            assert mailed.b is not None
            assert mailed.b.stubbed
            assert mailed.b.result == "sent Prose"
            kid = told.same[2]
            assert kid.kind == "child"
            assert kid.a is not None
            assert kid.b is not None
            assert (kid.a.run, kid.b.run) == ("r/diff.child#1", "r/diff.child#1")
            assert (kid.a.usage.calls, kid.b.usage.calls, kid.b.usage.saved_calls) == (1, 0, 1)
            assert kid.b.reused
            assert (told.a.usage.calls, told.b.usage.calls, told.b.usage.saved_calls) == (4, 1, 3)
            assert [one.path for one in told.input] == ["prompt"]
            assert [one.path for one in told.result] == ["title"]
            assert (told.a.status, told.b.status) == ("completed", "completed")

    run(main)


FAILS: set[str] = set()


@step(name="diff.tries", retry=Retry(max_attempts=3, initial=0.001))
async def tries(what: str) -> str:
    if what in FAILS or (what == "twice" and perdure.step_info().attempt < 2):
        raise ValueError(f"no {what}")
    return what


@workflow(name="diff.goes")
async def goes(what: list[str]) -> list[str]:
    return [await tries(one) for one in what]


def test_runs_that_fail_wait_or_do_more(place: Place) -> None:
    async def main() -> None:
        FAILS.add("bad")
        async with place.engine() as engine:
            for id, what in (("a", ["x", "twice"]), ("b", ["new", "x", "bad"])):
                handle = await engine.start(goes(what), id=id)
                with suppress(perdure.RunFailed):
                    await handle.result()
            told = await engine.diff("a", "b")
            assert [(step.verdict, (step.a or step.b).id) for step in told.steps] == [  # type: ignore[union-attr]
                ("only_b", "diff.tries#1"),
                ("same", "diff.tries#1"),
                ("only_b", "diff.tries#3"),
                ("only_a", "diff.tries#2"),
            ]
            assert told.only_a[0].a is not None
            assert told.only_a[0].a.attempts == 2
            last = told.only_b[1].b
            assert last is not None
            assert (last.outcome, last.error) == ("failed", "ValueError: no bad")
            assert told.b.error == "ValueError: no bad"
            assert told.b.result is None
            FAILS.clear()
            await engine.get("b").retry()
            await engine.get("b").result()
            again = await engine.diff("b", "b", generations=(1, 2))
            assert [step.verdict for step in again.steps] == ["same", "same", "changed"]
            blocked = await engine.get("a").fork(input=Args(["y"]), effects="reuse", id="c")
            await reaches(blocked, "blocked")
            refused = (await engine.diff("a", "c")).changed[0].b
            assert refused is not None
            assert refused.outcome == "refused"
            with pytest.raises(perdure.UnknownRunError):
                await engine.diff("a", "nobody")
            with pytest.raises(perdure.UnknownRunError):
                await engine.diff("a", "b", generations=(3, 1))

    run(main)
