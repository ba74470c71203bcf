"""Metrics count what became durable, once, whatever is replayed; and tell how the whole database is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, bury, crash, run, until

import perdure
from perdure import Metrics, Retry, step, workflow
from perdure.errors import StoreUnavailableError
from perdure.runtime.metrics.catalogue import CATALOGUE, table
from perdure.runtime.metrics.registry import OTHER, Names, Registry


@step
async def double(number: int) -> int:
    return 2 * number


@step(retry=Retry(max_attempts=2, initial=0.001))
async def stubborn() -> None:
    raise ConnectionError("no")


@step
async def pays() -> None:
    perdure.record_usage(model="m-1", input_tokens=10, output_tokens=5, cost=0.25)


@workflow
async def busy(count: int) -> int:
    total = 0
    for number in range(count):
        total += await double(number)
    await asyncio.sleep(0.001)
    await perdure.receive("go")
    return total


@workflow
async def unlucky() -> None:
    await stubborn()


@workflow
async def costly() -> None:
    await pays()


class Numbers:
    """What metrics tell at one moment."""

    def __init__(self, metrics: Metrics) -> None:
        self.samples: dict[tuple[str, Mapping[str, str]], Any] = {}
        for sample in metrics.samples():
            labels = tuple(sorted(zip(sample.metric.labels, sample.labels, strict=True)))
            value = sum(sample.bars) if sample.metric.kind == "histogram" else sample.value
            self.samples[sample.metric.name, labels] = (
                self.samples.get((sample.metric.name, labels), 0) + value
            )

    def __call__(self, name: str, **labels: str) -> Any:
        """A counter's or gauge's value, how many observations a histogram has; 0 if there is none."""
        assert f"perdure_{name}" in CATALOGUE
        return self.samples.get((f"perdure_{name}", tuple(sorted(labels.items()))), 0)


async def waiting(handle: perdure.Handle[Any]) -> None:
    while await handle.status() != "waiting":
        await asyncio.sleep(0.01)


def test_it_counts_what_happens() -> None:
    place, metrics = Place(), Metrics()

    async def main() -> None:
        async with place.engine(telemetry=metrics, version="v7") as engine:
            handle = await engine.start(busy(3))
            await handle.send("go", None)
            assert await handle.result() == 6
            with pytest.raises(perdure.RunFailed):
                await engine.run(unlucky())
            await engine.run(costly())
            told = Numbers(metrics)
            assert (
                told("worker_info", perdure_version=perdure.__version__, code_version="v7", queues="default")
                == 1
            )
        told = Numbers(metrics)  # counters outlive the engine
        assert told("runs_started_total", workflow=busy.name, queue="default") == 1
        assert told("runs_ended_total", workflow=busy.name, status="completed") == 1
        assert told("runs_ended_total", workflow=unlucky.name, status="failed") == 1
        assert told("run_duration_seconds", workflow=busy.name, status="completed") == 1
        assert told("run_start_latency_seconds", queue="default") == 3
        assert told("steps_ended_total", step=double.name, outcome="completed") == 3
        assert told("step_attempts_total", step=double.name, outcome="completed") == 3
        assert told("step_duration_seconds", step=double.name, outcome="completed") == 3
        assert told("step_attempts_total", step=stubborn.name, outcome="retry") == 1
        assert told("step_attempts_total", step=stubborn.name, outcome="failed") == 1
        assert told("steps_ended_total", step=stubborn.name, outcome="failed") == 1
        assert told("timer_lateness_seconds") == 1
        assert told("messages_received_total", workflow=busy.name) == 1
        assert told("calls_total", model="m-1") == 1
        assert told("tokens_total", model="m-1", kind="input") == 10
        assert told("tokens_total", model="m-1", kind="output") == 5
        assert told("spent_usd_total", model="m-1") == pytest.approx(0.25)
        assert told("journal_commits_total") >= 10
        assert told("journal_commit_seconds") == told("journal_commits_total")
        assert told("journal_events_total") >= 10
        assert told("replays_total", workflow=busy.name) == 0

    run(main)


def test_a_replay_counts_nothing_but_itself() -> None:
    place, first, second = Place(), Metrics(), Metrics()

    async def main() -> None:
        async with place.engine(telemetry=first) as engine:
            await waiting(await engine.start(busy(3), id="r"))
        assert Numbers(first)("evictions_total") == 1  # it was handed back
        async with place.engine(telemetry=second) as engine:
            handle = engine.get("r")
            await handle.send("go", None)
            await handle.result()
        told = Numbers(second)
        assert told("runs_claimed_total") == 1
        assert told("replays_total", workflow=busy.name) == 1
        assert told("replay_events_total") >= 5
        assert told("replay_duration_seconds") == 1
        assert told("runs_started_total", workflow=busy.name, queue="default") == 0
        assert told("run_start_latency_seconds", queue="default") == 0
        assert told("steps_ended_total", step=double.name, outcome="completed") == 0
        assert told("timer_lateness_seconds") == 0
        assert told("messages_received_total", workflow=busy.name) == 1
        assert told("runs_ended_total", workflow=busy.name, status="completed") == 1

    run(main)


@pytest.mark.parametrize("commits", [False, True])
@pytest.mark.parametrize("death", [1, 2, 4])
def test_what_never_became_durable_is_not_counted(death: int, commits: bool) -> None:
    """An engine that dies at an append has counted what was durable before, and the next one the rest, exactly once."""
    place, metrics = Place(), Metrics()

    async def main() -> None:
        engine = place.engine(lambda store: Mortal(store, death, commits, Ledger()), telemetry=metrics)
        await engine.__aenter__()
        await engine.start(busy(3), id="r")
        await until(engine._store.dead.is_set)
        await crash(engine)
        await bury(place)
        async with place.engine(telemetry=metrics) as engine:
            handle = engine.get("r")
            await handle.send("go", None)
            await handle.result()
        told = Numbers(metrics)
        untold = commits and death <= 3  # the append at which it died came through, and it couldn't tell
        counted = told("steps_ended_total", step=double.name, outcome="completed")
        assert counted == (2 if untold else 3)
        assert told("runs_ended_total", workflow=busy.name, status="completed") == 1
        assert told("runs_taken_over_total", workflow=busy.name) == 1
        assert told("runs_started_total", workflow=busy.name, queue="default") == 1

    run(main)


def test_a_queued_run_that_is_claimed_has_started_once() -> None:
    place, metrics = Place(), Metrics()

    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await client.start(costly())
            async with place.engine(telemetry=metrics):
                await handle.result()
        told = Numbers(metrics)
        assert told("runs_started_total", workflow=costly.name, queue="default") == 1
        assert told("run_start_latency_seconds", queue="default") == 1
        assert told("replays_total", workflow=costly.name) == 0

    run(main)


def test_the_database_is_told_as_a_whole(place: Place) -> None:
    metrics = Metrics()

    async def main() -> None:
        async with place.engine() as worker, place.engine(worker=False, telemetry=metrics) as engine:
            await waiting(await worker.start(busy(1)))
            await engine.start(busy(1), queue="nobody")
            await engine.start(busy(1), queue="nobody", delay=900)
            metrics._due = 0
            await metrics.refresh(engine)
            told = Numbers(metrics)
            assert told("db_up") == 1
            assert told("db_runs", workflow=busy.name, status="waiting") == 1
            assert (
                told("db_runs", workflow=busy.name, status="queued")
                + told("db_runs_blocked", workflow=busy.name, code="code")
                == 2
            )
            assert told("db_queue_depth", queue="default") == 0
            assert told("db_queue_delayed", queue="nobody") == 1
            assert told("db_queue_workers", queue="default") == 1
            assert told("db_queue_workers", queue="nobody") == 0
            assert told("db_workers", state="alive") == 1
            assert told("db_worker_heartbeat_age_seconds") >= 0
            assert told("db_spent_today_usd") == 0
            assert (told("db_size_bytes") > 0) == (place.url != "memory:")

    run(main)


def test_a_database_that_does_not_answer_is_told() -> None:
    place, metrics = Place(), Metrics()

    async def main() -> None:
        async with place.engine(worker=False, telemetry=metrics) as engine:
            await metrics.refresh(engine)
            assert Numbers(metrics)("db_up") == 1
            asked = engine._store.workers

            async def away() -> Any:
                raise StoreUnavailableError("away")

            engine._store.workers = away
            metrics._due = 0
            await metrics.refresh(engine)
            told = Numbers(metrics)
            assert told("db_up") == 0
            assert told("db_queue_workers", queue="default") == 0
            assert told("store_errors_total", operation="look") == 1
            engine._store.workers = asked
            metrics._due = 0
            await metrics.refresh(engine)
            assert Numbers(metrics)("db_up") == 1

    run(main)


def test_whoever_asks_gets_an_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that says nothing keeps nobody waiting, and counts as away when it has said nothing for long."""
    place, metrics = Place(), Metrics()
    monkeypatch.setattr("perdure.api.metrics.PATIENCE", 0.01)

    async def main() -> None:
        async with place.engine(worker=False, telemetry=metrics) as engine:
            await metrics.refresh(engine)
            answered = asyncio.Event()

            async def silent() -> Any:
                await answered.wait()
                return []

            monkeypatch.setattr(engine._store, "workers", silent, raising=False)
            metrics._due = 0
            await metrics.refresh(engine)
            assert Numbers(metrics)("db_up") == 1  # perhaps it is only slow
            monkeypatch.setattr("perdure.api.metrics.SILENT_AFTER", 0.0)
            await metrics.refresh(engine)
            assert Numbers(metrics)("db_up") == 0
            answered.set()
            assert metrics._reading is not None
            await metrics._reading
            assert Numbers(metrics)("db_up") == 1

    run(main)


