"""Exceptions for what was raised somewhere else: in a process for steps, on another worker.

It comes as data. An exception of the same class is made of it here, since retry policies decide by classes, HTTP
statuses and waits that a server asks for. Where that can't be rebuilt, a class of the same name stands in for it,
derived from as much of the original as is loaded here. Only the engine sees it; what the history keeps is the
failure as it was described there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from perdure.codec.bare import native_base
from perdure.codec.failures import speaking_for
from perdure.codec.rebuild import exception_of, loaded_exception
from perdure.core.answers import http_status, retry_after
from perdure.core.events import Failure


def error_of(
    failure: Failure, kinds: Sequence[str], status: int | None, after: float | None
) -> BaseException:
    """An exception for what was raised somewhere else, good enough to decide what follows.

    Args:
        kinds: qualified names of its class and of its base classes, in order of resolution.
        status: the HTTP status that it carries.
        after: seconds that a server asked to wait.
    """
    error: BaseException | None = exception_of(failure)
    if (
        error is None
        or http_status(error) != status
        or (after is not None and retry_after(error, time.time()) is None)
    ):
        error = _stand_in(failure, kinds, status, after)
    return speaking_for(error, failure)


def _stand_in(
    failure: Failure, kinds: Sequence[str], status: int | None, after: float | None
) -> BaseException:
    headers = {} if after is None else {"retry-after": str(after)}

    def text(_: BaseException) -> str:
        return failure.message

    members: dict[str, Any] = {
        "__str__": text,
        "response": None,
        "status": None,
        "status_code": status,
        "headers": headers,
    }
    base: type[BaseException] = BaseException
    missing = kinds[:1]
    if "builtins.Exception" in kinds:
        base, missing = _nearest(kinds)
    try:
        return _instance(base, missing, members)
    except Exception:  # noqa: BLE001 - a class that can't be derived from, or takes no instance made like this
        return _instance(Exception, kinds[:1], members)


def _nearest(kinds: Sequence[str]) -> tuple[type[BaseException], Sequence[str]]:
    """The first of these classes that is loaded here, and the names of those before it, or at least one."""
    for place, name in enumerate(kinds):
        found = loaded_exception(name)
        if found is not None:
            return found, kinds[: max(place, 1)]
    return Exception, kinds[:1]


def _instance(base: type[BaseException], names: Sequence[str], members: dict[str, Any]) -> BaseException:
    cls: Any = base
    for place, name in enumerate(reversed(names), 1):
        module, _, plain = name.rpartition(".")
        own = members if place == len(names) else {}
        cls = type(cls)(plain, (cls,), {"__module__": module, **own})
    made: BaseException = native_base(cls).__new__(cls)
    return made
