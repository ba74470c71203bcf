"""`perdure top`: what is drawn fits, tells what matters first, and keys do what they say."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import flows
import pytest

from perdure.api.overview import BudgetLoad
from perdure.api.queues import QueueInfo
from perdure.api.watch import Look, QueuePace, RunningStep, WorkflowPace
from perdure.api.workerinfo import WorkerInfo
from perdure.core.stuck import Group

pytest.importorskip("rich", reason="the command line's extra isn't installed")

from rich.console import Console

from perdure.cli.top import press
from perdure.cli.topsections import SECTIONS, SORTS, Showing
from perdure.cli.topview import WIDE, dealt, screen

NOW = datetime(2026, 5, 30, 12, 0, tzinfo=UTC)


def worker(name: str, state: Any = "alive", heard: float = 1.0, runs: int = 1) -> WorkerInfo:
    return WorkerInfo(
        name=name,
        host="h",
        pid=1,
        version="v1",
        state=state,
        started_at=NOW,
        last_heartbeat=NOW - timedelta(seconds=heard),
        lease_until=NOW,
        runs=runs,
        steps=2,
        queues=("default", "gpu"),
        workflows=(),
    )


def queue(name: str, queued: int = 0, oldest: float | None = None, **more: Any) -> QueuePace:
    given: dict[str, Any] = {"paused": False, "workers": ["a"], "concurrency": None, **more}
    info = QueueInfo(
        name=name,
        queued=queued,
        delayed=0,
        running=3,
        oldest=None if oldest is None else NOW - timedelta(seconds=oldest),
        per_worker=None,
        rate=None,
        per_key=None,
        priority=False,
        fairness=None,
        overridden=(),
        next_at=None,
        draining=False,
        **given,
    )
    return QueuePace(info, 1.5)


def a_look(**more: Any) -> Look:
    given: dict[str, Any] = {
        "at": NOW,
        "window": 60.0,
        "runs": {"queued": 7, "running": 3, "blocked": 2, "completed": 1200},
        "ended": 12.5,
        "failed": 1.25,
        "workers": [worker("quiet", "late", 700), worker("busy", runs=50)],
        "workflows": [
            WorkflowPace("app.small", {"running": 1}, 9.0, 0.0, 0.01, 2.0),
            WorkflowPace("app.large", {"running": 2, "blocked": 2}, 3.0, 1.5, 100.0, 4000.0),
        ],
        "queues": [queue("default", 3, 2.0), queue("gpu", 1, 90_000.0, workers=[], concurrency=2)],
        "steps": [RunningStep("r-1", "app.large", "app.fetch#2", "attempt 3", NOW, "busy")],
        "stuck": [
            Group("decision", "A step waits", "charge may have happened", 2, todo="perdure resolve r-1")
        ],
        "spent": Decimal("1.5"),
        "calls": 9,
        "budgets": [BudgetLoad("team", "", Decimal(10), Decimal("8.5"), 1)],
    }
    return Look(**{**given, **more})


def drawn(look: Look | None, width: int = 80, height: int = 24, **chosen: Any) -> list[str]:
    console = Console(width=width, height=height, record=True, file=io.StringIO(), color_system=None)
    console.print(screen(look, Showing(url="sqlite:///x.db", **chosen), width, height, NOW))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [40, 80, WIDE, 200])
@pytest.mark.parametrize("height", [6, 24, 60])
def test_it_fits(width: int, height: int) -> None:
    many = a_look(
        workers=[worker(f"w-{n}" * 9) for n in range(90)],
        workflows=[WorkflowPace(f"{'x' * n}.w", {"running": n}, 1.0, 1.0, 1.0, 1.0) for n in range(90)],
        queues=[queue(f"質{n}", n, n) for n in range(90)],
    )
    for look in (a_look(), many, None):
        lines = drawn(look, width, height)
        assert len(lines) <= height
        assert max(map(len, lines)) <= width


def test_every_section_has_its_share_of_the_lines() -> None:
    assert dealt([1, 9, 2], 7) == [1, 4, 2]
    assert dealt([5, 5], 3) == [2, 1]
    assert dealt([1, 1], 9) == [1, 1]
    text = "\n".join(drawn(a_look(workers=[worker(f"w{n}") for n in range(90)])))
    assert re.search(r"^worker +\d/90 ", text, re.MULTILINE)
    for told in ("app.large", "gpu", "app.fetch#2", "charge may have happened", "team", "leave"):
        assert told in text


def test_what_matters_is_told() -> None:
    lines = drawn(a_look(), 130)
    text = "\n".join(lines)
    assert "queued 7" in text
    assert "12.5/s ended, 10.0% failed" in text
    assert "1 of 2 alive" in text
    assert "perdure resolve r-1" in text
    (large,) = [line for line in lines if line.startswith("app.large")]
    assert large.split() == ["app.large", "-", "2", "-", "2", "3", "50.0%", "1m40s", "1h06m"]
    (gpu,) = [line for line in lines if line.startswith("gpu")]
    assert gpu.split() == ["gpu", "1", "0", "3/2", "1d01h", "1.5", "0", "no", "worker"]
    (team,) = [line for line in lines if line.startswith("team")]
    assert team.split() == ["team", "████████░░", "$8.50", "$10.00", "1"]


def test_what_is_stuck_is_told_in_full_when_alone() -> None:
    what = "the step charge may or may not have happened, and nobody knows " * 3
    group = Group("decision", "A step waits", what, 7, todo="perdure resolve r-1 charge#1 --rerun", since=0.0)
    for width in (40, 80):
        lines = drawn(a_look(stuck=[group]), width, 40, alone="stuck")
        assert what.split() == " ".join(lines[4:-2]).split()[: len(what.split())]
        assert "resolve r-1" in " ".join(lines)
        assert len(drawn(a_look(stuck=[group] * 30), width, 24, alone="stuck")) <= 24
    assert "nothing is stuck" in "\n".join(drawn(a_look(stuck=[]), alone="stuck"))
    assert "nothing is stuck" in "\n".join(drawn(a_look(stuck=[group]), alone="stuck", filter="other"))


def test_sections_are_sorted_and_filtered() -> None:
    def names(start: str, **chosen: Any) -> list[str]:
        return [line.split()[0] for line in drawn(a_look(), **chosen) if line.startswith(start)]

    assert names("app.") == ["app.large", "app.small"]
    assert names("app.", sort="rate") == ["app.small", "app.large"]
    assert names("app.", sort="trouble") == ["app.large", "app.small"]
    assert names("app.", filter="SMALL") == ["app.small"]
    assert "default" not in "\n".join(drawn(a_look(), alone="workflows"))
    for sort in SORTS:
        for section in SECTIONS:
            assert drawn(a_look(), sort=sort, alone=section)


def test_trouble_is_told_and_the_last_look_stays() -> None:
    first = drawn(None, trouble="connection refused")
    assert "the database can't be looked at: connection refused" in first[1]
    later = drawn(a_look(at=NOW - timedelta(seconds=75)), trouble="connection refused")
    assert "as of 1 min 15 s ago; the database can't be looked at" in later[1]
    assert any("app.large" in line for line in later)


def test_a_name_can_not_command_the_terminal() -> None:
    text = "\n".join(drawn(a_look(workflows=[WorkflowPace("a\x1b[2Jb", {}, 0, 0, None, None)])))
    assert "\x1b" not in text


def test_keys() -> None:
    showing = Showing()
    for key in "s/ap\x7fb\rp+\t":
        assert not press(showing, key)
    assert (showing.sort, showing.filter, showing.paused) == ("rate", "ab", True)
    assert (showing.every, showing.alone) == (4.0, "stuck")
    for key in "-- -p?":
        press(showing, key)
    assert (showing.every, showing.paused, showing.helping) == (0.5, True, True)
    assert "sort by load" in "\n".join(drawn(a_look(), helping=True))
    press(showing, "\x1b")
    assert (showing.filter, showing.alone, showing.helping) == ("", None, False)
    for _ in SECTIONS:
        press(showing, "\t")
    assert showing.alone == SECTIONS[-1]
    press(showing, "\t")
    assert showing.alone is None
    press(showing, "/")
    assert not press(showing, "q")  # is a letter of the filter now
    press(showing, "\x1b")
    assert press(showing, "q")
    assert press(showing, "\x03")


def test_once_and_as_json(cli: Any) -> None:
    assert "There is no database" in cli.fails("top", "--once")
    cli("run", "flows:fail", "--input", "0", "--id", "bad")
    cli("run", "flows:echo", "--input", '"a"', "--id", "good")
    cli.within(lambda engine: engine.start(flows.wait(timedelta(hours=1)), id="open"))
    look = cli("top", "--json").json
    assert look["runs"] == {"failed": 1, "completed": 1, "queued": 1}
    assert {each["name"]: each["live"] for each in look["workflows"]} == {
        "flows.fail": 0,
        "flows.echo": 0,
        "flows.wait": 1,
    }
    assert look["ended"] == pytest.approx(2 / 60)
    assert look["failed"] == pytest.approx(1 / 60)
    default = next(each for each in look["queues"] if each["info"]["name"] == "default")
    assert (default["info"]["name"], default["info"]["queued"]) == ("default", 1)
    assert datetime.fromisoformat(look["at"]).tzinfo is not None
    text = cli("top", "--once", "--only", "fail").out
    assert "queued 1" in text
    assert "flows.fail" in text
    assert "flows.echo" not in text
    assert "needs a terminal" in cli.fails("top")
    assert "there are load, rate" in cli.fails("top", "--sort", "size")
