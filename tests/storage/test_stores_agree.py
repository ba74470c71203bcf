"""All stores give the same answers to any sequence of verbs.

Each of the others is compared with the memory store. Keys may differ from store to store: they are matched where they
are first seen, in the answers to what made them.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.postgres import lent_database
from perdure.core.attributes import attributes_of, conditions_of
from perdure.core.queues import QueueSettings
from perdure.core.rates import Rate
from perdure.core.status import Status
from perdure.storage.attributes import MarkPatched, Misfit, SetAttributes
from perdure.storage.chain import links
from perdure.storage.memory import MemoryStore
from perdure.storage.postgres import PostgresStore
from perdure.storage.protocol import Store
from perdure.storage.queues import Standing
from perdure.storage.records import Append, Mail, NewRun, ParentPolicy, RunFilter, Successor
from perdure.storage.sqlite import SqliteStore
from perdure.storage.sqlite.database import Database
from perdure.storage.streams import Emit, Settle, StepItems, Supersede
from perdure.storage.workers import Heartbeat, WorkerRow

SOAK = os.environ.get("PERDURE_SOAK") == "1"

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
    key=st.sampled_from([None, "k", "l"]),
    priority=st.sampled_from([0, 0, 1]),
    dedup=st.sampled_from([None, None, None, "d"]),
    debounce=st.booleans(),
)

following = st.builds(
    lambda run, follows: msgspec.structs.replace(
        run, follows=follows, generation=9, inherit=follows % 2 == 0
    ),
    new_runs,
    keys,
)

successors = st.builds(Successor, run=new_runs)

limits = st.builds(
    QueueSettings,
    concurrency=st.sampled_from([None, 1, 2]),
    per_worker=st.sampled_from([None, None, 1]),
    rate=st.sampled_from([None, None, Rate(2, per=10, burst=1)]),
    per_key=st.sampled_from([None, 1]),
    priority=st.booleans(),
    fairness=st.sampled_from([None, "key"]),
)

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
            "consumed": st.lists(st.integers(0, 3), max_size=2),  # places in the inbox
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
    st.tuples(st.just("define"), st.sampled_from(["q", "p"]), limits, times),
    st.tuples(st.just("steer"), st.sampled_from(["q", "p"]), st.booleans(), st.booleans(), times),
)


class Keys:
    """Which keys of another store stand for the memory store's, 1, 2, ...; most are the same."""

    def __init__(self) -> None:
        self.runs: dict[int, int] = {}
        self.workers: dict[int, int] = {}
        self.ours: dict[int, int] = {}

    def learn(self, ours: Any, theirs: Any, into: dict[int, int]) -> None:
        """From two answers that should be the same."""
        if isinstance(ours, int) and isinstance(theirs, int):
            if theirs > LEAST_KEY and theirs not in self.ours:
                assert ours not in into, (ours, theirs)
                into[ours] = theirs
                self.ours[theirs] = ours
        elif isinstance(ours, msgspec.Struct) and isinstance(theirs, msgspec.Struct):
            self.learn(msgspec.structs.astuple(ours), msgspec.structs.astuple(theirs), into)
        elif (
            isinstance(ours, Sequence) and isinstance(theirs, Sequence) and not isinstance(ours, str | bytes)
        ):
            for one, other in zip(ours, theirs, strict=True):
                self.learn(one, other, into)

    def run(self, key: int) -> int:
        return self.runs.get(key, key)

    def worker(self, key: int) -> int:
        return self.workers.get(key, key)

    def new_run(self, run: NewRun) -> NewRun:
        owner = None if run.owner is None else self.worker(run.owner)
        return msgspec.structs.replace(
            run, owner=owner, follows=None if run.follows is None else self.run(run.follows)
        )

    def back(self, value: Any) -> Any:
        """The same value with the memory store's keys."""
        if isinstance(value, int) and value > LEAST_KEY:
            return self.ours[value]
        if isinstance(value, msgspec.Struct):
            return type(value)(*map(self.back, msgspec.structs.astuple(value)))
        if isinstance(value, list | tuple):
            return type(value)(map(self.back, value))
        if isinstance(value, dict):
            return {self.back(key): self.back(item) for key, item in value.items()}
        return value


#: Keys that a client makes are greater, and nothing else is.
LEAST_KEY = 1 << 50


async def do(store: Store, verb: str, args: tuple[Any, ...], keys: Keys) -> Any:
    """One verb's answer."""
    match verb, args:
        case "create", (runs,):
            known = {row.id for row in await store.get(IDS) if row is not None}
            runs = [keys.new_run(run) for run in runs if run.follows is None or run.id in known]
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
            claimed = await store.claim(
                keys.worker(worker), workflows=code, queues=lines, now=now, limit=limit
            )
            return list(claimed.rows), claimed.next_at, claimed.waits
        case "append", (wanted,):
            return await store.append(await batch_of(store, wanted, keys))
        case "register", (lines, code, now, version):
            row = WorkerRow(0, "w", "h", 1, 2, now, now, lines, code, version, version)
            return await store.register(row, now=now)
        case "emit", (run, epoch, step, stream):
            items = StepItems(keys.run(run), epoch, step, epoch, stream, [b"1", b"2"], 10.0)
            return await store.streams.emit([items])
        case "supersede", (run, epoch, step):
            return await store.streams.supersede(keys.run(run), epoch, [step], now=10.0)
        case "attributes", (name, values):
            return await store.attributes.set(name, values, b"set", now=10.0)
        case "announce", (worker, code, now):
            return await store.announce(keys.worker(worker), code, now=now)
        case "heartbeat", (worker, lease):
            return await store.heartbeat(keys.worker(worker), Heartbeat(lease, 10.0, 1, 2, True))
        case "bury", (worker, lease, now, most):
            return await store.bury(keys.worker(worker), lease, now=now, max_recoveries=most)
        case "retire", (worker, now):
            return await store.retire(keys.worker(worker), now=now)
        case "define", (name, settings, now):
            return await store.queues.define(name, settings, now=now)
        case "steer", (name, paused, draining, now):
            return await store.queues.change(name, paused=paused, draining=draining, now=now)
        case "strand", (now,):
            return await store.strand(now=now)
        case _:
            raise AssertionError(verb)


