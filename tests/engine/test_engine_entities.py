"""Entities: calls one at a time, state and answer together, replays that stay short, calls from workflows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from engine_kit import Place, history, run, until
from entity_kit import HEARD, Cart, CartState, Counts, OutOfStock, shops

import perdure
from perdure import events
from perdure.errors import (
    ConfigurationError,
    NotSerializableError,
    ReadOnlyError,
    RunEndedError,
    UpdateRejected,
    UsageError,
)

CART = "entity_kit.Cart"


def test_calls_change_the_state_and_reads_see_it(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            cart: Any = engine.entity(Cart, "user-7")
            assert await cart.items() == []
            assert await cart.add("apple") == 5
            assert await cart.add("fig") == 8
            assert await cart.touch() == "user-7 touched"
            assert (await cart.items(), await cart.total()) == (["apple", "fig"], 9)
            assert await cart.total() == 9
            other: Any = engine.entity(Cart, "user-8")
            assert await other.items() == []
            assert await cart.empty() == ["apple", "fig"]
            assert await cart.items() == []
            assert await engine.entity(Counts, "c").count("x", by=3) == 3
            assert [item.id async for item in engine.runs(workflow="counts")] == ["counts/c"]
        async with place.engine() as engine:
            assert await engine.entity(Counts, "c").count("x") == 4
            assert await engine.entity(Cart, "user-7").add("x") == 1

    run(main)


def test_an_exception_leaves_the_state_as_it_was(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            cart: Any = engine.entity(Cart, "u")
            await cart.add("apple")
            with pytest.raises(OutOfStock, match="snake"):
                await cart.refuse("snake")
            with pytest.raises(NotSerializableError):
                await cart.break_state()
            with pytest.raises(NotSerializableError):
                await cart.answer_nonsense()
            assert (await cart.items(), await cart.total()) == (["apple"], 5)
            assert await cart.add("fig") == 8
            with pytest.raises(UpdateRejected):
                await engine._connection.inquiry.entities.call(  # type: ignore[union-attr]
                    _definition(Cart), "u", "add", b'[[{"no":"text"}],{}]'
                )
            assert await cart.add("x") == 9

    run(main)


def _definition(cls: type[Any]) -> Any:
    from perdure.api.entities import known_entity

    return known_entity(cls).definition


def test_calls_come_one_at_a_time(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            cart: Any = engine.entity(Cart, "u")
            totals = await asyncio.gather(*(cart.add("abc") for _ in range(30)))
            assert sorted(totals) == [3 * number for number in range(1, 31)]
            told = await history(engine.get(f"{CART}/u"))
            going = 0
            for event in told:
                going += isinstance(event, events.UpdateAccepted)
                going -= isinstance(event, events.UpdateCompleted)
                assert going in (0, 1)

    run(main)


def test_state_and_answer_are_one_append(place: Place) -> None:
    async def main() -> None:
        appends: list[list[events.Event]] = []
        async with place.engine(lambda inner: _Watched(inner, appends)) as engine:
            await engine.entity(Counts, "c").count("x")
        (written,) = [batch for batch in appends if any(isinstance(e, events.UpdateCompleted) for e in batch)]
        assert [type(event) for event in written][-2:] == [events.UpdateCompleted, events.Checkpointed]

    run(main)


class _Watched:
    def __init__(self, inner: Any, appends: list[list[events.Event]]) -> None:
        self.inner = inner
        self.appends = appends

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def append(self, batch: Any) -> Any:
        from perdure.codec.events import decode_event

        self.appends += [[decode_event(data) for data in append.events] for append in batch]
        return self.inner.append(batch)


def test_a_key_makes_calls_recognisable(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            once: Any = engine.entity(Counts, "c", key="order-1")
            assert await asyncio.gather(once.count("x"), once.count("x"), once.count("x")) == [1, 1, 1]
        async with place.engine() as engine:
            assert await engine.entity(Counts, "c", key="order-1").count("x") == 1
            assert await engine.entity(Counts, "c", key="order-2").count("x") == 2

    run(main)


def test_workflows_call_entities(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(shops("u"), id="s") == [5, 8, "no snake", 1, 5, 8]
            steps = [e.step for e in await history(engine.get("s")) if isinstance(e, events.StepCompleted)]
            assert f"{CART}.add#1" in steps
            assert await engine.entity(Counts, "all").of("b") == 5

    run(main)


def test_ten_thousand_calls_replay_a_handful_of_events(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            counts = engine.entity(Counts, "c")
            for _ in range(100):
                await asyncio.gather(*(counts.count("x") for _ in range(100)))
            row = (await engine._store.get(["counts/c"]))[0]
            assert row is not None
            assert row.seq > 30_000
        async with memory.engine() as engine:
            (read,) = await engine._store.load([row.run])
            assert len(read.events) < 10
            assert await engine.entity(Counts, "c").count("x") == 10_001

    async def bounded() -> None:
        async with asyncio.timeout(120):
            await main()

    asyncio.run(bounded())


def test_a_replay_begins_at_the_checkpoint(file: Place) -> None:
    async def main() -> None:
        async with file.engine() as engine:
            for number in range(50):
                await engine.entity(Counts, "c").count(f"n{number}")
            row = (await engine._store.get(["counts/c"]))[0]
            assert row is not None
            (read,) = await engine._store.load([row.run])
            assert len(read.events) < 10
            assert row.seq > 100
            whole = await history(engine.get("counts/c"))
            assert len(whole) == row.seq  # people still see all of it

    run(main)


def test_idle_entities_hold_no_memory(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.05) as engine:
            await engine.entity(Counts, "c").count("x")
            assert engine._worker is not None
            drivers = engine._worker.drivers
            await until(lambda: not drivers)
            assert await engine.entity(Counts, "c").of("x") == 1
            assert not drivers  # a read wakes nobody
            assert await engine.entity(Counts, "c").count("x") == 2

    run(main)


def test_what_a_call_leaves_running_ends_with_it(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            cart: Any = engine.entity(Cart, "u")
            await cart.leaves_a_task()
            await cart.leaves_a_task()
            assert await cart.add("apple") == 5
        async with place.engine() as engine:
            assert await engine.entity(Cart, "u").add("fig") == 8

    run(main)


def test_what_a_call_gave_up_troubles_no_later_one(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            cart: Any = engine.entity(Cart, "u")
            assert [await cart.gives_up(), await cart.gives_up()] == ["gave up", "gave up"]
            children = [item.id async for item in engine.runs(workflow="lingers")]
            assert len(set(children)) == 2

            async def all_ended() -> bool:
                return all([item.status.final async for item in engine.runs(workflow="lingers")])

            await until(all_ended)
            assert await cart.add("apple") == 5
            handle = engine.get(f"{CART}/u")

            async def all_heard() -> bool:
                return sum(isinstance(event, events.ChildEnded) for event in await history(handle)) == 2

            await until(all_heard)
            assert await handle.status() != "blocked"
        async with place.engine() as engine:
            assert await engine.entity(Cart, "u").add("fig") == 8

    run(main)


def test_calls_start_children_and_patch_anew_each_time(place: Place) -> None:
    async def main() -> None:
        for _ in range(2):
            async with place.engine() as engine:
                cart: Any = engine.entity(Cart, "u")
                assert [await cart.parent(), await cart.parent()] == ["done", "done"]
                assert [await cart.patches(), await cart.patches()] == [True, True]
                ids = [item.id async for item in engine.runs(workflow="lingers")]
        assert len(ids) == len(set(ids)) == 4

    run(main)


def test_a_paused_entity_goes_on_afterwards(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            counts: Any = engine.entity(Counts, "c")
            assert await counts.count("x") == 1
            await engine.get("counts/c").pause()
            waiting = asyncio.ensure_future(counts.count("x"))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            assert await counts.of("x") == 1
            await engine.get("counts/c").resume()
            assert await waiting == 2
            assert await counts.count("x") == 3

    run(main)


def test_calls_have_random_numbers_of_their_own(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            cart: Any = engine.entity(Cart, "u")
            await cart.twice("a")
            items = await cart.twice("a")
            assert len({item.split()[0] for item in items}) == 2

    run(main)


def test_a_client_calls_and_a_worker_answers(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as _, place.engine(worker=False) as client:
            cart: Any = client.entity(Cart, "u")
            assert await cart.add("apple") == 5
            assert await cart.items() == ["apple"]

    run(main)


def test_two_workers_share_an_entity(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as one, place.engine() as two:
            engines = [one, two]
            found = await asyncio.gather(
                *(engines[number % 2].entity(Counts, "c").count("x") for number in range(40))
            )
            assert sorted(found) == list(range(1, 41))
            await one.close()  # hands its runs back
            assert await two.entity(Counts, "c").count("x") == 41

    run(main)


def test_an_entity_that_was_ended_takes_no_calls(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            counts: Any = engine.entity(Counts, "c")
            await counts.count("x")
            await engine.get("counts/c").terminate()
            with pytest.raises(RunEndedError):
                await counts.count("x")
            with pytest.raises(RunEndedError, match="has no state any more"):
                await counts.of("x")

    run(main)


def test_reads_only_look(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            cart: Any = engine.entity(Cart, "u")
            with pytest.raises(ReadOnlyError, match="a plain function"):
                await cart.acts()

    run(main)


def test_misuse(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            cart: Any = engine.entity(Cart, "u")
            with pytest.raises(AttributeError, match=r"no method 'buy'.*it has: acts, add"):
                cart.buy
            with pytest.raises(TypeError, match="missing 1 required positional argument"):
                cart.add()
            with pytest.raises(UsageError, match="is no entity"):
                engine.entity(CartState, "u")
            with pytest.raises(UsageError, match="only in workflow code"):
                perdure.entity(Cart, "u")
            with pytest.raises(UsageError):
                engine.entity(Cart, "a\nb")

    run(main)


def test_what_is_no_entity() -> None:
    class NoState:
        async def call(self) -> None: ...

    class NoCalls:
        state: dict[str, int]

    for cls, says in ((NoState, "no `state"), (NoCalls, "no method")):
        with pytest.raises(ConfigurationError, match=says):
            perdure.entity(cls)


@dataclass
class Needs:
    what: str


@perdure.entity
class Needy:
    state: Needs

    async def call(self) -> None: ...


class Struct(msgspec.Struct):
    numbers: set[int] = set()


@perdure.entity
class Structured:
    state: Struct

    async def put(self, number: int) -> int:
        self.state.numbers.add(number)
        return len(self.state.numbers)


def test_states_of_other_kinds(memory: Place) -> None:
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        names: dict[str, int] = {}

    class Modelled:
        state: Model

        async def put(self, name: str) -> int:
            self.state.names[name] = len(name)
            return len(self.state.names)

    Modelled.__annotations__["state"] = Model
    perdure.entity(name="modelled")(Modelled)

    async def main() -> None:
        async with memory.engine() as engine:
            assert [await engine.entity(Structured, "s").put(n) for n in (1, 2, 2)] == [1, 2, 2]
            assert [await engine.entity(Modelled, "s").put(n) for n in ("a", "b", "b")] == [1, 2, 2]
            with pytest.raises(ConfigurationError, match="Give all of its fields a default"):
                await engine.entity(Needy, "s").call()

    run(main)
    assert HEARD is not None
