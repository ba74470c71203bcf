"""LangGraph's own conformance suite for checkpointers, whole, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph.checkpoint.conformance")

from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES

from helpers.postgres import lent_database
from perdure import Engine
from perdure.integrations.langgraph import PerdureSaver

#: So many tests the suite has of each capability. A release that has more is to be looked at.
TESTS = {
    "put": 17,
    "put_writes": 10,
    "get_tuple": 10,
    "list": 16,
    "delete_thread": 5,
    "delete_for_runs": 7,
    "copy_thread": 8,
    "prune": 8,
}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        yield "memory:"
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'threads.db'}"
    else:
        with lent_database() as lent:
            yield lent


def report(saver: Any) -> dict[str, int]:
    """How many tests of each capability have passed. Says which have not."""
    found = asyncio.run(validate(saver))
    failures = [failure for result in found.results.values() for failure in result.failures]
    assert not failures
    assert set(found.results) == {capability.value for capability in ALL_CAPABILITIES}
    assert found.passed_all_base()
    assert found.passed_all()
    counts = {name: result.tests_passed for name, result in found.results.items()}
    print(f"{found.checkpointer_name}: {sum(counts.values())} of {sum(counts.values())} passed, {counts}")
    return counts


def test_all_of_it_passes_on_an_engines_database(url: str) -> None:
    @checkpointer_test(name=f"PerdureSaver(engine on {url.partition(':')[0]})")
    async def savers() -> AsyncGenerator[PerdureSaver, None]:
        async with Engine(url, worker=False) as engine:
            yield PerdureSaver(engine)

    assert report(savers) == TESTS


def test_all_of_it_passes_on_a_database_of_the_savers_own(url: str) -> None:
    @checkpointer_test(name=f"PerdureSaver({url.partition(':')[0]}:...)")
    async def savers() -> AsyncGenerator[PerdureSaver, None]:
        async with PerdureSaver(url) as saver:
            yield saver

    assert report(savers) == TESTS
