"""Old runs are removed by rules, after they were written to an archive, by one worker at a time, whatever dies."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from engine_kit import PATIENCE, Place

import perdure
from perdure import Engine, Retention, step, workflow
from perdure.core.retention import Rule, in_order, rule_for
from perdure.errors import MovingError, PerdureError, StoreUnavailableError, UnknownRunError
from perdure.runtime import definitions, sweeping
from perdure.runtime.sweeping import Sweeper, sweep_once
from perdure.storage.archives import Archive, archive_at
from perdure.storage.moving import Package
from perdure.storage.records import RunFilter
from perdure.storage.retention import Swept


@workflow(name="retained.brief")
async def brief(number: int) -> int:
    return number


@workflow(name="retained.parent")
async def parent(count: int) -> int:
    return sum([await brief(number) for number in range(count)])


@workflow(name="retained.waits")
async def waits() -> str:
    return await perdure.receive("go", str)


@step(name="retained.afar", queue="afar")
async def afar(number: int) -> int:
    return number


@workflow(name="retained.sender")
async def sender() -> int:
    first = await afar(1)
    await perdure.receive("go", str)
    return first + await afar(2)


@pytest.fixture
def ruled() -> Iterator[Any]:
    """A workflow whose runs go at once. It is forgotten then, else the workers of other tests would remove runs."""

    @workflow(name="retained.ruled", retention=timedelta(seconds=0))
    async def ruled() -> None:
        pass

    yield ruled
    del definitions._workflows["retained.ruled"]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


def sweeper(engine: Engine, *rules: Rule, holder: str = "test", later: float = 100.0, **more: Any) -> Sweeper:
    """One that believes that it is later."""
    return Sweeper(engine._store, holder, lambda: list(rules), lambda: time.time() + later, **more)


async def ids(engine: Engine) -> set[str]:
    return {run.id async for run in engine.runs()}


# -- rules ----------------------------------------------------------------------------------------------


def test_the_first_rule_that_fits_counts_and_named_ones_come_first() -> None:
    rules = in_order([Rule(10.0), Rule(None, "app.audit"), Rule(5.0, "app.*", ("failed",))])
    assert rule_for(rules, "app.audit", "failed") == Rule(None, "app.audit")
    assert rule_for(rules, "app.other", "failed") == Rule(5.0, "app.*", ("failed",))
    assert rule_for(rules, "app.other", "completed") == Rule(10.0)
    assert rule_for(rules, "lib.audit", "completed") == Rule(10.0)
    assert rule_for([Rule(1.0, "audit")], "app.audit", "completed") == Rule(1.0, "audit")
    assert rule_for([], "app.audit", "completed") is None


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Retention(-1), "a number of seconds >= 0"),
        (lambda: Retention(1, status="running"), "have ended"),
        (lambda: Retention(1, workflow=""), "workflow's name"),
        (lambda: Retention(1, archive="file:///x?format=xml"), "isn't one of"),
        (lambda: Retention(1, archive="file://host/x"), "three slashes"),
        (lambda: Engine("memory:", retention=Retention(1)), "must be a list"),  # type: ignore[arg-type]
        (lambda: workflow(name="retained.odd", retention=Retention(1, workflow="x"))(_odd), "leave that out"),
    ],
)
def test_what_cant_be_a_rule_is_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(PerdureError, match=text):
        make()


async def _odd() -> None: ...


def test_rules_are_told_in_words() -> None:
    assert repr(Retention(timedelta(days=2), workflow="a", status=["failed", "cancelled"])) == (
        "Retention('runs of a that failed or were cancelled go after 2 days')"
    )
    assert str(Rule(None, "a")) == "runs of a that ended stay for ever"


# -- what goes, and what stays --------------------------------------------------------------------------


def test_nothing_goes_by_default(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(brief(1), id="a")
            assert await sweep_once(sweeper(engine)) == sweeping.Tally()
            assert await ids(engine) == {"a"}

    asyncio.run(main())


def test_runs_go_by_workflow_status_and_age(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            for number in range(3):
                await engine.run(brief(number), id=f"brief-{number}")
            await engine.run(parent(1), id="other")
            waiting = await engine.start(waits(), id="live")
            cancelled = await engine.start(waits(), id="cancelled")
            await cancelled.terminate()
            assert (await sweep_once(sweeper(engine, Rule(1000.0)))).runs == 0
            await sweep_once(sweeper(engine, Rule(50.0, "brief", ("completed",))))
            assert await ids(engine) == {"other", "other/retained.brief#1", "live", "cancelled"}
            tally = await sweep_once(sweeper(engine, Rule(None, "parent"), Rule(0.0)))
            assert tally.by_workflow == {("retained.waits", "terminated"): 1}
            await waiting.send("go", "on")
            assert await waiting.result(timeout=PATIENCE) == "on"
            assert await engine.run(brief(7), id="brief-0") == 7, "its id is free again"

    asyncio.run(main())


def test_what_a_run_has_started_goes_after_it(place: Place) -> None:
    """Whatever rules say of children themselves: they stay with their parent, and go with it."""

    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(parent(3), id="p")
            await sweep_once(sweeper(engine, Rule(0.0, "brief")))
            assert len(await ids(engine)) == 4
            await sweep_once(sweeper(engine, Rule(0.0, "parent")))
            assert await ids(engine) == set()
            assert await engine._store.retention.sweep(rows=9, bytes=9) == Swept(0, 0, done=True)

    asyncio.run(main())


def test_workers_remove_by_themselves(place: Place, ruled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is said of the engine and of workflows; and they tell by which rules."""
    monkeypatch.setattr(sweeping, "REST", 0.05)

    async def main() -> None:
        async with place.engine(retention=[Retention(0, workflow="retained.brief")]) as engine:
            await engine.run(ruled(), id="ruled")
            await engine.run(brief(1), id="brief")
            await engine.run(parent(0), id="stays")

            async def gone() -> bool:
                return await ids(engine) == {"stays"}

            await until(gone)
            state = await engine._store.retention.sweeping()
            assert state is not None
            assert {rule.workflow for rule in sweeping.rules_in(state.rules)} >= {
                "retained.brief",
                "retained.ruled",
            }

    asyncio.run(main())


