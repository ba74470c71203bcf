"""Retries and forks go on from a history: what succeeded there isn't done again."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from engine_kit import (
    Ledger,
    Mortal,
    Place,
    Places,
    bury,
    crash,
    of_kind,
    reaches,
    recorded,
    redefine,
    run,
    until,
)

import perdure
from perdure import Engine, RunConflictError, events, step, workflow
from perdure.errors import UsageError

BODIES: Counter[str] = Counter()
BROKEN: set[str] = set()
KEYS: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    BODIES.clear()
    BROKEN.clear()
    KEYS.clear()


@step(name="buys")
async def buys(what: str) -> int:
    BODIES[what] += 1
    if what in BROKEN:
        KEYS.append(perdure.idempotency_key())
        raise ValueError(f"no {what}")
    return len(what)


@workflow
async def shops() -> int:
    first, second = await asyncio.gather(buys("tea"), buys("bread"))
    await asyncio.sleep(0.001)
    third = await buys("jam" * first)
    return first + second + third + await buys("milk")


def test_a_failed_run_goes_on_from_its_failed_step(place: Place) -> None:
    async def main() -> None:
        BROKEN.add("milk")
        async with place.engine() as engine:
            handle = await engine.start(shops(), id="r")
            with pytest.raises(perdure.RunFailed, match="no milk"):
                await handle.result()
            with pytest.raises(perdure.RunFailed, match="no milk"):  # it isn't mended yet
                await handle.retry()
                await handle.result()
            BROKEN.clear()
            await handle.retry()
            assert await handle.result() == 3 + 5 + 9 + 4
            assert BODIES == {"tea": 1, "bread": 1, "jam" * 3: 1, "milk": 3}
            assert (await handle.info()).generation == 3
            done = await of_kind(handle, events.StepCompleted)
            assert [event.reused for event in done] == [True, True, True, False]
            assert len(await of_kind(handle, events.TimerFired)) == 1
            assert len(set(KEYS)) == 1  # a retry has the keys of what it retries

    run(main)


def test_only_failed_runs_are_retried(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            await engine.run(shops(), id="r")
            with pytest.raises(RunConflictError, match="it is completed, not failed"):
                await engine.get("r").retry()
            with pytest.raises(perdure.UnknownRunError):
                await engine.get("nobody").retry()

    run(main)


def test_one_of_two_who_retry_wins(place: Place) -> None:
    async def main() -> None:
        BROKEN.add("milk")
        async with place.engine() as engine:
            handle = await engine.start(shops(), id="r")
            with suppress(perdure.RunFailed):
                await handle.result()
            BROKEN.clear()
            answers = await asyncio.gather(*(handle.retry() for _ in range(4)), return_exceptions=True)
            assert sum(answer is None for answer in answers) == 1
            assert all(isinstance(answer, RunConflictError) for answer in answers if answer is not None)
            assert await handle.result() == 21

    run(main)


def test_a_fork_does_nothing_again(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(shops(), id="r")
            assert await handle.result() == 21
            other = await handle.fork(id="f")
            assert other.id == "f"
            assert await other.result() == 21
            assert sum(BODIES.values()) == 4
            assert (await other.info()).generation == 1
            assert await (await handle.fork(id="f")).result() == 21  # which is there already
            with pytest.raises(RunConflictError, match="can't have the id 'f'"):
                await handle.fork(at=3, id="f")
            (started,) = await of_kind(other, events.RunStarted)
            assert (started.donor.run, started.donor.generation) == ("r", 1)
            assert (await (await handle.fork()).result()) == 21
            with pytest.raises(RunConflictError, match="can't have the id 'r'"):
                await handle.fork(id="r")

    run(main)


def test_at_cuts_off_what_is_done_anew(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(shops(), id="r")
            await handle.result()
            plan = await handle.fork(at="buys#2", dry_run=True)
            ids = await recorded(handle)
            assert plan.exact
            assert plan.reused == tuple(ids[: len(plan.reused)])
            assert set(plan.reused) | set(plan.runs) <= set(ids)
            await (await handle.fork(at=1)).result()
            assert set(BODIES.values()) == {2}
            third = ids[2]
            plan = await handle.fork(at=third, dry_run=True)
            assert (plan.reused, plan.runs) == (tuple(ids[:2]), (third,))
            await (await handle.fork(at=third)).result()
            assert BODIES == {"tea": 2, "bread": 2, "jam" * 3: 3, "milk": 3}
            with pytest.raises(UsageError, match="give the number of an event"):
                await handle.fork(at=99)
            with pytest.raises(UsageError, match="no step 'nothing'"):
                await handle.fork(at="nothing")

    run(main)


@step
async def asks(question: str) -> str:
    BODIES[question] += 1
    return question.upper()


@step
async def prices(answer: str) -> int:
    BODIES[answer] += 1
    return len(answer)


@workflow
async def chain() -> list[Any]:
    answer = await asks("which")
    fixed = await prices("always")
    return [answer, fixed, await prices(answer)]


def test_an_edited_result_runs_again_only_what_it_changes(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(chain(), id="r")
            assert await handle.result() == ["WHICH", 6, 5]
            edits = {"asks": "another"}
            plan = await handle.fork(edits=edits, dry_run=True)
            (asked,) = [id for id in await recorded(handle) if "asks" in id]
            assert plan.edited == (asked,)
            assert len(plan.reused) == 2
            assert len(plan.runs) == 1
            other = await handle.fork(edits=edits)
            assert await other.result() == ["another", 6, 7]
            assert BODIES == {"which": 1, "always": 1, "WHICH": 1, "another": 1}
            with pytest.raises(perdure.NotSerializableError):
                await handle.fork(edits={"asks": object()})
            with pytest.raises(UsageError, match="several steps go by 'prices'"):
                await handle.fork(edits={"prices": 3})

    run(main)


def test_edited_arguments_are_those_a_step_is_called_with(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.05) as engine:
            handle = await engine.start(chain(), id="r")
            await handle.result()
            other = await handle.fork(edits={"asks": perdure.Args("who")})
            assert await other.result() == ["WHO", 6, 3]
            assert BODIES == {"which": 1, "always": 1, "WHICH": 1, "who": 1, "WHO": 1}
            again = await other.fork()  # whose code asks which, not who
            assert await again.result() == ["WHICH", 6, 5]
            with pytest.raises(TypeError):
                await handle.fork(edits={"asks": perdure.Args("too", "many")})

    run(main)


def test_mended_code_follows(place: Place) -> None:
    async def main() -> None:
        async def old() -> str:
            word = await asks("a")
            raise ValueError(word)

        async def new() -> str:
            before = await asks("a")
            return before + await asks("b")

        redefine("mended", old)
        async with place.engine() as engine:
            handle = await engine.start(redefine("mended", old)(), id="r")
            with suppress(perdure.RunFailed):
                await handle.result()
            redefine("mended", new)
            await handle.retry()
            assert await handle.result() == "AB"
            assert BODIES == {"a": 1, "b": 1}

    run(main)


@workflow
async def talks() -> list[Any]:
    heard = [await perdure.receive("n", int) for _ in range(2)]
    bought = await buys("tea")
    child = await shops()
    return [*heard, bought, child, perdure.now().timestamp(), perdure.random(), await buys("end")]


def test_messages_children_time_and_chance_are_as_they_were(place: Place) -> None:
    async def main() -> None:
        BROKEN.add("end")
        async with place.engine() as engine:
            handle = await engine.start(talks(), id="r")
            for number in (1, 2, 3):
                await handle.send("n", number)
            with suppress(perdure.RunFailed):
                await handle.result()
            BROKEN.clear()
            before = sum(BODIES.values())
            other = await (await handle.fork()).result()
            await handle.retry()
            result = await handle.result()
            assert result == other
            assert result[:4] == [1, 2, 3, 21]
            assert sum(BODIES.values()) == before + 2
            assert len((await handle.info()).undelivered) == 1

    run(main)


def test_a_live_run_can_be_forked(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(talks(), id="r")
            await handle.send("n", 1)

            async def heard() -> bool:
                return bool(await of_kind(handle, events.MessageReceived))

            await until(heard)
            other = await handle.fork()
            await other.send("n", 7)
            assert (await other.result())[:2] == [1, 7]
            assert not (await handle.status()).final
            await reaches(handle, "waiting")

    run(main)


@workflow
async def races() -> str:
    tasks = {asyncio.create_task(slow(), name="slow"), asyncio.create_task(quick(), name="quick")}
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return " ".join(sorted(task.get_name() for task in done)) + str(await buys("end"))


async def slow() -> None:
    await asyncio.sleep(0.01)
    await buys("slow")


async def quick() -> None:
    await buys("q")
    await buys("quick")


def test_what_raced_ends_in_the_same_way(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(races(), id="r")
            result = await handle.result()
            assert await (await handle.fork()).result() == result

    run(main)


def test_failures_and_cancellations_are_left_out(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(talks(), id="r")
            await handle.send("n", 1)
            await handle.cancel()
            with suppress(perdure.RunCancelled):
                await handle.result()
            other = await handle.fork()
            assert not (await other.status()).final
            await other.send("n", 2)
            assert (await other.result())[:2] == [1, 2]

    run(main)


# -- crashes ------------------------------------------------------------------------------------------


async def retried(engine: Engine) -> int:
    handle = await engine.start(shops(), id="a")
    with suppress(perdure.RunFailed):
        return await handle.result()
    BROKEN.clear()
    with suppress(RunConflictError):
        await handle.retry()
    return await handle.result()


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_a_crash_at_any_append_of_a_retry_changes_nothing(commits: bool, make_place: Places) -> None:
    async def main() -> None:
        number, died = 0, True
        while died:
            number += make_place.stride
            BROKEN.add("milk")
            BODIES.clear()
            place = make_place()
            engine = place.engine(lambda store, at=number: Mortal(store, at, commits, Counting()))
            await engine.__aenter__()
            store: Any = engine._store
            driving = asyncio.ensure_future(retried(engine))
            dying = asyncio.ensure_future(store.dead.wait())
            await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
            died = store.dead.is_set()
            driving.cancel()
            dying.cancel()
            with suppress(asyncio.CancelledError, perdure.PerdureError):
                await driving
            await crash(engine)
            await bury(place)
            async with place.engine() as engine:
                assert await retried(engine) == 21, f"died at append {number}"
                assert len(await recorded(engine.get("a"))) == 4
                for what in ("tea", "bread", "jamjamjam"):
                    assert BODIES[what] <= 2
        assert number > 4

    run(main)


class Counting(Ledger):
    """Keeps no account: run keys of later generations aren't announced to it."""

    def committed(self, append: Any) -> None:
        pass


