"""Migrations happen once, whoever is killed meanwhile, and code of several ages works with one database."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from migration_kit import EXPAND, FILL, TODAY, Ground

import perdure
from helpers.postgres import Server
from perdure.errors import ConfigurationError, NewerSchemaError, OlderWorkersError, StoreUnavailableError
from perdure.storage.migrate import load_migrations
from perdure.storage.postgres import migrating
from perdure.testing.conformance.bench import Bench

PATIENCE = 60.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "postgres"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Ground:
    if request.param == "sqlite":
        return Ground(f"sqlite:///{tmp_path / 'test.db'}", tmp_path)
    server: Server = request.getfixturevalue("server")
    return Ground(server.url(server.new_database()), tmp_path)


@pytest.fixture
def on_postgres(server: Server, tmp_path: Path) -> Ground:
    return Ground(server.url(server.new_database()), tmp_path)


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it doesn't come true"
        await asyncio.sleep(0.01)


# -- who may open what --------------------------------------------------------------------------------


def test_code_of_before_opens_a_schema_that_allows_it(ground: Ground) -> None:
    asyncio.run(ground.open_and_close(TODAY))
    new = ground.add(EXPAND)
    asyncio.run(ground.open_and_close())
    assert ground.version() == new
    assert "colour" in ground.columns()
    asyncio.run(ground.open_and_close(TODAY))
    assert ground.version() == new


def test_older_code_is_refused_with_what_to_do(ground: Ground) -> None:
    asyncio.run(ground.open_and_close(TODAY))
    ground.add(EXPAND)
    ground.add("SELECT 2;", oldest=TODAY + 1)
    asyncio.run(ground.open_and_close())
    asyncio.run(ground.open_and_close(TODAY + 1))
    with pytest.raises(
        NewerSchemaError, match=rf"schema version {TODAY + 2}.*up to {TODAY}.*Upgrade Perdure"
    ):
        asyncio.run(ground.open_and_close(TODAY))


def test_the_newest_migration_tells_who_may_use_the_schema(ground: Ground) -> None:
    """It was made knowing the ones before; an older one may have been meant for longer."""
    ground.add("SELECT 2;", oldest=TODAY)
    ground.add("SELECT 3;", oldest=TODAY)
    asyncio.run(ground.open_and_close())
    asyncio.run(ground.open_and_close(TODAY))


def test_a_new_database_gets_all_of_them(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    """Without telling of each."""
    caplog.set_level("INFO")
    ground.add(EXPAND)
    new = ground.add(FILL, in_steps=True)
    asyncio.run(ground.open_and_close())
    assert ground.version() == new
    assert "migrating" not in caplog.text
    later = ground.add("SELECT 2;")
    asyncio.run(ground.open_and_close())
    assert f"migrating to schema version {later}" in caplog.text


def test_live_workers_that_couldnt_go_on_stop_a_migration(ground: Ground) -> None:
    ground.add("SELECT 2;")
    ground.add(EXPAND, oldest=TODAY + 1)

    async def main() -> None:
        async with ground.engine(TODAY, name="old-one"):
            with pytest.raises(
                OlderWorkersError, match=rf"old-one is up.*only version {TODAY}.*Stop the old workers"
            ):
                await ground.open_and_close()
        assert "colour" not in ground.columns()
        async with ground.engine(TODAY + 1):  # newer ones don't
            await ground.open_and_close()
        assert ground.version() == TODAY + 2

    asyncio.run(main())


def test_dead_workers_stop_nothing(ground: Ground) -> None:
    ground.add(EXPAND)
    ground.add("SELECT 2;", oldest=TODAY + 1)

    async def main() -> None:
        bench = Bench(lambda: ground.store(TODAY))
        await bench.open()
        await bench.worker()  # whose lease was over long ago
        await bench.close()
        await ground.open_and_close()

    asyncio.run(main())
    assert ground.version() == TODAY + 2


# -- side by side -------------------------------------------------------------------------------------


@perdure.step
async def add(number: int) -> int:
    return number + 1


@perdure.workflow
async def rounds(number: int) -> int:
    total = 0
    for _ in range(number):
        total = await add(total)
        await perdure.receive("go")
    return total


@pytest.mark.parametrize("in_steps", [False, True], ids=["whole", "in-steps"])
def test_old_and_new_workers_drive_runs_while_the_schema_changes(ground: Ground, in_steps: bool) -> None:
    """Every run goes on through the migration, on whichever worker it is."""
    if in_steps:
        ground.add(EXPAND)
        ground.add(FILL, in_steps=True)
    else:
        ground.add(EXPAND)

    async def main() -> None:
        async with ground.engine(TODAY) as old:
            before = await old.start_many([rounds(6) for _ in range(40)])
            stop = asyncio.Event()

            async def press() -> None:
                while not stop.is_set():
                    await asyncio.sleep(0.1)
                    await asyncio.gather(
                        *(handle.send("go", None) for handle in before), return_exceptions=True
                    )

            pressing = asyncio.create_task(press())
            async with ground.engine() as new:  # it migrates
                assert ground.version() == TODAY + 1 + in_steps
                after = await new.start_many([rounds(2) for _ in range(20)])
                later = await old.start_many([rounds(2) for _ in range(20)])
                for handle in (*after, *later) * 2:
                    await handle.send("go", None)
                results = [await handle.result(timeout=PATIENCE) for handle in (*after, *later, *before)]
                stop.set()
                await pressing
                assert results == [2] * 40 + [6] * 40
                if in_steps:
                    filled = {id for (id,) in ground.query("SELECT id FROM runs WHERE colour = 'blue'")}
                    assert filled >= {handle.id for handle in before}
            late = await old.start(rounds(0))  # the new one has gone again
            assert await late.result(timeout=PATIENCE) == 0

    asyncio.run(main())


# -- many, and killed ---------------------------------------------------------------------------------

OPENS = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from migration_kit import Ground

ground = Ground.__new__(Ground)
ground.url, ground.kind, ground.path, ground.folder = (
    sys.argv[1], "postgres" if sys.argv[1].startswith("post") else "sqlite",
    sys.argv[1].removeprefix("sqlite:///"), Path(sys.argv[2]),
)
print("begins", flush=True)
asyncio.run(ground.open_and_close())
print("done", flush=True)
"""


