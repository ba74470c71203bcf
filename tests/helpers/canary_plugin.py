"""PERDURE_CANARY=1: every step of every test uses a secret, and every database of the run is searched for its value.

Before its body, each step reveals a canary and logs it; whatever it raises carries the canary as a note. So every path
on which errors and logs travel in the suite has one on board. When a test is over, the files in its folder, the
PostgreSQL databases that it was lent and its log are searched: for that value, and for those of all other secrets that
were revealed in this process. Tests that plant a leak on purpose say so with `@pytest.mark.leaks`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

from helpers import postgres
from helpers.canaries import of_files, of_postgres, sung

VARIABLE, VALUE = "PERDURE_TEST_CANARY", "canary-of-the-suite-8a61f0c2/+"

logger = logging.getLogger("perdure.test.canary")

#: Values that were revealed in this process, over all tests.
noted: set[str] = set()
#: What the test that runs has left in databases of PostgreSQL.
found_there: list[str] = []
counted = {"steps": 0, "tests": 0}


def install() -> None:
    """Let every step use the secret, and hear of all values that are revealed."""
    from perdure import Secret
    from perdure.codec import redaction, secret
    from perdure.runtime.calling import Calls

    os.environ[VARIABLE] = VALUE
    canary = Secret.env(VARIABLE)
    known = redaction.remember

    def remember(value: object, name: str = "") -> None:
        known(value, name)
        if name != "given as its value":  # that is what somebody has put in the place of a reference
            noted.update(text for text in redaction._texts(value) if len(text) >= redaction.SHORTEST)

    redaction.remember = secret.remember = remember

    def used(verb: Any) -> Any:
        async def call(self: Calls, attempt: Any, function: Any) -> Any:
            counted["steps"] += 1
            value = canary.reveal()
            logger.debug("step %s uses %s", attempt.info.step_id, value)
            result, error = await verb(self, attempt, function)
            if isinstance(error, Exception) and not hasattr(error, "__notes__"):
                error.add_note(f"with the key {value}")
            return result, error

        return call

    Calls.call_async = used(Calls.call_async)  # type: ignore[method-assign]
    Calls.call_sync = used(Calls.call_sync)  # type: ignore[method-assign]
    postgres.before_emptied.append(lambda url: found_there.extend(sung(noted, of_postgres(url))))


@pytest.fixture(autouse=True)
def canaries_are_silent(request: pytest.FixtureRequest) -> Iterator[None]:
    """Search what a test has left."""
    folder = request.getfixturevalue("tmp_path")
    log = request.getfixturevalue("caplog")
    found_there.clear()
    yield
    counted["tests"] += 1
    if request.node.get_closest_marker("leaks"):
        return
    found = [*found_there, *sung(noted, [("log", log.text.encode()), *of_files(folder)])]
    assert not found, f"values of secrets were written down: {found[:5]}"
