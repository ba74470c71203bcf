"""Kills a workflow at every event boundary, lets it recover, and compares that with a run nobody disturbed.

A run goes from append to append; between two of them nothing of it is durable. So a worker that dies just before and
just after each of its appends has died at every point that makes a difference. Each crash is a scenario of its own: an
empty database in memory, a worker that dies at the chosen append, a second one that takes over. The client, which is
the world outside, survives and does what it is told to by `drive=`.

All of it takes place in one process, in virtual time: what steps keep in memory, or threads execute, survives a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from perdure.api.call import Call
from perdure.api.handle import Handle
from perdure.core import events as ev
from perdure.core.mismatch import describe_event
from perdure.core.status import Status
from perdure.errors import RunError
from perdure.runtime.attempt import Attempt
from perdure.runtime.definitions import StepDefinition
from perdure.runtime.withholding import effect_of
from perdure.storage.chance import chance
from perdure.storage.memory import MemoryStore
from perdure.storage.records import Append, BlockCode, RunFilter
from perdure.testing.boundaries import Boundary, every_boundary, some_pairs
from perdure.testing.crash_conditions import Steady, asked_keys, names_key, quiet
from perdure.testing.crash_report import CrashFailure, CrashReport, Finding, merged
from perdure.testing.environment import Environment
from perdure.testing.mocks import AnyStep, name_of
from perdure.testing.mortal import Ledger, Mortal
from perdure.testing.replaying import assert_history_replays, history_of
from perdure.testing.skipping import StuckError

#: The id of the run in each scenario.
RUN_ID: Final = "crash-everywhere"

#: Pairs of crashes that are drawn when there are too many for all of them.
_PAIRS: Final = 40

#: Up to so many appends, all pairs are tried.
_FEW: Final = 8

#: Real seconds until a run that waits for nothing which could come is given up.
_PATIENCE: Final = 0.05
_PATIENCE_WITH_CLIENT: Final = 3.0


async def crash_everywhere(
    call: Call[Any] | Callable[[], Call[Any]],
    *,
    drive: Callable[[Environment, Handle[Any]], Awaitable[None]] | None = None,
    setup: Callable[[], Any] | None = None,
    look: Callable[[], Any] | None = None,
    same: Callable[[Any, Any], bool] | None = None,
    idempotent: Iterable[AnyStep] = (),
    twice: bool = False,
    env: Environment | None = None,
    patience: float | None = None,
    **options: Any,
) -> CrashReport:
    """Run a workflow, kill it before and after each write to its history, and let it recover each time.

    Args:
        call: the workflow to run, or a function that makes the call anew for each scenario.
        drive: plays the world outside: an async function of the environment and the run's handle that sends messages,
            lets time pass and so on. It isn't killed.
        setup: called before each scenario, to reset what steps act on.
        look: called after each scenario; what it returns has to be the same as after the undisturbed run.
        same: whether two results count as equal; by default they have to be equal.
        idempotent: steps that may run twice although nothing in their code says so.
        twice: let the recovery die, too: at each pair of boundaries, or at 40 drawn ones if there are many.
        env: an environment whose mocks are used, and whose clock tells the time at which each scenario begins.
        patience: real seconds to wait for a run that waits for something.
        options: for Environment: `unmocked`, `queues` and others.

    Returns:
        What was tried.

    Raises:
        CrashFailure: an AssertionError with a report: a result differs, a step with effects ran twice without
            idempotency, the code diverged, or a run sticks.

    Example:
        >>> async def test_order_survives_crashes() -> None:  # doctest: +SKIP
        ...     await crash_everywhere(order("o-1"), setup=bank.reset, look=lambda: bank.booked)
    """
    if patience is None:
        patience = _PATIENCE if drive is None else _PATIENCE_WITH_CLIENT
    crasher = _Crasher(
        call,
        drive,
        setup,
        look,
        same or (lambda one, other: bool(one == other)),
        frozenset(map(name_of, idempotent)),
        {
            "mocks": None if env is None else env.mocks,
            "now": datetime.now(UTC).replace(microsecond=0) if env is None else env.now(),
            "patience": patience,
            **options,
        },
    )
    with asked_keys(crasher.asked_for_key), quiet():
        return await crasher.report(twice)


class _Ended:
    """How a scenario ended: with a result, an error's text, or not at all."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: str | None = None
        self.stuck: str | None = None
        self.diverged: dict[str, str] = {}  # by run
        self.seen: Any = None
        self.crashes: list[str] = []
        self.repeated: dict[str, str] = {}  # by step
        self.appends = 0

    def told(self) -> str:
        return f"failed: {self.error}" if self.error is not None else f"returned {self.result!r}"


