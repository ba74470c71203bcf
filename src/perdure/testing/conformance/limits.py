"""Rate limits: what is asked of them is computed in one transaction, for all workers together."""

from __future__ import annotations

import asyncio

from perdure.core.limiting import usage
from perdure.core.permits import Ask, Batch, Block, Definition, Reset, Settlement, Unblock
from perdure.core.rates import MICRO, Rate
from perdure.testing.conformance.bench import NOW, Bench, Check

#: Twenty a minute, four at once.
RATES = {"requests": Rate(20, 60, burst=4)}
MOMENT = int(NOW * MICRO)
ONE = Ask({"api": {"requests": 1}})


def batch(*asks: Ask, **rest: object) -> Batch:
    """Ask, with the definition of the limit."""
    return Batch(definitions=[Definition("api", RATES)], asks=asks, **rest)  # type: ignore[arg-type]


async def there_are_no_limits_at_first(bench: Bench) -> None:
    assert await bench.store.limits.all() == {}


async def permissions_of_one_batch_are_spaced(bench: Bench) -> None:
    answers = await bench.store.limits.turn(batch(*[ONE] * 6), now=MOMENT)
    assert [permit.firm for permit in answers.permits] == [True] * 4 + [False] * 2
    assert [permit.at == MOMENT for permit in answers.permits] == [True] * 4 + [False] * 2
    assert MOMENT < answers.permits[4].at < answers.permits[5].at


async def all_stores_ask_the_same_bucket(bench: Bench) -> None:
    stores = [bench.store, await bench.another(), await bench.another()]
    turns = [store.limits.turn(batch(ONE), now=MOMENT) for store in stores * 4]
    permits = [answers.permits[0] for answers in await asyncio.gather(*turns)]
    assert sum(permit.firm for permit in permits) == 4
    assert len({permit.at for permit in permits}) == 9  # four at once, and eight places in line


async def batches_on_several_limits_do_not_lock_each_other_out(bench: Bench) -> None:
    stores = [bench.store, await bench.another()]
    names = ["a", "b", "c"]
    definitions = [Definition(name, RATES) for name in names]
    turns = [
        stores[number % 2].limits.turn(
            Batch(
                definitions=definitions,
                asks=[Ask({name: {"requests": 1} for name in (names if number % 3 else names[::-1])})],
            ),
            now=MOMENT,
        )
        for number in range(12)
    ]
    permits = [answers.permits[0] for answers in await asyncio.gather(*turns)]
    assert sum(permit.firm for permit in permits) == 4


async def a_limit_is_kept_as_it_is(bench: Bench) -> None:
    await bench.store.limits.turn(batch(ONE, ONE), now=MOMENT)
    other = await bench.another()
    found = await other.limits.all()
    assert list(found) == ["api"]
    seen = usage(found["api"], MOMENT)["requests"]
    assert (seen.rate, seen.free, seen.waiting) == (RATES["requests"], 2, 0)


async def limits_are_listed_by_name(bench: Bench) -> None:
    for name in ("b", "c", "B", "a"):
        await bench.store.limits.turn(Batch(definitions=[Definition(name, RATES)]), now=MOMENT)
    assert list(await bench.store.limits.all()) == ["B", "a", "b", "c"]


async def a_block_holds_for_every_store(bench: Bench) -> None:
    await bench.store.limits.turn(Batch(changes=[Block("api", MOMENT + 9 * MICRO)]), now=MOMENT)
    other = await bench.another()
    await other.limits.turn(Batch(changes=[Block("api", MOMENT + 5 * MICRO)]), now=MOMENT)
    (permit,) = (await other.limits.turn(batch(ONE), now=MOMENT)).permits
    assert (permit.firm, permit.at) == (False, MOMENT + 9 * MICRO)
    assert (await bench.store.limits.all())["api"].blocked_until == MOMENT + 9 * MICRO
    await other.limits.turn(Batch(changes=[Unblock("api"), Reset("api")]), now=MOMENT)
    (permit,) = (await bench.store.limits.turn(batch(ONE), now=MOMENT)).permits
    assert permit.firm


async def what_was_not_used_comes_back(bench: Bench) -> None:
    (permit,) = (await bench.store.limits.turn(batch(Ask({"api": {"requests": 4}})), now=MOMENT)).permits
    back = Settlement("api", "requests", 4, 1, permit.marks["api"]["requests"])
    await (await bench.another()).limits.turn(batch(changes=[back]), now=MOMENT)
    assert usage((await bench.store.limits.all())["api"], MOMENT)["requests"].free == 3


async def fresh_definitions_replace_others(bench: Bench) -> None:
    await bench.store.limits.turn(batch(ONE), now=MOMENT)
    new = Definition("api", {"requests": Rate(7, 1)}, fresh=True)
    answers = await bench.store.limits.turn(Batch(definitions=[new]), now=MOMENT)
    assert answers.replaced == [Definition("api", RATES)]
    await bench.store.limits.turn(batch(ONE), now=MOMENT)  # known already: what is there holds
    assert (await bench.store.limits.all())["api"].units["requests"].rate == Rate(7, 1)


async def what_can_never_be_is_told_and_changes_nothing(bench: Bench) -> None:
    await bench.store.limits.turn(batch(), now=MOMENT)
    before = await bench.store.limits.all()
    (permit,) = (await bench.store.limits.turn(batch(Ask({"api": {"requests": 21}})), now=MOMENT)).permits
    assert permit.impossible
    assert await bench.store.limits.all() == before


CHECKS: tuple[Check, ...] = (
    there_are_no_limits_at_first,
    permissions_of_one_batch_are_spaced,
    all_stores_ask_the_same_bucket,
    batches_on_several_limits_do_not_lock_each_other_out,
    a_limit_is_kept_as_it_is,
    limits_are_listed_by_name,
    a_block_holds_for_every_store,
    what_was_not_used_comes_back,
    fresh_definitions_replace_others,
    what_can_never_be_is_told_and_changes_nothing,
)
