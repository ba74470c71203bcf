"""One trace over two processes, the first of which is killed in the middle: the spans of both, as a tree.

    pip install 'perdure[otel]'
    python examples/traced.py

Each process writes the spans that it tells into a file. Called without a provider, `instrument()` sends them to the
collector that OTEL_EXPORTER_OTLP_ENDPOINT names.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import perdure
from perdure import Retry, step, workflow
from perdure.integrations import opentelemetry

FOLDER = Path(os.environ.get("TRACED_FOLDER") or tempfile.mkdtemp(prefix="traced-"))


@step
async def fetch(page: str) -> str:
    return f"text of {page}"


@step(retry=Retry(max_attempts=3, initial=0.05))
def summarise(text: str) -> str:
    if perdure.step_info().attempt == 1:
        raise ConnectionError("the model is busy")
    return text.upper()


@step
async def publish(text: str) -> str:
    marker = FOLDER / "was killed here"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return text


@workflow
async def chapter(page: str) -> str:
    return await summarise(await fetch(page))


@workflow
async def book() -> str:
    first = await chapter("one")
    await asyncio.sleep(0.2)
    second = await chapter("two")
    return await publish(f"{first}, {second}")


def work() -> None:
    """What both processes do: begin the run, or go on with it."""
    with (FOLDER / f"spans-{os.getpid()}.jsonl").open("a") as file:
        provider = TracerProvider()
        exporter = ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(indent=None) + "\n")
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        opentelemetry.instrument(provider)
        print(perdure.run(book(), url=f"sqlite:///{FOLDER}/book.db", id="book"))


def spans() -> dict[str, dict[str, Any]]:
    """What both have told, by the ids of spans: what was told twice has the same."""
    files = FOLDER.glob("spans-*.jsonl")
    told = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return {span["context"]["span_id"]: span for span in told}


def show(told: dict[str, dict[str, Any]], parent: str | None = None, indent: str = "") -> None:
    """Print the spans below one, in their order."""
    below = [span for span in told.values() if span["parent_id"] == parent]
    for span in sorted(below, key=lambda span: str(span["start_time"])):
        status = span["status"]
        failed = f"  {status['description']}" if status["status_code"] == "ERROR" else ""
        events = [event["name"] for event in span["events"] if event["name"] != "exception"]
        noted = f"  {{{', '.join(events)}}}" if events else ""
        print(f"{indent}{span['name'].replace('__main__.', '')}{failed}{noted}")
        show(told, span["context"]["span_id"], indent + "    ")


def main() -> None:
    environment = {**os.environ, "TRACED_FOLDER": str(FOLDER)}
    for name in ("the first", "the second"):
        done = subprocess.run([sys.executable, __file__, "work"], env=environment, check=False)
        print(f"-- {name} process ended with {done.returncode}", flush=True)
    told = spans()
    print(f"-- {len({span['context']['trace_id'] for span in told.values()})} trace, {len(told)} spans")
    show(told)


if __name__ == "__main__":
    work() if sys.argv[1:] == ["work"] else main()