async def batch_of(store: Store, wanted: Sequence[Any], keys: Keys) -> list[Append]:
    rows = {row.run: row for row in await store.find(RunFilter())}
    batch: list[Append] = []
    for key, seq_off, epoch_off, fields in wanted:
        row = rows.get(keys.run(key))
        if row is not None:
            inbox = [item.id for item in await store.inbox(row.run)]
            given = {
                **fields,
                "consumed": [inbox[place] for place in set(fields["consumed"]) if place < len(inbox)],
                "children": [keys.new_run(child) for child in fields["children"]],
            }
            if fields["successor"] is not None:
                given["successor"] = Successor(keys.new_run(fields["successor"].run))
            batch.append(
                Append(
                    run=row.run,
                    expected=row.seq + seq_off,
                    epoch=row.epoch + epoch_off,
                    links=links(row.chain, given["events"]),
                    **given,
                )
            )
    return batch


async def everything(store: Store, keys: Keys) -> Any:
    """All that can be seen of a store."""
    rows = sorted(keys.back(await store.find(RunFilter())), key=lambda row: row.run)
    runs = [keys.run(row.run) for row in rows]
    all_runs = [keys.run(run) for run in range(1, 12)]
    return keys.back(
        (
            rows,
            [await store.generation(name, number) for name in IDS for number in (1, 9)],
            await store.get(IDS),
            [(h.run, list(h.events), mail_of(h.mail)) for h in await store.load(runs)],
            [sorted(keys.back(await store.owned(keys.worker(worker)))) for worker in (1, 2, 3)],
            [sorted(mail_of(keys.back(await store.mail(keys.worker(worker))))) for worker in (1, 2, 3)],
            sorted(await store.workers(), key=lambda worker: worker.id),
            {run: list(found) for run, found in (await store.attributes.of(all_runs)).items()},
            [sorted(keys.back([row.run for row in await store.find(filter)])) for filter in FILTERS],
            sorted(keys.back(await store.streams.unsettled(all_runs))),
            await store.queues.all(),
            await store.queues.counts(now=50.0),
            [place_of(await store.queues.standing(run)) for run in runs],
            [await store.streams.names(name) for name in IDS],
            [await stream_of(store, id, name) for id in IDS for name in ("t", "u")],
        )
    )


FILTERS = [
    RunFilter(attributes=conditions_of({"a": "x"})),
    RunFilter(attributes=conditions_of({"b": (">", 1)})),
    RunFilter(unpatched="change"),
]


def place_of(standing: Standing | None) -> Any:
    """Where a run stands; those that hold slots may be named in any order."""
    if standing is None:
        return None
    return msgspec.structs.replace(standing, holders=sorted(standing.holders))


def mail_of(items: Sequence[Mail]) -> list[Any]:
    """Without its numbers, which mean something in one run only."""
    return [(item.run, item.data, item.kind) for item in items]


async def stream_of(store: Store, id: str, name: str) -> Any:
    page = await store.streams.read(id, name, after=0, limit=100)
    return None if page is None else (list(page.rows), page.ended)


def far_keys(db: Database) -> None:
    """SQLite never gives a key again, not even one that was refused, so its keys are others than the memory store's."""
    db.script(f"INSERT INTO sqlite_sequence (name, seq) VALUES ('runs', {LEAST_KEY + 1})")


async def agree(steps: list[tuple[Any, ...]], other: Store) -> None:
    memory = MemoryStore()
    own, keys = Keys(), Keys()
    for store in (memory, other):
        await store.open()
    if isinstance(other, SqliteStore):
        await other._write(far_keys)
    try:
        for verb, *args in steps:
            ours = await do(memory, verb, tuple(args), own)
            theirs = await do(other, verb, tuple(args), keys)
            keys.learn(ours, theirs, keys.workers if verb == "register" else keys.runs)
            assert ours == keys.back(theirs), verb
        assert await everything(memory, own) == await everything(other, keys)
    finally:
        for store in (memory, other):
            await store.close()


def from_the_start(runs: list[NewRun], steps: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [
        ("register", ["q", "p"], ["m.w"], 10.0, "1"),
        ("register", ["q"], ["m.v"], 20.0, ""),
        ("create", runs),
        *steps,
    ]


anything = given(
    st.lists(new_runs, min_size=2, max_size=5),
    st.lists(verbs, min_size=5, max_size=30),
)
with_examples = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=1500 if SOAK else 75, **with_examples)
@anything
def test_sqlite_agrees(runs: list[NewRun], steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(agree(from_the_start(runs, steps), SqliteStore(Path(folder) / "test.db")))


@settings(max_examples=600 if SOAK else 30, **with_examples)
@anything
def test_postgres_agrees(runs: list[NewRun], steps: list[tuple[Any, ...]]) -> None:
    with lent_database() as url:
        asyncio.run(agree(from_the_start(runs, steps), PostgresStore(url)))
