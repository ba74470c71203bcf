"""The memory store and SQLite give the same answers to any sequence of verbs."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.core.attributes import attributes_of, conditions_of
from perdure.core.status import Status
from perdure.storage.attributes import MarkPatched, Misfit, SetAttributes
from perdure.storage.memory import MemoryStore
from perdure.storage.protocol import Store
from perdure.storage.records import Append, NewRun, ParentPolicy, RunFilter, Successor, WorkerRow
from perdure.storage.sqlite import SqliteStore
from perdure.storage.streams import Emit, Settle, StepItems, Supersede

IDS = ["a", "b", "c", "d", "e"]
keys = st.integers(1, 6)
ids = st.sampled_from(IDS)
queues = st.lists(st.sampled_from(["q", "p"]), max_size=2, unique=True)
workflows = st.lists(st.sampled_from(["m.w", "m.v"]), max_size=2, unique=True)
worker_ids = st.integers(1, 3)
times = st.sampled_from([0.0, 10.0, 20.0, 30.0])
maybe = st.one_of(st.none(), times)

values = st.sampled_from([None, 1, 2.5, "x", True, ["x", "y"], []])
attributes = st.dictionaries(st.sampled_from(["a", "b"]), values, max_size=2).map(attributes_of)
versions = st.sampled_from(["", "1", "2"])
steps = st.sampled_from(["s#1", "s#2"])
streams = st.sampled_from(["t", "u"])
effects = st.one_of(
    st.builds(Emit, stream=streams, data=st.just(b"item")),
    st.builds(Supersede, step=steps),
    st.builds(Settle, step=steps),
    st.builds(SetAttributes, attributes=attributes),
    st.builds(MarkPatched, change=st.just("change")),
    st.builds(Misfit, code=versions),
)

new_runs = st.builds(
    NewRun,
    id=ids,
    workflow=st.sampled_from(["m.w", "m.v"]),
    fingerprint=st.just(b"f"),
    first_event=st.just(b"first"),
    queue=st.sampled_from(["q", "p"]),
    created_at=times,
    wake_at=times,
    owner=st.one_of(st.none(), worker_ids),
    parent_op=st.sampled_from([None, "op#1"]),
    on_parent_close=st.sampled_from(ParentPolicy),
    attributes=attributes,
    pinned=st.booleans(),
)

following = st.builds(
    lambda run, follows: msgspec.structs.replace(
        run, follows=follows, generation=9, inherit=follows % 2 == 0
    ),
    new_runs,
    keys,
)

successors = st.builds(Successor, run=new_runs)

#: An append, and by how much its seq and epoch are off the run's (mostly not at all).
changes = st.tuples(
    keys,
    st.sampled_from([0, 0, 0, 0, 0, 1, -1]),
    st.sampled_from([0, 0, 0, 0, 0, 1, -1]),
    st.fixed_dictionaries(
        {
            "attempt": st.integers(1, 40),
            "events": st.lists(st.sampled_from([b"", b"x", b"yy"]), max_size=3),
            "now": times,
            "status": st.sampled_from([None, None, None, *(status.value for status in Status)]),
            "reason": st.sampled_from([None, "why"]),
            "block_code": st.sampled_from([None, "code", "poison"]),
            "release": st.booleans(),
            "wake_at": maybe,
            "consumed": st.lists(st.integers(1, 5), max_size=2),
            "children": st.lists(new_runs, max_size=2),
            "successor": st.one_of(st.none(), st.none(), successors),
            "effects": st.lists(effects, max_size=2),
            "parent_mail": st.sampled_from([None, b"ended"]),
        }
    ),
)

verbs = st.one_of(
    st.tuples(st.just("create"), st.lists(new_runs, min_size=1, max_size=3)),
    st.tuples(st.just("create"), st.lists(following, min_size=1, max_size=2)),
    st.tuples(st.just("send"), ids, times),
    st.tuples(st.just("terminate"), ids, times),
    st.tuples(st.just("pause"), ids, times),
    st.tuples(st.just("resume"), ids, times),
    st.tuples(st.just("claim"), worker_ids, workflows, queues, times, st.integers(1, 3)),
    st.tuples(st.just("append"), st.lists(changes, min_size=1, max_size=4)),
    st.tuples(st.just("append"), st.lists(changes, min_size=1, max_size=4)),
    st.tuples(st.just("register"), queues, workflows, times, versions),
    st.tuples(st.just("emit"), keys, st.integers(0, 3), steps, streams),
    st.tuples(st.just("supersede"), keys, st.integers(0, 3), steps),
    st.tuples(st.just("attributes"), ids, attributes),
    st.tuples(st.just("announce"), worker_ids, workflows, times),
    st.tuples(st.just("heartbeat"), worker_ids, times),
    st.tuples(st.just("bury"), worker_ids, times, times, st.integers(0, 2)),
    st.tuples(st.just("retire"), worker_ids, times),
    st.tuples(st.just("strand"), times),
)


async def do(store: Store, verb: str, args: tuple[Any, ...]) -> Any:
    """One verb's answer."""
    match verb, args:
        case "create", (runs,):
            known = {row.id for row in await store.get(IDS) if row is not None}
            runs = [run for run in runs if run.follows is None or run.id in known]
            return await store.create(runs)
        case "send", (name, now):
            return await store.send(name, b"mail", now=now)
        case "pause", (name, now):
            return await store.pauses.pause(name, b"paused", reason="why", now=now)
        case "resume", (name, now):
            return await store.pauses.resume(name, b"resumed", now=now)
        case "terminate", (name, now):
            return await store.terminate(name, b"terminated", now=now)
        case "claim", (worker, code, lines, now, limit):
            claimed = await store.claim(worker, workflows=code, queues=lines, now=now, limit=limit)
            return list(claimed.rows), claimed.next_at
        case "append", (wanted,):
            rows = {row.run: row for row in await store.find(RunFilter())}
            batch = [
                Append(run=key, expected=rows[key].seq + seq_off, epoch=rows[key].epoch + epoch_off, **fields)
                for key, seq_off, epoch_off, fields in wanted
                if key in rows
            ]
            return await store.append(batch)
        case "register", (lines, code, now, version):
            row = WorkerRow(0, "w", "h", 1, 2, now, now, lines, code, version, version)
            return await store.register(row, now=now)
        case "emit", (run, epoch, step, stream):
            items = StepItems(run, epoch, step, epoch, stream, [b"1", b"2"], 10.0)
            return await store.streams.emit([items])
        case "supersede", (run, epoch, step):
            return await store.streams.supersede(run, epoch, [step], now=10.0)
        case "attributes", (name, values):
            return await store.attributes.set(name, values, b"set", now=10.0)
        case "announce", (worker, code, now):
            return await store.announce(worker, code, now=now)
        case "heartbeat", (worker, lease):
            return await store.heartbeat(worker, lease)
        case "bury", (worker, lease, now, most):
            return await store.bury(worker, lease, now=now, max_recoveries=most)
        case "retire", (worker, now):
            return await store.retire(worker, now=now)
        case "strand", (now,):
            return await store.strand(now=now)
        case _:
            raise AssertionError(verb)


