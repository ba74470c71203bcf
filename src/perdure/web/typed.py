"""What an API's answers say, as the classes that an engine returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from perdure.api.questions import QuestionInfo
from perdure.api.runinfo import RunInfo, StrayMessage
from perdure.core.status import Status
from perdure.core.timeline import Wait

T = TypeVar("T")

_DATES = ("created_at", "started_at", "updated_at", "ended_at", "wake_at")
_MOMENTS = ("since", "until", "heard_at")


def typed(said: Any, type: type[T]) -> T:
    """An answer as a dataclass or struct. What a newer server adds is passed over; moments are ISO 8601, lengths of
    time seconds, amounts texts.

    Raises:
        msgspec.ValidationError: it isn't one; the server isn't what this client was made for.
    """
    return msgspec.convert(said, type, strict=False)


def question(said: Mapping[str, Any]) -> QuestionInfo:
    """A question; its form's schema has another name on the wire."""
    return typed({**said, "schema": said["form"]}, QuestionInfo)


def run_of(said: Mapping[str, Any]) -> RunInfo:
    """A run. Attributes that were moments are texts: JSON has no moments."""
    given = {field.name: said[field.name] for field in fields(RunInfo) if field.name in said}
    given["status"] = Status(given["status"])
    for name in _DATES:
        given[name] = None if given[name] is None else datetime.fromisoformat(given[name])
    given["waiting_for"] = tuple(map(_wait, said.get("waiting_for", ())))
    for name in ("undelivered", "set_aside"):
        given[name] = tuple(typed(each, StrayMessage) for each in said.get(name, ()))
    return RunInfo(**given)


def _wait(said: Mapping[str, Any]) -> Wait:
    given = dict(said)
    for name in _MOMENTS:
        if given.get(name) is not None:
            given[name] = datetime.fromisoformat(given[name]).timestamp()
    heartbeat = given.pop("heartbeat", None)
    made = msgspec.convert(given, Wait, strict=False)
    if heartbeat is None:
        return made
    return msgspec.structs.replace(made, heartbeat=msgspec.json.encode(heartbeat))
