"""Checkpoints: what of a history a replay reads."""

from __future__ import annotations

from perdure.storage.effects import KeepCheckpoint
from perdure.testing.conformance.bench import NOW, Bench, Check


async def after_a_checkpoint_a_replay_reads_the_first_event_and_what_follows(bench: Bench) -> None:
    worker = await bench.worker()
    row = await bench.make("a", owner=worker)
    row = await bench.put(row, b"2", b"3")
    row = await bench.put(row, b"4", b"5", effects=[KeepCheckpoint()])
    assert list(await bench.history(row)) == [b"first", b"4", b"5"]
    row = await bench.put(row, b"6")
    assert list(await bench.history(row)) == [b"first", b"4", b"5", b"6"]
    row = await bench.put(row, b"7", effects=[KeepCheckpoint()])
    assert list(await bench.history(row)) == [b"first", b"7"]
    whole = [data for _, data in await bench.store.events(row.run)]
    assert whole == [b"first", b"2", b"3", b"4", b"5", b"6", b"7"]
    assert row.seq == 7


async def a_long_tail_after_a_checkpoint_is_read_whole(bench: Bench) -> None:
    worker = await bench.worker()
    row = await bench.make("a", owner=worker)
    row = await bench.put(row, b"summed up", effects=[KeepCheckpoint()])
    tail = [str(number).encode() for number in range(2500)]
    row = await bench.put(row, *tail)
    assert list(await bench.history(row)) == [b"first", b"summed up", *tail]


async def a_refused_append_leaves_no_checkpoint(bench: Bench) -> None:
    worker = await bench.worker()
    row = await bench.make("a", owner=worker)
    row = await bench.put(row, b"2", now=NOW)
    await bench.append(row, b"3", epoch=row.epoch + 1, effects=[KeepCheckpoint()])
    assert list(await bench.history(row)) == [b"first", b"2"]


async def entities_are_found_by_their_kind(bench: Bench) -> None:
    worker = await bench.worker()
    entities = bench.store.entities
    assert list(await entities.kinds()) == []
    for id in ("Cart/a", "Cart/b", "Cart/c"):
        row = await bench.make(id, owner=worker, workflow="shop.Cart")
        await bench.put(row, b"called", effects=[KeepCheckpoint()])
    row = await bench.make("Purse/a", owner=worker, workflow="shop.Purse")
    await bench.put(row, b"called", effects=[KeepCheckpoint()])
    await bench.make("Cart/d", owner=worker, workflow="shop.Cart")  # no call has ended
    await bench.make("other", owner=worker)
    assert list(await entities.kinds()) == [("shop.Cart", 3), ("shop.Purse", 1)]
    found = await entities.find("shop.Cart", limit=10)
    assert {item.id for item in found} == {"Cart/a", "Cart/b", "Cart/c"}
    assert [item.run for item in found] == sorted((item.run for item in found), reverse=True)
    first, *rest = found
    assert list(await entities.find("shop.Cart", limit=1)) == [first]
    assert list(await entities.find("shop.Cart", before=first.run, limit=10)) == rest
    assert [item.id for item in await entities.find("shop.Cart", text="/b", limit=10)] == ["Cart/b"]
    assert list(await entities.find("shop.Cart", text="%", limit=10)) == []
    assert list(await entities.find("Cart", limit=10)) == []


CHECKS: tuple[Check, ...] = (
    after_a_checkpoint_a_replay_reads_the_first_event_and_what_follows,
    a_long_tail_after_a_checkpoint_is_read_whole,
    a_refused_append_leaves_no_checkpoint,
    entities_are_found_by_their_kind,
)
