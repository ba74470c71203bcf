"""One run, over HTTP: what a handle does, asked of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, Protocol, TypeVar, cast, overload
from urllib.parse import quote

import msgspec

from perdure import errors
from perdure.api.decisions import UNDECIDED
from perdure.api.forkplans import ForkPlan
from perdure.api.interface import RunInterface
from perdure.api.questions import QuestionInfo
from perdure.api.runinfo import RunInfo
from perdure.api.spending import Usage
from perdure.api.steplogs import STREAM, LogLine
from perdure.core.attributes import AttributeValue
from perdure.core.retry import seconds
from perdure.core.status import Status
from perdure.core.why import Why
from perdure.errors import RunError, UsageError
from perdure.web.typed import question, run_of, typed

R = TypeVar("R")

_WAIT = 30.0  # seconds that one request waits for a run's end


class Wire(Protocol):
    """What sends requests."""

    async def request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None
    ) -> Any: ...
    def events(self, path: str, after: int) -> AsyncIterator[tuple[str, Any]]: ...


class RemoteHandle(Generic[R]):
    """A run by its id. Making one does no I/O; its methods do. They raise what those of `Handle` do.

    Attributes:
        id: the run's id.
    """

    def __init__(self, wire: Wire, id: str, decode: Callable[[bytes], Any] | None = None) -> None:
        self.id = id
        self._wire = wire
        self._decode = decode
        self._path = f"/runs/{quote(id, safe='/')}"

    async def _post(self, what: str, **body: Any) -> Any:
        return await self._wire.request("POST", f"{self._path}/{what}", json=msgspec.to_builtins(body))

    async def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait until the run ends and return its result.

        Args:
            timeout: how long to wait, in seconds. The run goes on, whatever becomes of this wait.

        Raises:
            RunFailed, RunTimedOut, RunCancelled, RunTerminated, UnknownRunError: as `Handle.result`, without the
                original exception as a cause; the text has its type and message.
            TimeoutError: it hasn't ended within `timeout`.
        """
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + seconds(timeout, "timeout")
        while True:
            wait = _WAIT if end is None else max(0.0, min(_WAIT, end - loop.time()))
            told = await self._wire.request("GET", f"{self._path}/result", params={"wait": wait})
            if told["error"] is not None:
                raise _error(told["error"], self.id)
            if told["status"] == Status.COMPLETED:
                value = told["result"]
                return cast("R", self._decode(msgspec.json.encode(value)) if self._decode else value)
            if end is not None and loop.time() >= end:
                msg = f"run {self.id!r} hasn't ended within {timeout} s; it goes on"
                raise TimeoutError(msg)

    async def info(self, *, generation: int | None = None) -> RunInfo:
        """All about the run at this moment, what it waits for included."""
        return run_of(await self._wire.request("GET", self._path, params={"generation": generation}))

    async def status(self) -> Status:
        """Where the run stands."""
        return (await self.info()).status

    async def why(self) -> Why:
        """Why the run doesn't go on."""
        return typed(await self._wire.request("GET", f"{self._path}/why"), Why)

    async def usage(self) -> Usage:
        """What the run has spent so far."""
        return typed(await self._wire.request("GET", f"{self._path}/usage"), Usage)

    async def interface(self) -> RunInterface:
        """What can be said to the run at the moment. As `Handle.interface`."""
        return typed(await self._wire.request("GET", f"{self._path}/interface"), RunInterface)

    async def set_attributes(self, **values: AttributeValue | None) -> None:
        """Set attributes of the run; None takes one away."""
        body = {"attributes": msgspec.to_builtins(values)}
        await self._wire.request("PATCH", f"{self._path}/attributes", json=body)

    async def answer(self, value: Any) -> QuestionInfo:
        """Answer the question that the run asks. Raises UsageError unless there is exactly one."""
        found = await self._wire.request("GET", "/questions", params={"run": self.id, "limit": 2})
        if len(found) != 1:
            msg = f"run {self.id!r} asks {'nothing' if not found else 'more than one question'}"
            raise UsageError(f"{msg}: see client.questions(run=...) and client.answer(...)")
        path = f"/questions/{quote(found[0]['id'], safe='')}/answer"
        return question(await self._wire.request("POST", path, json={"value": msgspec.to_builtins(value)}))

    async def resolve(
        self,
        step: str,
        *,
        result: Any = UNDECIDED,
        rerun: bool = False,
        fail: str | bool = False,
        why: str | None = None,
        since: float | datetime | None = None,
    ) -> None:
        """Decide about a step that waits for a person; the token says who does. As `Handle.resolve`."""
        has_result = result is not UNDECIDED
        await self._post(
            f"steps/{quote(step, safe='')}/resolve",
            result=result if has_result else None,
            has_result=has_result,
            rerun=rerun,
            fail=fail,
            why=why,
            since=since.isoformat() if isinstance(since, datetime) else since,
        )

    async def history(
        self, *, generation: int | None = None, after: int = 0, follow: bool = False
    ) -> AsyncIterator[dict[str, Any]]:
        """The run's events, in order, as plain data.

        Args:
            generation: those of an earlier run of this id, counted from 1; by default of the newest.
            after: start behind the event with this number.
            follow: wait for more until the run has ended; of the newest generation.
        """
        if follow and generation is not None:
            msg = f"history(generation={generation}, follow=True): only the newest one grows; leave out generation="
            raise UsageError(msg)
        if follow:
            async for _, event in self._wire.events(f"{self._path}/events", after):
                yield event
            return
        place: int | None = after
        while place is not None:
            asked = {"after": place, "generation": generation}
            page = await self._wire.request("GET", f"{self._path}/history", params=asked)
            for event in page["events"]:
                yield event
            place = page["next"]

    async def streams(self) -> list[tuple[str, int]]:
        """The streams that the run has put something into, with each one's newest offset. As `Handle.streams`."""
        found = await self._wire.request("GET", f"{self._path}/streams")
        return [(each["name"], each["newest"]) for each in found]

    async def stream(
        self, name: str, after: int = 0, *, follow: bool = True
    ) -> AsyncIterator[dict[str, Any]]:
        """What the run puts into a stream, until it has ended: `offset`, `kind`, `value`, `step`, `attempt`, `at`.

        With follow=False what is there so far. A broken connection is made anew behind what was read. An item of kind
        "superseded" takes back what its step had put out, from the offset `since` on.
        """
        path = f"{self._path}/streams/{quote(name, safe='')}"
        async for _, item in self._wire.events(path if follow else f"{path}?follow=false", after):
            yield item

    async def at(self, seq: int, *, generation: int | None = None) -> dict[str, Any]:
        """Where the run's code stood after one of its events, as plain data. See `Handle.at`.

        Raises:
            NoCodeError: the server doesn't have the workflow's code.
        """
        asked = {"generation": generation}
        return cast("dict[str, Any]", await self._wire.request("GET", f"{self._path}/at/{seq}", params=asked))

    async def change_of(
        self,
        name: str,
        seq: int,
        *,
        task: int = 1,
        frame: int = 0,
        direction: str = "next",
        generation: int | None = None,
    ) -> int | None:
        """The nearest event by which a local variable became another one. See `Handle.change_of`."""
        asked = {
            "name": name,
            "seq": seq,
            "task": task,
            "frame": frame,
            "direction": direction,
            "generation": generation,
        }
        told = await self._wire.request("GET", f"{self._path}/changes", params=asked)
        return cast("int | None", told["seq"])

    async def step_logs(self, after: int | None = None, *, follow: bool = False) -> AsyncIterator[LogLine]:
        """What the run's steps have logged, as far as it is kept, in order. As `Handle.step_logs`.

        Args:
            after: start behind the line with this offset.
            follow: wait for more until the run has ended.
        """
        path = f"{self._path}/streams/{quote(STREAM, safe='')}?follow={str(follow).lower()}"
        async for kind, item in self._wire.events(path, after or 0):
            if kind == "item":
                line = {
                    "error": "",
                    **item["value"],
                    "step": item["step"] or "",
                    "attempt": item["attempt"] or 1,
                }
                yield typed({**line, "offset": item["offset"]}, LogLine)

    async def send(self, name: str, value: Any, *, key: str | None = None) -> None:
        """Send the run a message; it is durable when this returns."""
        await self._post(f"messages/{quote(name, safe='')}", value=value, key=key)

    async def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask one of the run's query handlers."""
        return (await self._post(f"queries/{quote(name, safe='')}", args=args, kwargs=kwargs))["value"]

    async def update(
        self,
        name: str,
        /,
        *args: Any,
        key: str | None = None,
        timeout: float | timedelta = 30.0,
        **kwargs: Any,
    ) -> Any:
        """Call one of the run's update handlers and wait for its result, up to 60 seconds."""
        wait = min(60.0, seconds(timeout, "timeout"))
        told = await self._post(
            f"updates/{quote(name, safe='')}", args=args, kwargs=kwargs, key=key, wait=wait
        )
        return told["value"]

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the run to end; its code may tidy up."""
        await self._post("cancel", reason=reason)

    async def terminate(self, reason: str | None = None, *, compensate: bool = False) -> None:
        """End the run at once, without its code."""
        await self._post("terminate", reason=reason, compensate=compensate)

    async def pause(self, reason: str | None = None) -> None:
        """Hold the run."""
        await self._post("pause", reason=reason)

    async def resume(self) -> None:
        """Let a paused run go on."""
        await self._post("resume")

    async def retry(self) -> None:
        """Let a failed run go on from its failed step."""
        await self._post("retry")

    @overload
    async def fork(
        self,
        at: int | str | None = None,
        *,
        edits: Mapping[str, Any] | None = None,
        input: Sequence[Any] | None = None,
        effects: Literal["run", "reuse", "stub"] = "run",
        stubs: Mapping[str, Any] | None = None,
        refused: Literal["block", "fail"] = "block",
        id: str | None = None,
        dry_run: Literal[False] = False,
    ) -> RemoteHandle[R]: ...
    @overload
    async def fork(
        self,
        at: int | str | None = None,
        *,
        edits: Mapping[str, Any] | None = None,
        input: Sequence[Any] | None = None,
        effects: Literal["run", "reuse", "stub"] = "run",
        stubs: Mapping[str, Any] | None = None,
        refused: Literal["block", "fail"] = "block",
        id: str | None = None,
        dry_run: Literal[True],
    ) -> ForkPlan: ...
    async def fork(
        self,
        at: int | str | None = None,
        *,
        edits: Mapping[str, Any] | None = None,
        input: Sequence[Any] | None = None,
        effects: Literal["run", "reuse", "stub"] = "run",
        stubs: Mapping[str, Any] | None = None,
        refused: Literal["block", "fail"] = "block",
        id: str | None = None,
        dry_run: bool = False,
    ) -> RemoteHandle[R] | ForkPlan:
        """Start a run of its own that goes on from what this one has done. As `Handle.fork`.

        Args:
            input: other positional arguments for the run.
            dry_run: start nothing, and tell what it would do.
        """
        made = await self._post(
            "fork",
            at=at,
            edits=dict(edits or {}),
            input=None if input is None else {"args": list(input)},
            effects=effects,
            stubs=dict(stubs or {}),
            refused=refused,
            id=id,
            dry_run=dry_run,
        )
        if dry_run:
            return typed(made["plan"], ForkPlan)
        return RemoteHandle(self._wire, made["id"], self._decode)

    def __repr__(self) -> str:
        return f"<remote handle {self.id!r}>"


def _error(told: Mapping[str, Any], id: str) -> RunError:
    found = getattr(errors, str(told["type"]), RunError)
    kind = found if isinstance(found, type) and issubclass(found, RunError) else RunError
    return kind(str(told["message"]), run_id=id)
