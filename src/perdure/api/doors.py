"""What an engine opens the door to: runs and workers, callbacks, schedules and entities."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from perdure.api.budgets import Budgets
from perdure.api.callbacks import Callbacks
from perdure.api.comparing import RunDiff, compare
from perdure.api.connection import Connection
from perdure.api.entities import Proxy, call_named, known_entity
from perdure.api.entitylist import EntityList
from perdure.api.handle import Handle
from perdure.api.limits import Limits
from perdure.api.listing import RunPage, earliest, known_workflows, list_runs, run_page
from perdure.api.publications import (
    PublicationInfo,
    SubscriptionInfo,
    WaitingInfo,
    new_publication,
    publication_info,
    publish_at,
    subscription_info,
)
from perdure.api.questions import QuestionInfo, answer_question, find_question, list_questions
from perdure.api.queues import Queues
from perdure.api.runinfo import RunInfo
from perdure.api.schedules import Schedules
from perdure.api.workerinfo import WorkerInfo, worker_info
from perdure.core.attributes import AttributeFilter, conditions_of
from perdure.core.bounds import mended, storable
from perdure.core.retry import seconds
from perdure.core.where import where_of
from perdure.errors import UnknownRunError, UsageError
from perdure.runtime.settings import Settings
from perdure.storage.publications import number_at
from perdure.storage.records import RunFilter

E = TypeVar("E")

PAGE = 500  #: publications fetched at once
SIZE_MAX = 1000  #: runs of a page


def _filter(
    status: str | Sequence[str] | None,
    workflow: str | None,
    since: datetime | None,
    text: str | None,
    attributes: Mapping[str, AttributeFilter] | None,
    errands: bool,
    unpatched: str | None = None,
    until: datetime | None = None,
) -> RunFilter:
    return RunFilter(
        statuses=tuple(map(mended, (status,) if isinstance(status, str) else status or ())),
        workflow=None if workflow is None else mended(workflow),
        text=None if text is None else mended(text),
        since=None if since is None else earliest(since),
        until=None if until is None else earliest(until),
        attributes=conditions_of(attributes or {}),
        unpatched=None if unpatched is None else mended(unpatched),
        errands=errands,
    )


class Doors:
    """The part of an engine that shows what is there, and hands out what leads to it."""

    _settings: Settings

    def _open(self) -> Connection:
        raise NotImplementedError

    def get(self, id: str) -> Handle[Any]:
        """A handle to a run by its id, existing or not. Does no I/O.

        Raises:
            UnknownRunError: no run can have this id, in any store.
        """
        if not storable(id):
            msg = f"no run has the id {id!r}: ids have printable characters only"
            raise UnknownRunError(msg, run_id=id)
        return Handle(self._open(), id)

    async def diff(
        self, a: str, b: str, *, generations: tuple[int | None, int | None] = (None, None)
    ) -> RunDiff:
        """Two runs side by side: what both have done in the same way, what differs, what it has cost.

        Args:
            a, b: their ids: a run and a fork of it, say.
            generations: which of the runs of each id, counted from 1; by default the newest.

        Raises:
            UnknownRunError: no run has this id, or this generation.

        Example:
            >>> told = await engine.diff("r-1", "r-1-fork")  # doctest: +SKIP
            >>> [step.a.id for step in told.changed]  # doctest: +SKIP
        """
        return await compare(self._open(), a, b, generations)

    @property
    def callbacks(self) -> Callbacks:
        """What runs wait for from outside: complete it, fail it, or keep it alive, by its token."""
        return Callbacks(self._open(), self._settings.max_payload)

    async def questions(
        self,
        *,
        open: bool = True,
        run: str | None = None,
        to: str | None = None,
        since: datetime | None = None,
        limit: int | None = 100,
    ) -> AsyncIterator[QuestionInfo]:
        """What runs ask of people (see `perdure.ask`), oldest first.

        Args:
            open: only those that can be answered now; False: all that were ever asked.
            run: only those of this run.
            to: only those that are for this one.
            since: only those asked at or after this moment.
            limit: how many at most, None = all.

        Example:
            >>> async for question in engine.questions(to="editors"):  # doctest: +SKIP
            ...     print(question.id, question.run, question.text)
        """
        async for question in list_questions(
            self._open(), open=open, run=run, to=to, since=since, limit=limit
        ):
            yield question

    async def question(self, id: str) -> QuestionInfo:
        """A question by its id, whatever became of it.

        Raises:
            UnknownQuestionError: no question has this id.
        """
        return await find_question(self._open(), id)

    async def answer(
        self,
        id: str,
        value: Any,
        *,
        by: str | None = None,
        via: str = "python",
        digest: str | None = None,
    ) -> QuestionInfo:
        """Answer a question, once; durable when this returns. The run goes on when a worker is up.

        Answering it again with the same value changes nothing, and is no error.

        Args:
            id: the question's.
            value: the answer: plain data, or anything else that has the JSON form that was asked for.
            by: who answers; the run's history keeps it.
            via: through what it comes, for the history.
            digest: that of the question which was answered, to make sure that it is still about the same.

        Returns:
            The question with its answer.

        Raises:
            UnknownQuestionError: no question has this id.
            InvalidAnswerError: the answer doesn't fit; `problems` tells of each field.
            QuestionAnsweredError: it was answered with something else.
            QuestionClosedError: its time is over, it was withdrawn, or its run has ended; or the digest is another.
            NotSerializableError, PayloadTooLargeError: the answer can't be recorded.

        Example:
            >>> await engine.answer("q_7jq2...", {"approved": True}, by="ann")  # doctest: +SKIP
        """
        return await answer_question(self._open(), id, value, by=by, via=via, digest=digest)

    async def runs(
        self,
        *,
        status: str | Sequence[str] | None = None,
        workflow: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
        attributes: Mapping[str, AttributeFilter] | None = None,
        unpatched: str | None = None,
        errands: bool = False,
        limit: int | None = 100,
    ) -> AsyncIterator[RunInfo]:
        """Runs, newest first.

        Args:
            status: only with this status, or any of these.
            workflow: only of this workflow: its name, or the last part of it.
            since: only created at or after this moment.
            until: only created before this moment.
            text: only with this in their id, or in the reason why they are blocked or paused.
            attributes: only where all of this holds: a name and the value that the attribute has (or contains,
                if it is a list), a comparison such as `{"total": (">=", 100)}`, or a list of comparisons.
            unpatched: only live ones that haven't taken the new branch of this change, see `patched`.
            errands: also the runs by which steps are executed in other queues.
            limit: how many at most, None = all.
        """
        connection = self._open()
        filter = _filter(status, workflow, since, text, attributes, errands, unpatched, until)
        async for run in list_runs(connection.store, filter, limit):
            yield run

    async def runs_page(
        self,
        *,
        status: str | Sequence[str] | None = None,
        workflow: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        text: str | None = None,
        attributes: Mapping[str, AttributeFilter] | None = None,
        errands: bool = False,
        size: int = 50,
        cursor: str | None = None,
        count: bool = False,
    ) -> RunPage:
        """A page of runs, newest first, for lists that people turn over. Filters as for `runs`.

        It is quick whatever the number of runs, since 100,000 of them are looked at for one page, at most.

        Args:
            size: how many, 1 to 1,000.
            cursor: the `next` of the page before; the first page without it.
            count: also tell how many match, to 1,000.

        Raises:
            UsageError: the size or the cursor can't be one.

        Example:
            >>> page = await engine.runs_page(status="failed")  # doctest: +SKIP
            >>> page = await engine.runs_page(status="failed", cursor=page.next)  # doctest: +SKIP
        """
        if not 1 <= size <= SIZE_MAX:
            msg = f"size={size}: a page has 1 to {SIZE_MAX} runs"
            raise UsageError(msg)
        connection = self._open()
        filter = _filter(status, workflow, since, text, attributes, errands, until=until)
        return await run_page(connection.store, filter, size, cursor, count=count)

    async def workflows(self) -> list[str]:
        """The names of workflows that there are: those that workers have, and those of the newest 100,000 runs."""
        return await known_workflows(self._open().store)

    async def workers(self) -> list[WorkerInfo]:
        """The workers that drive runs of this database, with the versions of their code."""
        connection = self._open()
        rows, now = await connection.store.workers(), connection.clock()
        return [worker_info(row, now) for row in rows]

    @property
    def limits(self) -> Limits:
        """Rate limits: what they allow at the moment, and blocking them."""
        return Limits(self._open())

    @property
    def budgets(self) -> Budgets:
        """Budgets: how they stand, raising them, closing their breakers."""
        return Budgets(self._open())

    async def publish(self, name: str, payload: Any = None, *, key: str | None = None) -> bool:
        """Publish an event: it starts or resumes every run that subscribed, each once. Durable when this returns.

        Args:
            name: the event's name.
            payload: plain data, or anything else that has a JSON form.
            key: a second event with this name and key is ignored for as long as the first is kept, see
                `Engine(keep_publications=...)`.

        Returns:
            Whether it is new.

        Raises:
            ConfigurationError: the name or the key can't be one.
            NotSerializableError, PayloadTooLargeError: the payload can't be recorded.

        Example:
            >>> await engine.publish("order.paid", {"id": "o-7"}, key="o-7")  # doctest: +SKIP
        """
        connection = self._open()
        limit = self._settings.max_payload
        new = new_publication(name, payload, key, at=connection.clock(), max_payload=limit)
        return await publish_at(connection, new)

    async def publications(
        self, name: str | None = None, *, limit: int | None = 100
    ) -> AsyncIterator[PublicationInfo]:
        """Published events that are still kept, newest first.

        Args:
            name: only those with this name.
            limit: how many at most, None = all.
        """
        connection = self._open()
        store = connection.store.publications
        before: int | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = await store.find(name=name, before=before, limit=size)
            for row in page:
                yield publication_info(row)
            if len(page) < size:
                return
            before = page[-1].number or number_at(connection.clock() + 1e9)
            left = None if left is None else left - len(page)

    async def subscriptions(self) -> list[SubscriptionInfo]:
        """The workflows that are started by published events, by name."""
        return [subscription_info(row) for row in await self._open().store.publications.subscriptions()]

    async def awaited(self) -> list[WaitingInfo]:
        """The events that runs wait for, and how many do; at most 1000 of these, by name."""
        waiting = await self._open().store.publications.waiting()
        return [WaitingInfo(event=name, where=where_of(where), runs=count) for name, where, count in waiting]

    async def unsubscribe(self, workflow: str) -> bool:
        """End the subscription of a workflow, and forget what is gathered for it. False: it has none.

        A worker whose code still has the workflow subscribed begins it anew when it starts.
        """
        return await self._open().store.publications.unsubscribe(workflow)

    @property
    def queues(self) -> Queues:
        """Queues: what they hold; pausing and draining them, and giving them other limits."""
        return Queues(self._open())

    @property
    def schedules(self) -> Schedules:
        """What starts runs by itself, by the clock."""
        return Schedules(self._open(), self._settings.queues[0], self._settings.max_payload)

    @property
    def entities(self) -> EntityList:
        """Which entities there are."""
        return EntityList(self._open())

    def entity(
        self, cls: type[E], id: str, *, key: str | None = None, timeout: float | timedelta | None = None
    ) -> E:
        """The entity of a class with this id; its methods are awaited, also those that are plain functions.

        It exists from its first call on. Calls come one at a time; one is over when its answer and the new state
        are durable. What a method raises is raised here, and leaves the state as it was before the call.

        Args:
            id: which of the class's entities.
            key: makes calls recognisable: a second one with it gets the answer of the first.
            timeout: how long to wait for an answer, in seconds; the call goes on, whatever becomes of the wait.

        Raises:
            UsageError: the class is no entity.

        Example:
            >>> count = await engine.entity(Cart, "user-7").add("apple")  # doctest: +SKIP
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        return cast("E", Proxy(known_entity(cls), id, self._open, key, limit))

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
        """Call a method of an entity by names and plain data, where its class isn't at hand to write the call.

        Args:
            type: the entity's durable name.
            id, key, timeout: as for `entity`.

        Raises:
            UsageError: this process hasn't loaded the class, it has no such method, or the arguments don't fit.

        Example:
            >>> await engine.call_entity("shop.Cart", "user-7", "add", ["apple"])  # doctest: +SKIP
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        return await call_named(
            self._open(), type, id, method, tuple(args), dict(kwargs or {}), call_key=key, timeout=limit
        )
