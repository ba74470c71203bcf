"""A rolling deploy of a changed program over PostgreSQL: no live run is lost, or meets code that it doesn't fit.

PERDURE_SOAK=1 does it with 1,000 runs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from world import HERE, PERDURE, SOAK, Process, World, logged, until

from helpers.postgres import Server
from perdure import Engine, events

pytestmark = pytest.mark.acceptance

RELEASES = HERE / "releases"
RUNS = 1000 if SOAK else 60
BY_ONE = ["reserved by 1", "charged by 1"]
MOVED = ["reserved by 1", "invoiced by 2", "charged by 2"]
BY_TWO = ["checked by 2", "reserved by 2", "invoiced by 2", "charged by 2"]


def first_release() -> ModuleType:
    """Its code, so that this process can start runs of it."""
    spec = importlib.util.spec_from_file_location("orders", RELEASES / "orders_one.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Deploy:
    """Workers of two releases on one database, and a client."""

    def __init__(self, world: World, client: Engine) -> None:
        self.world = world
        self.client = client

    def worker(self, release: str, version: str) -> Process:
        """One whose module `orders` is that of this release."""
        folder = self.world.folder / release
        folder.mkdir(exist_ok=True)
        shutil.copy(RELEASES / f"orders_{release}.py", folder / "orders.py")
        path = os.pathsep.join([str(folder), self.world.environment["PYTHONPATH"]])
        options = ("--version", version, "--grace", "30", "--url", self.world.url)
        return self.world.start(*PERDURE, "worker", "orders", *options, PYTHONPATH=path)

    async def up(self, *workers: Process) -> None:
        for worker in workers:
            await logged(worker, "serves")

    async def down(self, worker: Process) -> float:
        """Stop it in good order; how long that took."""
        began = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait) == 0, worker.log.read_text()
        return time.monotonic() - began

    async def all_in(self, status: str, ids: Iterable[str]) -> None:
        wanted = set(ids)

        async def there() -> bool:
            return wanted <= {run.id async for run in self.client.runs(status=status, limit=None)}

        await until(there)

    async def pay(self, ids: Iterable[str]) -> None:
        await asyncio.gather(*(self.client.get(id).send("paid", True) for id in ids))

    async def results(self, ids: Iterable[str]) -> dict[str, Any]:
        names = list(ids)
        async with asyncio.timeout(120):
            found = await asyncio.gather(*(self.client.get(id).result() for id in names))
        return dict(zip(names, found, strict=True))

    def told(self, *command: str) -> str:
        return self.world.perdure(*command).output()


def test_a_rolling_deploy_loses_no_run(tmp_path: Path, figure: Callable[[str], None]) -> None:
    orders = first_release()

    async def scenario(world: World) -> None:
        async with world.client() as client:
            deploy = Deploy(world, client)
            old = [deploy.worker("one", "1") for _ in range(2)]
            await deploy.up(*old)
            moving = [f"order-{number}" for number in range(RUNS // 2)]
            strict = [f"strict-{number}" for number in range(RUNS * 3 // 10)]
            left = [f"left-{number}" for number in range(RUNS // 10)]
            retired = [f"retired-{number}" for number in range(RUNS // 10)]
            for workflow, ids in (
                (orders.order, moving),
                (orders.strict, [*strict, *left]),
                (orders.retired, retired),
            ):
                await client.start_many([workflow(id) for id in ids], ids=ids)
            live = [*moving, *strict, *left, *retired]
            await deploy.all_in("waiting", live)

            new = [deploy.worker("two", "2") for _ in range(2)]
            await deploy.up(*new)
            stopping = [await deploy.down(old[0])]
            await deploy.pay(strict)
            assert set(map(tuple, (await deploy.results(strict)).values())) == {tuple(BY_ONE)}
            assert {(await client.get(id).info()).version for id in strict[:20]} == {"1"}
            stopping.append(await deploy.down(old[1]))

            early = deploy.told("why", left[0])
            assert "waits for the message 'paid'" in early
            assert "of version '1'" in early
            fresh = [f"fresh-{number}" for number in range(RUNS // 10)]
            await client.start_many([orders.order(id) for id in fresh[::2]], ids=fresh[::2])
            await client.start_many([orders.strict(id) for id in fresh[1::2]], ids=fresh[1::2])
            await deploy.pay([*moving, *fresh, *left, *retired])
            assert set(map(tuple, (await deploy.results(moving)).values())) == {tuple(MOVED)}
            assert set(map(tuple, (await deploy.results(fresh)).values())) == {tuple(BY_TWO)}

            stranded = [*left, *retired]
            await deploy.all_in("blocked", stranded)
            listed = json.loads(deploy.told("ls", "--status", "blocked", "--limit", str(RUNS), "--json"))
            assert sorted(run["id"] for run in listed) == sorted(stranded)
            why = deploy.told("why", left[0])
            assert "no worker of version '1'" in why
            assert "perdure worker orders --version 1" in why
            why = deploy.told("why", retired[0])
            assert "no worker knows the workflow 'orders.retired'" in why
            assert "perdure worker orders" in why

            await deploy.up(deploy.worker("one", "1"))
            assert set(map(tuple, (await deploy.results(stranded)).values())) == {tuple(BY_ONE)}
            ended = Counter([run.status async for run in client.runs(limit=None)])
            assert ended == {"completed": len(live) + len(fresh)}
            figure(
                f"{len(live)} live runs: {len(moving)} went on with the new code, {len(strict)} pinned ones ended on "
                f"the old workers, {len(stranded)} stranded ones were reported and ended when an old worker came back; "
                f"{len(fresh)} new ones; 0 lost; old workers stopped within {max(stopping):.1f} s; "
                f"{await recoveries(client, live)} counted as deaths"
            )

    server = Server()
    world = World(tmp_path / "world", server)
    try:
        asyncio.run(scenario(world))
    finally:
        world.close()
        server.remove()


async def recoveries(client: Engine, ids: Iterable[str]) -> int:
    """Stopping in good order isn't dying."""
    found = 0
    for id in ids:
        async for event in client.get(id).history():
            found += isinstance(event, events.RunRecovered)
    assert not found
    return found
