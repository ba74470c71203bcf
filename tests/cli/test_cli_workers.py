"""`perdure workers` and `perdure worker`: what is told of the processes that drive runs."""

from __future__ import annotations

import asyncio
import os
import re
import time
from typing import Any

import pytest

from perdure.runtime.liveness import born, host_identity
from perdure.storage.urls import store_for
from perdure.storage.workers import Heartbeat, WorkerRow


def registered(url: str, *rows: tuple[WorkerRow, Heartbeat]) -> None:
    async def register() -> None:
        store = store_for(url)
        await store.open()
        for row, beat in rows:
            await store.heartbeat(await store.register(row, now=beat.heard_at), beat)
        await store.close()

    asyncio.run(register())


def worker(name: str, host: str = "there|boot|ids", pid: int = 7, born: int = 0) -> WorkerRow:
    return WorkerRow(0, name, host, pid, born, 0.0, 0.0, ["default", "gpu"], ["app.research"], "v7")


def test_workers_are_listed_with_what_they_do(cli: Any) -> None:
    now, here = time.time(), host_identity()
    registered(
        cli.url,
        (worker("fine", here, os.getpid(), born(os.getpid())), Heartbeat(now + 900, now, 70, 12)),
        (worker("overdue"), Heartbeat(now + 300, now - 700)),
        (worker("leaves"), Heartbeat(now + 900, now, 1, 1, stopping=True)),
        (worker("lapsed"), Heartbeat(now - 1, now - 16, 5)),
        (worker("killed", here, 2**22 + 1, 1), Heartbeat(now + 900, now)),
    )
    found = {row["name"]: row for row in cli("workers", "--json").json}
    assert {name: row["state"] for name, row in found.items()} == {
        "fine": "alive",
        "overdue": "late",
        "leaves": "stopping",
        "lapsed": "gone",
        "killed": "gone",
    }
    fine = found["fine"]
    assert (fine["runs"], fine["steps"], fine["version"], fine["pid"]) == (70, 12, "v7", os.getpid())
    assert (fine["queues"], fine["workflows"]) == (["default", "gpu"], ["app.research"])
    assert (fine["host"], found["overdue"]["host"]) == (here.partition("|")[0], "there")
    title, *lines = cli("workers").out.splitlines()
    assert title.split() == "name state version runs steps since last heartbeat queues workflows".split()
    assert lines[0].split()[:5] == ["fine", "alive", "v7", "70", "12"]
    assert "default, gpu" in lines[0]
    assert re.search(r"11 min 4\d s ago", lines[1])  # the machine may be busy


@pytest.mark.parametrize("option", [("--lease", "0"), ("--queues", " , ")])
def test_a_worker_refuses_what_makes_no_sense(cli: Any, option: tuple[str, str]) -> None:
    assert option[0].strip("-") in cli.fails("worker", "flows", *option)
