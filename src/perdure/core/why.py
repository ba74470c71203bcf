"""Why a run doesn't go on: what it waits for, since when, and what somebody can do about it.

A pure function over what is known of the run. Where a run waits for a child, the child's own explanation is part
of its, so that the end of the chain is found: the message that nobody has sent, the queue that nobody serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from perdure.core.errands import step_of
from perdure.core.events import Overdrawn
from perdure.core.places import Place, explain_place
from perdure.core.status import Status
from perdure.core.suspicion import PATIENCE, SUSPECTED
from perdure.core.timeline import Wait


class Server(msgspec.Struct, frozen=True):
    """A worker that is alive, as far as it matters to a run: "" is no version."""

    name: str
    queues: Sequence[str]
    workflows: Sequence[str]
    version: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run.

    Attributes:
        recoveries: how often in a row its worker died without recording anything.
        driven: a worker has it in memory.
        driver: the name of that worker, as far as it matters.
        block_code: "code", "step", "poison", "limit" or "history" of a blocked run.
        pinned_to: the version of the code that it stays with; None if it moves.
        since: wall-clock seconds, when its row was changed last.
        wake_at: when it is to be driven next.
        waits: what its history tells of its waits.
        servers: all workers that are alive.
        place: where it stands in its queue, if that may matter.
    """

    id: str
    workflow: str
    status: Status
    queue: str
    since: float
    recoveries: int = 0
    driven: bool = False
    driver: str = ""
    reason: str | None = None
    block_code: str | None = None
    pinned_to: str | None = None
    wake_at: float | None = None
    waits: Sequence[Wait] = ()
    servers: Sequence[Server] = ()
    place: Place | None = None


class Cause(msgspec.Struct, frozen=True):
    """One thing that a run waits for.

    Attributes:
        kind: that of the wait ("message", "timer", "child", "step", "retry", "limit", "decision", "refused", "budget",
            "callback", "question", "event", "update"), or "queue", "worker", "code", "crashes", "history", "full",
            "pause", "start", "nothing", "ended".
        what: half a sentence.
        since, until: wall-clock seconds, as far as they are known.
        todo: what helps, as a command to type where there is one; "" if nothing needs doing.
        child: for a child run, why that one doesn't go on.
        step: which a decision is about.
        budget, owner: whose account has no money left.
    """

    kind: str
    what: str
    since: float | None = None
    until: float | None = None
    todo: str = ""
    child: Why | None = None
    step: str = ""
    budget: str = ""
    owner: str = ""


class Why(msgspec.Struct, frozen=True):
    """Why a run is where it is.

    Attributes:
        causes: what it waits for, all at once; the code decides whether it needs all of them or any.
    """

    run: str
    workflow: str
    status: Status
    causes: Sequence[Cause]


def explain(
    facts: Facts,
    *,
    now: float,
    children: Mapping[str, Why] | None = None,
    errands: Mapping[str, Facts] | None = None,
) -> Why:
    """Why a run doesn't go on.

    Args:
        now: wall-clock seconds.
        children: by run id, the explanations of the child runs it waits for.
        errands: by run id, the runs that execute its steps in other queues.
    """
    status = facts.status
    sent = errands or {}
    if status.final:
        causes = [_ended(facts)]
    elif status is Status.PAUSED:
        told = f"it was paused{_because(facts.reason)}"
        causes = [Cause("pause", told, facts.since, todo=f"perdure resume {quoted(facts.id)}")]
    elif status is Status.BLOCKED:
        causes = _blocked(facts)
    elif not facts.driven and (facts.wake_at is not None and facts.wake_at <= now):
        causes = [_due(facts)]
    elif status is Status.QUEUED:
        causes = [Cause("start", "it is started with a delay", facts.since, facts.wake_at)]
    else:
        causes = [
            _elsewhere(wait, sent[wait.run], now)
            if wait.run in sent
            else _waiting(facts, wait, children or {})
            for wait in facts.waits
        ] or [_quiet(facts)]
        if not facts.driven and not any(_serves(facts, server) for server in facts.servers):
            causes.append(_deserted(facts))
    return Why(facts.id, facts.workflow, status, causes)


def quoted(text: str) -> str:
    """A text as a shell takes it for one word."""
    safe = text and all(char.isalnum() or char in "-_./:@%+=," for char in text)
    return text if safe else "'" + text.replace("'", "'\"'\"'") + "'"


def todo_raise(budget: Overdrawn) -> str:
    """The command that gives a budget more money."""
    owner = f" --for {quoted(budget.owner)}" if budget.owner else ""
    return f"perdure budget raise {quoted(budget.name)}{owner} --usd N"


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _ended(facts: Facts) -> Cause:
    told = f"it has ended ({facts.status}){_because(facts.reason)}"
    todo = f"perdure show {quoted(facts.id)} --full" if facts.status is Status.FAILED else ""
    return Cause("ended", told, facts.since, todo=todo)


