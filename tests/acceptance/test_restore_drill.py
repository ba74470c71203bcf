"""The restore drill: workers at work, a copy, more work, all killed, the old copy restored, and on.

What was done after the copy is done again: never silently, and under the same keys, so that whoever was called knows
it. A worker of before that is still up writes nothing any more, and says so.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import drilled
import pytest
from test_zombies import stop
from world import PERDURE, Process, World, logged, results, until

from helpers.postgres import Server
from perdure import Engine, events

pytestmark = pytest.mark.acceptance

ORDERS, FILMS, EACH = 5, 3, 60
AFTER = 4  # orders of each run that the copy doesn't know
REASON = {
    "sqlite": "it was restored from copy.db",
    "postgres": "its database was set back to an earlier state",
}


class Place:
    """A database that can be copied while workers work, and set back."""

    kind = "sqlite"

    def __init__(self, world: World) -> None:
        self.world = world

    async def copy(self) -> None:
        await self.does("backup", str(self.world.folder / "copy.db"))

    async def set_back(self, *options: str) -> str:
        away = self.world.folder / "away"
        away.mkdir()
        for file in self.world.folder.glob("runs.db*"):
            file.rename(away / file.name)
        return await self.does("restore", str(self.world.folder / "copy.db"), *options)

    async def does(self, *command: str) -> str:
        """A command that ends well; what it tells."""
        process = self.world.perdure(*command)
        await asyncio.to_thread(process.output)
        told = process.log.read_text()
        assert process.popen.returncode == 0, told
        return told


class Archived(Place):
    """A server whose write-ahead log is archived: it is recovered to a point in time."""

    kind = "postgres"

    def __init__(self, world: World, server: Server, folder: Path) -> None:
        super().__init__(world)
        self.server = server
        self.base = folder / "base"

    async def copy(self) -> None:
        options = ("-c", "fast", "-X", "none", "--no-sync", "-h", str(self.server.folder))
        port = str(self.server.port)
        await asyncio.to_thread(
            self.server._call, "pg_basebackup", "-D", str(self.base), *options, "-p", port, "-U", "postgres"
        )
        self.server.execute("SELECT pg_create_restore_point('before_the_mistake')")

    async def set_back(self, *options: str) -> str:
        (name,) = self.server.execute("SELECT pg_walfile_name(pg_switch_wal())")[0]

        async def archived() -> bool:
            return (self.base.parent / "log" / str(name)).exists()

        await until(archived)
        self.server.stop()
        data = self.server.folder / "data"
        data.rename(self.base.parent / "broken")
        self.base.rename(data)
        (data / "recovery.signal").touch()
        give(self.server, data / "recovery.signal")
        with (data / "postgresql.auto.conf").open("a") as conf:
            conf.write(
                f"restore_command = 'cp {self.base.parent}/log/%f %p'\n"
                "recovery_target_name = 'before_the_mistake'\nrecovery_target_action = 'promote'\n"
            )
        self.server.start()

        async def promoted() -> bool:
            return self.server.execute("SELECT pg_is_in_recovery()") == [(False,)]

        await until(promoted)
        return await self.does("restore", "--in-place", *options)


def give(server: Server, *paths: Path) -> None:
    """To the user as whom the server runs."""
    if server._user is not None:
        for path in paths:
            shutil.chown(path, server._user)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        world = World(tmp_path / "world")
        yield Place(world)
        world.close()
        return
    server = Server(archive_mode="on", wal_level="replica", archive_command="cp %p ../archive/log/%f")
    folder = server.folder / "archive"
    (folder / "log").mkdir(parents=True)
    give(server, folder, folder / "log")
    world = World(tmp_path / "world", server)
    yield Archived(world, server, folder)
    world.close()
    server.remove()


def calls(world: World) -> list[dict[str, Any]]:
    """What the outside world has in its book."""
    if not world.ledger.exists():
        return []
    return [json.loads(line) for line in world.ledger.read_text().splitlines() if line.endswith("}")]


class Pace:
    """How many orders of each run the outside world takes for now."""

    def __init__(self, world: World, ids: Sequence[str]) -> None:
        self.world = world
        self.ids = ids
        self.number = 0
        self.raise_to(0)

    def raise_to(self, number: int) -> None:
        self.number = number
        part = self.world.folder / "bound.part"
        part.write_text(str(number))
        part.rename(self.world.folder / "bound")

    async def more(self, number: int) -> None:
        """Let each run place so many more orders, and wait until it has."""
        self.raise_to(self.number + number)

        async def placed() -> bool:
            counts = Counter(run for run, _ in {(line["run"], line["step"]) for line in calls(self.world)})
            return all(counts[id] >= self.number for id in self.ids)

        await until(placed)

    async def while_they_work(self, deed: Awaitable[object]) -> None:
        """Do something while orders go on."""
        doing = asyncio.ensure_future(deed)
        while not doing.done() and self.number < EACH - AFTER - 1:
            await self.more(1)
        await doing


async def worker(world: World, queues: str = "default,gpu") -> Process:
    options = ("--queues", queues, "--lease", "2", "--grace", "0.1")
    process = world.start(*PERDURE, "worker", "drilled", "--url", world.url, *options)
    await logged(process, "Ctrl-C or SIGTERM")
    return process


async def statuses(client: Engine) -> Counter[str]:
    return Counter([str(run.status) async for run in client.runs(limit=None)])


def test_nothing_runs_twice_silently(place: Place, figure: Callable[[str], None]) -> None:
    world = place.world

    async def scenario() -> None:
        gate = world.folder / "gate"
        ids = [f"o{number}" for number in range(ORDERS)] + [f"f{number}" for number in range(FILMS)]
        pace = Pace(world, ids)
        stale, dies = await worker(world), await worker(world)
        async with world.client() as client:
            some = [drilled.orders(EACH)] * ORDERS + [drilled.films(EACH)] * FILMS
            await client.start_many(some, ids=ids)
            await client.start(drilled.payout(7, str(gate)), id="pay")

            async def begun() -> bool:
                return any([isinstance(e, events.StepStarted) async for e in client.get("pay").history()])

            await until(begun)
            await pace.more(3)
            await pace.while_they_work(place.copy())
            await pace.more(AFTER)
            gate.touch()
            assert await client.get("pay").result(timeout=60) == 7  # of which the copy knows nothing
            await client.start(drilled.orders(1), id="late")
            assert await client.get("late").result(timeout=60) == 0
            await stop(world, stale)
            dies.kill()
        before = calls(world)
        told = await place.set_back()
        assert f"{ORDERS + FILMS + 1} live runs are paused" in told
        assert "the same idempotency keys" in told
        assert REASON[place.kind] in told, "the log tells it, too"

        fresh = await worker(world)
        async with world.client() as client:
            assert await statuses(client) == {"paused": ORDERS + FILMS + 1}, "nothing goes on by itself"
            assert [run.reason async for run in client.runs()] == [REASON[place.kind]] * (ORDERS + FILMS + 1)
            assert REASON[place.kind] in str(await client.get("o1").why())
            histories = {id: [e async for e in client.get(id).history()] for id in ids}
            stale.signal(signal.SIGCONT)
            await logged(stale, "was moved away" if place.kind == "sqlite" else "was declared dead")
            await asyncio.sleep(0.5)  # in which it could do harm
            now = {id: [e async for e in client.get(id).history()] for id in ids}
            assert now == histories, "a worker of before has written"
            assert not [line for line in calls(world) if line["pid"] == fresh.pid]
            stale.kill()
            pace.raise_to(EACH)
            for id in (*ids, "pay"):
                await client.get(id).resume()
            expected = [sum(range(EACH))] * (ORDERS + FILMS)
            assert await results([client.get(id) for id in ids]) == expected

            async def asks() -> bool:
                return (await client.get("pay").info()).status == "blocked"

            await until(asks)  # a person, since nobody else knows whether the money went out
            assert "outcome" in ((await client.get("pay").info()).reason or "")
            assert (await statuses(client)) == {"completed": ORDERS + FILMS, "blocked": 1}
            for id in ids:
                history = [e async for e in client.get(id).history()]
                paused = [e.reason for e in history if isinstance(e, events.RunPaused)]
                assert paused == [REASON[place.kind]], "its history tells of it for ever"
                done = [e.step for e in history if isinstance(e, events.StepCompleted)]
                assert len(done) == len(set(done)) == EACH
        check_book(world, before, figure)

    asyncio.run(scenario())


def check_book(world: World, before: list[dict[str, Any]], figure: Callable[[str], None]) -> None:
    """Each key is one step's, and each step's calls have one key, before the restore and after it."""
    keys: dict[str, set[tuple[str, str]]] = {}
    of_step: dict[tuple[str, str], set[str]] = {}
    for line in calls(world):
        keys.setdefault(line["key"], set()).add((line["run"], line["step"]))
        of_step.setdefault((line["run"], line["step"]), set()).add(line["key"])
    assert {len(steps) for steps in keys.values()} == {1}
    assert {len(given) for given in of_step.values()} == {1}
    assert sum(1 for line in calls(world) if line["run"] == "pay") == 1, "once means once"
    orders = sum(1 for run, _ in of_step if run != "late" and run != "pay")
    assert orders == (ORDERS + FILMS) * EACH
    again = Counter(line["key"] for line in calls(world))
    repeated = [key for key, times in again.items() if times > 1]
    assert len(repeated) >= AFTER * (ORDERS + FILMS), "what was done after the copy is done again"
    assert {line["key"] for line in before} >= set(repeated)
    figure(
        f"{len(again)} orders, {len(repeated)} of them placed again after the restore, all known by their keys"
    )
