"""A run's timeline as data, in windows and groups, and its drawing."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from html.parser import HTMLParser

from perdure.core import events as ev
from perdure.web.views.gantt import Gantt
from perdure.web.views.gantt_markup import drawn, title_of, told
from perdure.web.views.gantt_rows import Row
from perdure.web.views.gantt_view import Window, ticks, view, whole

START = ev.RunStarted(100.0, "shop.order", b"[[],{}]", b"")
BAD = ev.Failure("builtins.OSError", "no route")


def rows_of(*events: ev.Event) -> dict[str, Row]:
    return Gantt([START, *events]).rows


def kinds(row: Row) -> list[tuple[str, str, float, float | None]]:
    return [(span.kind, span.tone, span.start, span.end) for span in row.spans]


def test_a_step_is_its_attempts_and_the_waits_between() -> None:
    row = rows_of(
        ev.StepAttemptFailed(102.0, "shop.pay#1", 1, BAD, retry_at=105.0, started_at=101.0),
        ev.StepStarted(104.9, "shop.pay#1", 2),
        ev.StepCompleted(106.0, "shop.pay#1", 2, 104.9, b"1"),
    )["shop.pay#1"]
    assert kinds(row) == [
        ("attempt", "bad", 101.0, 102.0),
        ("backoff", "wait", 102.0, 104.9),
        ("attempt", "good", 104.9, 106.0),
    ]
    assert (row.start, row.end, row.tone, row.attempts, row.settled) == (101.0, 106.0, "good", 2, True)
    assert (row.first, row.last) == (2, 4)


def test_what_goes_on_has_no_end() -> None:
    rows = rows_of(ev.StepStarted(101.0, "shop.pay#1", 1), ev.TimerStarted(101.0, "sleep:1", 161.0))
    assert [row.end for row in rows.values()] == [None, None, None]
    assert [row.tone for row in rows.values()] == ["busy", "busy", "wait"]


def test_a_lost_worker_ends_what_it_had_begun() -> None:
    gantt = Gantt(
        [
            START,
            ev.StepStarted(101.0, "shop.pay#1", 1),
            ev.RunRecovered(110.0, "w-2", 2),
            ev.StepStarted(110.2, "shop.pay#1", 1),
            ev.StepCompleted(111.0, "shop.pay#1", 1, 110.1, b"1"),
        ]
    )
    assert kinds(gantt.rows["shop.pay#1"]) == [
        ("attempt", "hold", 101.0, 110.0),
        ("attempt", "good", 110.1, 111.0),
    ]
    assert "w-2" in gantt.marks[0].text


def test_waits_for_limits_people_and_money() -> None:
    rows = rows_of(
        ev.StepDelayed(101.0, "a.x#1", 103.0, "openai"),
        ev.StepCompleted(104.0, "a.x#1", 1, 103.0, b"1"),
        ev.StepParked(105.0, "a.y#1", 1, 104.0, "who knows", unknown=True),
        ev.StepRerun(110.0, "a.y#1", ev.Decision("ann")),
        ev.StepParked(111.0, "a.z#1", 1, 111.0, "spent", budget=ev.Overdrawn("b")),
    )
    assert [span.kind for span in rows["a.x#1"].spans] == ["limit", "attempt"]
    assert kinds(rows["a.y#1"]) == [("attempt", "bad", 104.0, 105.0), ("person", "hold", 105.0, 110.0)]
    assert kinds(rows["a.z#1"]) == [("budget", "hold", 111.0, None)]


def test_messages_go_to_those_who_wait() -> None:
    gantt = Gantt(
        [
            START,
            ev.MessageAwaited(101.0, "receive:1", "go"),
            ev.MessageReceived(102.0, "go", b'"x"'),
            ev.MessageSetAside(102.0, "message:3", "no bool"),
            ev.MessageReceived(105.0, "go", b"true"),
        ]
    )
    row = gantt.rows["receive:1"]
    assert (row.end, row.tone, row.name) == (105.0, "good", "go")
    assert kinds(row) == [("wait", "good", 101.0, 102.0), ("wait", "good", 102.0, 105.0)]
    assert [mark.seq for mark in gantt.marks] == [3, 4, 5]


def test_children_callbacks_questions_updates_and_events() -> None:
    asked = ev.Question("q_1", "Really?", b"{}")
    rows = rows_of(
        ev.ChildStarted(101.0, "shop.ship#1", "r-1.1", "shop.ship"),
        ev.ChildEnded(102.0, "shop.ship#1", "failed", failure=BAD),
        ev.CallbackOpened(101.0, "callback:1"),
        ev.CallbackEnded(103.0, "callback:1", b"1"),
        ev.QuestionAsked(101.0, "ask:1", question=asked),
        ev.QuestionAnswered(104.0, "ask:1", b"true", answered_at=103.5, by="ann"),
        ev.UpdateAccepted(101.0, "k1", "add", b"[[],{}]"),
        ev.UpdateCompleted(105.0, "k1", b"1"),
        ev.PublicationAwaited(101.0, "event:1", "paid"),
        ev.PublicationGivenUp(106.0, "event:1"),
    )
    assert [(row.kind, row.tone, row.end) for row in list(rows.values())[1:]] == [
        ("child", "bad", 102.0),
        ("callback", "good", 103.0),
        ("question", "good", 104.0),
        ("update", "good", 105.0),
        ("event", "idle", 106.0),
    ]
    assert rows["shop.ship#1"].run == "r-1.1"
    assert rows["ask:1"].question == "q_1"


def test_the_end_of_the_run_ends_everything() -> None:
    gantt = Gantt(
        [
            START,
            ev.TimerStarted(101.0, "sleep:1", 900.0),
            ev.RunPaused(102.0, "lunch"),
            ev.RunFailed(103.0, BAD),
        ]
    )
    assert gantt.ended
    assert (gantt.rows["sleep:1"].end, gantt.rows["sleep:1"].tone) == (103.0, "idle")
    assert kinds(gantt.rows[""]) == [("paused", "hold", 102.0, 103.0)]
    assert gantt.rows[""].tone == "bad"


def test_what_was_taken_over_takes_no_time() -> None:
    row = rows_of(ev.StepCompleted(101.0, "a.x#1", 1, 5.0, b"1", reused=True))["a.x#1"]
    assert (row.start, row.end, row.tone) == (101.0, 101.0, "idle")


def test_a_timer_too_short_for_a_start_is_a_moment() -> None:
    row = rows_of(ev.TimerFired(101.0, "sleep:1"))["sleep:1"]
    assert (row.start, row.end, row.tone) == (101.0, 101.0, "good")


def many(count: int) -> Gantt:
    gantt = Gantt([START])
    for i in range(count):
        step = f"a.fetch#{i + 1}" if i % 4 else f"a.parse#{i + 1}"
        gantt.add(i + 2, ev.StepCompleted(100.5 + i, step, 1, 100.0 + i, b"1"))
    return gantt


def test_ten_thousand_steps_are_a_few_lanes() -> None:
    gantt = many(10_000)
    found = view(gantt, whole(gantt, 0.0), 0.0)
    assert [(lane.group, lane.size) for lane in found.lanes] == [
        ("", 1),
        ("step a.parse", 2500),
        ("step a.fetch", 7500),
    ]
    assert found.total == 10_000
    assert len(drawn(found)) < 100_000


def test_zooming_in_brings_rows_back() -> None:
    gantt = many(10_000)
    found = view(gantt, Window(200.0, 220.0), 0.0)
    assert 15 < len(found.lanes) < 30
    assert all(not lane.group for lane in found.lanes)


def test_an_opened_group_shows_its_rows_and_no_more_than_fit() -> None:
    gantt = many(1000)
    found = view(gantt, whole(gantt, 0.0), 0.0, most=50, opened={"step a.fetch"})
    assert [bool(lane.group) for lane in found.lanes[:4]] == [False, True, True, False]
    assert len(found.lanes) == 51
    assert found.hidden > 0
    assert 'pd-gantt-nested"' in drawn(found)


def test_one_failure_among_thousands_is_seen() -> None:
    gantt = many(5000)
    gantt.rows["a.fetch#4000"].tone = "bad"
    found = view(gantt, whole(gantt, 0.0), 0.0)
    assert any(cell.tone == "bad" for lane in found.lanes for cell in lane.cells)
    assert any(tally == ("bad", 1) for lane in found.lanes for tally in lane.tally)


def test_only_what_is_looked_for() -> None:
    found = view(many(40), Window(100.0, 200.0), 0.0, only="parse")
    assert {lane.row.name for lane in found.lanes[1:]} == {"a.parse"}


def test_windows_stay_within_the_run() -> None:
    run = Window(0.0, 100.0)
    assert Window(90.0, 130.0).within(run) == Window(60.0, 100.0)
    assert Window(-50.0, 500.0).within(run) == run
    assert run.part(0.75, 0.25) == Window(25.0, 75.0)
    assert run.zoomed(0.1, 0.0) == Window(0.0, 10.0)


def test_ticks_are_round_and_few() -> None:
    for length in (0.002, 0.5, 7.0, 60.0, 1000.0, 86_400.0, 4e7):
        found = ticks(Window(1000.0, 1000.0 + length), 1000.0)
        assert 2 <= len(found) <= 8
        assert found[0] == (0.0, "0")
    assert ticks(Window(1090.0, 1120.0), 1000.0)[0] == (0.0, "+1 min 30 s")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs), attrs


def test_names_and_texts_stay_texts() -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    gantt = Gantt([ev.RunStarted(1.0, evil, b"", b"")])
    gantt.add(2, ev.StepFailed(3.0, f"{evil}#1", 1, 2.0, ev.Failure(evil, evil)))
    gantt.add(3, ev.MessageReceived(3.0, evil, b"1"))
    gantt.add(4, ev.ChildStarted(3.0, f"{evil}#2", evil, evil))
    markup = drawn(view(gantt, whole(gantt, 4.0), 4.0))
    tags = Tags()
    tags.feed(markup)
    assert tags.seen <= {
        "div",
        "ul",
        "li",
        "button",
        "span",
        "svg",
        "title",
        "text",
        "line",
        "rect",
        "circle",
    }
    texts = "".join(ET.fromstring(markup).itertext())
    assert "<script>alert(1)</script>" in texts


def test_rows_are_told_in_words() -> None:
    row = rows_of(
        ev.StepAttemptFailed(102.0, "1.2/shop.pay#1", 1, BAD, retry_at=105.0, started_at=101.0),
        ev.StepFailed(106.0, "1.2/shop.pay#1", 2, 105.0, BAD),
    )["1.2/shop.pay#1"]
    assert title_of(row) == "pay#1"
    assert told(row, 200.0) == "1.2/shop.pay#1 (step): failed, 5.0 s, 2 attempts; failed: OSError: no route"