def _blocked(facts: Facts) -> list[Cause]:
    id = quoted(facts.id)
    parked = ("decision", "refused", "budget")
    decisions = [_decision(facts, wait) for wait in _without_alike(facts.waits) if wait.kind in parked]
    if facts.block_code == "step" and decisions:
        return decisions
    reason = facts.reason or "nobody has written down why"
    if facts.block_code == "code":
        if not any(_serves(facts, server) for server in facts.servers):
            return [Cause("worker", reason, facts.since, todo=_start_worker(facts))]
        todo = (
            "deploy code that fits, under another version if its workers have one: the run goes on by itself. "
            f"Or end it: perdure terminate {id}"
        )
        return [Cause("code", reason, facts.since, todo=todo)]
    if facts.block_code == "poison":
        todo = f"find out what kills its workers, then: perdure terminate {id}"
        return [Cause("crashes", reason, facts.since, todo=todo)]
    if facts.block_code == "limit":  # the reason says what its code has to do in time
        todo = f"perdure cancel {id}; or raise the limit (Engine(bounds=...)), then: perdure resume {id}"
        return [Cause("full", reason, facts.since, todo=todo)]
    if facts.block_code == "history":  # the reason says where, and how to go on from before that
        todo = f"perdure check, bring its rows back from a backup, then: perdure resume {id}"
        return [Cause("history", reason, facts.since, todo=todo)]
    return [Cause("nothing", reason, facts.since, todo=f"perdure terminate {id}")]


def _due(facts: Facts) -> Cause:
    """It could go on at once, but nobody drives it."""
    serving = [server for server in facts.servers if _serves(facts, server)]
    if not serving:
        return Cause("worker", _nobody(facts), facts.wake_at, todo=_start_worker(facts))
    if facts.place is not None and (by_queue := explain_place(facts.place)) is not None:
        told, until, todo = by_queue
        return Cause("queue", told, facts.wake_at, until, todo)
    if facts.recoveries >= SUSPECTED:
        told = (
            f"its worker died {facts.recoveries} times in a row while driving it: it is tried apart from others, by a "
            f"worker that has nothing else to do, or after {PATIENCE:.0f} s by any"
        )
        todo = f"find out whether it kills its workers; if so: perdure terminate {quoted(facts.id)}"
        return Cause("crashes", told, facts.wake_at, todo=todo)
    names = ", ".join(server.name for server in serving[:3]) + (", ..." if len(serving) > 3 else "")
    told = f"it is due, and waits for room on a worker of its queue {facts.queue!r} ({names})"
    return Cause("worker", told, facts.wake_at, todo="if this lasts, start more workers")


def _deserted(facts: Facts) -> Cause:
    """It only waits so far. Worth to be known before it is due, after a deploy say."""
    return Cause(
        "worker", f"and nobody could go on with it then: {_nobody(facts)}", todo=_start_worker(facts)
    )


def _nobody(facts: Facts) -> str:
    served = "" if facts.pinned_to is None else f", of version {facts.pinned_to or '(none)'!r}"
    return f"no worker has the {_code(facts)} and serves the queue {facts.queue!r}{served}"


def _serves(facts: Facts, server: Server) -> bool:
    return (
        facts.queue in server.queues
        and facts.workflow in server.workflows
        and facts.pinned_to in (None, server.version)
    )


def _code(facts: Facts) -> str:
    step = step_of(facts.workflow)
    return f"workflow {facts.workflow!r}" if step is None else f"step {step!r}"


def _elsewhere(wait: Wait, errand: Facts, now: float) -> Cause:
    """A step that was sent to a queue, by the run that carries it out there."""
    told = f"step {wait.id!r} ({wait.detail})"
    if errand.status.final:
        return Cause(wait.kind, f"{told} has ended there, which this run hears of in a moment", errand.since)
    if errand.status is Status.BLOCKED:
        (cause, *_) = _blocked(errand)
        return Cause(cause.kind, f"{told} waits there: {cause.what}", wait.since, cause.until, cause.todo)
    if errand.driven and not errand.driver:
        return Cause(
            wait.kind, f"{told} was executed by a worker that is gone; another takes it over", wait.since
        )
    if errand.driven:
        return Cause(wait.kind, f"{told} executes on worker {errand.driver}", wait.since)
    if errand.wake_at is None or errand.wake_at > now:
        return Cause(wait.kind, f"{told} waits there, as run {errand.id!r}", wait.since, errand.wake_at)
    cause = _due(errand)
    return Cause(cause.kind, f"{told} waits there: {cause.what}", wait.since, todo=cause.todo)