def process(ground: Ground) -> subprocess.Popen[str]:
    """Another process with the newest code, which opens the database and leaves."""
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", OPENS, ground.url, str(ground.folder), here]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def fill(ground: Ground, rows: int) -> None:
    """Runs from before."""

    async def main() -> None:
        bench = Bench(lambda: ground.store(TODAY))
        await bench.open()
        await bench.store.create([bench.new(f"r{number}") for number in range(rows)])
        await bench.close()

    asyncio.run(main())


def test_processes_that_migrate_at_once_do_it_once(ground: Ground) -> None:
    fill(ground, 200)
    ground.add(EXPAND)
    ground.add(FILL, in_steps=True)
    ground.add(
        "CREATE TABLE perdure.once (x int);"
        if ground.kind == "postgres"
        else "CREATE TABLE once (x INTEGER);"
    )
    processes = [process(ground) for _ in range(4)]
    told = [one.communicate(timeout=PATIENCE) for one in processes]
    assert told == [("begins\ndone\n", "")] * 4
    assert ground.version() == TODAY + 3
    assert ground.query("SELECT count(*) FROM runs WHERE colour IS NULL") == [(0,)]


def test_a_process_that_is_killed_in_the_middle_of_the_filling(ground: Ground) -> None:
    """What it has done stays done, the version doesn't change, and the next one goes on."""
    fill(ground, 4_000)
    ground.add(EXPAND)
    ground.add(FILL, in_steps=True)

    def filled() -> int:
        if "colour" not in ground.columns():
            return 0
        return int(ground.query("SELECT count(*) FROM runs WHERE colour IS NOT NULL")[0][0])

    one = process(ground)
    asyncio.run(until(lambda: filled() > 0))
    one.send_signal(signal.SIGKILL)
    one.communicate(timeout=PATIENCE)
    assert 0 < filled() < 4_000, "it was killed in the middle"
    assert ground.version() == TODAY + 1
    asyncio.run(ground.open_and_close(TODAY))  # code of before still works
    asyncio.run(ground.open_and_close())
    assert filled() == 4_000
    assert ground.version() == TODAY + 2