class _Crasher:
    def __init__(
        self,
        call: Call[Any] | Callable[[], Call[Any]],
        drive: Callable[[Environment, Handle[Any]], Awaitable[None]] | None,
        setup: Callable[[], Any] | None,
        look: Callable[[], Any] | None,
        same: Callable[[Any, Any], bool],
        idempotent: frozenset[str],
        options: dict[str, Any],
    ) -> None:
        self._call = call
        self._drive = drive
        self._setup = setup
        self._look = look
        self._same = same
        self._idempotent = idempotent
        self._options = options
        self.asked_for_key: set[str] = set()  # names of steps whose bodies have asked for theirs

    # -- what is tried ------------------------------------------------------------------------------

    async def report(self, twice: bool) -> CrashReport:
        calm = await self._scenario(())
        workflow = self._new_call().name
        if calm.stuck is not None and not calm.diverged:
            raise StuckError(f"{workflow} doesn't end even without a crash. {calm.stuck}")
        findings = [Finding("diverged", run, told, ()) for run, told in calm.diverged.items()]
        crashes = 0
        if not findings:
            for boundaries in self._scenarios(calm.appends, twice):
                ended = await self._scenario(boundaries)
                if len(ended.crashes) < len(boundaries):
                    continue  # it had ended before it came to that
                crashes += 1
                findings += self._compare(calm, ended)
        report = CrashReport(workflow, crashes, calm.appends, merged(findings))
        if report.findings:
            raise CrashFailure(report)
        return report

    def _scenarios(self, appends: int, twice: bool) -> Generator[tuple[Boundary, ...]]:
        firsts = [boundary for boundary, _ in zip(every_boundary(), range(2 * appends), strict=False)]
        yield from ((boundary,) for boundary in firsts)
        if twice and appends <= _FEW:
            yield from ((first, second) for first in firsts for second in firsts)
        elif twice:
            yield from some_pairs(appends, _PAIRS, "twice")

    def _compare(self, calm: _Ended, ended: _Ended) -> list[Finding]:
        crash = (", and then ".join(ended.crashes),)
        found = [Finding("ran twice", step, told, crash) for step, told in ended.repeated.items()]
        if ended.diverged:
            return found + [Finding("diverged", run, told, crash) for run, told in ended.diverged.items()]
        if ended.stuck is not None:
            return [*found, Finding("stuck", f"run {RUN_ID!r}", ended.stuck, crash)]
        told = f"without a crash it {calm.told()}\nafter it, it {ended.told()}"
        if ended.error != calm.error or not self._same(calm.result, ended.result):
            found.append(Finding("differs", "the result", told, crash))
        if calm.seen != ended.seen:
            told = f"without a crash look() found {calm.seen!r}\nafter it, it found {ended.seen!r}"
            found.append(Finding("differs", "what look() sees", told, crash))
        return found

    # -- one scenario -------------------------------------------------------------------------------

    def _new_call(self) -> Call[Any]:
        given: Any = self._call
        call: Any = given if hasattr(given, "mark_used") else given()
        call.mark_used()
        return call  # type: ignore[no-any-return]

    async def _scenario(self, boundaries: Sequence[Boundary]) -> _Ended:
        ended = _Ended()
        if self._setup is not None:
            await _awaited(self._setup())
        with chance.seeded(Steady()):  # type: ignore[arg-type]
            env = Environment(**self._options)
            lives = _Lives(env, boundaries, ended)
            env.mocks.began = self._watched(lives, ended)
            async with lives:
                await self._live(env, ended)
                if ended.stuck is None:
                    await self._look_back(env, ended)
            ended.appends = lives.appends
        for name in [name for name in ended.repeated if name in self.asked_for_key]:
            del ended.repeated[name]
        if self._look is not None:
            ended.seen = await _awaited(self._look())
        return ended

    async def _live(self, env: Environment, ended: _Ended) -> None:
        handle = await env.start(self._new_call(), id=RUN_ID)
        driving = None if self._drive is None else asyncio.ensure_future(self._drive(env, handle))
        waiting = asyncio.ensure_future(handle.result())
        try:
            if driving is not None:
                await asyncio.wait([driving, waiting], return_when=asyncio.FIRST_COMPLETED)
                if driving.done():
                    await driving  # its errors are the test's
            ended.result = await waiting
        except RunError as error:
            cause = error.__cause__
            ended.error = (
                f"{type(error).__name__}: {error}" if cause is None else f"{type(cause).__name__}: {cause}"
            )
        except StuckError as error:
            ended.stuck = str(error)
            await self._look_for_blocked(env, ended)
        finally:
            for task in (driving, waiting):
                if task is not None and not task.done():
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    async def _look_for_blocked(self, env: Environment, ended: _Ended) -> None:
        """Whether the code of a run doesn't fit."""
        store = MemoryStore(env._database)
        await store.open()
        try:
            for row in await store.find(RunFilter(statuses=(Status.BLOCKED,), limit=100)):
                if row.block_code == BlockCode.CODE:
                    ended.diverged[f"run {row.id!r}"] = row.reason or "it is blocked"
        finally:
            await store.close()

    async def _look_back(self, env: Environment, ended: _Ended) -> None:
        """Whether what was recorded can be replayed."""
        for info in [info async for info in env.engine.runs(limit=None)]:
            try:
                await assert_history_replays(await history_of(env.engine._store, info.id))
            except AssertionError as error:
                ended.diverged[f"run {info.id!r}"] = str(error)

    # -- bodies -------------------------------------------------------------------------------------

    def _watched(self, lives: _Lives, ended: _Ended) -> Callable[[Attempt], None]:
        begun: dict[tuple[str, str, int], int] = {}

        def began(attempt: Attempt) -> None:
            info, operation = attempt.info, attempt.operation
            key = (info.run_id, info.step_id, info.attempt)
            before = begun.setdefault(key, lives.number)
            if before == lives.number or not self._minds(operation.call):
                return
            args, kwargs = operation.call.arguments(operation.input)
            given = ", ".join([*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())])
            ended.repeated[operation.name] = (
                f"attempt {info.attempt} of step {info.step_id!r} in run {info.run_id!r} had begun before the crash, "
                f"and began again after it, with the arguments ({given})"
            )

        return began

    def _minds(self, call: Any) -> bool:
        """Whether a step may do harm when it runs twice."""
        definition: StepDefinition = call.definition
        name = definition.name
        if name in self._idempotent or name.rpartition(".")[2] in self._idempotent:
            return False
        if effect_of(definition, call.options) == "read" or definition.once:
            return False
        transactional = definition.run is not definition.function
        return not (transactional or names_key(definition.function.__code__))


