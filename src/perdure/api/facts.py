"""Runs and events as plain data, for `--json` and HTTP: payloads as the JSON they are, moments in ISO 8601."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from perdure.api.runinfo import RunInfo, StrayMessage, moment_of
from perdure.codec.redaction import mask, mask_value
from perdure.codec.shown import shown
from perdure.core.events import Event

_MOMENTS = frozenset(
    {"at", "started_at", "retry_at", "due", "deadline", "slot", "since", "until", "heard_at", "answered_at"}
)
_DIGESTS = frozenset({"fingerprint"})
_SECRETS = frozenset({"seed"})  # tokens are made from it


def run_facts(run: RunInfo) -> dict[str, Any]:
    """All that is known of a run, its history aside."""
    dates = ("created_at", "started_at", "updated_at", "ended_at", "wake_at")
    moments = {name: None if (at := getattr(run, name)) is None else at.isoformat() for name in dates}
    return {
        "id": run.id,
        "workflow": run.workflow,
        "status": run.status.value,
        "reason": None if run.reason is None else mask(run.reason),
        "warning": None if run.warning is None else mask(run.warning),
        "queue": run.queue,
        "key": run.key,
        "priority": run.priority,
        "parent": run.parent,
        "generation": run.generation,
        "events": run.events,
        "recoveries": run.recoveries,
        "version": run.version,
        "worker": run.worker,
        "pinned": run.pinned,
        "attributes": {
            name: value.isoformat() if isinstance(value, datetime) else mask_value(value)
            for name, value in run.attributes.items()
        },
        **moments,
        "waiting_for": [_fields(shown(wait)) for wait in run.waiting_for],
        "undelivered": [_stray(item) for item in run.undelivered],
        "set_aside": [_stray(item) for item in run.set_aside],
    }


def _stray(message: StrayMessage) -> dict[str, Any]:
    return {
        "name": message.name,
        "value": mask_value(message.value),
        "at": message.at.isoformat(),
        "number": message.number,
        "key": message.key,
        "sender": message.sender,
        "why": message.why,
    }


def event_facts(history: Iterable[Event]) -> list[dict[str, Any]]:
    """Every event with its number and kind."""
    return [
        {"seq": seq, "kind": type(event).__struct_config__.tag, **_fields(shown(event))}
        for seq, event in enumerate(history, 1)
    ]


def payload(data: bytes) -> Any:
    """A recorded value as JSON; as base64 if it is none, which an encrypting codec may cause."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return {"base64": base64.b64encode(data).decode()}


def _fields(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: _plain(name, value) for name, value in msgspec.structs.asdict(struct).items()}


def _plain(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _MOMENTS:
        return moment_of(value).isoformat()
    if name in _SECRETS:
        return "(not shown)"
    if name in _DIGESTS:
        return value.hex()
    if isinstance(value, bytes):
        return payload(value)
    if isinstance(value, msgspec.Struct):
        return _fields(value)
    if isinstance(value, tuple):
        return [_plain("", item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
