"""Another prompt on a run that is done: pay for the step that changes, and send nothing.

    python examples/iterate.py [database]

A research run reads ten documents, writes a report and mails it. Then its report is to be written in another way:
a fork takes over what the documents said and asks the model once. It is counterfactual, so the mail isn't sent again.
The model is a fake provider on this machine, which keeps books of what it bills.
"""

from __future__ import annotations

import asyncio
import json
import pydoc_data.topics
import sys
import tempfile
from typing import Any
from urllib.request import Request, urlopen

import perdure
from perdure import Change, Engine, RunDiff, step, workflow
from perdure.testing.fake_llm import FakeLLM

PROVIDER = FakeLLM()
TOPICS = ["assert", "break", "class", "continue", "del", "for", "if", "import", "lambda", "while"]
USD_PER_TOKEN = 0.000_002


@step(effect="read", spends=True)  # a call of a model changes nothing outside, so a fork may make it
def ask(prompt: str, document: str) -> str:
    """Any client will do; this one is the standard library."""
    messages = [{"role": "system", "content": prompt}, {"role": "user", "content": document[:4000]}]
    body = {"model": "gpt-5", "messages": messages}
    headers = {"content-type": "application/json", "idempotency-key": perdure.idempotency_key()}
    request = Request(
        f"{PROVIDER.url}/v1/chat/completions", json.dumps(body).encode(), headers, method="POST"
    )
    with urlopen(request, timeout=60) as response:
        answer: dict[str, Any] = json.load(response)
    used = answer["usage"]
    perdure.record_usage(
        model="gpt-5",
        input_tokens=used["prompt_tokens"],
        output_tokens=used["completion_tokens"],
        cost=USD_PER_TOKEN * (used["prompt_tokens"] + used["completion_tokens"]),
    )
    return (
        f"{prompt} {document.split(maxsplit=1)[0].title()}: {answer['choices'][0]['message']['content'][:40]}"
    )


@step  # it doesn't say that it only reads: a counterfactual fork doesn't execute it
async def mail(to: str, report: str) -> str:
    print(f"  mailed {len(report.splitlines())} lines to {to}")
    return f"message {len(report)}"


@workflow
async def research(topics: list[str], style: str) -> str:
    texts = [pydoc_data.topics.topics[topic] for topic in topics]
    findings = await asyncio.gather(*(ask("Summarise.", text) for text in texts))
    report = await ask(f"Write {style}.", "\n".join(findings))
    await mail("editor@example.org", report)
    return report


async def main(url: str) -> int:
    with PROVIDER:
        async with Engine(url) as engine:
            print("The run:")
            handle = await engine.start(research(TOPICS, "a report"), id="research")
            await handle.result()
            billed = len(PROVIDER.billed)
            print(f"  the provider has billed {billed} calls")

            changed = Change({"style": "a limerick"})
            plan = await handle.fork(input=changed, effects="stub", dry_run=True)
            print("A fork with another prompt, tried without doing it:")
            print(f"  {len(plan.reused)} steps are taken over, which saves {plan.saved.cost:.4f} USD")
            print(f"  executed again: {', '.join(plan.runs)}, for about {plan.cost.cost:.4f} USD")

            fork = await handle.fork(input=changed, effects="stub", id="limerick")
            await fork.result()
            print("The fork:")
            print(
                f"  the provider has billed {len(PROVIDER.billed) - billed} call more, and nothing was mailed"
            )
            told = await engine.diff("research", "limerick")
            show(told)
            again = sum(step.b is not None and not (step.b.reused or step.b.stubbed) for step in told.steps)
            return 0 if (again, len(told.same)) == (1, len(TOPICS)) else 1


def show(told: RunDiff) -> None:
    """What `perdure diff research limerick` shows, in short."""
    print("Side by side:")
    print(f"  {len(told.same)} steps are the same")
    for one in told.changed:
        assert one.b is not None
        how = "a stub stands in for it" if one.b.stubbed else f"{one.b.usage.cost:.4f} USD"
        print(f"  {one.b.id}: other {' and '.join(one.changed)}; {how}")
    for side in (told.a, told.b):
        usage = side.usage
        print(f"  {side.id:9} calls: {usage.calls:2}, {usage.cost:.4f} USD; saved {usage.saved_cost:.4f} USD")
    for difference in told.result:
        print(f"  - {difference.a}\n  + {difference.b}")


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(asyncio.run(main(f"sqlite:///{sys.argv[1]}")))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(asyncio.run(main(f"sqlite:///{folder}/iterate.db")))
