"""Moving all runs to another database: nothing is lost, nothing goes on in both, whatever dies when."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from engine_kit import Place, Wrapped, crash, reaches, recorded, until

import perdure
from helpers.postgres import lent_database
from perdure import Status, step, workflow
from perdure.errors import MovingError
from perdure.runtime.moving import Mover, Report
from perdure.storage.protocol import Store

WHERE = "elsewhere"
ROUTES = [("memory", "sqlite"), ("sqlite", "memory"), ("sqlite", "postgres"), ("postgres", "sqlite")]

PATIENCE = 120.0  #: only a hanging test ever waits so long

executed: Counter[str] = Counter()
gate: asyncio.Event


def done_within(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @functools.wraps(test)
    def bounded(*args: Any, **options: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **options), PATIENCE))

    return bounded


@pytest.fixture(autouse=True)
def nothing_executed() -> None:
    executed.clear()


@pytest.fixture(params=ROUTES, ids="-".join)
def make_places(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], tuple[Place, Place]]]:
    """Makes empty databases, to move from and to."""
    numbers = itertools.count()
    with ExitStack() as lent:

        def make(kind: str) -> Place:
            if kind == "postgres":
                return Place(url=lent.enter_context(lent_database()))
            return Place(tmp_path / f"{next(numbers)}.db") if kind == "sqlite" else Place()

        yield lambda: (make(request.param[0]), make(request.param[1]))


@pytest.fixture
def places(make_places: Callable[[], tuple[Place, Place]]) -> tuple[Place, Place]:
    return make_places()


@step
async def note(what: str) -> str:
    executed[what] += 1
    return what


@step
async def slow(what: str) -> str:
    executed[what] += 1
    await gate.wait()
    return what


@workflow(name="moving.child")
async def child(name: str) -> str:
    await note(f"{name} begins")
    return await perdure.receive("word", str)


@workflow(name="moving.parent")
async def parent(name: str) -> list[str]:
    before = await note(f"{name} first")
    started = await perdure.start(child(name), id=f"{name}-child")
    perdure.set_attributes(stage="waiting")
    perdure.emit("out", "begun")
    word = await started.result()
    return [before, word, await note(f"{name} last")]


@workflow(name="moving.busy")
async def busy(name: str) -> str:
    await slow(f"{name} slow")
    return await note(f"{name} after")


@workflow(name="moving.quick")
async def quick(name: str) -> str:
    return await note(name)


class Dies(Wrapped):
    """A store whose verbs for moving end the mover at a given call, done or not; reading calls don't count."""

    def __init__(self, inner: Store, calls: itertools.count[int], at: int, *, done: bool) -> None:
        super().__init__(inner)
        self.calls = calls
        self.at = at
        self.done = done

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return Part(self, found) if name in ("moving", "schedules", "pauses") else found


class Part:
    def __init__(self, store: Dies, inner: Any) -> None:
        self.store = store
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.inner, name)
        if name in ("mark", "stamps", "read", "get", "all"):
            return verb

        async def call(*args: Any, **options: Any) -> Any:
            dies = next(self.store.calls) == self.store.at
            if dies and not self.store.done:
                raise Killed
            answer = await verb(*args, **options)
            if dies:
                raise Killed
            return answer

        return call


class Killed(BaseException):
    """The mover's process is gone."""


async def move(
    source: Place, target: Place, wrap: Callable[[Store], Any] = lambda s: s, **options: Any
) -> Report:
    one, other = wrap(source.store()), wrap(target.store())
    await one.open()
    await other.open()
    try:
        return await Mover(one, other, WHERE, **options).move()
    finally:
        await one.close()
        await other.close()


async def populate(place: Place) -> None:
    """Runs of all kinds at rest: ended, waiting with a child, delayed, with unread messages, paused; a schedule."""
    async with place.engine() as engine:
        await engine.run(quick("ended"), id="ended")
        family = await engine.start(parent("p"), id="p")
        await until(lambda: executed["p-child begins"] or executed["p begins"])
        await engine.start(quick("later"), id="later", delay=3600)
        held = await engine.start(child("held"), id="held")
        await held.pause("by a person")
        await reaches(held, Status.PAUSED)
        await engine.schedules.create("nightly", quick("nightly"), cron="0 3 * * *")
        assert not (await family.status()).final


async def check_target(place: Place) -> None:
    """Everything goes on where it was, once."""
    place.ahead += 3600  # so that what was delayed is due
    async with place.engine() as engine:
        assert await engine.get("ended").result() == "ended"
        assert await engine.get("held").status() == Status.PAUSED
        await engine.get("p-child").send("word", "hello")
        assert await engine.get("p").result(timeout=60) == ["p first", "hello", "p last"]
        assert await engine.get("later").result(timeout=60) == "later"
        await engine.get("held").resume()
        await engine.get("held").send("word", "free")
        assert await engine.get("held").result(timeout=60) == "free"
        assert [item.value async for item in engine.get("p").stream("out")] == ["begun"]
        assert [run.id async for run in engine.runs(attributes={"stage": "waiting"})] == ["p"]
        assert [one.name for one in await engine.schedules.list()] == ["nightly"]
    assert set(executed.values()) == {1}, executed


async def check_source(place: Place) -> None:
    """Nothing goes on there, and everybody is told."""
    async with place.engine(worker=False) as engine:
        for id in ("p", "p-child", "later", "held"):
            assert await engine.get(id).status() == Status.TERMINATED
            with pytest.raises(perdure.RunTerminated, match="moved to elsewhere"):
                await engine.get(id).result()
        assert await engine.schedules.list() == []
    with pytest.raises(MovingError, match="moved to elsewhere"):
        async with place.engine():
            pass


