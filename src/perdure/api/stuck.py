"""Which runs don't go on, and why: gathers what `core/stuck.py` groups, in bounded work.

Blocked and paused runs are counted by an index, and some of each kind are asked for their causes: that means reading
their histories. What stands in line, waits for limits or for answers is known without.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from perdure.api.connection import Connection
from perdure.api.limits import Limits
from perdure.api.questions import list_questions
from perdure.api.queues import Queues
from perdure.api.why import live_servers, why_of
from perdure.core.stuck import NAMED, TITLES, Action, Group, Held, grouped, percentile, quoted, remedies
from perdure.core.why import Cause
from perdure.core.why import quoted as shell_quoted
from perdure.errors import PerdureError, UsageError

#: Runs that wait in line are a cause of concern after so many seconds.
PATIENCE = 30.0

#: A run is slow if it takes so many times as long as 95 of 100 runs of its workflow did, and so many seconds.
SLOW_TIMES = 3.0
SLOW_SECONDS = 60.0

_SAMPLE = 2_000  # ended runs that tell how long a workflow takes
_SAMPLE_MIN = 20
_DRIVEN = 500  # runs in memory that are looked at
_QUESTIONS = 200
_KINDS = 50  # statuses with workflows that are looked at
_STATUSES = ("blocked", "paused")


@dataclass(frozen=True, slots=True)
class StuckPage:
    """Runs that don't go on, grouped by cause.

    Attributes:
        groups: those with most runs first.
        looked: how many blocked and paused runs were looked at so far.
        stuck: how many there are.
        next: give it as `cursor=` to look at more of them; None if all were looked at.
    """

    groups: Sequence[Group]
    looked: int
    stuck: int
    next: str | None


async def stuck(connection: Connection, *, size: int, cursor: str | None) -> StuckPage:
    """A page of the runs that don't go on; what isn't asked of single runs is on the first one."""
    skip = _skip(cursor)
    tallies = sorted(await connection.store.survey.tallies(_STATUSES), key=lambda tally: -tally.count)
    share = max(1, size // max(1, min(len(tallies), _KINDS)))
    found: list[tuple[Held, Cause]] = []
    servers = await live_servers(connection)
    for tally in tallies[:_KINDS]:
        keys = await connection.store.survey.of_kind(tally.status, tally.workflow, skip=skip, limit=share)
        for row in await connection.store.survey.rows(keys):
            try:
                causes = (await why_of(connection, row, servers, 0)).causes
            except PerdureError as error:
                causes = [Cause("history", str(error), row.updated_at)]
            found += [
                (Held(row.id, row.workflow, row.status, cause.since or row.updated_at, cause.step), cause)
                for cause in causes[:3]
            ]
    groups = grouped(found)
    if cursor is None:
        for more in (_in_line, _limited, _asked, _slow):
            groups += [group async for group in more(connection)]
        groups.sort(key=lambda group: -group.count)
    total = sum(tally.count for tally in tallies)
    looked = sum(min(tally.count, skip + share) for tally in tallies[:_KINDS])
    more_of_these = any(tally.count > skip + share for tally in tallies[:_KINDS])
    return StuckPage(groups, looked, total, format(skip + share, "x") if more_of_these else None)


def _skip(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        skip = int(cursor, 16)
    except ValueError:
        skip = -1
    if not 0 <= skip < 1 << 53:
        msg = (
            f"{cursor!r} is no cursor: give what the page before this one told as its `next`, or leave it out"
        )
        raise UsageError(msg)
    return skip


async def _in_line(connection: Connection) -> AsyncIterator[Group]:
    """Runs that could begin or go on, by their queues."""
    now = connection.clock()
    for queue in await Queues(connection).list():
        since = None if queue.oldest is None else queue.oldest.timestamp()
        held = queue.paused or queue.draining or not queue.workers
        if not queue.queued or not (held or (since is not None and now - since > PATIENCE)):
            continue
        name = f"queue {queue.name!r}"
        actions: tuple[Action, ...] = ()
        if queue.paused or queue.draining:
            told = f"{name} is {'paused' if queue.paused else 'draining'}"
            todo = f"perdure queues resume {shell_quoted(queue.name)}"
            actions = (
                Action("Resume the queue", "POST", f"/queues/{quoted(queue.name)}/resume", role="admin"),
            )
        elif not queue.workers:
            told = f"no worker serves {name}"
            todo = f"perdure worker MODULE --queues {shell_quoted(queue.name)}"
        else:
            told = f"{name} has {len(queue.workers)} workers and {queue.running} runs under way"
            todo = "start more workers, or raise the queue's limits"
        kind = "queue" if queue.workers or (held and (queue.paused or queue.draining)) else "worker"
        yield Group(kind, TITLES[kind], told, queue.queued, since=since, todo=todo, actions=actions)


async def _limited(connection: Connection) -> AsyncIterator[Group]:
    """Steps that wait for rate limits."""
    for limit in await Limits(connection).list():
        waiting = max((unit.waiting for unit in limit.units.values()), default=0)
        blocked = limit.blocked_until is not None
        if not waiting and not blocked:
            continue
        told = f"rate limit {limit.name!r}"
        if blocked and limit.blocked_until is not None:
            told += f" is blocked until {limit.blocked_until:%Y-%m-%d %H:%M:%S} UTC"
        path = f"/limits/{quoted(limit.name)}/unblock"
        actions = (Action("Unblock", "POST", path, role="admin"),) if blocked else ()
        yield Group("limit", TITLES["limit"], told, waiting, todo="perdure limits", actions=actions)


async def _asked(connection: Connection) -> AsyncIterator[Group]:
    """Runs that wait for people's answers."""
    by_workflow: dict[str, list[tuple[Held, str, str]]] = {}
    number = 0
    async for question in list_questions(
        connection, open=True, run=None, to=None, since=None, limit=_QUESTIONS
    ):
        held = Held(question.run, question.workflow, "waiting", question.asked_at.timestamp())
        by_workflow.setdefault(question.workflow, []).append((held, question.text, question.id))
        number += 1
    for members in by_workflow.values():
        (first, text, id), *_ = members
        yield Group(
            "question",
            TITLES["question"],
            text,
            len(members),
            number == _QUESTIONS,
            first.since,
            f"perdure answer {id}",
            tuple(held for held, _, _ in members[:NAMED]),
        )


