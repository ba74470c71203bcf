"""`perdure backup` and `perdure restore`: copies are whole, and nobody of before writes into what they become."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from pathlib import Path

import apsw
import pytest

from conftest import Cli
from perdure import Engine, Status, events, idempotency_key, receive, step, step_info, workflow

BODIES: Counter[str] = Counter()
KEYS: dict[str, set[str]] = {}


@step
async def charge(amount: int) -> int:
    BODIES[f"{step_info().run_id}:{amount}"] += 1
    KEYS.setdefault(f"{step_info().run_id}:{amount}", set()).add(idempotency_key())
    return amount


@workflow
async def order(first: int, second: int) -> int:
    total = await charge(first)
    await receive("go", bool)
    return total + await charge(second)


@workflow
async def ships(count: int) -> int:
    return sum([await charge(number) for number in range(count)])


@pytest.fixture(autouse=True)
def fresh() -> None:
    BODIES.clear()
    KEYS.clear()


async def waits(engine: Engine, id: str) -> None:
    async with asyncio.timeout(60):
        while (await engine.get(id).info()).status != Status.WAITING:
            await asyncio.sleep(0.01)


def test_a_copy_while_workers_write(cli: Cli) -> None:
    """What had ended when the backup began is in the copy; and whatever is there is sound."""
    ended: list[str] = []
    stop = threading.Event()
    failures: list[BaseException] = []

    async def drive() -> None:
        async with Engine(cli.url) as engine:
            number = 0
            while not stop.is_set():
                await asyncio.gather(*(engine.run(ships(5), id=f"r{number}.{part}") for part in range(5)))
                ended.extend(f"r{number}.{part}" for part in range(5))
                number += 1

    def work() -> None:
        try:
            asyncio.run(drive())
        except BaseException as error:
            failures.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for copy in range(3):
            have = len(ended)
            while len(ended) < have + 5 and not failures:
                stop.wait(0.01)
            before = list(ended)
            outcome = cli("backup", str(cli.folder / f"copy{copy}.db"))
            assert outcome.code == 0, outcome.err
            assert "all sound" in outcome.err
            url = f"sqlite:///{cli.folder / f'copy{copy}.db'}"
            statuses = {
                run["id"]: run["status"] for run in cli("ls", "--json", "--limit", "10000", url=url).json
            }
            assert {statuses.get(id) for id in before} == {"completed"}
            assert cli("check", url=url).code == 0
    finally:
        stop.set()
        worker.join()
    assert not failures
    assert not list(cli.folder.glob("*.part*"))


def test_after_a_restore_nothing_runs_twice_silently(cli: Cli, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"

    async def before() -> None:
        async with Engine(cli.url) as engine:
            await engine.start(order(1, 2), id="o")
            await waits(engine, "o")
            assert await asyncio.to_thread(cli, "backup", str(copy)) is not None
            await engine.get("o").send("go", True)  # it goes on; the copy knows nothing of it
            assert await engine.get("o").result(timeout=60) == 3

    asyncio.run(before())
    assert BODIES == {"o:1": 1, "o:2": 1}
    restored = tmp_path / "restored.db"
    url = f"sqlite:///{restored}"
    outcome = cli("restore", str(copy), url=url)
    assert outcome.code == 0, outcome.err
    assert "1 live runs are paused" in outcome.err

    async def after() -> None:
        async with Engine(url) as engine:
            info = await engine.get("o").info()
            assert info.status == Status.PAUSED
            assert "restored from copy.db" in (info.reason or "")
            await engine.get("o").send("go", True)
            assert BODIES["o:2"] == 1, "it doesn't go on by itself"
            await engine.get("o").resume()
            assert await engine.get("o").result(timeout=60) == 3

    asyncio.run(after())
    assert BODIES == {"o:1": 1, "o:2": 2}, "what is recorded in the copy isn't done again"
    assert {len(keys) for keys in KEYS.values()} == {1}, "what is done again has the same key"


def test_workers_of_before_are_fenced(cli: Cli, tmp_path: Path) -> None:
    """One that still has a run in memory opens the restored file under the old name: it can't write there."""
    copy = tmp_path / "copy.db"

    async def scenario() -> None:
        async with Engine(cli.url) as old:
            await old.start(order(1, 2), id="o")
            await waits(old, "o")
            await asyncio.to_thread(cli, "backup", str(copy))
            path = Path(cli.url.removeprefix("sqlite:///"))
            away = tmp_path / "away"
            away.mkdir()
            for file in path.parent.glob(f"{path.name}*"):
                file.rename(away / file.name)
            outcome = await asyncio.to_thread(cli, "restore", str(copy), "--resume")
            assert outcome.code == 0, outcome.err
            writer = old._store._writer  # type: ignore[attr-defined]
            with writer._mutex:  # as after an I/O error, when the file is opened anew
                writer._disconnect()
                writer._keeper.close()
                writer._keeper = None
            async with Engine(cli.url) as new:
                await new.get("o").send("go", True)
                assert await new.get("o").result(timeout=60) == 3

    asyncio.run(scenario())
    assert BODIES["o:2"] == 1
    connection = apsw.Connection(cli.url.removeprefix("sqlite:///"))
    epochs = connection.execute("SELECT min(epoch) FROM runs").get
    assert epochs > 1_700_000_000_000
    connection.close()


