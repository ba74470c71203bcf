"""What goes out about everything at once: the overview, and what doesn't go on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from perdure.web.shapes import Out


class EndsOut(Out):
    at: datetime
    completed: int
    failed: int
    others: int = Field(description="Cancelled, terminated, or gone on as new ones.")


class WorkflowLoadOut(Out):
    name: str
    runs: dict[str, int] = Field(description="By status.")
    p50: float | None = Field(description="Seconds from the first driver to the end, of the newest ones.")
    p95: float | None
    samples: int


class QueueLoadOut(Out):
    name: str
    queued: int
    running: int
    oldest: datetime | None
    paused: bool
    workers: int


class LimitLoadOut(Out):
    name: str
    waiting: int
    blocked_until: datetime | None
    next_at: datetime


class BudgetLoadOut(Out):
    name: str
    owner: str
    usd: str | None
    spent: str
    waiting: int


class OverviewOut(Out):
    """How everything is."""

    at: datetime
    runs: dict[str, int] = Field(description="By status.")
    workflows: list[WorkflowLoadOut]
    window: str
    width: float = Field(description="Seconds of each of `ends`.")
    ends: list[EndsOut]
    counted_since: datetime | None = Field(description="What ended before isn't in `ends`; null if all is.")
    queues: list[QueueLoadOut]
    workers: dict[str, int] = Field(description="By state.")
    limits: list[LimitLoadOut]
    spent: str = Field(description="Today (in UTC), in US dollars.")
    calls: int
    unpriced_calls: int
    budgets: list[BudgetLoadOut]


class HeldOut(Out):
    id: str
    workflow: str
    status: str
    since: float | None
    step: str


class ActionOut(Out):
    label: str
    method: str
    path: str = Field(description="Below /api/v1; {id} and {step} stand for those of one of the runs.")
    body: dict[str, Any] | None
    asks: str = Field(description='A field of the body that a person has to fill in; "" if there is none.')
    role: str
    danger: bool


class GroupOut(Out):
    """Runs that don't go on for one cause."""

    kind: str
    title: str
    what: str
    count: int
    more: bool
    since: float | None
    todo: str
    runs: list[HeldOut]
    actions: list[ActionOut]


class WorkflowSizeOut(Out):
    workflow: str
    runs: int
    events: int
    bytes: int = Field(description="Of the events of its runs.")


class DiskOut(Out):
    """The room that the database takes."""

    bytes: int
    free: int = Field(description="Bytes of these that are free.")
    log: int = Field(description="Bytes of the write-ahead log beside it.")
    shrinks: bool = Field(description="Free room is given back while workers go on.")
    runs: int
    oldest: datetime | None = Field(description="When the oldest run was created.")
    tables: dict[str, int] = Field(description="Bytes by table; empty if they weren't counted.")
    workflows: list[WorkflowSizeOut]
    removing: int = Field(description="Runs that are gone but for rows that are being removed.")
    rules: list[str] = Field(description="By which workers remove runs.")
    due: int = Field(description="Runs that these rules would remove now.")
    due_more: bool = Field(description="Not all runs were looked at for that.")


class RetentionOut(Out):
    """Who removes old runs, or did last."""

    holder: str
    at: datetime
    working: bool = Field(description="It is at it now.")
    rules: list[str]


class StuckOut(Out):
    groups: list[GroupOut]
    looked: int = Field(description="How many blocked and paused runs were looked at so far.")
    stuck: int = Field(description="How many there are.")
    next: str | None = Field(description="The cursor to look at more of them; null if all were looked at.")
