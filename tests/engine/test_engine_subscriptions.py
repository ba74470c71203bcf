"""Publishing events, and workflows that they start: at once, when it is quiet, or many at a time."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
from engine_kit import Place, Wrapped, of_kind, redefine, run, sets_clock_ahead, until
from publication_kit import Order, all_settled, listening, waits

import perdure
from perdure import Engine, events, step, workflow
from perdure.errors import ConfigurationError, NotSerializableError, StoreUnavailableError, UsageError

pytestmark = pytest.mark.usefixtures("no_definitions_of_others")

# -- publishing -----------------------------------------------------------------------------------------


def test_a_key_makes_a_repeat_recognisable(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.publish("paid", 1, key="o-1")
            assert not await engine.publish("paid", 2, key="o-1")
            assert await engine.publish("refunded", 3, key="o-1")
            found = [(one.name, one.key, one.payload) async for one in engine.publications()]
            assert sorted(found) == [("paid", "o-1", 1), ("refunded", "o-1", 3)]
            assert [one.payload async for one in engine.publications("paid", limit=None)] == [1]

    run(main)


def test_workflows_publish_exactly_once(place: Place) -> None:
    @workflow(name="pub.publishes")
    async def publishes() -> str:
        perdure.publish("n", 1)
        perdure.publish("n", {"large": "x" * 10_000})
        perdure.publish("n", 3, key="k")
        await perdure.receive("go")
        return "done"

    async def main() -> None:
        for _ in range(3):
            async with place.engine() as engine:
                await engine.start(publishes(), id="r")
                await until(lambda: published(engine, 3))
        async with place.engine() as engine:
            await engine.get("r").send("go", None)
            assert await engine.get("r").result() == "done"
            assert await published(engine, 3)
            assert len(await of_kind(handle_of(engine), events.Published)) == 3

    def handle_of(engine: Engine) -> Any:
        return engine.get("r")

    run(main)


async def published(engine: Engine, count: int) -> bool:
    return len([one async for one in engine.publications(limit=None)]) == count


def test_steps_publish_with_their_result(place: Place) -> None:
    @step(name="pub.tells", retry=perdure.Retry(max_attempts=3, initial=0.001))
    async def tells() -> None:
        perdure.publish("n", perdure.step_info().attempt)
        perdure.publish("n", "second")
        if perdure.step_info().attempt < 3:
            raise OSError("not yet")

    @step(name="pub.tells_in_a_thread")
    def tells_in_a_thread() -> None:
        perdure.publish("n", "thread", key="k")

    @workflow(name="pub.steps_tell")
    async def steps_tell() -> None:
        await tells()
        await tells_in_a_thread()

    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(steps_tell())
            found = [one.payload async for one in engine.publications()]
            assert Counter(found) == Counter([3, "second", "thread"])

    run(main)


def test_one_run_tells_another(place: Place) -> None:
    @workflow(name="pub.pings")
    async def pings(count: int) -> list[int]:
        got: list[int] = []
        for number in range(count):
            perdure.publish("ping", number)
            got.append(await perdure.event("pong"))
        return got

    @workflow(name="pub.pongs")
    async def pongs(count: int) -> None:
        for _ in range(count):
            perdure.publish("pong", await perdure.event("ping") * 10)

    async def main() -> None:
        async with place.engine() as engine:
            second = await engine.start(pongs(5), id="pongs")
            await listening(engine, "pongs")
            assert await engine.run(pings(5)) == [0, 10, 20, 30, 40]
            await second.result()

    run(main)


def test_old_publications_are_forgotten(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.runtime.distributor.FORGET_EVERY", 0.0)

    async def main() -> None:
        async with place.engine() as engine:
            await engine.publish("n", 1)
            await until(lambda: all_settled(engine))
        engine = place.engine(keep_publications=60)
        sets_clock_ahead(engine, 120)
        async with engine:
            await engine.publish("n", 2)
            await until(lambda: left(engine, [2]))

    async def left(engine: Engine, payloads: list[int]) -> bool:
        return [one.payload async for one in engine.publications()] == payloads

    run(main)


def test_a_failure_of_the_engines_own_ends_nothing(
    memory: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("perdure.runtime.watching.TROUBLE_PAUSE", 0.01)
    failures = [RuntimeError("a test says so"), StoreUnavailableError("so does it here")]

    class Failing:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        async def distribute(self, *, now: float) -> Any:
            if failures:
                raise failures.pop()
            return await self.inner.distribute(now=now)

    class Faulty(Wrapped):
        def __getattr__(self, name: str) -> Any:
            found = getattr(self.inner, name)
            return Failing(found) if name == "publications" else found

    async def main() -> None:
        async with memory.engine(Faulty) as engine:
            handle = await engine.start(waits("paid"))
            await engine.publish("paid", 1)
            assert await handle.result() == 1
            assert "Distributor failed, will try again" in caplog.text
            assert "couldn't look after published events, will try again" in caplog.text

    run(main)


# -- misuse ---------------------------------------------------------------------------------------------


def test_what_cannot_be_an_event(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            for name in ("", "x" * 201, "a\nb", 7):
                with pytest.raises(ConfigurationError, match="can't be an event's name"):
                    await engine.publish(name)  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match="key"):
                await engine.publish("n", key="")
            with pytest.raises(NotSerializableError):
                await engine.publish("n", object())
            with pytest.raises(NotSerializableError):
                await engine.publish("n", float("nan"))
        with pytest.raises(UsageError, match="only in workflow code"):
            await perdure.event("n")

    run(main)


@pytest.mark.parametrize(
    "where", [["a"], {"a": {"b": 1}}, {"a": [[1]]}, {"a": []}, {"": 1}, {"a": object()}, "text"]
)
def test_what_cannot_be_a_condition(where: Any) -> None:
    with pytest.raises(ConfigurationError, match="where="):
        perdure.Event("n", where=where)


def test_subscribers_that_cannot_be_started() -> None:
    with pytest.raises(ConfigurationError, match="called with one argument"):

        @workflow(name="pub.none", on=perdure.Event("n"))
        async def none() -> None: ...

    with pytest.raises(ConfigurationError, match="called with one argument"):

        @workflow(name="pub.two", on=perdure.Event("n"))
        async def two(a: int, b: int) -> None: ...

    with pytest.raises(ConfigurationError, match="give an event"):

        @workflow(name="pub.text", on="n")  # type: ignore[call-overload]
        async def text(a: int) -> None: ...


@pytest.mark.parametrize(
    "options",
    [
        {"debounce": 0},
        {"batch": 0},
        {"batch": 10_001},
        {"within": 1},
        {"by": "a"},
        {"batch": 2, "debounce": 1},
    ],
)
def test_what_an_event_refuses(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        perdure.Event("n", **options)


# -- subscriptions of workflows -------------------------------------------------------------------------


async def results(engine: Engine, workflow: str, count: int) -> list[Any]:
    """The results of a workflow's runs, in order of creation, once there are so many."""

    async def there() -> bool:
        return len([run async for run in engine.runs(workflow=workflow, status="completed")]) >= count

    await until(there)
    ids = [run.id async for run in engine.runs(workflow=workflow)]
    return [await engine.get(id).result() for id in reversed(ids)]


