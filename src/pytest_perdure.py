"""The pytest plugin: the fixture `perdure_env`, for async tests with or without pytest-asyncio or anyio.

pytest loads this wherever Perdure is installed, so it stands beside the package and imports nothing of it before a test
asks for the fixture: others don't pay for it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from perdure.testing.environment import Environment

#: Markers of plugins that run async tests.
_RUN_BY_OTHERS = ("asyncio", "anyio", "trio", "tornado_asyncio")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        'perdure(**options): options for the fixture perdure_env, as in perdure(time="real", unmocked="refuse"); '
        "see perdure.testing.Environment",
    )


@pytest.fixture
def perdure_env(request: pytest.FixtureRequest) -> Iterator[Environment]:
    """An engine in memory with a clock that jumps over waits, and mocks for steps. See perdure.testing.Environment."""
    from perdure.testing.fixture import environments

    yield from environments(request)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test that uses the fixture, and that no other plugin is going to run."""
    if "perdure_env" not in pyfuncitem.fixturenames or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    if "anyio_backend" in pyfuncitem.fixturenames:
        return None
    if any(pyfuncitem.get_closest_marker(name) for name in _RUN_BY_OTHERS):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: value for name, value in pyfuncitem.funcargs.items() if name in names}
    with asyncio.Runner() as runner:
        runner.run(pyfuncitem.obj(**arguments))
    return True
