"""What an engine opens the door to: its runs, their workers, and what they ask of people.

besides.py has what an engine has besides runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from perdure.api.connection import Connection
from perdure.api.handle import Handle
from perdure.core.attributes import AttributeFilter, conditions_of
from perdure.core.bounds import mended, storable
from perdure.errors import UnknownRunError, UsageError
from perdure.runtime.settings import Settings
from perdure.storage.records import RunFilter

if TYPE_CHECKING:
    from perdure.api.comparing import RunDiff
    from perdure.api.listing import RunPage
    from perdure.api.questions import QuestionInfo
    from perdure.api.runinfo import RunInfo
    from perdure.api.workerinfo import WorkerInfo

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
    from perdure.api.listing import earliest

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
        from perdure.api.comparing import compare

        return await compare(self._open(), a, b, generations)

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
        from perdure.api.questions import list_questions

        async for question in list_questions(
            self._open(), open=open, run=run, to=to, since=since, limit=limit
        ):
            yield question

    async def question(self, id: str) -> QuestionInfo:
        """A question by its id, whatever became of it.

        Raises:
            UnknownQuestionError: no question has this id.
        """
        from perdure.api.questions import find_question

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
        from perdure.api.questions import answer_question

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
        from perdure.api.listing import list_runs

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
        from perdure.api.listing import run_page

        if not 1 <= size <= SIZE_MAX:
            msg = f"size={size}: a page has 1 to {SIZE_MAX} runs"
            raise UsageError(msg)
        connection = self._open()
        filter = _filter(status, workflow, since, text, attributes, errands, until=until)
        return await run_page(connection.store, filter, size, cursor, count=count)

    async def workflows(self) -> list[str]:
        """The names of workflows that there are: those that workers have, and those of the newest 100,000 runs."""
        from perdure.api.listing import known_workflows

        return await known_workflows(self._open().store)

    async def workers(self) -> list[WorkerInfo]:
        """The workers that drive runs of this database, with the versions of their code."""
        from perdure.api.workerinfo import worker_info

        connection = self._open()
        rows, now = await connection.store.workers(), connection.clock()
        return [worker_info(row, now) for row in rows]
