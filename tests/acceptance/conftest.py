"""A fresh world for each acceptance test; none of its processes outlives the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import pytest
from world import SOAK, World
from xdist.scheduler import LoadScopeScheduling

from helpers.postgres import Server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave it to a soak to do everything on both stores: otherwise each test takes one of them, always the same.

    But for kills, and what is about one of them.
    """
    if not SOAK:
        left = [item for item in items if not _is_for_a_night(item)]
        config.hook.pytest_deselected(items=[item for item in items if _is_for_a_night(item)])
        items[:] = left


def _is_for_a_night(item: pytest.Item) -> bool:
    if "either" not in getattr(item, "fixturenames", ()) or item.path.name == "test_kills.py":
        return False
    name, _, parameters = item.name.partition("[")
    return ("sqlite", "postgres")[crc32(name.encode()) % 2] not in parameters


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Let one process have all of a module whose tests share what is dear: a browser and a server, or a package."""

    class ByWhatIsShared(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return module if "/test_dashboard" in module or "/test_packaging" in module else nodeid

    return ByWhatIsShared(config, log)


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Tells what was counted or measured: in the test's output, and in the summary of all tests."""

    def tell(text: str) -> None:
        print(text)
        record_property("figure", text)

    return tell


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[[str, int], None]:
    """Counts what all tests did together, for the end of their summary."""

    def count(what: str, number: int) -> None:
        record_property("tally", [what, number])

    return count


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """On a real disk, other than for the rest of the tests."""
    with TemporaryDirectory(prefix="perdure-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world")
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world on a file, and one on a PostgreSQL server of its own, which may be restarted."""
    with ExitStack() as left:
        server = None
        if request.param == "postgres":
            server = Server()
            left.callback(server.remove)
        made = World(tmp_path / "world", server)
        left.callback(made.close)
        yield made
