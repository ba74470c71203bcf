"""Starting runs over HTTP: the part of a client that is `Engine.start` and what belongs to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar, cast

import msgspec

from perdure.api.call import Call, WorkflowCall
from perdure.api.messages import Message
from perdure.api.naming import named_call
from perdure.core.attributes import AttributeValue
from perdure.core.retry import seconds
from perdure.errors import UsageError
from perdure.web.remote import RemoteHandle
from perdure.web.wire import HttpWire

R = TypeVar("R")

_MAX_PAYLOAD = 1 << 30  # the server has its own


class RemoteStarter(HttpWire):
    """What HttpClient has of it."""

    async def start(
        self,
        call: Call[R] | str,
        /,
        *args: Any,
        id: str | None = None,
        queue: str | None = None,
        key: str | None = None,
        priority: int = 0,
        dedup: str | None = None,
        debounce: float | timedelta | None = None,
        debounce_max: float | timedelta | None = None,
        delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        messages: Sequence[Message | tuple[str, Any]] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        if_exists: Literal["attach", "fail", "restart"] = "attach",
        subject: str | None = None,
    ) -> RemoteHandle[R]:
        """Start a run.

        Args:
            call: a workflow's call, as for an engine; or its durable name, with its arguments behind.
            args: the arguments of a workflow that is given by its name.
            id, queue, key, priority, dedup, debounce, debounce_max, delay, timeout, messages, attributes, if_exists,
                subject: as for `Engine.start`.

        Raises:
            RunConflictError: the id belongs to other work.
            UsageError: the arguments don't fit.

        Example:
            >>> await client.start(research("tardigrades"), id="r-1")  # doctest: +SKIP
        """
        if args and not isinstance(call, str):
            msg = f"the arguments of a workflow are in its call already: {call!r}"
            raise UsageError(msg)
        called = named_call(call, args) if isinstance(call, str) else cast("WorkflowCall[Any]", call)
        body = {
            **_of(called),
            "id": id,
            "queue": queue,
            "key": key,
            "priority": priority,
            "dedup": dedup,
            "debounce": optional_seconds(debounce, "debounce"),
            "debounce_max": optional_seconds(debounce_max, "debounce_max"),
            "delay": optional_seconds(delay, "delay"),
            "timeout": optional_seconds(timeout, "timeout"),
            "messages": [_message(message) for message in messages],
            "attributes": msgspec.to_builtins(dict(attributes or {})),
            "if_exists": if_exists,
            "subject": subject,
        }
        made = await self.request("POST", "/runs", json=body)
        return RemoteHandle(self, made["id"], called.definition.result.decode)

    async def run(self, call: Call[R] | str, /, *args: Any, id: str | None = None, **options: Any) -> R:
        """Start a run and wait for its result. Options as for `start`."""
        handle: RemoteHandle[R] = await self.start(call, *args, id=id, **options)
        return await handle.result()

    async def start_many(
        self,
        calls: Sequence[Call[R] | tuple[str, Sequence[Any]]],
        *,
        ids: Sequence[str] | None = None,
        queue: str | None = None,
        keys: Sequence[str | None] | None = None,
        priority: int = 0,
        dedups: Sequence[str | None] | None = None,
        delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        messages: Sequence[Message | tuple[str, Any]] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        if_exists: Literal["attach", "fail", "restart"] = "attach",
        subject: str | None = None,
    ) -> list[RemoteHandle[R]]:
        """Start many runs in one commit, a thousand at most. Arguments as for `Engine.start_many`.

        Args:
            calls: workflows' calls; or durable names with positional arguments.

        Example:
            >>> await client.start_many([("app.research", [topic]) for topic in topics])  # doctest: +SKIP
        """
        called = [
            named_call(*call) if isinstance(call, tuple) else cast("WorkflowCall[R]", call) for call in calls
        ]
        columns = {"id": ids, "key": keys, "dedup": dedups}
        runs = [
            {
                **_of(call),
                **{name: None if given is None else given[place] for name, given in columns.items()},
            }
            for place, call in enumerate(called)
        ]
        body = {
            "runs": runs,
            "queue": queue,
            "priority": priority,
            "delay": optional_seconds(delay, "delay"),
            "timeout": optional_seconds(timeout, "timeout"),
            "messages": [_message(message) for message in messages],
            "attributes": msgspec.to_builtins(dict(attributes or {})),
            "if_exists": if_exists,
            "subject": subject,
        }
        made = await self.request("POST", "/batches", json=body)
        return [
            RemoteHandle(self, each["id"], call.definition.result.decode)
            for each, call in zip(made, called, strict=True)
        ]


def _of(call: Any) -> dict[str, Any]:
    """What starts a run of a workflow's call."""
    if not isinstance(call, WorkflowCall):
        msg = f"a run is started by the call of a workflow, or by its name and arguments; got {call!r}"
        raise UsageError(msg)
    call.mark_used()
    args, kwargs = msgspec.json.decode(call.input(_MAX_PAYLOAD))
    return {"workflow": call.name, "args": args, "kwargs": kwargs}


def _message(message: Message | tuple[str, Any]) -> dict[str, Any]:
    said = message if isinstance(message, Message) else Message(message[0], message[1])
    return {"name": said.name, "value": msgspec.to_builtins(said.value), "key": said.key}


def optional_seconds(length: float | timedelta | None, what: str) -> float | None:
    """A length of time as it goes over the wire."""
    return None if length is None else seconds(length, what)