@step(queue="backup-elsewhere")
async def far(amount: int) -> int:
    return amount * 10


@workflow
async def sends(amount: int) -> int:
    await receive("go")
    return await far(amount)


@pytest.mark.parametrize("options", [(), ("--resume",)])
def test_attempts_in_other_queues_are_held_and_let_go_with_their_runs(
    cli: Cli, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """With --resume nothing waits for a person; the histories tell all the same."""

    async def before() -> None:
        async with Engine(cli.url) as engine:
            await engine.start(sends(1), id="s")
            await engine.get("s").send("go", 1)
            while not [run async for run in engine.runs(errands=True) if run.id != "s"]:
                await asyncio.sleep(0.01)

    asyncio.run(before())
    assert cli("backup", str(tmp_path / "copy.db")).code == 0
    url = f"sqlite:///{tmp_path / 'restored.db'}"
    outcome = cli("restore", str(tmp_path / "copy.db"), *options, url=url)
    assert "1 attempts of their steps in other queues" in outcome.err
    assert ("go on once workers are there" in outcome.err) is bool(options)

    async def after() -> None:
        async with Engine(url, queues=["default", "backup-elsewhere"]) as engine:
            statuses = {run.status async for run in engine.runs(errands=True)}
            assert options or statuses == {Status.PAUSED}
            await engine.get("s").resume()
            assert await engine.get("s").result(timeout=60) == 10
            reasons = [e.reason async for e in engine.get("s").history() if isinstance(e, events.RunPaused)]
            assert reasons == ["it was restored from copy.db"]

    asyncio.run(after())


def test_schedules_of_a_restored_database_wait_too(cli: Cli, tmp_path: Path) -> None:
    """Runs that they started after the copy was made would be started again."""

    async def scheduled(engine: Engine) -> None:
        await engine.schedules.create("hourly", ships(1), cron="0 * * * *")
        await engine.schedules.create("held", ships(1), cron="0 * * * *")
        await engine.schedules.get("held").pause("mine")

    cli.within(scheduled)
    assert cli("backup", str(tmp_path / "copy.db")).code == 0
    for options, paused in (((), [True, "it was restored from copy.db"]), (("--resume",), [False, None])):
        url = f"sqlite:///{tmp_path / 'to' / str(len(options))}.db"
        (tmp_path / "to").mkdir(exist_ok=True)
        outcome = cli("restore", str(tmp_path / "copy.db"), *options, url=url)
        assert outcome.code == 0, outcome.err
        assert ("Schedules are paused" in outcome.err and "hourly" in outcome.err) is (not options)
        told = {
            one["name"]: [one["paused"], one["reason"]]
            for one in cli("schedule", "ls", "--json", url=url).json
        }
        assert told == {"hourly": paused, "held": [True, "mine"]}


def test_what_was_set_back_by_other_means_is_fenced_in_place(cli: Cli) -> None:
    async def before() -> None:
        async with Engine(cli.url) as engine:
            await engine.start(order(1, 2), id="o")
            await waits(engine, "o")

    asyncio.run(before())
    outcome = cli("restore", "--in-place")
    assert outcome.code == 0, outcome.err
    assert "1 live runs are paused" in outcome.err
    (run,) = cli("ls", "--json").json
    assert run["status"] == "paused"
    assert run["reason"] == "its database was set back to an earlier state"
    assert cli("check").code == 0
    for options in ((), ("copy.db", "--in-place")):
        assert "not both" in cli.fails("restore", *options)
    assert "There is no database" in cli.fails("restore", "--in-place", url="sqlite:///none.db")


def test_what_is_there_is_never_overwritten(cli: Cli, tmp_path: Path) -> None:
    cli.within(lambda engine: engine.start(ships(1), id="r"))
    (tmp_path / "copy.db").write_text("precious")
    assert "exists already" in cli.fails("backup", str(tmp_path / "copy.db"))
    assert (tmp_path / "copy.db").read_text() == "precious"
    assert cli("backup", str(tmp_path / "good.db")).code == 0
    assert "exists already" in cli.fails("restore", str(tmp_path / "good.db"))
    (tmp_path / "new.db-wal").write_text("of another file")
    other = f"sqlite:///{tmp_path / 'new.db'}"
    assert "new.db-wal exists already" in cli.fails("restore", str(tmp_path / "good.db"), url=other)
    assert "There is no file" in cli.fails("restore", str(tmp_path / "none.db"), url=other)


def test_a_damaged_file_gives_no_copy(cli: Cli, tmp_path: Path) -> None:
    cli.within(
        lambda engine: engine.start_many([ships(1) for _ in range(200)], ids=[f"r{n}" for n in range(200)])
    )
    path = Path(cli.url.removeprefix("sqlite:///"))
    content = bytearray(path.read_bytes())
    pages = len(content) // 4096
    for page in range(pages // 2, pages):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(content)
    assert cli("backup", str(tmp_path / "copy.db")).code != 0
    assert not (tmp_path / "copy.db").exists()


def test_other_databases_have_their_own_means(cli: Cli, tmp_path: Path) -> None:
    said = cli.fails("backup", str(tmp_path / "x"), url="postgresql://localhost/nowhere")
    assert "docs/guide/backup.md" in said


def test_sealed_runs_are_held_by_those_who_have_their_keys(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a restore writes into a run must be sealed as the rest is: else its workers would refuse to go on."""
    pytest.importorskip("cryptography")
    keys = cli("keys", "new").out.strip()

    async def before() -> None:
        async with Engine(cli.url) as engine:
            await engine.start(order(1, 2), id="o")
            await waits(engine, "o")

    monkeypatch.setenv("PERDURE_KEYS", keys)
    asyncio.run(before())
    assert cli("backup", str(tmp_path / "copy.db")).code == 0
    monkeypatch.delenv("PERDURE_KEYS")
    url = f"sqlite:///{tmp_path / 'restored.db'}"
    assert "set PERDURE_KEYS" in cli.fails("restore", str(tmp_path / "copy.db"), url=url)
    assert not (tmp_path / "restored.db").exists()
    monkeypatch.setenv("PERDURE_KEYS", keys)
    assert cli("restore", str(tmp_path / "copy.db"), url=url).code == 0

    async def after() -> None:
        async with Engine(url) as engine:
            await engine.get("o").resume()
            await engine.get("o").send("go", True)
            assert await engine.get("o").result(timeout=60) == 3

    asyncio.run(after())


def test_what_is_live_in_namespaces_is_held_too(cli: Cli, tmp_path: Path) -> None:
    async def before() -> None:
        async with Engine(cli.url) as engine:
            acme = engine.namespace("acme")
            await acme.start(order(1, 2), id="o")
            await acme.schedules.create("hourly", ships(1), cron="0 * * * *")
            async with asyncio.timeout(60):
                while (await acme.get("o").info()).status != Status.WAITING:
                    await asyncio.sleep(0.01)

    asyncio.run(before())
    assert cli("backup", str(tmp_path / "copy.db")).code == 0
    url = f"sqlite:///{tmp_path / 'restored.db'}"
    outcome = cli("restore", str(tmp_path / "copy.db"), url=url)
    assert outcome.code == 0, outcome.err
    assert "1 live runs are paused" in outcome.err
    assert "hourly" in outcome.err

    async def after() -> None:
        async with Engine(url) as engine:
            acme = engine.namespace("acme")
            assert (await acme.get("o").info()).status == Status.PAUSED
            assert (await acme.schedules.get("hourly").info()).paused
            await acme.get("o").resume()
            await acme.get("o").send("go", True)
            assert await acme.get("o").result(timeout=60) == 3

    asyncio.run(after())
