"""Why a run doesn't go on: each state and wait has an explanation, and what can be done is a command."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.status import FINAL, Status
from perdure.core.timeline import Wait
from perdure.core.why import Cause, Facts, Server, Why, explain, quoted

NOW = 1000.0
SERVER = Server("w1", ["default"], ["app.order"], "2")


def why(status: Status, **fields: Any) -> Why:
    given: dict[str, Any] = {
        "id": "r 1", "workflow": "app.order", "queue": "default", "since": 900.0, "servers": [SERVER],
    }  # fmt: skip
    return explain(Facts(status=status, **{**given, **fields}), now=NOW)


def cause(status: Status, **fields: Any) -> Cause:
    (found,) = why(status, **fields).causes
    return found


@pytest.mark.parametrize("status", sorted(FINAL))
def test_an_ended_run_says_so(status: Status) -> None:
    found = cause(status, reason="it was enough")
    assert found.kind == "ended"
    assert status in found.what
    assert "it was enough" in found.what
    assert bool(found.todo) == (status is Status.FAILED)


def test_a_paused_run_can_be_resumed() -> None:
    found = cause(Status.PAUSED, reason="lunch")
    assert (found.kind, found.since, found.todo) == ("pause", 900.0, "perdure resume 'r 1'")
    assert "lunch" in found.what


@pytest.mark.parametrize(
    ("fields", "kind", "todo"),
    [
        ({"block_code": "code"}, "code", "deploy code that fits"),
        ({"block_code": "code", "servers": []}, "worker", "perdure worker app"),
        ({"block_code": "code", "pinned_to": "1"}, "worker", "perdure worker app --version 1"),
        ({"block_code": "poison"}, "crashes", "perdure terminate 'r 1'"),
        ({"block_code": None}, "nothing", "perdure terminate 'r 1'"),
        ({"block_code": "step"}, "nothing", "perdure terminate 'r 1'"),
        (
            {"block_code": "step", "waits": [Wait("decision", "pay#1", 950.0, detail="lost")]},
            "decision",
            "perdure resolve 'r 1' 'pay#1' --result JSON | --rerun | --fail",
        ),
    ],
    ids=range(7),
)
def test_a_blocked_run_tells_the_way_out(fields: dict[str, Any], kind: str, todo: str) -> None:
    found = cause(Status.BLOCKED, reason="it broke", **fields)
    assert found.kind == kind
    assert todo in found.todo
    assert "it broke" in found.what or "lost" in found.what


def test_a_waiting_run_that_nobody_could_go_on_with_says_so_before_it_is_due() -> None:
    waits = [Wait("message", "paid", 950.0)]
    wait, deserted = why(Status.WAITING, waits=waits, pinned_to="1").causes
    assert (wait.kind, deserted.kind) == ("message", "worker")
    assert "of version '1'" in deserted.what
    assert deserted.todo == "perdure worker app --version 1"
    assert cause(Status.WAITING, waits=waits, pinned_to="2").kind == "message"
    assert cause(Status.WAITING, waits=waits, pinned_to="1", driven=True).kind == "message"


def test_a_run_whose_workers_died_waits_to_be_tried() -> None:
    found = cause(Status.RUNNING, wake_at=990.0, recoveries=3)
    assert (found.kind, found.since) == ("crashes", 990.0)
    assert "died 3 times in a row" in found.what
    assert "perdure terminate 'r 1'" in found.todo
    assert cause(Status.RUNNING, wake_at=990.0, recoveries=1).kind == "worker"


def test_a_due_run_waits_for_a_worker() -> None:
    found = cause(Status.QUEUED, wake_at=990.0)
    assert (found.kind, found.since) == ("worker", 990.0)
    assert "w1" in found.what
    for servers in ([], [Server("w", ["other"], ["app.order"])], [Server("w", ["default"], ["app.x"])]):
        found = cause(Status.WAITING, wake_at=990.0, servers=servers)
        assert "no worker has" in found.what
        assert found.todo == "perdure worker app"
    found = cause(Status.WAITING, wake_at=990.0, queue="slow", pinned_to="1")
    assert found.todo == "perdure worker app --queues slow --version 1"
    assert "of version '1'" in found.what


def test_a_delayed_run_is_started_later() -> None:
    found = cause(Status.QUEUED, wake_at=2000.0)
    assert (found.kind, found.until, found.todo) == ("start", 2000.0, "")


def test_all_waits_are_told_with_what_ends_them() -> None:
    waits = [
        Wait("message", "approval", 910.0),
        Wait("timer", "sleep:1", 911.0, 5000.0),
        Wait("step", "pay#1", 912.0, detail="attempt 2"),
        Wait("retry", "ship#1", 913.0, 1010.0, "attempt 1 failed: OSError: x"),
        Wait("decision", "bill#1", 914.0, detail="outcome unknown"),
        Wait("callback", "callback:1", 915.0, 2000.0, "heartbeat every 5 s at least"),
        Wait("question", "ask:1", 915.5, 2000.0, "Publish?", question="q_1"),
        Wait("update", "u1", 916.0, detail="rename"),
        Wait("child", "app.child#1", 917.0, detail="r 1/app.child#1"),
        Wait("something new", "x", 918.0),
    ]
    found = why(Status.WAITING, waits=waits, driven=True).causes
    assert [item.kind for item in found] == [wait.kind for wait in waits]
    assert [(item.since, item.until) for item in found] == [
        (wait.since, None if wait.kind == "child" else wait.until) for wait in waits
    ]
    for item, wait in zip(found, waits, strict=True):
        told = item.what + item.todo
        assert wait.id in told or wait.detail in told
    assert found[0].todo == "perdure send 'r 1' approval JSON"
    assert found[6].todo == "perdure answer q_1"
    assert "Publish?" in found[6].what
    assert found[8].todo == "perdure why 'r 1/app.child#1'"


def test_a_child_s_explanation_is_part_of_its_parent_s() -> None:
    child = why(Status.WAITING, id="c", waits=[Wait("message", "approval", 910.0)])
    facts = Facts(
        id="p", workflow="app.p", status=Status.WAITING, queue="default", since=1.0, driven=True,
        waits=[Wait("child", "c#1", 2.0, detail="c")],
    )  # fmt: skip
    (found,) = explain(facts, now=NOW, children={"c": child}).causes
    assert found.child is child


def test_a_run_that_waits_for_nothing_says_that() -> None:
    found = cause(Status.WAITING, driven=True, reason="an Event that nobody sets")
    assert (found.kind, found.todo) == ("nothing", "perdure cancel 'r 1'")
    assert cause(Status.RUNNING, driven=True).kind == "step"
    assert cause(Status.WAITING, wake_at=2000.0).until == 2000.0


def test_texts_are_quoted_for_a_shell() -> None:
    assert [quoted(text) for text in ("a-1", "a b", "it's", "", "a#1")] == [
        "a-1", "'a b'", "'it'\"'\"'s'", "''", "'a#1'",
    ]  # fmt: skip


SENT = Wait("step", "render#1", 950.0, detail="attempt 1, sent to queue 'gpu'", run="r/x@1")


def elsewhere(**fields: Any) -> Cause:
    """Why a run waits whose step was sent to a queue, by the run that carries it out."""
    given: dict[str, Any] = {
        "id": "r/x@1", "workflow": "step/app.render", "queue": "gpu", "since": 960.0, "servers": [SERVER],
    }  # fmt: skip
    errand = Facts(**{**given, **fields})
    facts = Facts(
        id="r 1",
        workflow="app.order",
        queue="default",
        since=900.0,
        status=Status.WAITING,
        waits=[SENT],
        servers=[SERVER],
    )
    (found,) = explain(facts, now=NOW, errands={"r/x@1": errand}).causes
    return found


def test_a_step_elsewhere_is_explained_by_what_becomes_of_it() -> None:
    found = elsewhere(status=Status.RUNNING, driven=True, driver="gpu-3")
    assert found.what == "step 'render#1' (attempt 1, sent to queue 'gpu') executes on worker gpu-3"
    assert "a worker that is gone" in elsewhere(status=Status.RUNNING, driven=True).what
    found = elsewhere(status=Status.QUEUED, wake_at=950.0)
    assert "no worker has the step 'app.render' and serves the queue 'gpu'" in found.what
    assert (found.kind, found.todo) == ("worker", "perdure worker app --queues gpu")
    server = Server("w2", ["gpu"], ["step/app.render"])
    found = elsewhere(status=Status.QUEUED, wake_at=950.0, servers=[server])
    assert "waits for room on a worker of its queue 'gpu' (w2)" in found.what
    found = elsewhere(status=Status.BLOCKED, block_code="code", reason="no worker knows it")
    assert "no worker knows it" in found.what
    assert found.todo == "perdure worker app --queues gpu"
    found = elsewhere(status=Status.BLOCKED, block_code="poison", reason="it kills")
    assert found.todo == "find out what kills its workers, then: perdure terminate r/x@1"
    assert "waits there, as run" in elsewhere(status=Status.WAITING, wake_at=NOW + 5).what
    assert "has ended there" in elsewhere(status=Status.COMPLETED).what