TOKENS: list[str] = []


@workflow
async def awaits_a_callback() -> list[Any]:
    answer = perdure.callback(int)
    TOKENS.append(answer.token)
    other = perdure.callback(int)
    TOKENS.append(other.token)
    return [await answer, await buys("end"), await other]


def test_callbacks_are_taken_over_with_their_tokens(place: Place) -> None:
    async def main() -> None:
        TOKENS.clear()
        BROKEN.add("end")
        async with place.engine() as engine:
            handle = await engine.start(awaits_a_callback(), id="r")
            await has_opened(handle, 2)
            first, second = TOKENS[:2]
            await engine.callbacks.complete(first, 1)
            with suppress(perdure.RunFailed):
                await handle.result()
            BROKEN.clear()
            await handle.retry()
            await until(lambda: BODIES["end"] == 2)
            assert TOKENS[-2:] == [first, second]
            await engine.callbacks.complete(second, 2)
            assert await handle.result() == [1, 3, 2]
            fork = await handle.fork()
            assert await fork.result() == [1, 3, 2]
            assert TOKENS[-1] != second

    run(main)


async def has_opened(handle: perdure.Handle[Any], count: int) -> None:
    async def there() -> bool:
        return len(await of_kind(handle, events.CallbackOpened)) == count

    await until(there)


@workflow
async def sends_shopping() -> list[Any]:
    return [await buys("list"), await shops()]


def test_a_failed_child_goes_on_with_its_parent(place: Place) -> None:
    async def main() -> None:
        BROKEN.add("milk")
        async with place.engine() as engine:
            handle = await engine.start(sends_shopping(), id="r")
            with suppress(perdure.RunFailed):
                await handle.result()
            BROKEN.clear()
            await handle.retry()
            assert await handle.result() == [4, 21]
            assert BODIES == {"list": 1, "tea": 1, "bread": 1, "jamjamjam": 1, "milk": 2}
            child = engine.get(f"r~2/{shops.name}#1")
            assert (await child.info()).parent == "r"
            (started,) = await of_kind(child, events.RunStarted)
            assert started.donor.run == f"r/{shops.name}#1"

    run(main)