def test_it_is_read_again_only_after_a_while() -> None:
    place, metrics = Place(), Metrics()

    async def main() -> None:
        async with place.engine(worker=False, telemetry=metrics) as engine:
            looks = 0
            asked = engine._store.workers

            async def counting() -> Any:
                nonlocal looks
                looks += 1
                return await asked()

            engine._store.workers = counting
            await asyncio.gather(*(metrics.refresh(engine) for _ in range(5)))
            await metrics.refresh(engine)
            assert looks <= 2  # the list of queues asks for them, too

    run(main)


def test_too_many_names_are_one() -> None:
    registry = Registry(Names(cap=2))
    for name in ("a", "b", "c", "d", "a"):
        registry.cell("perdure_replays_total", name).value += 1
    assert {labels: value for _, labels, value in registry.cells()} == {("a",): 2, ("b",): 1, (OTHER,): 2}
    again = Registry(Names(cap=2))
    again.add(registry)
    again.add(registry)
    assert sum(value for _, _, value in again.cells()) == 10


def test_the_catalogue_keeps_conventions() -> None:
    for metric in CATALOGUE.values():
        assert metric.name.startswith(("perdure_", "process_"))
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert bool(metric.buckets) == (metric.kind == "histogram"), metric.name
        assert (metric.unit == "s") == metric.name.removesuffix("_total").endswith("_seconds"), metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert not set(metric.labels) & {"id", "run", "le", "worker", "key"}, metric.name
        assert metric.help.endswith(".")
        assert (metric.scope == "database") == metric.name.startswith("perdure_db_")
    assert len({metric.otel_name for metric in CATALOGUE.values()}) == len(CATALOGUE)
    assert table().count("\n| `") == len(CATALOGUE)