async def everything(store: Store) -> Any:
    """All that can be seen of a store."""
    rows = await store.find(RunFilter())
    return (
        rows,
        [await store.generation(name, number) for name in IDS for number in (1, 9)],
        await store.get(IDS),
        [(h.run, list(h.events), list(h.mail)) for h in await store.load([row.run for row in rows])],
        [sorted(await store.owned(worker)) for worker in (1, 2, 3)],
        [await store.mail(worker) for worker in (1, 2, 3)],
        await store.workers(),
        {run: list(found) for run, found in (await store.attributes.of(list(range(1, 12)))).items()},
        [row.run for row in await store.find(RunFilter(attributes=conditions_of({"a": "x"})))],
        [row.run for row in await store.find(RunFilter(attributes=conditions_of({"b": (">", 1)})))],
        [row.run for row in await store.find(RunFilter(unpatched="change"))],
        await store.streams.unsettled(list(range(1, 12))),
        [await store.streams.names(name) for name in IDS],
        [await stream_of(store, id, name) for id in IDS for name in ("t", "u")],
    )


async def stream_of(store: Store, id: str, name: str) -> Any:
    page = await store.streams.read(id, name, after=0, limit=100)
    return None if page is None else (list(page.rows), page.ended)


async def agree(steps: list[tuple[Any, ...]], path: Path) -> None:
    stores: list[Store] = [MemoryStore(), SqliteStore(path)]
    for store in stores:
        await store.open()
    try:
        for verb, *args in steps:
            memory, sqlite = [await do(store, verb, tuple(args)) for store in stores]
            assert memory == sqlite, verb
        memory, sqlite = [await everything(store) for store in stores]
        assert memory == sqlite
    finally:
        for store in stores:
            await store.close()


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(new_runs, min_size=2, max_size=5),
    st.lists(verbs, min_size=5, max_size=30),
)
def test_same_answers(runs: list[NewRun], steps: list[tuple[Any, ...]]) -> None:
    start: list[tuple[Any, ...]] = [
        ("register", ["q", "p"], ["m.w"], 10.0, "1"),
        ("register", ["q"], ["m.v"], 20.0, ""),
    ]
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(agree([*start, ("create", runs), *steps], Path(folder) / "test.db"))