async def _slow(connection: Connection) -> AsyncIterator[Group]:
    """Runs that take much longer than others of their workflow did."""
    now = connection.clock()
    usual = usual_lengths(await connection.store.survey.took(limit=_SAMPLE))
    keys = await connection.store.survey.driven_since(now - SLOW_SECONDS, limit=_DRIVEN)
    by_workflow: dict[str, list[Held]] = {}
    for row in await connection.store.survey.rows(keys):
        known = usual.get(row.workflow)
        if known is None or row.started_at is None or row.status == "blocked" or known.samples < _SAMPLE_MIN:
            continue
        if now - row.started_at > max(SLOW_SECONDS, SLOW_TIMES * known.p95):
            held = Held(row.id, row.workflow, row.status, row.started_at)
            by_workflow.setdefault(row.workflow, []).append(held)
    for workflow, held_ones in by_workflow.items():
        p95 = usual[workflow].p95
        told = f"95 of 100 runs of {workflow} end within {p95:.3g} s; these take {SLOW_TIMES:g} times that"
        first = held_ones[0]
        yield Group(
            "slow",
            TITLES["slow"],
            told,
            len(held_ones),
            len(keys) == _DRIVEN,
            first.since,
            f"perdure why {shell_quoted(first.id)}",
            tuple(held_ones[:NAMED]),
            remedies("slow"),
        )


@dataclass(frozen=True, slots=True)
class Usual:
    """How long runs of a workflow take, in seconds from their first driver to their end; by so many samples."""

    p50: float
    p95: float
    samples: int


def usual_lengths(took: Sequence[tuple[str, float]]) -> Mapping[str, Usual]:
    """By workflow, how long its runs took."""
    lengths: dict[str, list[float]] = {}
    for workflow, seconds in took:
        lengths.setdefault(workflow, []).append(max(0.0, seconds))
    return {
        workflow: Usual(percentile(values, 0.5), percentile(values, 0.95), len(values))
        for workflow, values in ((name, sorted(values)) for name, values in lengths.items())
    }
