"""What goes in and out over HTTP, as OpenAPI tells it. Payloads are JSON of any kind."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

#: Longest wait that one request may ask for, in seconds; ask again for more.
WAIT_MAX = 60.0

RunId = Annotated[str, Field(min_length=1, max_length=1000)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Seconds = Annotated[float, Field(ge=0, le=100 * 366 * 86_400.0)]


class In(BaseModel):
    """A request's body: what it doesn't know it refuses, so that no misspelt option is passed over."""

    model_config = ConfigDict(extra="forbid")


class Out(BaseModel):
    """An answer."""

    model_config = ConfigDict(from_attributes=True)


class CallIn(In):
    """A call of a query or update handler."""

    args: list[Any] = Field(default_factory=list)
    kwargs: dict[str, Any] = Field(default_factory=dict)


class UpdateIn(CallIn):
    key: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    wait: Annotated[float, Field(ge=0, le=WAIT_MAX)] = 30.0


class ReasonIn(In):
    reason: Annotated[str, Field(max_length=10_000)] | None = None


class TerminateIn(ReasonIn):
    compensate: bool = Field(False, description="Let what its sagas have to undo be undone first.")


class ResolveIn(In):
    """A decision about a step that waits for a person: exactly one of result, rerun and fail."""

    result: Any = None
    has_result: bool = Field(False, description="`result` counts, null included.")
    rerun: bool = False
    fail: str | bool = False
    why: Annotated[str, Field(max_length=10_000)] | None = None
    since: AwareDatetime | None = Field(
        None, description="Which of its waits it is about, as `waiting_for` tells: refused if that is over."
    )


class ArgumentsIn(In):
    args: list[Any] = Field(default_factory=list, description="Positional arguments.")
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments.")


class ForkIn(In):
    at: int | str | None = Field(
        None, description="Take nothing over from this event, or this step's end, on."
    )
    edits: dict[str, Any] = Field(default_factory=dict, description="Other results, by step.")
    inputs: dict[str, ArgumentsIn] = Field(
        default_factory=dict, description="Other arguments, by step: it is executed with them."
    )
    input: ArgumentsIn | None = Field(None, description="Other arguments for the run.")
    effects: Literal["run", "reuse", "stub"] = Field(
        "run", description="What becomes of steps that change something outside: see counterfactual forks."
    )
    stubs: dict[str, Any] = Field(
        default_factory=dict,
        description="Results in the place of steps that a counterfactual fork doesn't do.",
    )
    refused: Literal["block", "fail"] = "block"
    id: RunId | None = None
    dry_run: bool = False


class AttributesIn(In):
    attributes: dict[str, str | int | float | bool | list[str] | None]


class ValueIn(In):
    value: Any = None


class FailIn(In):
    message: Annotated[str, Field(min_length=1, max_length=10_000)]


class BlockIn(In):
    seconds: Annotated[float, Field(gt=0, le=366 * 86_400.0)]


class AnswerIn(In):
    value: Any = None
    digest: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="That of the question which was read, to make sure that it is still about the same."
    )


class RunRef(Out):
    id: str


class StrayOut(Out):
    name: str
    value: Any
    at: datetime
    number: int | None
    key: str | None
    sender: str | None
    why: str | None


class RunOut(Out):
    """A run in a list."""

    id: str
    workflow: str
    status: str
    queue: str
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    ended_at: datetime | None
    wake_at: datetime | None
    parent: str | None
    reason: str | None
    events: int
    recoveries: int
    generation: int
    warning: str | None
    version: str | None
    pinned: bool
    key: str | None
    priority: int
    attributes: dict[str, Any]


class RunDetailOut(RunOut):
    """A run, and what it waits for."""

    worker: str | None = Field(description="Who drives it.")
    waiting_for: list[dict[str, Any]]
    undelivered: list[StrayOut]
    set_aside: list[StrayOut]


class RunsOut(Out):
    runs: list[RunOut]
    next: str | None = Field(
        description="The cursor of the next page; null if this is the last one. A short page may have one, too: "
        "then 100,000 runs were looked through."
    )
    total: int | None = Field(None, description="How many match, from here on, counted to 1,000.")
    more: bool = Field(False, description="More do, or may.")


class EventsOut(Out):
    events: list[dict[str, Any]]
    next: int | None = Field(
        description="Give it as `after` for the next page; null if this is the last one."
    )


class ResultOut(Out):
    """How a run has ended, or that it hasn't."""

    status: str
    result: Any = None
    error: dict[str, Any] | None = None


