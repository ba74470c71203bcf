"""Checkpoints of graphs: kept as they were given, by thread and namespace, with what their channels held."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from perdure.storage.checkpoints import (
    ChannelValue,
    ChannelWrite,
    CheckpointHead,
    CheckpointRow,
    CheckpointStore,
    KeptCheckpoint,
)
from perdure.testing.conformance.bench import Bench, Check


def row(id: str = "c1", parent: str | None = None, **fields: Any) -> CheckpointRow:
    given: dict[str, Any] = {
        "thread": "t",
        "namespace": "",
        "made_by": None,
        "channels": {},
        "metadata": b"meta " + id.encode(),
        "data": b"\x00\xff",
    }
    return CheckpointRow(id=id, parent=parent, **{**given, **fields})


def write(task: str = "task", index: int = 0, **fields: Any) -> ChannelWrite:
    given: dict[str, Any] = {"channel": "a", "path": "", "data": b"w"}
    return ChannelWrite(task=task, index=index, **{**given, **fields})


async def ids(
    store: CheckpointStore, thread: str | None = "t", namespace: str | None = None, **where: Any
) -> Any:
    limited: dict[str, Any] = {"limit": 99, **where}
    return [head.id for head in await store.heads(thread, namespace, **limited)]


async def chain(store: CheckpointStore, *versions: dict[str, str], **fields: Any) -> Sequence[str]:
    """Checkpoints that follow each other, with a value for each version that none of them had before."""
    made: list[str] = []
    seen: set[tuple[str, str]] = set()
    for number, channels in enumerate(versions, 1):
        new = [it for it in channels.items() if it not in seen]
        seen.update(new)
        values = [ChannelValue(name, version, version.encode()) for name, version in new]
        made.append(f"c{number}")
        parent = made[-2] if number > 1 else None
        await store.put(row(made[-1], parent, channels=channels, **fields), values)
    return made


async def a_checkpoint_is_kept_as_it_was_given(bench: Bench) -> None:
    store = bench.store.checkpoints
    first = row(parent="c0", made_by="r", channels={"b": "2", "a": "1", "empty": "1"})
    values = [ChannelValue("a", "1", b"A"), ChannelValue("b", "2", b"\x00B")]
    await store.put(first, values)
    writes = [write(index=0, path="p"), write(index=1, channel="b", path="p", data=b"\x00")]
    await store.put_writes("t", "", "c1", writes)
    other = (await bench.another()).checkpoints
    assert await other.get("t", "", "c1") == KeptCheckpoint(first, values, writes)
    assert await other.get("t", "", "c2") is None
    assert await other.get("t", "other", "c1") is None
    assert await other.get("u", "", None) is None


async def the_newest_is_that_with_the_highest_id(bench: Bench) -> None:
    store = bench.store.checkpoints
    for id in ("c2", "c3", "c1"):
        await store.put(row(id), [])
    await store.put(row("c9", namespace="sub"), [])
    found = await store.get("t", "", None)
    assert found is not None
    assert found.row.id == "c3"


async def values_belong_to_versions_and_never_change(bench: Bench) -> None:
    store = bench.store.checkpoints
    await chain(store, {"a": "1", "b": "1"}, {"a": "2", "b": "1"})
    await store.put(row("c3", channels={"a": "1"}), [ChannelValue("a", "1", b"another")])
    found = await store.get("t", "", "c2")
    assert found is not None
    assert found.values == [ChannelValue("a", "2", b"2"), ChannelValue("b", "1", b"1")]
    found = await store.get("t", "", "c3")
    assert found is not None
    assert found.values == [ChannelValue("a", "1", b"1")]


async def the_first_write_stays_and_the_last_special_one(bench: Bench) -> None:
    store = bench.store.checkpoints
    await store.put(row(), [])
    for data in (b"first", b"second"):
        await store.put_writes("t", "", "c1", [write(index=0, data=data), write(index=-1, data=data)])
    found = await store.get("t", "", "c1")
    assert found is not None
    assert [(it.index, it.data) for it in found.writes] == [(-1, b"second"), (0, b"first")]


async def writes_are_ordered_by_path_task_and_index(bench: Bench) -> None:
    store = bench.store.checkpoints
    await store.put(row(), [])
    places = [("b", "1", 0), ("a", "2", 1), ("a", "2", 0), ("a", "10", 0), ("B", "3", 0)]
    for path, task, index in places:
        await store.put_writes("t", "", "c1", [write(task, index, path=path)])
    found = await store.get("t", "", "c1")
    assert found is not None
    assert [(it.path, it.task, it.index) for it in found.writes] == sorted(places)


async def writes_may_come_before_their_checkpoint(bench: Bench) -> None:
    store = bench.store.checkpoints
    await store.put_writes("t", "", "c1", [write()])
    await store.put(row(), [])
    found = await store.get("t", "", "c1")
    assert found is not None
    assert found.writes == [write()]


async def a_checkpoint_that_is_put_again_replaces_its_row(bench: Bench) -> None:
    store = bench.store.checkpoints
    await store.put(row(), [])
    await store.put(row(data=b"new", metadata=b"new", parent="c0", channels={"a": "1"}), [])
    found = await store.get("t", "", "c1")
    assert found is not None
    assert found.row == row(data=b"new", metadata=b"new", parent="c0", channels={"a": "1"})


async def heads_are_listed_from_the_newest(bench: Bench) -> None:
    store = bench.store.checkpoints
    for thread, namespace, id in [("t", "", "c1"), ("t", "", "c3"), ("t", "sub", "c2"), ("u", "", "c4")]:
        await store.put(row(id, thread=thread, namespace=namespace), [])
    assert await ids(store) == ["c3", "c2", "c1"]
    assert await ids(store, "t", "") == ["c3", "c1"]
    assert await ids(store, None) == ["c4", "c3", "c2", "c1"]
    assert await ids(store, None, "", before="c4") == ["c3", "c1"]
    assert await ids(store, id="c2") == ["c2"]
    assert await ids(store, "nobody") == []
    first = await store.heads("t", None, limit=2)
    assert first[0] == CheckpointHead("t", "", "c3", b"meta c3")
    assert await ids(store, after=first[-1]) == ["c1"]
    assert await ids(store, None, after=first[0]) == ["c2", "c1"]


async def the_past_ends_where_a_value_of_each_channel_is_kept(bench: Bench) -> None:
    store = bench.store.checkpoints
    await store.put(row("c1", channels={"a": "1", "b": "1"}), [ChannelValue("b", "1", b"B")])
    await store.put(row("c2", "c1", channels={"a": "2", "b": "2"}), [ChannelValue("a", "2", b"A")])
    await store.put(row("c3", "c2", channels={"a": "3", "b": "3"}), [])
    await store.put(row("c4", "c3", channels={"a": "4", "b": "4"}), [])
    for id in ("c1", "c2", "c3", "c4"):
        for name in ("a", "b", "c"):
            await store.put_writes("t", "", id, [write(name, channel=name, data=id.encode())])
    past = await store.past("t", "", "c4", ["a", "b"])
    assert [(it.id, [w.channel for w in it.writes], [v.data for v in it.values]) for it in past] == [
        ("c3", ["a", "b"], []),
        ("c2", ["a", "b"], [b"A"]),
        ("c1", ["b"], [b"B"]),
    ]
    assert [it.id for it in await store.past("t", "", "c4", ["a"])] == ["c3", "c2"]
    assert [it.id for it in await store.past("t", "", "c4", ["never"])] == ["c3", "c2", "c1"]
    assert await store.past("t", "", "c1", ["a"]) == []
    assert await store.past("t", "", "unknown", ["a"]) == []
    assert await store.past("t", "", "c4", []) == []


async def the_past_is_that_of_the_own_branch(bench: Bench) -> None:
    store = bench.store.checkpoints
    for id, parent in [("c1", None), ("c2", "c1"), ("c3", "c1"), ("c4", "c4")]:
        await store.put(row(id, parent), [])
    assert [it.id for it in await store.past("t", "", "c3", ["a"])] == ["c1"]
    assert await store.past("t", "", "c4", ["a"]) == []  # its own parent: an end, not a circle


async def a_thread_that_is_deleted_is_gone_and_no_other(bench: Bench) -> None:
    store = bench.store.checkpoints
    for thread in ("t", "u"):
        await chain(store, {"a": "1"}, thread=thread)
        await store.put_writes(thread, "", "c1", [write()])
    await store.delete("t")
    await store.delete("never was")
    assert await ids(store, None) == ["c1"]
    left = await store.get("u", "", "c1")
    assert left is not None
    assert left.values
    assert left.writes
    await store.put(row(channels={"a": "1"}), [])
    again = await store.get("t", "", "c1")
    assert again is not None
    assert not again.values
    assert not again.writes


async def what_runs_made_is_deleted_everywhere(bench: Bench) -> None:
    store = bench.store.checkpoints
    await store.put(row("c1", made_by="r1", channels={"a": "1"}), [ChannelValue("a", "1", b"")])
    await store.put(
        row("c2", "c1", made_by="r2", channels={"a": "1", "b": "1"}), [ChannelValue("b", "1", b"")]
    )
    await store.put(
        row("c3", made_by="r1", namespace="sub", channels={"x": "1"}), [ChannelValue("x", "1", b"")]
    )
    await store.put(row("c4", made_by="r3", thread="u"), [])
    await store.put_writes("t", "", "c1", [write()])
    await store.delete_of_runs([])
    await store.delete_of_runs(["r1", "r3", "unknown"])
    assert await ids(store, None) == ["c2"]
    kept = await store.get("t", "", "c2")
    assert kept is not None
    assert [it.channel for it in kept.values] == ["a", "b"]
    await store.put(row("c3", namespace="sub", channels={"x": "1"}), [])
    again = await store.get("t", "sub", "c3")
    assert again is not None
    assert not again.values


async def a_copy_has_everything_and_its_own_life(bench: Bench) -> None:
    store = bench.store.checkpoints
    await chain(store, {"a": "1"}, {"a": "2"}, made_by="r")
    await store.put_writes("t", "", "c2", [write()])
    await store.put(row("c9", namespace="sub"), [])
    await store.copy("t", "u")
    await store.copy("t", "u")
    await store.copy("never was", "v")
    source, copied = await store.get("t", "", None), await store.get("u", "", None)
    assert source is not None
    assert copied is not None
    assert copied.row == row("c2", "c1", thread="u", made_by="r", channels={"a": "2"})
    assert (copied.values, copied.writes) == (source.values, source.writes)
    assert await ids(store, "u") == ["c9", "c2", "c1"]
    await store.delete("t")
    assert await store.get("u", "", None) == copied
    assert await ids(store, "v") == []


async def pruning_forgets_what_is_older_but_what_is_to_stay(bench: Bench) -> None:
    store = bench.store.checkpoints
    await chain(store, {"a": "1", "b": "1"}, {"a": "2", "b": "1"}, {"a": "3", "b": "1"}, {"a": "4", "b": "1"})
    for id in ("c1", "c2", "c3"):
        await store.put_writes("t", "", id, [write()])
    await store.put(row("c0", namespace="sub"), [])
    await store.put(row("c0", thread="u"), [])
    await store.prune("t", "", before="c3", keep=["c2"])
    assert await ids(store) == ["c4", "c3", "c2", "c0"]
    assert await ids(store, "u") == ["c0"]
    kept = await store.get("t", "", "c3")
    assert kept is not None
    assert kept.writes == [write()]
    assert [it.data for it in kept.values] == [b"3", b"1"]
    await store.put(row("c1", channels={"a": "1"}), [])
    again = await store.get("t", "", "c1")
    assert again is not None
    assert not again.values
    assert not again.writes


async def many_may_write_to_a_thread_at_once(bench: Bench) -> None:
    stores = [bench.store.checkpoints, (await bench.another()).checkpoints]
    names = [f"ch{number}" for number in range(6)]
    values = [ChannelValue(name, "1", b"v") for name in names]
    puts = [
        store.put(row(f"c{number}", channels=dict.fromkeys(names, "1")), order)
        for number, (store, order) in enumerate(
            (store, order) for _ in range(5) for store in stores for order in (values, values[::-1])
        )
    ]
    await asyncio.gather(*puts)
    for number in range(len(puts)):
        found = await stores[0].get("t", "", f"c{number}")
        assert found is not None
        assert len(found.values) == len(names)


CHECKS: tuple[Check, ...] = (
    a_checkpoint_is_kept_as_it_was_given,
    the_newest_is_that_with_the_highest_id,
    values_belong_to_versions_and_never_change,
    the_first_write_stays_and_the_last_special_one,
    writes_are_ordered_by_path_task_and_index,
    writes_may_come_before_their_checkpoint,
    a_checkpoint_that_is_put_again_replaces_its_row,
    heads_are_listed_from_the_newest,
    the_past_ends_where_a_value_of_each_channel_is_kept,
    the_past_is_that_of_the_own_branch,
    a_thread_that_is_deleted_is_gone_and_no_other,
    what_runs_made_is_deleted_everywhere,
    a_copy_has_everything_and_its_own_life,
    pruning_forgets_what_is_older_but_what_is_to_stay,
    many_may_write_to_a_thread_at_once,
)
