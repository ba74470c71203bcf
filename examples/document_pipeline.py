"""A pipeline over a thousand documents with a progress bar; killed half way, it goes on where it was.

    python examples/document_pipeline.py [documents]

Each document is read, counted and kept, forty at a time. One in a hundred is broken, which the pipeline bears. The bar
belongs to a process that only looks, so it could be anywhere. A ledger outside of the engine shows what was done.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import tempfile
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.progress import Progress

import perdure
from perdure import Engine, step, workflow


@step
async def words_of(folder: str, name: str) -> int:
    text = (Path(folder) / name).read_text()
    with (Path(folder) / "ledger").open("a") as ledger:
        ledger.write(f"{name}\n")
    if "broken" in text:
        raise perdure.Permanent(f"{name} can't be read")
    return len(text.split())


@workflow
async def pipeline(folder: str, names: list[str]) -> dict[str, int]:
    done = 0

    async def one(name: str) -> int:
        nonlocal done
        count = await words_of(folder, name)
        done += 1
        if done % 20 == 0:
            perdure.emit("progress", done)
        return count

    counts = await perdure.map(one, names, concurrency=40, max_failure_ratio=0.05)
    return {
        "documents": counts.succeeded,
        "broken": counts.failed,
        "words": sum(n or 0 for n in counts.results),
    }


def works(url: str) -> None:
    async def drive() -> None:
        async with Engine(url) as engine:
            await engine.get("pipeline").result()

    asyncio.run(drive())


async def watch(url: str, total: int, processes: list[BaseProcess]) -> dict[str, int]:
    """Draw the bar, and kill the first worker when half of the work is done."""
    async with Engine(url, worker=False) as engine:
        handle = engine.get("pipeline")
        with Progress() as bar:
            task = bar.add_task("documents", total=total)
            async for item in handle.stream("progress"):
                bar.update(task, completed=item.value)
                if item.value >= total // 2 and len(processes) == 1:
                    first = processes[0]
                    assert first.pid is not None
                    os.kill(first.pid, signal.SIGKILL)
                    first.join()
                    bar.print("kill -9 in the middle; another worker goes on")
                    processes.append(start_worker(url))
            bar.update(task, completed=total)
        result: dict[str, int] = await handle.result()
        return result


def start_worker(url: str) -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=works, args=(url,))
    process.start()
    return process


async def place(url: str, folder: str, names: list[str]) -> None:
    async with Engine(url, worker=False) as engine:
        await engine.start(pipeline(folder, names), id="pipeline")


def main(total: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{number:04}.txt" for number in range(total)]
        for number, name in enumerate(names):
            text = "broken" if number % 100 == 99 else f"document {number} has some words"
            (Path(folder) / name).write_text(text)
        url = f"sqlite:///{folder}/pipeline.db"
        asyncio.run(place(url, folder, names))
        processes = [start_worker(url)]
        print(asyncio.run(watch(url, total, processes)))
        processes[-1].join()
        read = Counter((Path(folder) / "ledger").read_text().split())
        twice = sum(count - 1 for count in read.values())
        print(f"{len(read)} documents were read; {twice} of them twice, as they were being read at the kill")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