@pytest.fixture
def forgets_workflows() -> Any:
    """Subscriptions of a test are its own."""
    from perdure.runtime import definitions

    before = dict(definitions._workflows)
    yield
    definitions._workflows.clear()
    definitions._workflows.update(before)


def test_an_event_starts_a_run(place: Place, forgets_workflows: None) -> None:
    @workflow(name="pub.on_paid", on=perdure.Event("paid", where={"total": [1, 2]}))
    async def on_paid(order: Order) -> str:
        return f"{order.id}: {order.total}"

    async def main() -> None:
        async with place.engine() as engine:
            for number in (1, 2, 3):
                await engine.publish("paid", Order(f"o-{number}", number))
            assert await results(engine, "pub.on_paid", 2) == ["o-1: 1", "o-2: 2"]
            (started,) = await of_kind(
                engine.get((await anext(engine.runs(workflow="pub.on_paid"))).id),
                events.RunStarted,
            )
            assert started.heard.event == "paid"
            (subscription,) = await engine.subscriptions()
            assert (subscription.workflow, subscription.event) == ("pub.on_paid", "paid")
            assert subscription.where == {"total": [1, 2]}

    run(main)


def test_a_publication_without_a_worker_waits_for_one(place: Place, forgets_workflows: None) -> None:
    @workflow(name="pub.later", on=perdure.Event("paid"))
    async def later(number: int) -> int:
        return number

    async def main() -> None:
        async with place.engine(worker=False) as client:
            await client.publish("paid", 0)  # before anybody subscribed
        async with place.engine():
            pass
        async with place.engine(worker=False) as client:
            await client.publish("paid", 1)
        async with place.engine() as engine:
            assert await results(engine, "pub.later", 1) == [1]

    run(main)


