"""All stores give the same permissions for the same batches, whatever comes in them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.postgres import lent_database
from perdure.core.permits import Ask, Batch, Block, Definition, Reset, Settlement, Unblock
from perdure.core.rates import MICRO, Rate
from perdure.storage.memory import MemoryStore
from perdure.storage.postgres import PostgresStore
from perdure.storage.protocol import Store
from perdure.storage.sqlite import SqliteStore

START = 1_700_000_000 * MICRO
NAMES = ["a", "b"]

names = st.sampled_from(NAMES)
units = st.sampled_from(["requests", "tokens"])
rates = st.builds(Rate, limit=st.integers(1, 50), per=st.sampled_from([0.5, 1.0, 60.0]))
amounts = st.integers(-1, 60)
moments = st.integers(0, 90 * MICRO).map(lambda after: START + after)
changes = st.one_of(
    st.builds(Settlement, names, units, st.integers(0, 60), st.integers(0, 60), st.integers(0, 600 * MICRO)),
    st.builds(Block, names, moments),
    st.builds(Unblock, names),
    st.builds(Reset, names),
)
definitions = st.builds(
    Definition, names, st.dictionaries(units, rates, min_size=1), st.sampled_from([False, False, True])
)
asks = st.builds(
    Ask, st.dictionaries(names, st.dictionaries(units, amounts), min_size=1), waited=st.booleans()
)
batches = st.tuples(
    st.builds(
        Batch,
        st.lists(definitions, max_size=2),
        st.lists(changes, max_size=2),
        st.lists(asks, max_size=4),
    ),
    moments,
)


async def agree(steps: Sequence[tuple[Batch, int]], other: Store) -> None:
    memory: Store = MemoryStore()
    for store in (memory, other):
        await store.open()
    try:
        for batch, now in steps:
            ours: Any = await memory.limits.turn(batch, now=now)
            assert await other.limits.turn(batch, now=now) == ours
            assert await other.limits.all() == await memory.limits.all()
    finally:
        for store in (memory, other):
            await store.close()


many = given(st.lists(batches, min_size=1, max_size=15))


@settings(max_examples=60, deadline=None, database=None)
@many
def test_sqlite_agrees(steps: list[tuple[Batch, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(agree(steps, SqliteStore(Path(folder) / "test.db")))


@settings(max_examples=30, deadline=None, database=None)
@many
def test_postgres_agrees(steps: list[tuple[Batch, int]]) -> None:
    with lent_database() as url:
        asyncio.run(agree(steps, PostgresStore(url)))
