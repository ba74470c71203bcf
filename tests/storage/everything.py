"""Every kind of job for a store on SQLite, and whether the file is sound afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import apsw

from perdure.storage.records import Appended
from perdure.testing.conformance.bench import NOW, Bench


async def everything_once(bench: Bench, fault: Callable[[], object]) -> None:
    """Every kind of job, one at a time, each under a fault that leaves its outcome in doubt."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    free = await bench.make("free")

    fault()
    (created,) = await bench.store.create([bench.new("new", owner=worker)])
    assert created.new
    fault()
    assert await bench.store.send("r", b"hello", now=NOW) == "delivered"
    assert await bench.inbox(row) == [b"hello"]
    fault()
    assert await bench.append(row, b"2") == Appended(2)
    fault()
    (claimed,) = await bench.claim(worker)
    assert (claimed.id, claimed.epoch) == ("free", free.epoch + 1)
    row = await bench.row("r")
    fault()
    answer = await bench.append(row, b"3", status="waiting", children=[bench.new("child", owner=worker)])
    assert isinstance(answer, Appended)
    assert [epoch for _, epoch in answer.children] == [1]
    fault()
    answer = await bench.append(await bench.row("r"), b"4", children=[bench.new("child", owner=worker)])
    assert isinstance(answer, Appended)
    assert [epoch for _, epoch in answer.children] == [0], "it existed before"
    fault()
    second = await bench.worker()
    assert second == worker + 1
    fault()
    assert await bench.store.bury(second, NOW + 15, now=NOW, max_recoveries=3) == 0
    fault()
    assert await bench.store.terminate("child", b"terminated", now=NOW) == "delivered"
    fault()
    # Two appends and a message at once: one transaction.
    answers = await asyncio.gather(
        bench.store.append([bench.change(created.row, b"2")]),
        bench.store.send("r", b"again", now=NOW),
        bench.store.append([bench.change(claimed, b"2")]),
    )
    assert answers == [[Appended(2)], "delivered", [Appended(2)]]

    assert list(await bench.history(row)) == [b"first", b"2", b"3", b"4"]
    assert [row.name for row in await bench.store.workers()] == ["w"]
    for name, seq in (("r", 4), ("new", 2), ("free", 2), ("child", 2)):
        assert (await bench.row(name)).seq == seq
    assert await bench.inbox(row) == [b"hello", b"again"]


def is_sound(path: Path) -> bool:
    connection = apsw.Connection(str(path))
    try:
        return (
            connection.pragma("integrity_check") == "ok"
            and connection.execute("SELECT count(*) FROM runs").get
            == connection.execute("SELECT count(*) FROM events WHERE seq = 1").get
            and connection.execute("SELECT sum(seq) FROM runs").get
            == connection.execute("SELECT count(*) FROM events").get
            and connection.execute("SELECT sum(mail) FROM runs").get
            == connection.execute("SELECT count(*) FROM inbox").get
        )
    finally:
        connection.close()
