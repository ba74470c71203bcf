"""What is behind the fixture `perdure_env`: an environment that lives as long as its test.

An environment belongs to an event loop, and who makes that is the business of whichever plugin runs the test. So the
test function itself is wrapped: it opens the environment in its loop, and closes it there.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from perdure.testing.environment import Environment


def environments(request: pytest.FixtureRequest) -> Iterator[Environment]:
    """The environment for a test, with the options of its markers; the nearest marker counts."""
    options: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("perdure"))):
        if marker.args:
            raise pytest.UsageError(
                f'@pytest.mark.perdure{marker.args!r}: give options by name, as in time="real"'
            )
        options.update(marker.kwargs)
    environment = Environment(**options)
    node: Any = request.node
    if inspect.iscoroutinefunction(getattr(node, "obj", None)):
        node.obj = _opening(node.obj, environment)
    yield environment


def _opening(test: Callable[..., Any], environment: Environment) -> Callable[..., Any]:
    @functools.wraps(test)
    async def opened(*args: Any, **kwargs: Any) -> Any:
        async with environment:
            return await test(*args, **kwargs)

    return opened
