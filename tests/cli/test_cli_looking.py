"""`perdure ls` and `perdure show`: for people, and with --json for programs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import flows
import pytest

from perdure.cli.ls import since_when
from perdure.cli.output import ago, duration, one_line, printable
from perdure.cli.trouble import Trouble


@pytest.fixture
def runs(cli):
    """One completed run with a child, one failed, one that nobody drives."""
    cli("run", "flows:parent", "--input", '"a"', "--id", "good")
    cli("run", "flows:fail", "--input", "0", "--id", "bad")
    cli.within(lambda engine: engine.start(flows.wait(timedelta(hours=1)), id="open"))
    return cli


def test_ls_lists_newest_first(runs):
    lines = runs("ls").out.splitlines()
    assert lines[0].split() == ["id", "workflow", "status", "created", "took", "events", "reason"]
    assert [line.split()[0] for line in lines[1:]] == ["open", "bad", "good/flows.echo#1", "good"]
    assert "queued" in lines[1]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--status", "failed"], ["bad"]),
        (["--status", "failed", "--status", "queued"], ["open", "bad"]),
        (["--workflow", "parent"], ["good"]),
        (["--workflow", "flows.parent"], ["good"]),
        (["--blocked"], []),
        (["--since", "2h"], ["open", "bad", "good/flows.echo#1", "good"]),
        (["--since", "2100-01-01"], []),
        (["--limit", "1"], ["open"]),
    ],
)
def test_ls_chooses(runs, options, ids):
    assert [run["id"] for run in runs("ls", "--json", *options).json] == ids


def test_ls_as_json_tells_everything(runs):
    (run,) = runs("ls", "--json", "--status", "completed", "--workflow", "parent").json
    assert run["workflow"] == "flows.parent"
    assert run["status"] == "completed"
    assert datetime.fromisoformat(run["created_at"]).tzinfo is not None


def test_ls_of_nothing(cli):
    cli("run", "flows:nothing")
    outcome = cli("ls", "--status", "failed")
    assert (outcome.code, outcome.out) == (0, "")
    assert "No run is like that" in outcome.err
    assert cli("ls", "--status", "failed", "--json").json == []


def test_ls_with_a_status_that_does_not_exist(cli):
    assert "blocked" in cli.fails("ls", "--status", "broken")


def test_reading_does_not_create_a_database(cli):
    (cli.folder / "other.db").write_text("")
    for command in (["ls"], ["show", "x"], ["cancel", "x"], ["terminate", "x"]):
        told = cli.fails(*command)
        assert "There is no database" in told
        assert "other.db" in told
    assert not (cli.folder / "runs.db").exists()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("memory:", "within one process"),
        ("runs.db", "isn't a database url"),
        ("mysql://x", "isn't a database url"),
    ],
)
def test_urls_that_can_not_be_read(cli, url, told):
    assert told in cli.fails("ls", url=url)


def test_show_tells_the_story(runs):
    shown = runs("show", "good").out
    for told in (
        r"status\s+completed",
        r"workflow\s+flows\.parent",
        r"\+0\.000 s\s+▶\s+started\s+\(\"a\"\)",
        r"child run good/flows\.echo#1 of flows\.echo started",
        r"↻\s+flows\.flaky#1.*attempt 1 failed: ConnectionError: the line is \\x1b\[31mred; again after",
        r"✓\s+flows\.flaky#1 \(attempt 2\).*→ \"fine\"",
        r"■\s+completed\s+→ \"afine\"",
    ):
        assert re.search(told, shown), (told, shown)
    assert "\x1b" not in shown, "no colours where there is no terminal, and no escapes from values"


def test_show_names_the_parent_of_a_child(runs):
    assert re.search(r"parent\s+good", runs("show", "good/flows.echo#1").out)


def test_show_in_full_has_tracebacks_and_whole_values(cli):
    long = "word " * 100
    cli("run", "flows:echo", "--input", f'["{long}"]', "--id", "long")
    assert long not in cli("show", "long").out
    assert long.strip() in cli("show", "long", "--full").out
    cli("run", "flows:fail", "--input", "0", "--id", "bad")
    assert "raise ValueError" in cli("show", "bad", "--full").out


def test_show_as_json_holds_the_whole_history(runs):
    run = runs("show", "good", "--json").json
    assert run["events"] == len(run["history"])
    kinds = [event["kind"] for event in run["history"]]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_completed"
    assert run["history"][0]["input"] == [["a"], {}]
    assert run["history"][-1]["result"] == "afine"
    (failed,) = [event for event in run["history"] if event["kind"] == "step_attempt_failed"]
    assert failed["failure"]["type"] == "builtins.ConnectionError"
    assert datetime.fromisoformat(failed["retry_at"]) >= datetime.fromisoformat(failed["at"])


def test_an_unknown_id_suggests_near_ones(runs):
    for command in ("show", "cancel", "terminate"):
        told = runs.fails(command, "goood")
        assert "Did you mean good" in told
    assert "perdure ls" in runs.fails("show", "zzzzzz")


NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("45s", NOW - timedelta(seconds=45)),
        ("30m", NOW - timedelta(minutes=30)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("7d", NOW - timedelta(days=7)),
        ("1.5h", NOW - timedelta(minutes=90)),
        ("2026-05-01T10:00:00+00:00", datetime(2026, 5, 1, 10, tzinfo=UTC)),
    ],
)
def test_since(text, when):
    assert since_when(text, NOW) == when


@pytest.mark.parametrize("text", ["yesterday", "2x", "", "-3h", "2026-13-01"])
def test_since_what(text):
    with pytest.raises(Trouble, match="is no time"):
        since_when(text, NOW)


def test_since_before_time_itself(runs):
    assert len(runs("ls", "--json", "--since", "999999d").json) == 4


def test_how_things_read():
    assert [duration(s) for s in (0.0004, 0.25, 1.0, 59.96, 3600, 90_061)] == [
        "0.4 ms",
        "250 ms",
        "1.0 s",
        "1 min",
        "1 h",
        "1 d 1 h",
    ]
    assert ago(NOW - timedelta(seconds=90), NOW) == "1 min 30 s ago"
    assert ago(NOW + timedelta(hours=2), NOW) == "in 2 h"
    assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb\nc"
    assert one_line("a\n  b" + "c" * 100, 10) == "a bcccccc…"
