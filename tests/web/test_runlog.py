"""The events of a run as a page holds them, and the log's markup."""

from __future__ import annotations

from perdure.core import events as ev
from perdure.web.views.runlog import PAGE, RunLog, input_of, log_page, op_of

EVIL = "<script>alert(1)</script>"


def log_of(*events: ev.Event) -> RunLog:
    log = RunLog()
    for event in (ev.RunStarted(1.0, "app.f", b'[["x"],{}]', b""), *events):
        log.add(event)
    return log


def many(count: int) -> RunLog:
    return log_of(*(ev.StepCompleted(2.0 + i, f"a.fetch#{i + 1}", 1, 1.5 + i, b"1") for i in range(count)))


def test_events_are_found_by_their_operation() -> None:
    failure = ev.Failure("builtins.OSError", "no")
    log = log_of(
        ev.StepAttemptFailed(2.0, "a.x#1", 1, failure, 3.0, 1.5),
        ev.TimerStarted(2.0, "sleep:1", 5.0),
        ev.StepCompleted(4.0, "a.x#1", 2, 3.0, b"1"),
        ev.RunCompleted(5.0, b"1"),
    )
    assert [seq for seq, _ in log.about("a.x#1")] == [2, 4]
    assert [seq for seq, _ in log.about("sleep:1")] == [3]
    assert log.about("nothing") == []
    assert log.final is log.events[-1]
    assert input_of(log.events) == b'[["x"],{}]'
    assert op_of(ev.MessageReceived(1.0, "go", b"1")) == ""


def test_the_log_has_pages() -> None:
    log = many(450)
    first = log_page(log)
    assert (first.found, first.page, first.pages) == (451, 0, 3)
    assert first.html.count("<li>") == PAGE
    assert 'data-seq="1"' in first.html
    last = log_page(log, 99)
    assert (last.page, last.html.count("<li>")) == (2, 51)
    assert 'data-seq="451"' in log_page(log, newest_first=True).html


def test_the_log_is_searched() -> None:
    found = log_page(many(450), only="FETCH#44")
    assert found.found == 11
    assert log_page(many(3), only="step_completed").found == 3
    assert log_page(many(3), only="nothing").pages == 1


def test_new_events_get_their_lines() -> None:
    log = many(2)
    assert len(log.lines()) == 3
    log.add(ev.RunCompleted(9.0, b"1"))
    assert len(log.lines()) == 4


def test_texts_in_the_log_stay_texts() -> None:
    log = log_of(
        ev.StepFailed(2.0, f"{EVIL}#1", 1, 1.5, ev.Failure(EVIL, EVIL)),
        ev.Emitted(2.0, "emit:1", EVIL, f'"{EVIL}"'.encode()),
        ev.MessageReceived(3.0, EVIL, f'"{EVIL}"'.encode(), sender=EVIL),
        ev.RunCancelled(4.0, EVIL),
    )
    html = log_page(log).html
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 6