@done_within
async def test_everything_goes_on_elsewhere(places: tuple[Place, Place]) -> None:
    source, target = places
    await populate(source)
    report = await move(source, target)
    assert (report.runs, report.live, report.copied, report.arrived) == (5, 4, 5, 5)
    assert (report.schedules, report.resumed, report.switched) == (1, False, True)
    await check_source(source)
    again = await move(source, target)
    assert (again.runs, again.arrived, again.resumed) == (0, 0, True)
    await check_target(target)


@done_within
async def test_a_mover_may_die_at_every_commit(make_places: Callable[[], tuple[Place, Place]]) -> None:
    """Before or after it: nothing goes on in the target before the switch, and the next mover completes the move."""
    for at, done in ((number // 2, bool(number % 2)) for number in itertools.count(2)):
        executed.clear()
        source, target = make_places()
        await populate(source)
        calls = itertools.count(1)
        try:
            await move(source, target, functools.partial(Dies, calls=calls, at=at, done=done))
        except Killed:
            pass
        else:
            assert at > 5
            return
        if await live(source):
            async with target.engine():
                await asyncio.sleep(0.02)
            assert executed["p last"] == executed["later"] == 0
        await move(source, target)
        await check_source(source)
        await check_target(target)


async def live(place: Place) -> list[str]:
    async with place.engine(worker=False) as engine:
        return [run.id async for run in engine.runs() if not run.status.final]


@done_within
async def test_a_driven_run_comes_to_rest_first(places: tuple[Place, Place]) -> None:
    """Its step ends where it began; the move waits for that, and the run goes on elsewhere by itself."""
    global gate
    gate = asyncio.Event()
    source, target = places
    async with source.engine() as engine:
        handle = await engine.start(busy("b"), id="b")
        await until(lambda: executed["b slow"])
        with pytest.raises(MovingError, match="don't come to rest"):
            await move(source, target, patience=0.2)
        moving = asyncio.create_task(move(source, target))
        await asyncio.sleep(0.1)
        assert not moving.done()
        gate.set()
        report = await moving
        assert (report.runs, report.resumed) == (1, True)
        assert await handle.status() == Status.TERMINATED
    async with target.engine() as engine:
        assert await engine.get("b").result(timeout=60) == "b after"
    assert executed == {"b slow": 1, "b after": 1}


@done_within
async def test_runs_of_a_dead_worker_are_moved(places: tuple[Place, Place]) -> None:
    """A worker that is gone is buried by the mover."""
    source, target = places
    dead = source.engine(lease=0.3)
    await dead.__aenter__()
    handle = await dead.start(child("c"), id="c")
    await until(lambda: recorded(handle))
    await crash(dead)
    report = await move(source, target)
    assert report.runs == 1
    async with target.engine() as engine:
        await engine.get("c").send("word", "x")
        assert await engine.get("c").result(timeout=60) == "x"
    assert executed == {"c begins": 1}


@done_within
async def test_an_id_that_is_taken_stops_the_move_before_it_begins(places: tuple[Place, Place]) -> None:
    source, target = places
    for place in places:
        async with place.engine() as engine:
            await engine.run(quick("x"), id="same")
    with pytest.raises(MovingError, match="these ids already: same"):
        await move(source, target)
    async with source.engine() as engine:
        assert await engine.run(quick("goes on"), id="other") == "goes on"


@done_within
async def test_an_attempt_can_be_given_up(places: tuple[Place, Place]) -> None:
    """The copies go, what was paused for it is resumed, and the source goes on."""
    global gate
    gate = asyncio.Event()
    source, target = places
    async with source.engine() as engine:
        await engine.start(child("c"), id="c")
        await engine.start(busy("b"), id="b")
        await until(lambda: executed["b slow"] and executed["c begins"])
        with pytest.raises(MovingError):
            await move(source, target, patience=0.1)
        gate.set()
        one, other = source.store(), target.store()
        await one.open()
        await other.open()
        await Mover(one, other, WHERE).give_up()
        with pytest.raises(MovingError, match="No move"):
            await Mover(one, other, WHERE).give_up()
        await one.close()
        await other.close()
        assert await engine.get("b").result(timeout=60) == "b after"
        await engine.get("c").send("word", "x")
        assert await engine.get("c").result(timeout=60) == "x"
    async with target.engine(worker=False) as engine:
        assert [run async for run in engine.runs()] == []


@done_within
async def test_messages_that_come_while_it_moves_are_not_lost(places: tuple[Place, Place]) -> None:
    """What is sent before the switch goes along; the switch is refused for the old copy."""
    source, target = places
    await populate(source)

    class Sends(Wrapped):
        sent = False

        def __getattr__(self, name: str) -> Any:
            inner = getattr(self.inner, name)
            if name != "moving":
                return inner
            store = self

            class Part:
                def __getattr__(self, name: str) -> Any:
                    verb = getattr(inner, name)

                    async def switch(*args: Any, **options: Any) -> Any:
                        if not Sends.sent:
                            Sends.sent = True
                            async with source.engine(worker=False) as engine:
                                await engine.get("p-child").send("word", "in time")
                        return await verb(*args, **options)

                    return switch if name == "switch" else verb

            assert store is not None
            return Part()

    report = await move(source, target, Sends)
    assert report.copied == 6
    async with target.engine() as engine:
        assert await engine.get("p").result(timeout=60) == ["p first", "in time", "p last"]
