"""A place where engines meet: a shared database in memory, a file, or a PostgreSQL server.

With PostgreSQL they take long; most of them do it there only with PERDURE_SOAK=1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from zlib import crc32

import pytest
from engine_kit import Place, Places, drop_hints

from helpers.postgres import lent_database

HERE = Path(__file__).parent
KINDS = ["memory", "sqlite", "postgres"]

#: What meets PostgreSQL with every `make test`: each kind of verb and of mail, and deaths at appends. Of most of these
#: files every other test, more or less; the stores' own checks say that all verbs do the same there. All the rest
#: meets it with PERDURE_SOAK=1.
ALWAYS = frozenset(
    f"test_{name}.py"
    for name in (
        "continue_as",
        "engine_blob_keys",
        "engine_bounds",
        "engine_budget_crashes",
        "engine_budgets",
        "engine_callbacks",
        "engine_children",
        "engine_costs",
        "engine_crashes",
        "engine_diff",
        "engine_draining",
        "engine_elsewhere",
        "engine_elsewhere_cancelling",
        "engine_keys",
        "engine_ledger",
        "engine_messages",
        "engine_publications",
        "engine_queues",
        "engine_streams",
        "engine_suspicion",
        "engine_subscriptions",
        "engine_takeover",
        "engine_updates",
        "iterating",
        "pages",
        "overview",
        "pausing",
        "retention",
    )
)


#: These meet it as a whole.
WHOLE = frozenset({"test_engine_costs.py", "test_engine_crashes.py", "test_engine_takeover.py"})

#: What counts looks, or waits for more of them than patience allows.
NEEDS_HINTS = ("test_readers_are_woken_and_need_not_poll", "test_a_message_that_races_the_end_is_never_lost")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes too long."""
    if os.environ.get("PERDURE_SOAK") != "1":
        left = [item for item in items if not _for_a_night(item)]
        config.hook.pytest_deselected(items=[item for item in items if _for_a_night(item)])
        items[:] = left


def _for_a_night(item: pytest.Item) -> bool:
    if (
        "[postgres" not in item.name or item.path.parent != HERE
    ):  # this is asked about the tests of all folders
        return False
    if item.path.name not in WHOLE and crc32(item.name.partition("[")[0].encode()) % 2:
        return True
    return item.path.name not in ALWAYS or (
        "a_crash_at_any_append_of_a_chain" in item.name or "a_crash_at_any_append_loses" in item.name
    )


@pytest.fixture(autouse=True)
def hints_may_be_dropped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.environ.get("PERDURE_TEST_HINTS") == "0":
        if request.node.name.startswith(NEEDS_HINTS):
            pytest.skip("it would take too long without hints")
        drop_hints(monkeypatch)


@pytest.fixture(params=KINDS)
def make_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Places]:
    """Makes new databases, of each kind in turn."""
    numbers = count()
    with ExitStack() as lent:
        if request.param == "memory":
            make: Callable[[], Place] = Place
        elif request.param == "sqlite":
            make = lambda: Place(tmp_path / f"{next(numbers)}.db")  # noqa: E731
        else:
            make = lambda: Place(url=lent.enter_context(lent_database()))  # noqa: E731
        yield Places(request.param, make)


@pytest.fixture
def place(make_place: Places) -> Place:
    """One database, of each kind in turn."""
    return make_place()


@pytest.fixture
def memory() -> Place:
    """One database in memory, for what no store has a say in."""
    return Place(None)


@pytest.fixture
def file(tmp_path: Path) -> Place:
    """One database file."""
    return Place(tmp_path / "runs.db")