class _Lives:
    """The workers of a scenario, one after the other: each but the last dies where it is told to."""

    def __init__(self, env: Environment, boundaries: Sequence[Boundary], ended: _Ended) -> None:
        self._env = env
        self._boundaries = boundaries
        self._ended = ended
        self._task: asyncio.Task[None] | None = None
        self._store: Mortal
        self.number = 0
        env._wrap = self._mortal

    @property
    def appends(self) -> int:
        """How many the worker of now has made."""
        return self._store.appends

    def _mortal(self, inner: Any) -> Mortal:
        self.number += 1
        last = self.number > len(self._boundaries)
        boundary = Boundary(0, before=True) if last else self._boundaries[self.number - 1]
        self._store = Mortal(inner, boundary.die_at, not boundary.before, _LastWords())
        return self._store

    async def __aenter__(self) -> None:
        await self._env.open()
        self._task = asyncio.ensure_future(self._succeed())

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._env.kill_worker()  # what the code left running isn't waited for
        await self._env.close()

    async def _succeed(self) -> None:
        for boundary in self._boundaries:
            store = self._store
            await store.dead.wait()
            self._ended.crashes.append(_told(boundary, store.ledger.dying))
            await self._env.restart()


class _LastWords(Ledger):
    """Keeps only what was to be written when the worker died."""

    def committed(self, append: Append) -> None:
        pass


def _told(boundary: Boundary, dying: Sequence[ev.Event]) -> str:
    what = ", ".join(map(describe_event, dying)) or "what the run waits for"
    when = "before" if boundary.before else "after"
    return f"{when} write {boundary.die_at} ({what})"


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
