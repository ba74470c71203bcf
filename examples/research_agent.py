"""An agent that reads ten documents, is killed with SIGKILL after the fourth, and finishes all the same.

    python examples/research_agent.py

Three parts, from top to bottom: the agent (one workflow and its four steps), the model that it asks (one of
OpenAI's or Anthropic's if a key is in the environment, else a small summariser that needs no network), and
the show, which starts the agent as a process of its own, sees it die, starts it again, and checks the books.

The books: every step also writes a line into a ledger, a file that the engine knows nothing about. If the
engine ran a recorded step twice, or lost one, the ledger would tell.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics as documents
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import perdure
from perdure import Permanent, Retryable, step, workflow

FOLDER = Path(".demo")
LEDGER = FOLDER / "ledger.jsonl"
REPORT = FOLDER / "report.md"
DATABASE = FOLDER / "research.db"
URL = f"sqlite:///{DATABASE}"
RUN_ID = "report-1"

#: Chapters of Python's own reference, which every Python ships for `help()`.
TOPICS: list[str] = re.findall(
    r"\w+", "assignment async calls class comparisons import naming raise try with"
)
CRASH_AFTER = 4  #: documents
CRASH_PLANNED = "RESEARCH_AGENT_CRASH"  #: environment variable, set for the agent's first life only


# -- the agent ------------------------------------------------------------------------------------------


@dataclass
class Finding:
    """What the agent learned from one document."""

    topic: str
    characters: int
    summary: str


@step
def read(topic: str) -> str:
    """Fetch a document."""
    pull_the_plug_if_planned()
    text = documents[topic]
    write_to_ledger()
    return text


@step(timeout=60)
def analyse(topic: str, text: str) -> Finding:
    """Ask the model about a document. This is the step that costs money, and must not be paid for twice."""
    summary = model()(f"the Python reference's chapter on {topic!r}", text)
    write_to_ledger()
    return Finding(topic, len(text), summary)


@step(timeout=60)
def draft(findings: list[Finding]) -> str:
    """Write the report."""
    overview = model()("all of these notes", "\n\n".join(finding.summary for finding in findings))
    chapters = [f"## {finding.topic}\n\n{finding.summary}" for finding in findings]
    write_to_ledger()
    return "\n\n".join(["# What Python's reference says", overview, *chapters]) + "\n"


@step
def send(report: str) -> str:
    """Deliver the report. Here that is a file; a mail service would be given the idempotency key."""
    REPORT.write_text(report, encoding="utf-8")
    write_to_ledger()
    return f"sent {len(report):,} characters (key {perdure.idempotency_key()})"


@workflow
async def research(topics: list[str]) -> str:
    """Plain asyncio code. Each awaited step is recorded, and after a crash the code goes on from there."""
    findings: list[Finding] = []
    for topic in topics:
        text = await read(topic)
        findings.append(await analyse(topic, text))
    report = await draft(findings)
    return await send(report)


def write_to_ledger() -> None:
    """Note outside of the engine, and on disk, that a step's effect has happened."""
    info = perdure.step_info()
    line = {"step": info.step_id, "attempt": info.attempt, "pid": os.getpid()}
    with LEDGER.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def pull_the_plug_if_planned() -> None:
    """In the agent's first life: die as the fifth document is opened, with no chance to tidy up."""
    analysed = sum(is_analysis(line) for line in ledger_lines())
    if analysed == CRASH_AFTER and CRASH_PLANNED in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)


# -- the model ------------------------------------------------------------------------------------------

#: Gives a short summary of a text: (what it is, the text) -> summary.
Model = Callable[[str, str], str]

LONGEST_TEXT = 12_000  #: characters sent to a model over the network
COMMON_WORDS = re.compile(
    "also|been|does|each|from|have|into|more|must|only|other|same|such|than|that|then|there|these|they|this|"
    "used|using|when|where|which|will|with|would"
)


def model() -> Model:
    """The best model that this environment has a key for."""
    if os.environ.get("OPENAI_API_KEY"):
        return ask_openai
    if os.environ.get("ANTHROPIC_API_KEY"):
        return ask_anthropic
    return summarise


def model_name() -> str:
    if os.environ.get("OPENAI_API_KEY"):
        return os.environ.get("OPENAI_MODEL", "gpt-4o-mini")
    if os.environ.get("ANTHROPIC_API_KEY"):
        return os.environ.get("ANTHROPIC_MODEL", "claude-3-5-haiku-latest")
    return "a local summariser (set OPENAI_API_KEY or ANTHROPIC_API_KEY to ask a language model)"


def ask_openai(what: str, text: str) -> str:
    base = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    body = {"model": model_name(), "max_tokens": 120, "messages": [question(what, text)]}
    answer = post(
        f"{base}/chat/completions", {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}, body
    )
    return str(answer["choices"][0]["message"]["content"])


def ask_anthropic(what: str, text: str) -> str:
    base = os.environ.get("ANTHROPIC_BASE_URL", "https://api.anthropic.com")
    body = {"model": model_name(), "max_tokens": 120, "messages": [question(what, text)]}
    headers = {"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01"}
    answer = post(f"{base}/v1/messages", headers, body)
    return str(answer["content"][0]["text"])


def question(what: str, text: str) -> dict[str, str]:
    return {"role": "user", "content": f"Sum up {what} in two sentences.\n\n{text[:LONGEST_TEXT]}"}


