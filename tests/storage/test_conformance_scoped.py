"""A namespace of a store keeps the promises of a store, to clients and (by the mappings) to workers.

In memory always; on SQLite and PostgreSQL, whose own checks say the same of what is below, with PERDURE_SOAK=1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scoped_kit import DrivingStore

from helpers.postgres import lent_database
from perdure.storage.memory import MemoryDatabase, MemoryStore
from perdure.storage.postgres import PostgresStore
from perdure.storage.protocol import Store
from perdure.storage.sqlite import SqliteStore
from perdure.testing.conformance import CHECKS, Check, run_check

#: What a namespace doesn't promise, and why. By the check, or its module.
EXCEPTIONS = {
    "budgets": "accounts are everybody's; a namespace sees its own of them, see test_scoping.py",
    "budget_raises": "nobody raises a budget from within a namespace",
    "moving": "databases are moved as a whole",
    "namespaces": "no namespace looks at others",
    "quotas": "nobody gives quotas from within a namespace",
    "retention": "old runs are removed by workers, and from everywhere",
    "removing": "the same",
    "totals": "the same",
    "the_ledger_is_in_a_package": "packages have stored ids",
    "the_chain_goes_on_with_each_append": "a chain begins with the stored id",
    "another_run_is_charged_for_its_errand": "drivers name errands by their stored ids",
}


def _applies(check: Check) -> bool:
    module = check.__module__.rpartition(".")[2]
    return module not in EXCEPTIONS and check.__name__ not in EXCEPTIONS


KINDS = ["memory", "sqlite", "postgres"] if os.environ.get("PERDURE_SOAK") else ["memory"]


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    if request.param == "memory":
        database = MemoryDatabase()
        yield lambda: DrivingStore(MemoryStore(database))
    elif request.param == "sqlite":
        yield lambda: DrivingStore(SqliteStore(tmp_path / "test.db"))
    else:
        with lent_database() as url:
            yield lambda: DrivingStore(PostgresStore(url))


@pytest.mark.parametrize("check", [*filter(_applies, CHECKS)], ids=lambda check: check.__name__)
def test_a_namespace_conforms(check: Check, make: Callable[[], Store]) -> None:
    run_check(check, make)


def test_what_is_excepted_exists() -> None:
    known = {check.__name__ for check in CHECKS} | {check.__module__.rpartition(".")[2] for check in CHECKS}
    assert not (set(EXCEPTIONS) - known)
