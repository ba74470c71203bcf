"""How SQLite takes appends of many runs: while the loop goes on, and as one statement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from perdure.core.status import Status
from perdure.errors import DatabaseMovedError
from perdure.storage.records import Append, Appended, Stale
from perdure.storage.sqlite import SqliteStore, appends
from perdure.testing.conformance.bench import Bench

#: What tells a transaction that SQLite was asked for from one that it makes of a single statement.
BOUNDS = ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")


def with_bench(path: Path, check: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench(lambda: SqliteStore(str(path)))
        await bench.open()
        try:
            await check(bench)
        finally:
            await bench.close()

    asyncio.run(main())


async def changes(bench: Bench, number: int, **more: Any) -> list[Append]:
    worker = await bench.worker()
    rows = [await bench.make(f"r{n}", owner=worker) for n in range(number)]
    return [bench.change(row, b"x", **more) for row in rows]


def test_a_batch_is_written_while_the_loop_is_busy(tmp_path: Path) -> None:
    async def check(bench: Bench) -> None:
        batch = await changes(bench, 2)
        others = apsw.Connection(str(tmp_path / "runs.db"))
        future = bench.store.append(batch)
        deadline = time.monotonic() + 60
        while others.execute("SELECT count(*) FROM events WHERE data = x'78'").get != 2:
            assert time.monotonic() < deadline, "the batch waits for the loop's next turn"
            time.sleep(0.001)
        assert not future.done()
        assert await future == [Appended(2), Appended(2)]
        others.close()

    with_bench(tmp_path / "runs.db", check)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement of every connection, those of triggers aside."""
    statements: list[str] = []

    def watch(connection: apsw.Connection) -> None:
        def on_statement(event: dict[str, Any]) -> None:
            if not event.get("trigger"):
                statements.append(event["sql"])

        connection.trace_v2(apsw.SQLITE_TRACE_STMT, on_statement)

    monkeypatch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, watch])
    return statements


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("more", [{}, {"status": Status.COMPLETED.value}], ids=["steps", "ends"])
def test_plain_appends_are_one_statement(
    tmp_path: Path, said: list[str], number: int, more: dict[str, Any]
) -> None:
    async def check(bench: Bench) -> None:
        batch = await changes(bench, number, **more)
        said.clear()
        assert await bench.store.append(batch) == [Appended(2)] * number
        writing = [text for text in said if "INSERT" in text or text in BOUNDS]
        assert len(writing) == 1
        assert writing[0].startswith("INSERT INTO")

    with_bench(tmp_path / "runs.db", check)


def test_a_stale_append_of_a_wave_has_no_effect_and_the_others_have(tmp_path: Path, said: list[str]) -> None:
    async def check(bench: Bench) -> None:
        batch = await changes(bench, 3)
        assert await bench.store.append([batch[1]]) == [Appended(2)]
        row = await bench.row("r1")
        batch[1] = Append(row.run, 1, row.epoch, bench.next_attempt(), [b"y"], row.updated_at, batch[1].links)
        said.clear()
        assert await bench.store.append(batch) == [Appended(2), Stale(2, row.epoch), Appended(2)]
        assert [text for text in said if text in BOUNDS] == ["BEGIN IMMEDIATE", "COMMIT"]
        assert await bench.history(row) == [b"first", b"x"]

    with_bench(tmp_path / "runs.db", check)


def test_large_batches_are_several_statements_of_one_transaction(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appends, "_WAVE_BYTES", 1)

    async def check(bench: Bench) -> None:
        batch = await changes(bench, 3)
        said.clear()
        assert await bench.store.append(batch) == [Appended(2)] * 3
        assert len([text for text in said if text.startswith("INSERT INTO")]) == 3
        assert [text for text in said if text in BOUNDS] == ["BEGIN IMMEDIATE", "COMMIT"]

    with_bench(tmp_path / "runs.db", check)


@pytest.mark.parametrize("children", [False, True], ids=["at-once", "in-a-transaction"])
def test_a_file_that_goes_while_a_wave_waits_for_the_lock_acknowledges_nothing(
    tmp_path: Path, said: list[str], children: bool
) -> None:
    path, away = tmp_path / "runs.db", tmp_path / "away.db"

    async def check(bench: Bench) -> None:
        batch = await changes(bench, 2)
        if children:
            batch[0] = msgspec.structs.replace(batch[0], children=[bench.new("child")])
        others = apsw.Connection(str(path))
        others.execute("BEGIN IMMEDIATE")
        said.clear()
        future = bench.store.append(batch)
        while not any(text.startswith(("INSERT INTO wave", "BEGIN")) for text in said):
            await asyncio.sleep(0.001)
        path.rename(away)
        others.execute("ROLLBACK")
        others.close()
        with pytest.raises(DatabaseMovedError):
            await future
        away.rename(path)

    with_bench(path, check)
