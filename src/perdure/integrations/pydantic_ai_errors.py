"""Errors of models on their way through the history.

A step's exception is rebuilt from data by the name of its class. pydantic-ai's HTTP errors of a category have the
category's name, so they would come back as that category and not as HTTP errors; here they get their own class.
"""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic_ai import exceptions

from perdure.codec.failures import failure_record
from perdure.core.events import Failure
from perdure.errors import Permanent

__all__ = ["Refused", "as_raised"]

_MODULE = "pydantic_ai.exceptions."


class Refused(Permanent):
    """A provider has turned a request away, and the agent is to deal with that itself, at once."""


def as_raised(error: Exception) -> Exception:
    """The error that a model has raised, for the exception of its step.

    `perdure.failure(...)` of it tells as much as of the step's own.
    """
    record = failure_record(error)
    if record is None:
        return error
    failure = record.failure
    if isinstance(error, Refused):
        if failure.cause is None:
            return error
        failure = failure.cause
    elif isinstance(error, exceptions.ModelHTTPError):
        return error
    rebuilt = _rebuilt(failure)
    if rebuilt is None:
        return error
    vars(rebuilt).update({name: value for name, value in vars(error).items() if name.startswith("__perdure")})
    rebuilt.__cause__ = error.__cause__
    return rebuilt


def _rebuilt(failure: Failure) -> Exception | None:
    if not failure.type.startswith(_MODULE):
        return None
    kind = getattr(exceptions, failure.type.removeprefix(_MODULE), None)
    state: dict[str, Any] = msgspec.json.decode(failure.state or b"{}", type=dict[str, Any])
    if not (isinstance(kind, type) and issubclass(kind, exceptions.ModelAPIError)):
        return None
    model: str = str(state.get("model_name") or "")
    common = {name: state[name] for name in _COMMON if name in state}
    try:
        if isinstance(state.get("status_code"), int):
            http = {name: state[name] for name in ("headers", "suggested_model_id", "hint") if name in state}
            status: int = state["status_code"]
            if issubclass(kind, exceptions.ModelHTTPError):
                return exceptions.ModelHTTPError(status, model, **common, **http)
            for_category: Any = exceptions.ModelHTTPError.for_category
            error: Exception = for_category(kind, status_code=status, model_name=model, **common, **http)
            return error
        return kind(model, failure.message, **common)
    except TypeError:  # another version's class
        return None


_COMMON = ("body", "provider_error_code", "provider_error_type", "retry_after", "in_stream")