def _start_worker(facts: Facts) -> str:
    module = (step_of(facts.workflow) or facts.workflow).rpartition(".")[0] or "MODULE"
    queues = "" if facts.queue == "default" else f" --queues {quoted(facts.queue)}"
    version = f" --version {quoted(facts.pinned_to)}" if facts.pinned_to else ""
    return f"perdure worker {module}{queues}{version}"


def _waiting(facts: Facts, wait: Wait, children: Mapping[str, Why]) -> Cause:
    id, name = quoted(facts.id), wait.id
    match wait.kind:
        case "message":
            todo = f"perdure send {id} {quoted(name)} JSON"
            return Cause(wait.kind, f"waits for the message {name!r}", wait.since, wait.until, todo)
        case "timer":
            return Cause(wait.kind, f"sleeps ({name})", wait.since, wait.until)
        case "child":
            told = f"waits for its child run {wait.detail!r}"
            todo = f"perdure why {quoted(wait.detail)}"
            return Cause(wait.kind, told, wait.since, None, todo, children.get(wait.detail))
        case "step":
            told = f"step {name!r} executes ({wait.detail})"
            return Cause(wait.kind, told, wait.since, wait.until)
        case "retry":
            told = f"step {name!r} is tried again: {wait.detail}"
            return Cause(wait.kind, told, wait.since, wait.until)
        case "limit":
            told = f"step {name!r} waits for the rate limit {wait.detail}"
            return Cause(wait.kind, told, wait.since, wait.until, "perdure limits")
        case "decision" | "refused" | "budget":
            return _decision(facts, wait)
        case "callback":
            told = f"waits for the callback {name!r} to be completed" + (
                f" ({wait.detail})" if wait.detail else ""
            )
            todo = "perdure callback complete TOKEN JSON"
            return Cause(wait.kind, told, wait.since, wait.until, todo)
        case "question":
            told = f"waits for somebody's answer ({name}): {wait.detail}"
            todo = f"perdure answer {wait.question}"
            return Cause(wait.kind, told, wait.since, wait.until, todo)
        case "event":
            told = f"waits for the event {name!r}" + (f" where {wait.detail}" if wait.detail else "")
            todo = f"perdure publish {quoted(name)} JSON"
            return Cause(wait.kind, told, wait.since, wait.until, todo)
        case "update":
            return Cause(wait.kind, f"handles the update {wait.detail!r} ({name})", wait.since)
        case _:
            return Cause(wait.kind, f"waits for {wait.kind} {name!r}", wait.since, wait.until)


def _without_alike(waits: Sequence[Wait]) -> list[Wait]:
    """Of steps that wait for the same money the first, which tells of the others."""
    found: list[Wait] = []
    alike: dict[Overdrawn, int] = {}
    for wait in waits:
        if wait.budget is not None:
            account = msgspec.structs.replace(wait.budget, until=None)
            alike[account] = alike.get(account, 0) + 1
            if alike[account] > 1:
                continue
        found.append(wait)
    for place, wait in enumerate(found):
        if wait.budget is not None:
            more = alike[msgspec.structs.replace(wait.budget, until=None)] - 1
            told = f"{wait.detail} ({more} more steps wait for it)" if more else wait.detail
            found[place] = msgspec.structs.replace(wait, detail=told)
    return found


def _decision(facts: Facts, wait: Wait) -> Cause:
    if wait.kind == "refused":
        todo = f"perdure resolve {quoted(facts.id)} {quoted(wait.id)} --result JSON | --fail"
        return Cause("refused", wait.detail, wait.since, todo=todo, step=wait.id)
    if wait.budget is not None:
        told = f"step {wait.id!r} has no money to begin: {wait.detail}"
        todo = f"{todo_raise(wait.budget)}; or: perdure resolve {quoted(facts.id)} {quoted(wait.id)} --rerun | --fail"
        asked = wait.budget
        return Cause(
            "budget", told, wait.since, wait.until, todo, step=wait.id, budget=asked.name, owner=asked.owner
        )
    todo = f"perdure resolve {quoted(facts.id)} {quoted(wait.id)} --result JSON | --rerun | --fail"
    told = f"step {wait.id!r} waits for a person: {wait.detail}"
    return Cause("decision", told, wait.since, todo=todo, step=wait.id)


def _quiet(facts: Facts) -> Cause:
    """It is live, and its history tells of nothing that it waits for."""
    if facts.reason:
        todo = f"perdure cancel {quoted(facts.id)}"
        return Cause("nothing", facts.reason, facts.since, todo=todo)
    if facts.driven:
        told = "a worker drives it; what it does at the moment is too short to be noted"
        return Cause("step", told, facts.since)
    return Cause("timer", "it waits", facts.since, facts.wake_at)