def post(url: str, headers: dict[str, str], body: dict[str, Any]) -> Any:
    """One HTTP request. What went wrong tells the engine whether trying again makes sense."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        told = f"the model answered {error.code}: {error.read()[:300].decode(errors='replace')}"
        if error.code == 429 or error.code >= 500:
            wait = error.headers.get("Retry-After", "")
            raise Retryable(told, after=float(wait) if wait.isdigit() else 2.0) from error
        raise Permanent(told) from error


def summarise(what: str, text: str) -> str:
    """Pick the two sentences that hold most of the text's own frequent words, in the order of the text."""
    time.sleep(0.15)  # no model answers at once, and so one can watch
    paragraphs = [
        " ".join(part.split()) for part in text.split("\n\n") if not part.startswith((" " * 3, "*", "-"))
    ]
    sentences = [
        s for part in paragraphs for s in re.split(r"(?<=[.!?])\s+(?=[A-Z])", part) if s.endswith(".")
    ]
    weight = Counter(word for sentence in sentences for word in words(sentence))

    def score(sentence: str) -> float:
        found = words(sentence)
        return sum(weight[word] for word in set(found)) / (len(found) + 8)  # + 8: short ones say little

    best: list[str] = []
    for sentence in sorted(sentences, key=score, reverse=True):
        own, said = set(words(sentence)), set(words(" ".join(best)))
        if len(own & said) * 2 <= len(own):  # it tells something new
            best.append(sentence)
    return " ".join(sorted(best[:2], key=sentences.index)) or f"Nothing to say about {what}."


def words(sentence: str) -> list[str]:
    return [word for word in re.findall(r"[a-z]{4,}", sentence.lower()) if not COMMON_WORDS.fullmatch(word)]


# -- the show -------------------------------------------------------------------------------------------

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    console.print(
        "You will see an agent read ten documents and write a report, be killed with SIGKILL after the "
        "fourth, and finish when it is started again, with no step done twice."
    )
    console.print(f"Model: {model_name()}")
    FOLDER.mkdir(exist_ok=True)
    for old in [LEDGER, REPORT, *FOLDER.glob(f"{DATABASE.name}*")]:
        old.unlink(missing_ok=True)

    first = live(title="first life", crash=True)
    if first != -signal.SIGKILL:
        console.print(f"[red]The agent should have been killed, and ended with code {first}.[/red]")
        return 1
    before = len(ledger_lines())
    recorded = asyncio.run(recorded_steps())
    console.print(
        f"[red]kill -9[/red] after document {CRASH_AFTER}. The database holds {len(recorded)} recorded "
        "steps. The same command again:"
    )
    second = live(title="second life", crash=False)
    if second != 0:
        console.print(f"[red]The agent should have finished, and ended with code {second}.[/red]")
        return 1
    return check_the_books(before, skipped=len(recorded))


def live(*, title: str, crash: bool) -> int:
    """Start the agent's process, show what the ledger says until it ends, return its exit code."""
    environment = {**os.environ, CRASH_PLANNED: "1"} if crash else dict(os.environ)
    columns = (TextColumn(f"{title:12}"), BarColumn(), MofNCompleteColumn(), TextColumn("documents"))
    told = len(ledger_lines())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task(title, total=len(TOPICS))
        agent = subprocess.Popen([sys.executable, __file__, "agent"], env=environment)
        while True:
            ended = agent.poll() is not None  # looked at first, so that its last lines are told
            lines = ledger_lines()
            for line in lines[told:]:
                progress.console.print(f"  process {line['pid']}  {line['step']}")
            told = len(lines)
            progress.update(bar, completed=sum(map(is_analysis, lines)))
            if ended:
                return agent.wait()
            time.sleep(0.03)


def ledger_lines() -> list[dict[str, Any]]:
    if not LEDGER.exists():
        return []
    whole = LEDGER.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def is_analysis(line: dict[str, Any]) -> bool:
    return ".analyse#" in line["step"]


async def recorded_steps() -> list[str]:
    """The ids of the steps whose results the database holds. A client only: it drives nothing."""
    async with perdure.Engine(URL, worker=False) as engine:
        history = [event async for event in engine.get(RUN_ID).history()]
    return [event.step for event in history if isinstance(event, perdure.events.StepCompleted)]


def check_the_books(before: int, skipped: int) -> int:
    lines = ledger_lines()
    recorded = asyncio.run(recorded_steps())
    happened = Counter(str(line["step"]) for line in lines)
    proven = happened == Counter(recorded) and set(happened.values()) == {1}
    verdict = "every recorded step ran exactly once" if proven else "MISMATCH between ledger and history"

    table = Table(title="What happened", show_header=False)
    table.add_row("documents analysed", str(sum(map(is_analysis, lines))))
    table.add_row("steps executed before the crash", str(before))
    table.add_row("steps executed after the crash", str(len(lines) - before))
    table.add_row("steps skipped by replay", str(skipped))
    table.add_row("steps recorded in the database", str(len(recorded)))
    table.add_row("lines in the external ledger", str(len(lines)))
    table.add_row("steps that ran twice", str(sum(times > 1 for times in happened.values())))
    table.add_row("verdict", f"[{'green' if proven else 'red'}]{verdict}[/]")
    console.print(table)
    console.print(f"Report: {REPORT}   Ledger: {LEDGER}   History: perdure show {RUN_ID} --url {URL}")
    return 0 if proven else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["agent"]:
        perdure.run(research(TOPICS), url=URL, id=RUN_ID)
    else:
        sys.exit(main())
