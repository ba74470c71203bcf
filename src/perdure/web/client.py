"""A client of the HTTP API with the surface that an engine has for clients: for programs that can't reach the database.

It needs httpx (`pip install 'perdure[server]'`), and neither a store nor the workflows' code: a workflow is named, or
called as ever where its code is at hand, and then its result has its type. Errors are those that an engine raises.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote

import httpx
import msgspec

from perdure.api.comparing import RunDiff
from perdure.api.overview import Overview, Window
from perdure.api.publications import PublicationInfo, SubscriptionInfo, WaitingInfo
from perdure.api.questions import QuestionInfo
from perdure.api.runinfo import RunInfo
from perdure.api.spending import By, UsageLine
from perdure.api.stuck import StuckPage
from perdure.api.workerinfo import WorkerInfo
from perdure.web.holdings import (
    RemoteBudgets,
    RemoteCallbacks,
    RemoteEntities,
    RemoteLimits,
    RemoteQueues,
    RemoteQuotas,
    RemoteSchedules,
)
from perdure.web.remote import RemoteHandle
from perdure.web.remote_keeping import RemoteKeeping
from perdure.web.remote_starting import RemoteStarter, optional_seconds
from perdure.web.typed import question, run_of, typed

R = TypeVar("R")


class HttpClient(RemoteKeeping, RemoteStarter):
    """A client of `perdure serve`. An async context manager.

    Args:
        url: the server's address, such as "https://ops.example.org" or "http://127.0.0.1:8700".
        token: who one is, from `perdure token new`.
        transport: what carries requests; httpx's own by default.

    Example:
        >>> async with HttpClient("http://127.0.0.1:8700") as client:  # doctest: +SKIP
        ...     handle = await client.start("app.research", "tardigrades", id="r-1")
        ...     print(await handle.result())
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8700",
        *,
        token: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, token, transport)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    # -- runs ---------------------------------------------------------------------------------------

    def get(self, id: str) -> RemoteHandle[Any]:
        """A handle to a run by its id, existing or not. Does no I/O."""
        return RemoteHandle(self, id)

    async def runs(
        self,
        *,
        status: str | Sequence[str] | None = None,
        workflow: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
        attributes: Mapping[str, str | float | bool] | None = None,
        errands: bool = False,
        limit: int | None = 100,
    ) -> AsyncIterator[RunInfo]:
        """Runs, newest first. Filters as for `Engine.runs`; attributes by what they equal."""
        asked: dict[str, Any] = {
            "status": [status] if isinstance(status, str) else list(status or ()),
            "workflow": workflow,
            "text": text,
            "since": None if since is None else since.isoformat(),
            "until": None if until is None else until.isoformat(),
            "attribute": [f"{name}={json.dumps(value)}" for name, value in (attributes or {}).items()],
            "errands": errands,
        }
        left, cursor = limit, None
        while left is None or left > 0:
            size = 200 if left is None else min(200, left)
            page = await self.request("GET", "/runs", params={**asked, "size": size, "cursor": cursor})
            for each in page["runs"]:
                yield run_of(each)
            cursor = page["next"]
            if cursor is None:
                return
            left = None if left is None else left - len(page["runs"])

    async def diff(
        self, a: str, b: str, *, generations: tuple[int | None, int | None] = (None, None)
    ) -> RunDiff:
        """Two runs side by side. As `Engine.diff`."""
        asked = {"a": a, "b": b, "a_generation": generations[0], "b_generation": generations[1]}
        return typed(await self.request("GET", "/diff", params=asked), RunDiff)

    async def overview(self, window: Window = "hour") -> Overview:
        """How everything is, as `Engine.overview`."""
        return typed(await self.request("GET", "/overview", params={"window": window}), Overview)

    async def stuck(self, *, size: int = 200, cursor: str | None = None) -> StuckPage:
        """Runs that don't go on, grouped by cause, as `Engine.stuck`."""
        asked = {"size": size, "cursor": cursor}
        return typed(await self.request("GET", "/why", params=asked), StuckPage)

    async def workflows(self) -> list[str]:
        """The names of workflows that there are, as `Engine.workflows`."""
        return cast("list[str]", await self.request("GET", "/workflows"))

    # -- what isn't one run's -----------------------------------------------------------------------

    @property
    def queues(self) -> RemoteQueues:
        """The queues, as `engine.queues`."""
        return RemoteQueues(self, "/queues")

    @property
    def limits(self) -> RemoteLimits:
        """The rate limits, as `engine.limits`."""
        return RemoteLimits(self, "/limits")

    @property
    def quotas(self) -> RemoteQuotas:
        """How much each namespace may have, as `engine.quotas`."""
        return RemoteQuotas(self, "/quotas")

    @property
    def schedules(self) -> RemoteSchedules:
        """The schedules, as `engine.schedules`."""
        return RemoteSchedules(self, "/schedules")

    @property
    def entities(self) -> RemoteEntities:
        """Which entities there are."""
        return RemoteEntities(self, "/entities")

    @property
    def budgets(self) -> RemoteBudgets:
        """The budgets, as `engine.budgets`."""
        return RemoteBudgets(self, "/budgets")

    @property
    def callbacks(self) -> RemoteCallbacks:
        """What completes callbacks, as `engine.callbacks`."""
        return RemoteCallbacks(self, "/callbacks")

    async def workers(self) -> list[WorkerInfo]:
        """The workers of the database."""
        return [typed(each, WorkerInfo) for each in await self.request("GET", "/workers")]

    async def usage(self, by: By | None = None, **only: Any) -> list[UsageLine]:
        """What was spent, added up. Arguments as for `Engine.usage`."""
        asked = {"by": by, **msgspec.to_builtins(only)}
        return [typed(each, UsageLine) for each in await self.request("GET", "/cost", params=asked)]

    async def questions(
        self,
        *,
        open: bool = True,
        run: str | None = None,
        to: str | None = None,
        since: datetime | None = None,
        limit: int | None = 100,
    ) -> AsyncIterator[QuestionInfo]:
        """What runs ask of people, oldest first; a thousand at most. As `Engine.questions`."""
        asked = {"open": open, "run": run, "to": to, "since": since and since.isoformat()}
        for each in await self.request(
            "GET", "/questions", params={**asked, "limit": min(limit or 1000, 1000)}
        ):
            yield question(each)

    async def question(self, id: str) -> QuestionInfo:
        """A question by its id. Raises UnknownQuestionError."""
        return question(await self.request("GET", f"/questions/{quote(id, safe='')}"))

    async def answer(self, id: str, value: Any, *, digest: str | None = None) -> QuestionInfo:
        """Answer a question, once. The token says who does.

        Raises:
            UnknownQuestionError, InvalidAnswerError, QuestionAnsweredError, QuestionClosedError: as `Engine.answer`.
        """
        body = {"value": msgspec.to_builtins(value), "digest": digest}
        return question(await self.request("POST", f"/questions/{quote(id, safe='')}/answer", json=body))

    # -- events and entities ------------------------------------------------------------------------

    async def publish(self, name: str, payload: Any = None, *, key: str | None = None) -> bool:
        """Publish an event. As `Engine.publish`."""
        body = {"payload": msgspec.to_builtins(payload), "key": key}
        made = await self.request("POST", f"/publications/{quote(name, safe='')}", json=body)
        return bool(made["new"])

    async def publications(
        self, name: str | None = None, *, limit: int | None = 100
    ) -> AsyncIterator[PublicationInfo]:
        """Published events that are still kept, newest first; a thousand at most."""
        asked = {"name": name, "limit": min(limit or 1000, 1000)}
        for each in await self.request("GET", "/publications", params=asked):
            yield typed(each, PublicationInfo)

    async def subscriptions(self) -> list[SubscriptionInfo]:
        """The workflows that are started by published events."""
        return [typed(each, SubscriptionInfo) for each in await self.request("GET", "/subscriptions")]

    async def unsubscribe(self, workflow: str) -> bool:
        """End the subscription of a workflow; takes an admin. False: it has none."""
        made = await self.request("DELETE", f"/subscriptions/{quote(workflow, safe='')}")
        return bool(made["value"])

    async def awaited(self) -> list[WaitingInfo]:
        """The events that runs wait for, and how many do."""
        return [typed(each, WaitingInfo) for each in await self.request("GET", "/awaited")]

    async def call_entity(
        self,
        type: str,
        id: str,
        method: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> Any:
        """Call a method of an entity, whose class the server has to know. As `Engine.call_entity`; what the method
        raises is told as HandlerFailed.

        Args:
            timeout: seconds to wait for the answer, 60 at most.
        """
        path = "/".join(["/entities", *(quote(part, safe="") for part in (type, id, method))])
        body = {
            "args": msgspec.to_builtins(args),
            "kwargs": msgspec.to_builtins(dict(kwargs or {})),
            "key": key,
            "wait": min(60.0, optional_seconds(timeout, "timeout") or 30.0),
        }
        return (await self.request("POST", path, json=body))["value"]
