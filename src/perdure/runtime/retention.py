"""What may be said of how long runs are kept. By default they are kept for ever."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TypeAlias

from perdure.core.retention import ENDS, Rule, in_order
from perdure.core.retry import seconds
from perdure.core.status import Status
from perdure.errors import ConfigurationError


class Retention:
    """How long runs are kept after their end, and where they go before they are removed.

    Of all rules the first one that fits a run counts: those that name a workflow come before those that don't, and
    those of `Engine(retention=...)` before those of `@workflow(retention=...)`. A run goes with all of its
    generations and everything that belongs to it, and what it has started goes after it.

    Args:
        after: how long after their end, in seconds or as a timedelta; None = never.
        workflow: only runs of this workflow: its name, the last part of it, or a pattern such as `"reports.*"`.
        status: only those that ended so: "completed", "failed", "cancelled", "terminated", or a list of these.
        archive: where runs are written before they are removed: a folder, or `file:///folder`, or what fsspec knows,
            such as `s3://bucket/folder`. `?format=` chooses among "jsonl" (default), "jsonl.gz", "jsonl.zst" and
            "parquet".

    Raises:
        ConfigurationError: something of this can't be.

    Example:
        >>> Retention(timedelta(days=30), workflow="app.research", status="completed", archive="file:///var/old")
        Retention('runs of app.research that completed go after 30 days, after they were written to file:///var/old')
    """

    __slots__ = ("rule",)

    def __init__(
        self,
        after: float | timedelta | None,
        *,
        workflow: str | None = None,
        status: Status | str | Sequence[Status | str] | None = None,
        archive: str | None = None,
    ) -> None:
        statuses = () if status is None else (status,) if isinstance(status, str) else tuple(status)
        unknown = [each for each in statuses if str(each) not in ENDS]
        if unknown:
            msg = f"status={unknown[0]!r}: runs that are kept or removed have ended: {', '.join(ENDS)}"
            raise ConfigurationError(msg)
        if workflow is not None and (not isinstance(workflow, str) or not workflow):
            msg = f"workflow={workflow!r} must be a workflow's name, or a pattern such as 'reports.*'"
            raise ConfigurationError(msg)
        length = None if after is None else seconds(after, "after")
        if archive is not None:
            from perdure.storage.archives import archive_at  # which imports what few need

            archive_at(archive)
        self.rule = Rule(length, workflow or "", tuple(str(each) for each in statuses), archive or "")

    def __repr__(self) -> str:
        return f"Retention({str(self.rule)!r})"


#: What `@workflow(retention=...)` takes.
Kept: TypeAlias = Retention | Sequence[Retention] | float | timedelta


def rules_of(given: Kept | None, workflow: str) -> tuple[Rule, ...]:
    """The rules of a workflow.

    Raises:
        ConfigurationError: one names another workflow.
    """
    if given is None:
        return ()
    if isinstance(given, int | float | timedelta):
        given = Retention(given)
    several = [given] if isinstance(given, Retention) else list(given)
    for one in several:
        if not isinstance(one, Retention):
            msg = f"retention={one!r} must be a Retention, such as Retention(timedelta(days=30)), or a timedelta"
            raise ConfigurationError(msg)
        if one.rule.workflow not in ("", workflow):
            msg = f"retention of {workflow} names the workflow {one.rule.workflow!r}: leave that out here"
            raise ConfigurationError(msg)
    return tuple(Rule(one.rule.after, workflow, one.rule.statuses, one.rule.archive) for one in several)


def rules_given(given: Sequence[Retention]) -> tuple[Rule, ...]:
    """The rules of an engine.

    Raises:
        ConfigurationError: something else was given.
    """
    if isinstance(given, Retention) or any(not isinstance(one, Retention) for one in given):
        msg = f"retention={given!r} must be a list of Retention(...)"
        raise ConfigurationError(msg)
    return tuple(one.rule for one in given)


def all_rules(engine: Iterable[Rule], workflows: Iterable[Rule]) -> list[Rule]:
    """Rules in the order in which they count."""
    return in_order([*engine, *workflows])