class ValueOut(Out):
    value: Any = None


class CauseOut(Out):
    kind: str
    what: str
    since: float | None
    until: float | None
    todo: str
    child: WhyOut | None = None
    step: str = ""
    budget: str = ""
    owner: str = ""


class WhyOut(Out):
    run: str
    workflow: str
    status: str
    causes: list[CauseOut]


class StreamOut(Out):
    name: str
    newest: int = Field(description="The offset of its newest item.")


class InterfaceOut(Out):
    """What a run understands: the messages it waits for, and the arguments of its updates and queries."""

    messages: dict[str, dict[str, Any] | None]
    updates: dict[str, dict[str, Any] | None]
    queries: dict[str, dict[str, Any] | None]


class UsageOut(Out):
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost: str = Field(description="US dollars.")
    unpriced_calls: int
    unknown_calls: int
    unknown_cost: str
    unknown_unpriced_calls: int
    calls_in_flight: int
    saved_calls: int
    saved_tokens: int
    saved_cost: str
    saved_unpriced_calls: int


class UsageLineOut(Out):
    name: str | None
    usage: UsageOut
    removed: bool = Field(False, description="By key or run: what runs had spent that were removed since.")


class ForkOut(Out):
    """The new run, or what a fork would do."""

    id: str | None
    plan: dict[str, Any] | None = None


class WorkerOut(Out):
    name: str
    host: str
    pid: int
    version: str | None
    state: str
    started_at: datetime
    last_heartbeat: datetime
    lease_until: datetime
    runs: int
    steps: int
    queues: list[str]
    workflows: list[str]
    offers: list[str]


class QueueOut(Out):
    name: str
    queued: int
    delayed: int
    running: int
    oldest: datetime | None
    concurrency: int | None
    per_worker: int | None
    rate: dict[str, Any] | None
    per_key: int | None
    priority: bool
    fairness: str | None
    overridden: list[str]
    next_at: datetime | None
    paused: bool
    draining: bool
    workers: list[str]


class LimitOut(Out):
    name: str
    units: dict[str, dict[str, Any]]
    blocked_until: datetime | None
    next_at: datetime


class ScheduledRunOut(Out):
    id: str
    at: datetime
    slot: datetime | None


class ScheduleOut(Out):
    name: str
    workflow: str
    queue: str
    cron: str | None
    tz: str
    every: float | None = Field(description="Seconds.")
    at: datetime | None
    jitter: float = Field(description="Seconds.")
    overlap: str
    catch_up: float = Field(description="Seconds.")
    created_at: datetime
    paused: bool
    reason: str | None
    next: list[datetime]
    recent: list[ScheduledRunOut]
    running: list[str]
    buffered: list[datetime]
    fired: int
    skipped: int
    missed: int


class QuestionOut(Out):
    """What a run asks of a person."""

    id: str
    run: str
    generation: int
    workflow: str
    op: str
    text: str
    form: dict[str, Any] = Field(description="JSON Schema of an answer.")
    details: Any
    default: Any
    to: str | None
    digest: str | None
    step: str | None
    problem: str | None
    asked_at: datetime
    expires_at: datetime | None
    state: str
    answer: Any
    answered_by: str | None
    answered_at: datetime | None
    via: str | None


class ProblemOut(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None