def test_one_worker_removes_at_a_time(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(brief(1), id="a")
            rule = Rule(1000.0)
            first, second = sweeper(engine, rule), sweeper(engine, rule, holder="other")
            assert await first.step() is False
            assert await second.step() is None
            await first.leave()
            assert await second.step() is False

    asyncio.run(main())


def test_a_step_in_a_queue_goes_before_its_sender_if_a_rule_says_so(place: Place) -> None:
    """When the sender has taken its result; who drives the sender anew doesn't miss it."""

    async def main() -> None:
        async with place.engine(queues=["default", "afar"]) as engine:
            handle = await engine.start(sender(), id="sender")

            async def waits() -> bool:
                return any(wait.kind == "message" for wait in (await handle.info()).waiting_for)

            await until(waits)
            await sweep_once(sweeper(engine, Rule(0.0, "retained.*")))
            rows = [row.id for row in await engine._store.find(RunFilter(errands=True))]
            assert len(rows) == 2
            await sweep_once(sweeper(engine, Rule(0.0, "step/*")))
            assert [row.id for row in await engine._store.find(RunFilter(errands=True))] == ["sender"]
        async with place.engine(queues=["default", "afar"]) as engine:
            await engine.get("sender").send("go", "on")
            assert await engine.get("sender").result(timeout=PATIENCE) == 3
            await sweep_once(sweeper(engine, Rule(0.0, "sender")))
            assert await engine._store.find(RunFilter(errands=True)) == []

    asyncio.run(main())


def test_counting_removes_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(brief(1), id="a")
            tally = await sweep_once(sweeper(engine, Rule(0.0), dry=True))
            assert tally.by_workflow == {("retained.brief", "completed"): 1}
            assert await ids(engine) == {"a"}

    asyncio.run(main())


def test_a_donor_stays_while_its_fork_lives(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits(), id="donor")
            await handle.send("go", "on")
            await handle.result(timeout=PATIENCE)
            fork = await handle.fork(id="fork", at=2)
            tally = await sweep_once(sweeper(engine, Rule(0.0)))
            assert list(tally.kept.values()) == [1]
            assert await ids(engine) == {"donor", "fork"}
            await fork.terminate()
            await sweep_once(sweeper(engine, Rule(0.0)))
            assert await ids(engine) == set()

    asyncio.run(main())


# -- archives -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_runs_are_in_the_archive_as_they_were(format: str, tmp_path: Path) -> None:
    if format == "jsonl.zst":
        pytest.importorskip("zstandard")
    if format == "parquet":
        pytest.importorskip("pyarrow")
    place, url = Place(), f"file://{tmp_path}/deep/old?format={format}"

    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(parent(2), id="p")
            before = await engine._store.moving.read(["p", "p/retained.brief#1"])
            await sweep_once(sweeper(engine, Rule(0.0, archive=url)))
            assert await ids(engine) == set()
            archive = archive_at(url)
            for package in before:
                assert package is not None
                found = archive.find(package.id)
                assert found is not None
                assert found.generations[0].fingerprint == package.generations[0].fingerprint
                assert [part for part in found.parts if part.__class__.__name__ == "HistoryPart"] == [
                    part for part in package.parts if part.__class__.__name__ == "HistoryPart"
                ]
            assert archive.find("nobody") is None
            (name, *_) = archive.files()
            path = tmp_path / "deep" / "old" / name
            path.write_bytes(path.read_bytes()[:-40])
            with pytest.raises(MovingError):
                archive.read(name)

    asyncio.run(main())


@pytest.mark.parametrize("remote", [False, True])
def test_archives_can_be_anywhere(remote: bool, tmp_path: Path) -> None:
    if remote:
        pytest.importorskip("fsspec")
    archive = archive_at("memory://retained/old" if remote else str(tmp_path / "old"))
    package = _package("a")
    archive.write("perdure-1", [package])
    archive.write("perdure-1", [_package("b")])  # it is there: whoever wrote it had the same plan
    assert archive.has("perdure-1")
    assert archive.files() == ["perdure-1.jsonl"]
    assert archive.read("perdure-1.jsonl") == [package]


def _package(id: str) -> Package:
    async def main() -> Package:
        place = Place()
        async with place.engine() as engine:
            await engine.run(brief(1), id=id)
            (package,) = await engine._store.moving.read([id])
            assert package is not None
            return package

    return asyncio.run(main())


class Broken(Exception):
    """Stands for a death."""


def test_whoever_dies_leaves_each_run_in_the_database_or_in_one_file(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of the sweeper's calls, and whoever goes on at each of theirs: what was planned is finished, without a
    second file."""
    url = f"file://{tmp_path}/old"
    everybody: set[str] = set()
    hours = itertools.count(1)

    async def dying(engine: Engine, calls: int) -> bool:
        """Sweep, and die at this call. False: there was no such call."""
        left, hour = calls, next(hours)
        one = sweeper(engine, Rule(0.0, archive=url), holder=f"dies in hour {hour}", later=3600.0 * hour)

        class Counting:
            def __init__(self, inner: Any) -> None:
                self.inner = inner

            def __getattr__(self, name: str) -> Any:
                verb = getattr(self.inner, name)

                async def counted(*args: Any, **more: Any) -> Any:
                    nonlocal left
                    left -= 1
                    if left == 0:
                        raise Broken
                    answer = await verb(*args, **more)
                    left -= 1
                    if left == 0:
                        raise Broken
                    return answer

                return counted

        one._store = Counting(one._store)  # type: ignore[assignment]
        try:
            await sweep_once(one)
        except Broken:
            return True
        return False

    async def main() -> None:
        async with place.engine() as engine:
            call = 0
            going = True
            while going:
                call += 1
                for id in (f"{call}-a", f"{call}-b"):
                    everybody.add(id)
                    await engine.run(brief(1), id=id)
                going = await dying(engine, call)
                await whole(engine)
                again = 0
                while await ids(engine):
                    again += 1
                    await dying(engine, again)
                    await whole(engine)
            assert call > 8

    async def whole(engine: Engine) -> None:
        archive = archive_at(url)
        there = [package.id for name in archive.files() for package in archive.read(name)]
        assert len(there) == len(set(there))
        assert await ids(engine) | set(there) == everybody

    asyncio.run(main())


def test_without_its_archive_no_run_goes(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    url = f"file://{tmp_path}/file/old"

    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(brief(1), id="a")
            with pytest.raises(StoreUnavailableError, match="No run of which it has no copy is removed"):
                await sweep_once(sweeper(engine, Rule(0.0, archive=url)))
            assert await ids(engine) == {"a"}
            (tmp_path / "file").unlink()
            await sweep_once(sweeper(engine, Rule(0.0, archive=url)))
            assert await ids(engine) == set()
            assert len(archive_at(url).files()) == 1

    asyncio.run(main())


def test_a_run_that_cant_be_read_stays_and_the_others_go(place: Place, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/old"

    async def main() -> None:
        async with place.engine() as engine:
            for id in ("a", "b", "c"):
                await engine.run(brief(1), id=id)
            one = sweeper(engine, Rule(0.0, archive=url))
            read = one._read

            async def failing(ids: Sequence[str]) -> Any:
                if "b" in ids:
                    raise StoreUnavailableError("a blob is missing")
                return await read(ids)

            one._read = failing
            await sweep_once(one)
            assert await ids(engine) == {"b"}
            with pytest.raises(StoreUnavailableError, match="a blob is missing"):
                await sweep_once(one)
            await engine.run(brief(1), id="later")
            await sweep_once(one)
            assert await ids(engine) == {"b"}, "it keeps nobody else"
            archive = archive_at(url)
            assert {found.id for name in archive.files() for found in archive.read(name)} == {
                "a",
                "c",
                "later",
            }

    asyncio.run(main())


def test_a_run_that_goes_on_meanwhile_stays(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/old"

    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(brief(1), id="a")
            loop = asyncio.get_running_loop()
            write = Archive.write

            def restarting(self: Archive, name: str, packages: Any) -> None:
                again = engine.start(brief(1), id="a", if_exists="restart")
                asyncio.run_coroutine_threadsafe(_wait(again), loop).result()
                write(self, name, packages)

            monkeypatch.setattr(Archive, "write", restarting)
            await sweep_once(sweeper(engine, Rule(0.0, archive=url), later=0.001))
            info = await engine.get("a").info()
            assert info.generation == 2

    async def _wait(again: Any) -> None:
        await (await again).result(timeout=PATIENCE)

    asyncio.run(main())


def test_what_goes_on_between_its_plan_and_its_file_isnt_archived(place: Place, tmp_path: Path) -> None:
    """Else it would be in the archive as well as in the database."""
    url = f"file://{tmp_path}/old"

    async def main() -> None:
        async with place.engine() as engine:
            for id in ("a", "b"):
                await engine.run(brief(1), id=id)
            one = sweeper(engine, Rule(0.0, archive=url), later=1.0)
            read = one._read

            async def restarting(ids: Sequence[str]) -> Any:
                if "a" in ids:
                    await engine.start(waits(), id="a", if_exists="restart")
                return await read(ids)

            one._read = restarting
            await sweep_once(one)
            archive = archive_at(url)
            assert [package.id for name in archive.files() for package in archive.read(name)] == ["b"]
            assert (await engine.get("a").info()).generation == 2

    asyncio.run(main())


def test_a_handle_of_a_removed_run_says_that_it_isnt_there(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(brief(1), id="a")
            await sweep_once(sweeper(engine, Rule(0.0)))
            with pytest.raises(UnknownRunError):
                await engine.get("a").result(timeout=PATIENCE)

    asyncio.run(main())
