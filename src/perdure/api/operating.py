"""What operators do with a run, apart from ending it: hold it, let it go on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, overload

from perdure.api.connection import Connection
from perdure.codec.events import encode_event
from perdure.core import events as ev
from perdure.core.bounds import mended
from perdure.core.errands import step_of
from perdure.core.status import Status
from perdure.errors import RunConflictError, UnknownRunError
from perdure.storage.records import Delivery, RunFilter

if TYPE_CHECKING:
    from perdure.api.call import Call
    from perdure.api.editing import Args, Change
    from perdure.api.forking import Effects
    from perdure.api.forkplans import ForkPlan

R = TypeVar("R")

_ERRANDS_MAX = 10_000  # that one run has sent


class Operated(Generic[R]):
    """The part of a handle that operates its run."""

    id: str
    _connection: Connection

    async def pause(self, reason: str | None = None) -> None:
        """Hold the run: from now on it begins nothing; returns once that is durable.

        Steps that execute go on to their end, and their outcomes are recorded. No further attempt begins, and
        timers don't reach the code. When nothing executes any more, the run leaves memory with the status
        `paused`; one that nobody drives is paused at once. Messages queue. Cancelling a paused run lets it go
        on, since its code is to clean up. A run that is paused already stays as it is.

        Args:
            reason: why; people see it in `info()` and the history.

        Raises:
            UnknownRunError: no run has this id.
            RunConflictError: it has ended.

        Example:
            >>> await handle.pause("the bank is down")  # doctest: +SKIP
        """
        now = self._connection.clock()
        self._connection.check()
        reason = None if reason is None else mended(reason)
        event = encode_event(ev.RunPaused(at=now, reason=reason))
        self._wished(
            await self._connection.store.pauses.pause(self.id, event, reason=reason, now=now), "paused"
        )

    async def resume(self) -> None:
        """Let a paused run go on, at once; returns once that is durable.

        Timers that came due meanwhile fire now. A run that is blocked because its history was damaged is looked at
        again: it goes on if its history was mended. Any other run stays as it is.

        Raises:
            UnknownRunError: no run has this id.
            RunConflictError: it has ended.

        Example:
            >>> await handle.resume()  # doctest: +SKIP
        """
        now = self._connection.clock()
        self._connection.check()
        event = encode_event(ev.RunResumed(at=now))
        store = self._connection.store
        self._wished(await store.pauses.resume(self.id, event, now=now), "resumed")
        for errand in await self._paused_errands():
            await store.pauses.resume(errand, event, now=now)

    async def _paused_errands(self) -> list[str]:
        """Attempts of the run's steps in other queues that are held, as after a restore."""
        store = self._connection.store
        (row,) = await store.get([self.id])
        if row is None:
            return []
        found = await store.find(RunFilter(statuses=(Status.PAUSED,), parent=row.run, limit=_ERRANDS_MAX))
        return [errand.id for errand in found if step_of(errand.workflow) is not None]

    async def retry(self) -> None:
        """Let a failed run go on from its failed step, keeping what succeeded; returns once that is durable.

        The run begins its next generation: its code starts from the beginning, and is given the outcomes of all
        that succeeded, without anything being executed again. What failed is attempted anew, with fresh attempts
        and under the same idempotency keys. Code that was mended meanwhile counts. A parent that has heard of
        the failure isn't told again.

        Raises:
            UnknownRunError: no run has this id.
            RunConflictError: it hasn't failed.

        Example:
            >>> await handle.retry()  # doctest: +SKIP
            >>> await handle.result()  # doctest: +SKIP
        """
        from perdure.api.forking import retry

        await retry(self._connection, self.id)

    @overload
    async def fork(
        self,
        at: int | str | None = None,
        *,
        edits: Mapping[str, Any] | None = None,
        input: Call[Any] | Args | Change | None = None,
        id: str | None = None,
        effects: Effects = "run",
        stubs: Mapping[str, Any] | None = None,
        refused: Literal["block", "fail"] = "block",
        dry_run: Literal[False] = False,
    ) -> Self: ...
    @overload
    async def fork(
        self,
        at: int | str | None = None,
        *,
        edits: Mapping[str, Any] | None = None,
        input: Call[Any] | Args | Change | None = None,
        id: str | None = None,
        effects: Effects = "run",
        stubs: Mapping[str, Any] | None = None,
        refused: Literal["block", "fail"] = "block",
        dry_run: Literal[True],
    ) -> ForkPlan: ...
    async def fork(
        self,
        at: int | str | None = None,
        *,
        edits: Mapping[str, Any] | None = None,
        input: Call[Any] | Args | Change | None = None,
        id: str | None = None,
        effects: Effects = "run",
        stubs: Mapping[str, Any] | None = None,
        refused: Literal["block", "fail"] = "block",
        dry_run: bool = False,
    ) -> Self | ForkPlan:
        """Start a run of its own that goes on from what this one has done; this one isn't touched.

        The new run's code starts from the beginning, and is given the outcomes of the steps, timers, child runs
        and callbacks that succeeded here, as long as it asks for them with the same input. What it asks for in
        another way is done anew. Its messages are given to it again, in their order. Failures and cancellations
        are left out.

        Args:
            at: nothing that happened here from this event's number, or this step's end, on is taken over.
            edits: by step id (or name, if there is one step of that), another result; or `perdure.Args(...)`: the step
                is executed with these arguments; or `perdure.Change({...})`: with other parts of those that the code
                gives. A change holds for all steps of a name, those to come included. A name with `*` in it, such as
                "fetch#*", means all steps that it fits. What names several steps holds in child runs, too.
            input: other arguments for the run: a call of its workflow, `perdure.Args(...)` or `perdure.Change({...})`.
            id: the new run's id; made from this one's by default.
            effects: "run": the fork does what its code says. "reuse": the fork is *counterfactual*: it takes over what
                is recorded, failures included, executes steps that read, and acts on nobody. Steps that write
                (`@step(effect=...)`) and aren't recorded with this input have a stub in their place, or are refused;
                what it sends and publishes is withheld; its child runs are counterfactual, too. "stub": the same, and
                a step without a stub of its own has the result that the original recorded for it, or for the last one
                of its name.
            stubs: results, by step ids, names or patterns, for the steps that a counterfactual fork doesn't do. They
                count more than `@step(stub=...)`.
            refused: what becomes of a step that has no stub: "block": it waits for a person, who says what it would
                have come to (`resolve`); "fail": it raises EffectRefused in the workflow.
            dry_run: start nothing, and tell what would be taken over, what would run, and what that is likely to cost.

        Returns:
            The new run's handle, or the plan.

        Raises:
            UnknownRunError: no run has this id.
            UsageError: there is no such event or step; or an edit, the input or the options don't fit.
            NotSerializableError: an edit doesn't fit its step.
            RunConflictError: another run has the new id. (The same fork is started once.)

        Example:
            >>> other = await handle.fork(edits={"app.price#1": 99})  # doctest: +SKIP
            >>> other = await handle.fork(edits={"ask": perdure.Change({"model": "gpt-5-mini"})})  # doctest: +SKIP
            >>> await other.result()  # doctest: +SKIP
        """
        from perdure.api.forking import Wish, fork

        wish = Wish(at, edits, input, effects, stubs, refused)
        made = await fork(self._connection, self.id, wish, id, dry_run=dry_run)
        return self._sibling(made) if isinstance(made, str) else made

    def _sibling(self, id: str) -> Self:
        raise NotImplementedError

    def _wished(self, delivery: Delivery, what: str) -> None:
        if delivery is Delivery.UNKNOWN_RUN:
            msg = f"no run has the id {self.id!r} in this database: look it up with `perdure ls`"
            raise UnknownRunError(msg, run_id=self.id)
        if delivery is Delivery.RUN_ENDED:
            msg = f"run {self.id!r} can't be {what}: it has ended already. Nothing was changed"
            raise RunConflictError(msg)
        self._connection.nudge()