def test_a_subscription_ends_when_it_is_removed(
    place: Place, forgets_workflows: None, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow(name="pub.ends", on=perdure.Event("paid"))
    async def ends(number: int) -> int:
        return number

    async def without(number: int) -> int:
        return number

    async def main() -> None:
        async with place.engine():
            pass
        redefine("pub.ends", without)
        with caplog.at_level(logging.WARNING, "perdure.distributor"):
            async with place.engine() as engine:
                assert "perdure subscriptions remove pub.ends" in caplog.text
                await engine.publish("paid", 1)
                assert await results(engine, "pub.ends", 1) == [1]
                assert await engine.unsubscribe("pub.ends")
                assert not await engine.unsubscribe("pub.ends")
                await engine.publish("paid", 2)
                await until(lambda: all_settled(engine))
                assert len([run async for run in engine.runs(workflow="pub.ends")]) == 1

    run(main)


def test_what_does_not_fit_blocks_the_run_that_it_starts(place: Place, forgets_workflows: None) -> None:
    @workflow(name="pub.strict", on=perdure.Event("paid"))
    async def strict(order: Order) -> None: ...

    async def main() -> None:
        async with place.engine() as engine:
            await engine.publish("paid", "nonsense")

            async def blocked() -> bool:
                return bool([run async for run in engine.runs(workflow="pub.strict", status="blocked")])

            await until(blocked)

    run(main)


def test_debouncing_takes_the_last(place: Place, forgets_workflows: None) -> None:
    @workflow(name="pub.debounced", on=perdure.Event("doc", debounce=0.3, by="id"))
    async def debounced(doc: dict[str, Any]) -> dict[str, Any]:
        return doc

    async def main() -> None:
        async with place.engine() as engine:
            for version in range(5):
                for id in ("a", "b"):
                    await engine.publish("doc", {"id": id, "v": version})
            found = await results(engine, "pub.debounced", 2)
            assert sorted(found, key=lambda doc: doc["id"]) == [{"id": "a", "v": 4}, {"id": "b", "v": 4}]

    run(main)


def test_batches_by_size_and_time(place: Place, forgets_workflows: None) -> None:
    @workflow(name="pub.batched", on=perdure.Event("row", batch=4, within=0.3))
    async def batched(rows: list[int]) -> list[int]:
        return rows

    async def main() -> None:
        async with place.engine() as engine:
            for number in range(10):
                await engine.publish("row", number)
            found = await results(engine, "pub.batched", 3)
            assert sorted(number for rows in found for number in rows) == list(range(10))
            assert Counter(map(len, found)) == Counter([4, 4, 2])

    run(main)


def test_a_query_publishes_nothing(place: Place) -> None:
    @workflow(name="pub.asked")
    async def asked() -> Any:
        def tells() -> None:
            perdure.publish("b")

        perdure.on_query(tells)
        return await perdure.event("b")

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asked(), id="r")
            await listening(engine, "r")
            with pytest.raises(perdure.ReadOnlyError):
                await handle.query("tells")
            await engine.publish("b", 1)
            assert await handle.result() == 1

    run(main)


def test_it_is_told_what_a_run_waits_for(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits("paid", {"customer": "c-7"}, 3600), id="r")
            await listening(engine, "r")
            why = await handle.why()
            whats = [cause.what for cause in why.causes]
            assert "waits for the event 'paid' where customer = c-7" in whats

    run(main)
