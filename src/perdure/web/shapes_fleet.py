"""What goes in and out about more than one run: starting many, events, queues, schedules, budgets, entities."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from perdure.web.shapes import WAIT_MAX, CallIn, In, Name, Out, Seconds, UsageOut

Key = Annotated[str, Field(min_length=1, max_length=255)]
Count = Annotated[int, Field(ge=1, lt=1 << 53)]


class PublishIn(In):
    payload: Any = None
    key: Key | None = Field(None, description="An event that comes again with the same key counts once.")


class PublishedOut(Out):
    new: bool = Field(description="False: an event with this key was there already.")


class PublicationOut(Out):
    name: str
    key: str | None
    payload: Any
    at: datetime
    number: int | None
    settled: bool


class SubscriptionOut(Out):
    workflow: str
    event: str
    where: dict[str, Any]
    queue: str
    since: datetime
    debounce: float | None
    batch: int | None
    within: float | None
    by: str | None


class AwaitedOut(Out):
    event: str
    where: dict[str, Any]
    runs: int


class EntityCallIn(CallIn):
    key: Key | None = Field(None, description="A second call with the same key gets the answer of the first.")
    wait: Annotated[float, Field(gt=0, le=WAIT_MAX)] = 30.0


class RateIn(In):
    limit: Count
    per: Annotated[float, Field(gt=0, le=366 * 86_400.0, description="Seconds.")]
    burst: Count | None = None


class QueueIn(In):
    """Limits of a queue; those that aren't given stay as they are, and null is no limit."""

    concurrency: Count | None = None
    per_worker: Count | None = None
    rate: RateIn | None = None
    per_key: Count | None = None
    priority: bool | None = None
    fairness: Literal["key"] | None = None


class TimingIn(In):
    cron: Annotated[str, Field(max_length=255)] | None = None
    tz: Annotated[str, Field(max_length=100)] | None = None
    every: Annotated[float, Field(gt=0, le=3660 * 86_400.0, description="Seconds.")] | None = None
    at: datetime | None = Field(None, description="Once; with a time zone.")
    jitter: Seconds | None = None
    overlap: Literal["skip", "buffer_one", "buffer_all", "allow", "cancel_other"] | None = None
    catch_up: Seconds | None = None
    queue: Name | None = None


class ScheduleIn(TimingIn, CallIn):
    """Starts runs by the clock. One of `cron`, `every` and `at` is given."""

    workflow: Name = Field(description="The workflow's durable name.")
    paused: bool = False
    if_exists: Literal["attach", "update", "fail"] = "attach"


class BackfillIn(In):
    start: datetime
    end: datetime


class CountOut(Out):
    count: int


class CapsIn(In):
    usd: Annotated[str, Field(pattern=r"^[0-9]{1,9}([.][0-9]{1,9})?$", description="US dollars.")] | None = (
        None
    )
    tokens: Annotated[int, Field(ge=0, lt=1 << 53)] | None = None


class DifferenceOut(Out):
    path: str
    a: Any
    b: Any
    only: Literal["a", "b"] | None


class StepSideOut(Out):
    id: str
    outcome: str
    input: Any
    result: Any
    error: str | None
    attempts: int
    seconds: float | None
    reused: bool
    stubbed: bool
    usage: UsageOut
    run: str | None


class StepDiffOut(Out):
    kind: str
    name: str
    verdict: Literal["same", "changed", "only_a", "only_b"]
    changed: list[str]
    input: list[DifferenceOut]
    result: list[DifferenceOut]
    a: StepSideOut | None
    b: StepSideOut | None


class RunSideOut(Out):
    id: str
    generation: int
    workflow: str
    status: str
    input: Any
    result: Any
    error: str | None
    seconds: float
    usage: UsageOut


class DiffOut(Out):
    """Two runs side by side."""

    a: RunSideOut
    b: RunSideOut
    steps: list[StepDiffOut]
    input: list[DifferenceOut]
    result: list[DifferenceOut]


class AccountOut(Out):
    """How one account of a budget stands. Amounts in US dollars."""

    owner: str
    day: str
    usd: str | None
    tokens: int | None
    spent: str
    spent_tokens: int
    reserved: str
    reserved_tokens: int
    unknown: str
    unknown_tokens: int
    left: str | None
    calls: int
    unpriced_calls: int
    tripped_since: datetime | None
    waiting: int


class BudgetOut(Out):
    name: str
    terms: str
    per: str
    daily: bool
    overridden: bool
    accounts: list[AccountOut]


class RaiseIn(In):
    usd: Annotated[str, Field(pattern=r"^[0-9]{1,9}([.][0-9]{1,9})?$", description="US dollars.")] = "0"
    tokens: Annotated[int, Field(ge=0, lt=1 << 53)] = 0
    owner: Annotated[str, Field(max_length=1000)] | None = Field(
        None, description="The run, workflow or key whose account it is."
    )


class EntityKindOut(Out):
    name: str
    count: int


class EntityOut(Out):
    kind: str
    key: str
    run: str
    status: str
    state_size: int | None = Field(description="Bytes of its state as JSON.")
    events: int
    created_at: datetime
    active_at: datetime


class EntitiesOut(Out):
    entities: list[EntityOut]
    next: str | None
