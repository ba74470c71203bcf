"""Every store of ours keeps every promise of the protocol."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.postgres import lent_database
from perdure.codec.sealing.compression import Compression
from perdure.codec.sealing.encryption import Encryption
from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.postgres import PostgresStore
from perdure.storage.protocol import Store
from perdure.storage.sealing import SealedStore
from perdure.storage.sqlite import SqliteStore
from perdure.testing.conformance import CHECKS, Check, run_check

#: What is sealed doesn't depend on the store below; PERDURE_SOAK=1 tries it on all.
SEALED = ["memory", "sqlite", "postgres"] if os.environ.get("PERDURE_SOAK") == "1" else ["memory"]


@pytest.fixture(params=["memory", "sqlite", "postgres", *(f"sealed-{kind}" for kind in SEALED)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Opens stores on one database, of each kind in turn; also of those around which everything is sealed."""
    sealed, _, kind = request.param.rpartition("-")
    around = _sealed if sealed else _plain
    if kind == "memory":
        database = MemoryDatabase()
        yield lambda: around(MemoryStore(database))
    elif kind == "sqlite":
        yield lambda: around(SqliteStore(tmp_path / "test.db"))
    else:
        with lent_database() as url:
            yield lambda: around(PostgresStore(url))


#: What a sealed store does otherwise, and why.
OTHERWISE = {
    "a_text_is_also_found_in_the_reason": "reasons are sealed",
    "the_chain_goes_on_with_each_append": "links are made over what is sealed, not over what the driver has",
    "a_run_with_other_links_is_damaged": "the same",
    "a_copy_is_equal_to_the_last_part": "what is sealed is bound to the id of its run: no copy under another one",
    "a_step_removes_no_more_than_it_may": "what is sealed is larger",
    "free_room_is_given_back_in_steps": "what packs well leaves little room",
    "the_switch_ends_everything_or_nothing": "one event for all runs isn't sealed; here it isn't even an event",
}


def _plain(store: Store) -> Store:
    return store


def _sealed(store: Store) -> Store:
    return SealedStore(store, [Compression(above=0), Encryption({"k1": bytes(range(32))})])


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_store_conforms(check: Check, make: Callable[[], Store], request: pytest.FixtureRequest) -> None:
    if "sealed" in request.node.name and check.__name__ in OTHERWISE:
        pytest.skip(OTHERWISE[check.__name__])
    run_check(check, make)


def test_each_check_has_a_name_of_its_own() -> None:
    """Deliberate bugs name the checks that catch them."""
    names = [check.__name__ for check in CHECKS]
    assert len(names) == len(set(names))
