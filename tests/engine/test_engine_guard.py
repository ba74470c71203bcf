"""Workflow code that does I/O is told where and what instead; what only looks like I/O, and steps, go free."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_kit import Place, run, works

from perdure import RunFailed, step, workflow
from perdure.errors import ForbiddenInWorkflowError

FORBIDDEN: dict[str, Callable[[], Any]] = {
    "open": lambda: open(__file__, encoding="utf-8"),
    "path": lambda: Path(__file__).read_text(encoding="utf-8"),
    "socket": lambda: socket.socket(),
    "lookup": lambda: socket.getaddrinfo("localhost", 80),
    "subprocess": lambda: subprocess.run(["true"], check=True),
    "system": lambda: os.system("true"),
    "listdir": lambda: os.listdir("."),
    "thread": lambda: threading.Thread(target=print).start(),
    "to_thread": lambda: asyncio.get_running_loop().run_in_executor(None, print),
}


@workflow
async def does(what: str) -> str:
    FORBIDDEN[what]()
    return "done"


@workflow(guard=False)
async def does_unguarded(what: str) -> str:
    FORBIDDEN[what]()
    return "done"


@step
async def does_in_a_step(what: str) -> str:
    FORBIDDEN[what]()
    return "done"


@step
def does_in_a_sync_step(what: str) -> str:
    FORBIDDEN[what]()
    return "done"


@workflow
async def leaves_it_to_steps(what: str) -> list[str]:
    return [await does_in_a_step(what), await does_in_a_sync_step(what)]


@pytest.mark.parametrize("what", sorted(FORBIDDEN))
def test_io_in_workflow_code_fails_the_run_with_the_line_and_what_to_do(memory: Place, what: str) -> None:
    if what == "thread" and sys.version_info < (3, 12):
        pytest.skip("this Python reports no such event")

    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(RunFailed, match=r"@?step") as info:
                await engine.run(does(what), id="a")
            assert isinstance(info.value.__cause__, ForbiddenInWorkflowError)
            if what != "to_thread":
                line = FORBIDDEN[what].__code__.co_firstlineno
                assert f"{__file__}:{line}" in str(info.value)
            await works(engine)

    run(main)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", ["open", "socket", "subprocess", "system", "listdir"])
def test_the_guard_can_be_switched_off_and_steps_are_free(memory: Place, what: str) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(does_unguarded(what)) == "done"
            assert await engine.run(leaves_it_to_steps(what)) == ["done", "done"]

    run(main)


@workflow
async def catches(what: str) -> str:
    try:
        FORBIDDEN[what]()
    except ForbiddenInWorkflowError:
        return await does_in_a_step(what)
    return "it went through"


def test_the_error_can_be_caught_and_the_run_goes_on(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(catches("system"), id="a") == "done"

    run(main)


LOG = logging.getLogger("engine_guard_test")


@workflow
async def looks_like_io() -> list[str]:
    sys.modules.pop("colorsys", None)
    import colorsys  # an import opens files

    LOG.warning("from workflow code")
    try:
        raise ValueError("seen")
    except ValueError:
        text = traceback.format_exc()  # reads source lines from files
    return [colorsys.__name__, text]


def test_imports_logging_to_a_file_and_tracebacks_work_in_workflow_code(
    memory: Place, tmp_path: Path
) -> None:
    handler = logging.FileHandler(tmp_path / "log.txt", delay=True)  # opens its file at the first record
    LOG.addHandler(handler)

    async def main() -> None:
        async with memory.engine() as engine:
            name, text = await engine.run(looks_like_io())
            assert name == "colorsys"
            assert 'raise ValueError("seen")' in text

    try:
        run(main)
    finally:
        LOG.removeHandler(handler)
        handler.close()
    assert (tmp_path / "log.txt").read_text() == "from workflow code\n"


def test_other_threads_are_not_guarded_while_workflow_code_runs(memory: Place) -> None:
    @workflow(name="guard.busy")
    async def busy() -> int:
        return sum(range(3_000_000))

    def reads() -> int:
        return sum(len(Path(__file__).read_bytes()) > 0 for _ in range(300))

    async def main() -> None:
        async with memory.engine() as engine:
            reading = asyncio.to_thread(reads)
            results = await asyncio.gather(reading, *(engine.run(busy()) for _ in range(3)))
            assert results[0] == 300

    run(main)
