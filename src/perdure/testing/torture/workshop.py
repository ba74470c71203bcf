"""The code that tortured workers execute, and the books that its steps keep.

`main` is a worker: its arguments are a url, the place of the books, a lease, and how many deaths in a row a run may
be present at. Each body writes into the books when
it begins and when it has had its effect: by one write at the end of a file, which a kill can't take back.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import perdure
from perdure import Done, Engine, Retry, RunCancelled, RunFailed, step, workflow
from perdure.testing.torture.programs import fold, is_to_fail, value_of

BOOKS = "PERDURE_TORTURE_BOOKS"  #: the environment's name for the file's place


class Books:
    """What steps write down, in the file that the environment names."""

    def note(self, what: str, tag: str) -> None:
        """Write a line."""
        line = {"what": what, "tag": tag, "pid": os.getpid(), "time": time.time()}
        file = os.open(os.environ[BOOKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # A kill can cut a write short where a page of the file ends; hence a new line first.
            os.write(file, b"\n" + json.dumps(line).encode() + b"\n")
        finally:
            os.close(file)

    def happened(self, tag: str) -> bool:
        """Whether a step had its effect."""
        return any(line["what"] == "effect" and line["tag"] == tag for line in notes(Path(os.environ[BOOKS])))

    def rest(self, seconds: float) -> None:
        """Let time pass, in a thread."""
        time.sleep(seconds)

    def sees(self, tag: str) -> None:
        """Code of a run has got the outcome of a step."""

    def waited(self, tag: str, asked: float, took: float) -> None:
        """Code of a run has waited for a time: how long it was to be, and was by the run's own clock, in seconds."""


#: Where the code below writes; a simulation puts books of its own here.
books: Books = Books()

#: How to carry out kinds of instructions that aren't known here; a simulation has some.
others: dict[str, Callable[[str, Any], Awaitable[int]]] = {}


def note(what: str, tag: str) -> None:
    """Write a line into the books."""
    books.note(what, tag)


def ready_file(books: Path, pid: int) -> Path:
    """What a worker makes when it drives runs."""
    return books.with_name(f"ready-{pid}")


def notes(books: Path) -> list[dict[str, Any]]:
    """What the books say, lines that a kill cut short left out."""
    if not books.exists():
        return []
    found: list[dict[str, Any]] = []
    for line in books.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line or b"x"))
    return found


@step
async def works(tag: str, milliseconds: int) -> tuple[str, int]:
    note("begin", tag)
    await asyncio.sleep(milliseconds / 1000)
    note("effect", tag)
    return tag, value_of(tag)


@step
def works_in_a_thread(tag: str, milliseconds: int) -> tuple[str, int]:
    note("begin", tag)
    books.rest(milliseconds / 1000)
    note("effect", tag)
    return tag, value_of(tag)


@step(retry=Retry(max_attempts=50, initial=0.01, jitter=False))
async def comes_third(tag: str) -> tuple[str, int]:
    note("begin", tag)
    await asyncio.sleep(0)
    if perdure.step_info().attempt < 3:
        raise ConnectionError("not yet")
    note("effect", tag)
    return tag, value_of(tag)


@step
async def fails(tag: str) -> None:
    note("begin", tag)
    await asyncio.sleep(0)
    raise ValueError(tag)


def has_happened(tag: str, milliseconds: int) -> Done[tuple[str, int]] | None:
    return Done((tag, value_of(tag))) if books.happened(tag) else None


@step(once=True, verify=has_happened)
async def happens_once(tag: str, milliseconds: int) -> tuple[str, int]:
    note("begin", tag)
    await asyncio.sleep(milliseconds / 1000)
    note("effect", tag)
    return tag, value_of(tag)


@workflow(name="perdure.torture")
async def runs(program: list[Any], total: int) -> int:
    """Execute a program, going on from a total."""
    for kind, tag, more in program:
        if kind == "next":
            perdure.continue_as(runs(more, total))
        total = fold(total, await _carry_out(kind, tag, more))
    return total