def test_a_migration_as_a_whole_that_fails_leaves_nothing(ground: Ground) -> None:
    asyncio.run(ground.open_and_close(TODAY))
    ground.add(EXPAND[ground.kind] + "\nSELECT no_such_thing;")
    with pytest.raises(Exception, match="no_such_thing"):
        asyncio.run(ground.open_and_close())
    assert ground.version() == TODAY
    assert "colour" not in ground.columns()


# -- PostgreSQL: nobody is held up --------------------------------------------------------------------


def test_a_long_transaction_delays_the_migration_and_nobody_else(on_postgres: Ground) -> None:
    """A waiting ALTER TABLE would hold up whoever comes after it."""
    ground = on_postgres
    fill(ground, 10)
    ground.add(EXPAND)

    async def main() -> None:
        async with ground.engine(TODAY) as old:
            async with await psycopg.AsyncConnection.connect(ground.url) as reader:
                await reader.execute("SELECT count(*) FROM perdure.runs")  # and it stays in its transaction
                opening = asyncio.create_task(ground.open_and_close())
                for _ in range(20):
                    handle = await old.start(rounds(1))
                    await handle.send("go", None)
                    assert await handle.result(timeout=PATIENCE) == 1
                    await asyncio.sleep(0.05)
                assert not opening.done()
                assert ground.version() == TODAY
            await opening
            assert ground.version() == TODAY + 1

    asyncio.run(main())


def test_a_transaction_that_never_ends_is_told_of(
    on_postgres: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "PATIENCE", 0.5)
    fill(on_postgres, 1)
    on_postgres.add(EXPAND)
    with psycopg.connect(on_postgres.url) as reader:
        reader.execute("SELECT count(*) FROM perdure.runs")
        with pytest.raises(
            StoreUnavailableError, match=r"other transactions were in the way.*pg_stat_activity"
        ):
            asyncio.run(on_postgres.open_and_close())
    asyncio.run(on_postgres.open_and_close())


def test_an_index_that_was_left_half_built_is_built_anew(on_postgres: Ground) -> None:
    """Killing the server's process in the middle of it leaves an index that isn't valid."""
    ground = on_postgres
    fill(ground, 10)
    ground.add(EXPAND)
    ground.add(FILL, in_steps=True)

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(ground.url) as writer:
            await ground.open_and_close(TODAY + 1)
            await writer.execute("UPDATE perdure.runs SET reason = NULL")  # the index waits for this
            opening = asyncio.create_task(ground.open_and_close())
            await until(lambda: bool(ground.query(BUILDING)))
            ground.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%'"
            )
            with pytest.raises(StoreUnavailableError):
                await opening
            assert ground.query(INVALID) == [("runs_colour",)]
        await ground.open_and_close()
        assert ground.query(INVALID) == []
        assert ground.version() == TODAY + 2

    asyncio.run(main())


BUILDING = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock'"
INVALID = "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE NOT indisvalid"


# -- files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["", "-- oldest code: 0", "-- oldest code: 2", "-- oldest code: two"])
def test_a_migration_must_say_who_may_go_on(tmp_path: Path, head: str) -> None:
    """And nobody who knows the one before may be left out."""
    (tmp_path / "0001_first.sql").write_text("SELECT 1;")
    (tmp_path / "0002_second.sql").write_text(f"{head}\nSELECT 2;")
    with pytest.raises(
        ConfigurationError, match=r"0002_second\.sql must say.*'-- oldest code: N'.*from 1 to 1"
    ):
        load_migrations(tmp_path)


def test_steps_are_read_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text(
        "-- oldest code: 1\n-- in steps\n\n-- What for.\nALTER TABLE a\n  ADD b text; \n"
        "-- repeat\nUPDATE a SET b = ';'\n;"
    )
    (migration,) = load_migrations(tmp_path)
    assert [(step.sql, step.repeats) for step in migration.steps] == [
        ("ALTER TABLE a\n  ADD b text", False),
        ("UPDATE a SET b = ';'\n", True),
    ]
