"""What the pages about the fleet say, without a page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from perdure import Rate
from perdure.api.budgets import AccountInfo, BudgetInfo
from perdure.api.limits import LimitInfo, UnitInfo
from perdure.api.queues import QueueInfo
from perdure.api.scheduleinfo import ScheduleInfo
from perdure.api.workerinfo import WorkerInfo
from perdure.core.schedules import Overlap
from perdure.web.dashboard import fleetfacts

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
QUEUE = QueueInfo(
    name="q",
    queued=0,
    delayed=0,
    running=0,
    oldest=None,
    concurrency=None,
    per_worker=None,
    rate=None,
    per_key=None,
    priority=False,
    fairness=None,
    overridden=(),
    next_at=None,
    paused=False,
    draining=False,
    workers=("w",),
)


@pytest.mark.parametrize(
    ("changes", "word", "tone"),
    [
        ({}, "idle", "idle"),
        ({"queued": 3}, "busy", "busy"),
        ({"running": 2, "concurrency": 2}, "full", "wait"),
        ({"running": 1, "concurrency": 2}, "busy", "busy"),
        ({"queued": 1, "next_at": NOON}, "at its rate", "wait"),
        ({"workers": (), "queued": 1}, "no worker", "bad"),
        ({"workers": ()}, "no worker", "idle"),
        ({"paused": True, "workers": ()}, "paused", "hold"),
        ({"draining": True, "queued": 5}, "draining", "hold"),
    ],
)
def test_a_queue_says_first_what_counts(changes: dict[str, Any], word: str, tone: str) -> None:
    assert fleetfacts.queue_standing(replace(QUEUE, **changes)) == (word, tone)


def test_the_limits_of_a_queue_are_told() -> None:
    queue = replace(
        QUEUE,
        concurrency=2000,
        per_key=3,
        rate=Rate(30, per=90, burst=4),
        fairness="key",
        priority=True,
        overridden=("concurrency", "per_worker"),
        running=7,
    )
    assert fleetfacts.queue_limits(queue) == [
        ("At once", "2,000 (set by an operator)"),
        ("Of one key", "3"),
        ("Beginning", "30 per 90 s, 4 at once"),
        ("Order", "higher priority first"),
        ("Fairness", "keys take turns"),
        ("per worker", "no limit (set by an operator)"),
    ]
    assert "no limit" not in fleetfacts.queue_limits_line(queue)
    assert fleetfacts.running_text(queue) == "7 of 2,000"
    assert fleetfacts.queue_limits(QUEUE) == []


def test_rate_limits_tell_how_much_is_free() -> None:
    unit = UnitInfo(rate=Rate(100, per=60, burst=10), free=4, waiting=0)
    share = fleetfacts.unit_share(unit)
    assert (share.part, share.tone) == (0.4, "good")
    assert share.text == "4 of 10 free now, 100 per minute, 10 at once"
    waiting = UnitInfo(rate=Rate(100, per=60), free=-3, waiting=1200)
    assert fleetfacts.unit_share(waiting).part == 0
    assert "1,200 wait" in fleetfacts.unit_share(waiting).text
    limit = LimitInfo(name="l", units={"calls": unit}, blocked_until=None, next_at=NOON)
    assert fleetfacts.limit_standing(limit, NOON).word == "open"
    assert fleetfacts.limit_standing(replace(limit, units={"calls": waiting}), NOON).word == "waiting"
    later = NOON + timedelta(seconds=1)
    assert fleetfacts.limit_standing(replace(limit, blocked_until=later), NOON).word == "blocked"
    assert fleetfacts.limit_standing(replace(limit, blocked_until=NOON), later).word == "open"


SCHEDULE = ScheduleInfo(
    name="s",
    workflow="w",
    queue="default",
    cron="30 2 * * *",
    tz="Europe/Berlin",
    every=None,
    at=None,
    jitter=timedelta(0),
    overlap=Overlap.SKIP,
    catch_up=timedelta(days=1),
    created_at=NOON,
    paused=False,
    reason=None,
    next=(NOON,),
    recent=(),
    running=(),
    buffered=(),
    fired=1,
    skipped=0,
    missed=0,
)


def test_schedules_tell_when_and_how() -> None:
    assert fleetfacts.timing_text(SCHEDULE) == "30 2 * * * (Europe/Berlin)"
    assert (
        fleetfacts.timing_text(replace(SCHEDULE, cron=None, every=timedelta(minutes=90)))
        == "every 1 h 30 min"
    )
    assert fleetfacts.timing_text(replace(SCHEDULE, cron=None, at=NOON)) == "once"
    assert fleetfacts.schedule_standing(SCHEDULE).word == "active"
    assert fleetfacts.schedule_standing(replace(SCHEDULE, next=())).word == "over"
    assert fleetfacts.schedule_standing(replace(SCHEDULE, paused=True, next=())).word == "paused"
    busy = replace(SCHEDULE, fired=1500, skipped=2, missed=1, buffered=(NOON,), jitter=timedelta(seconds=30))
    told = dict(fleetfacts.schedule_facts(busy))
    assert told["So far"] == "1,500 runs started, 2 slots skipped, 1 missed, 1 wait"
    assert told["Jitter"] == "up to 30 s late"
    for overlap in Overlap:
        assert (
            "_"
            not in dict(fleetfacts.schedule_facts(replace(SCHEDULE, overlap=overlap)))[
                "If a run still goes on"
            ]
        )


def worker(name: str, **changes: Any) -> WorkerInfo:
    fields: dict[str, Any] = {
        "name": name,
        "host": "h",
        "pid": 1,
        "version": None,
        "state": "alive",
        "started_at": NOON,
        "last_heartbeat": NOON,
        "lease_until": NOON,
        "runs": 0,
        "steps": 0,
        "queues": ("default",),
        "workflows": ("a", "b"),
    }
    return WorkerInfo(**{**fields, **changes})


def test_workers_in_trouble_come_first() -> None:
    found = [
        worker("b"),
        worker("a"),
        worker("z", state="gone"),
        worker("y", state="stopping"),
        worker("x", state="late"),
    ]
    assert [each.name for each in fleetfacts.worker_rows(found)] == ["z", "x", "y", "a", "b"]
    assert [fleetfacts.worker_standing(each).word for each in fleetfacts.worker_rows(found)] == [
        "gone",
        "late",
        "draining",
        "alive",
        "alive",
    ]


def test_versions_tell_what_all_of_their_workers_know() -> None:
    found = [
        worker("1", version="v2", workflows=("a", "b", "c")),
        worker("2", version="v2", workflows=("b", "c")),
        worker("3", version="v1"),
        worker("4", version="v0", state="gone"),
        worker("5", workflows=()),
    ]
    assert fleetfacts.versions(found) == [
        ("v2", 2, ("b", "c")),
        ("no version", 1, ()),
        ("v1", 1, ("a", "b")),
    ]


ACCOUNT = AccountInfo(
    owner="r-1",
    day="",
    usd=Decimal(10),
    tokens=None,
    spent=Decimal(4),
    spent_tokens=0,
    reserved=Decimal(1),
    reserved_tokens=0,
    unknown=Decimal(0),
    unknown_tokens=0,
    calls=3,
    unpriced_calls=0,
    tripped_since=None,
    waiting=0,
)


def test_accounts_tell_how_near_the_end_is() -> None:
    assert fleetfacts.account_share(ACCOUNT) == (0.5, "$5.00 of $10.00", "good")
    near = replace(ACCOUNT, spent=Decimal(9))
    assert fleetfacts.account_share(near).tone == "bad"
    assert fleetfacts.account_standing(replace(ACCOUNT, spent=Decimal("8.5"))).word == "nearly used up"
    assert fleetfacts.account_standing(replace(ACCOUNT, waiting=1200)) == ("1,200 waiting", "bad")
    assert fleetfacts.account_standing(replace(ACCOUNT, tripped_since=NOON)).word == "breaker open"
    assert fleetfacts.account_standing(ACCOUNT) == ("ok", "good")
    tokens = replace(ACCOUNT, usd=None, tokens=1000, spent_tokens=900, unknown_tokens=100)
    assert fleetfacts.account_share(tokens).text == "1,000 of 1,000 tokens"
    assert fleetfacts.account_share(replace(ACCOUNT, usd=None)).text == "$4.00, no cap"
    assert fleetfacts.account_share(replace(ACCOUNT, usd=Decimal(0))).part == 1
    budget = BudgetInfo(name="b", terms="", per="key", daily=False, overridden=False, accounts=[ACCOUNT])
    assert fleetfacts.budget_standing(budget).word == "ok"
    assert fleetfacts.budget_standing(replace(budget, accounts=[])).word == "unused"
    waiting = replace(ACCOUNT, owner="a", waiting=1)
    assert fleetfacts.budget_standing(replace(budget, accounts=[ACCOUNT, waiting])).tone == "bad"
    assert [each.owner for each in fleetfacts.account_rows([ACCOUNT, near, waiting])] == ["a", "r-1", "r-1"]
    assert fleetfacts.account_name(replace(ACCOUNT, owner=""), budget) == "without a key"