@workflow(name="perdure.torture.failing")
async def runs_and_fails(program: list[Any], why: str) -> None:
    """Execute a program, and fail."""
    await runs_here(program)
    raise ValueError(why)


@workflow(name="perdure.torture.waiting")
async def waits_for_ever(tag: str) -> None:
    """Wait for what never comes."""
    await perdure.receive(tag, int)


async def _carry_out(kind: str, tag: str, more: Any) -> int:
    match kind:
        case "step":
            return _seen(await works(tag, more))
        case "thread":
            return _seen(await works_in_a_thread.with_options(key=tag)(tag, more))
        case "flaky":
            return _seen(await comes_third(tag))
        case "once":
            return _seen(await happens_once(tag, more))
        case "fails":
            try:
                await fails(tag)
            except ValueError as error:
                return _seen((str(error), value_of(str(error))))
        case "sleep":
            began = perdure.now()
            await asyncio.sleep(more / 1000)
            books.waited(tag, more / 1000, (perdure.now() - began).total_seconds())
        case "hurry":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(more / 1000):
                    await asyncio.sleep(3600)
        case "message":
            return await perdure.receive(tag, int)
        case "child":
            return await runs(more, 0)
        case "give up":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(more / 1000):
                    await works(tag, 3_600_000)
        case "failing child":
            try:
                await runs_and_fails(more, tag)
            except RunFailed as error:
                return value_of(str(error.__cause__))
        case "called off":
            waiting = await perdure.start(waits_for_ever(tag))
            await waiting.cancel()
            with contextlib.suppress(RunCancelled):
                await waiting.result()
        case "told":
            child = await perdure.start(runs([["message", tag, 0]], 0))
            await child.send(tag, value_of(tag))
            return await child.result()
        case "tidy":
            try:
                return await runs_here(more)
            except asyncio.CancelledError:
                books.sees((await works(f"{tag}/tidied", 0))[0])
                raise
        case "never":
            await perdure.receive(tag, int)
        case "mostly":
            tried = await perdure.map(_works_or_fails, more, concurrency=2, max_failures=len(more))
            return sum(one[1] for one in tried.results if one is not None) + tried.succeeded + tried.failed
        case "together":
            return sum(await asyncio.gather(*(runs_here(part) for part in more)))
        case "many":
            done = await perdure.map(_works_at_once, more, concurrency=3)
            return sum(one[1] for one in done.results if one is not None)
        case _:
            return await others[kind](tag, more)
    return value_of(tag)


def _seen(outcome: tuple[str, int]) -> int:
    books.sees(outcome[0])
    return outcome[1]


async def runs_here(program: list[Any]) -> int:
    """Execute a program within the run."""
    total = 0
    for kind, tag, more in program:
        total = fold(total, await _carry_out(kind, tag, more))
    return total


async def _works_or_fails(tag: str) -> tuple[str, int]:
    if is_to_fail(tag):
        await fails(tag)
    return await _works_at_once(tag)


async def _works_at_once(tag: str) -> tuple[str, int]:
    outcome = await works(tag, 0)
    books.sees(outcome[0])
    return outcome


@step
async def kills(kind: str) -> None:
    """Takes its worker down: at once, as a fault in C code does, or by never letting the event loop go."""
    match kind:
        case "exits":
            os._exit(3)
        case "crashes":
            ctypes.string_at(0)
        case _:
            while True:
                pass


@workflow(name="perdure.torture.deadly")
async def deadly(kind: str, tag: str) -> None:
    """Records something, and kills whoever drives it from then on."""
    await works(tag, 1)
    await kills(kind)


async def serve(url: str, lease: float, max_recoveries: int) -> None:
    """Be a worker until SIGTERM, or until whoever started it is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin.fileno(), stop.set)  # nobody writes there: it has been closed
    async with Engine(url, lease=lease, max_recoveries=max_recoveries):
        ready_file(Path(os.environ[BOOKS]), os.getpid()).touch()
        await stop.wait()


def main() -> None:
    """Be the program."""
    os.environ[BOOKS] = sys.argv[2]
    asyncio.run(serve(sys.argv[1], float(sys.argv[3]), int(sys.argv[4])))
