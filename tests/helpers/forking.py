"""Runs programs in forked processes that die at a chosen commit, as `kill -9` would have it there.

A server on standard input and output: each line is an order (JSON), each answer a line. It has everything
imported and no threads, so a fork is cheap: hundreds of deaths take seconds. The dying process has a real
SQLite file; nothing of it is cleaned up.

What it counts as a boundary is a commit that changed something: every event, message and state of the engine
becomes durable by one, so a death just before or just after each of them is a death at every event boundary.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import apsw

# All this is imported before the forks, so that none of them has to do it again.
import perdure
import perdure.ai
import perdure.cli.app
import perdure.runtime.worker  # an engine imports it when it starts one
from perdure.codec.blobrefs import decode_ref, is_ref, ref_to
from perdure.codec.events import decode_event
from perdure.runtime.steps import Attempt, StepExecutor
from perdure.storage.blobs.places import place_of
from perdure.storage.sqlite.database import Database

#: What some programs import, and takes seconds. Without it a fork is four times as cheap.
FRAMEWORKS = (
    "agents.testing",
    "anyio._backends._asyncio",
    "fastapi",
    "genai_prices.data",
    "langchain.agents",
    "langchain_core.tracers.context",
    "langchain_core.tracers.stdout",
    "langgraph.func",
    "perdure.integrations.langgraph",
    "perdure.integrations.openai_agents",
    "perdure.integrations.pydantic_ai",
    "pydantic_ai.mcp",
    "pydantic_ai.models.function",
    "pydantic_ai.models.test",
)

DEATH = 137  # what a shell says of a process that was killed by signal 9
PATIENCE = 60.0


class Order:
    """What one process is to do.

    Args:
        die_at: number of the commit at which it dies, 0 for never.
        before: it dies before that commit is done, else right after it.
        temporary: its temporary files are in its folder, too.
    """

    def __init__(self, script: str, folder: str, die_at: int, before: bool, temporary: bool) -> None:
        self.script = script
        self.folder = Path(folder)
        self.die_at = die_at
        self.before = before
        self.temporary = temporary


def install(order: Order) -> list[int]:
    """In the child: count commits, die at the chosen one, and keep a ledger of the bodies that begin."""
    commits = [0]
    real_begin, real_commit, real_start = Database.begin, Database.commit, StepExecutor._begin
    changes: dict[int, int] = {}
    ledger = os.open(order.folder / "ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def begin(self: Database, kind: str = "BEGIN IMMEDIATE") -> None:
        real_begin(self, kind)
        changes[id(self)] = self.connection.total_changes()

    def commit(self: Database) -> None:
        if self.connection.total_changes() == changes.get(id(self)):
            real_commit(self)
            return
        commits[0] += 1
        if commits[0] == order.die_at and order.before:
            os._exit(DEATH)
        real_commit(self)
        if commits[0] == order.die_at:
            os._exit(DEATH)

    def start(self: StepExecutor, attempt: Attempt) -> None:
        run: Any = attempt.run
        generation = run.machine.started.generation
        os.write(ledger, f"{attempt.run.id}\t{generation}\t{attempt.operation.id}\n".encode())
        real_start(self, attempt)

    Database.begin, Database.commit = begin, commit  # type: ignore[method-assign]
    StepExecutor._begin = start  # type: ignore[method-assign]
    return commits


def child(order: Order) -> None:
    """Be the program, and never return."""
    code = 1
    try:
        os.chdir(order.folder)
        if order.temporary:
            os.environ["TMPDIR"] = tempfile.tempdir = str(order.folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, number)
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False)
        commits = install(order)
        sys.argv = [order.script]
        runpy.run_path(order.script, run_name="__main__")
        sys.stdout.flush()
        Path("commits").write_text(str(commits[0]))
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)


def run(order: Order) -> dict[str, Any]:
    """Run a program in a process of its own and tell how that ended."""
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        child(order)
    deadline = time.monotonic() + PATIENCE
    status = 0
    hung = False
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline and not hung:
            hung = True
            os.kill(process, signal.SIGKILL)
        time.sleep(0.003)
    folder = order.folder
    return {
        "code": os.waitstatus_to_exitcode(status),
        "hung": hung,
        "stdout": (folder / "stdout").read_text(),
        "stderr": (folder / "stderr").read_text(),
        "ledger": (folder / "ledger").read_text().splitlines() if (folder / "ledger").exists() else [],
        "commits": int((folder / "commits").read_text()) if (folder / "commits").exists() else 0,
    }


def of_blob(folder: Path, reference: bytes) -> bytes:
    """An event that is kept as a blob, which has to be there and be whole."""
    ref = decode_ref(reference)
    data = place_of(str(folder / "blobs")).get(ref.folder, ref.name)
    assert data is not None
    assert ref_to(data, ref.folder) == ref
    return data


def look(folder: Path) -> dict[str, Any]:
    """Everything about the runs in a folder's database: by run, its status, result and recorded steps."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.db")):
        connection = apsw.Connection(str(path))
        # The next process is to meet the log as the dead one left it.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        try:
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'runs'").fetchall():
                continue
            rows = connection.execute(
                "SELECT run, id, workflow, status, generation FROM runs ORDER BY run"
            ).fetchall()
            for key, id, workflow, status, generation in rows:
                history = [
                    decode_event(of_blob(folder, data) if is_ref(data) else data)
                    for (data,) in connection.execute(
                        "SELECT data FROM events WHERE run = ? ORDER BY seq", (key,)
                    )
                ]
                steps = [
                    event.step
                    for event in history
                    if isinstance(event, perdure.events.StepCompleted | perdure.events.StepFailed)
                ]
                last = history[-1]
                result = last.result if isinstance(last, perdure.events.RunCompleted) else None
                found[f"{path.name}:{id}:{key}"] = {
                    "id": id,
                    "generation": generation,
                    "workflow": workflow,
                    "status": status,
                    "steps": steps,
                    "result": None if result is None else result.decode(),
                }
        finally:
            connection.close()
    return found


def certificates_are_loaded_once() -> None:
    """Each client of a provider would load those that are trusted, 50 ms each time, and here all is local."""
    ssl.create_default_context = functools.cache(ssl.create_default_context)
    with contextlib.suppress(ImportError):
        import httpx

        httpx.Client().close()


def main(frameworks: bool) -> None:
    for name in FRAMEWORKS if frameworks else ():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if frameworks:
        certificates_are_loaded_once()
    gc.collect()
    gc.freeze()  # a collection in a fork needn't look at (so copy) what all have in common
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "look":
            answer = look(Path(order["folder"]))  # every database is closed again before the next fork
        else:
            del order["do"]
            answer = run(Order(**order))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    answers.close()


if __name__ == "__main__":
    main(frameworks="--frameworks" in sys.argv)
