"""What Overview and Why show, and the API behind them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

from web_kit import run, serving

from perdure import workflow
from perdure.api.keeping import DiskUsage
from perdure.api.overview import Ends, Overview, WorkflowLoad
from perdure.core.stuck import Action, Group, Held, remedies
from perdure.storage.disk import WorkflowSize
from perdure.web import HttpClient
from perdure.web.dashboard import outlook
from perdure.web.views.disk import disk_lines

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@workflow(name="web.outlook.waits")
async def waits() -> None:
    await asyncio.sleep(3600)


def _overview(**fields: object) -> Overview:
    given = {
        "at": NOON,
        "runs": {"completed": 1200, "blocked": 2, "paused": 3},
        "workflows": [
            WorkflowLoad("a.b.fast", {"completed": 1200}, 0.1, 0.25, 100),
            WorkflowLoad("a.b.slow", {"blocked": 2, "running": 1}, 10.0, 123.4567, 100),
            WorkflowLoad("a.b.new", {"queued": 1}, None, None, 0),
        ],
        "window": "hour",
        "width": 60.0,
        "ends": [Ends(NOON, 5, 0, 0), Ends(NOON, 7, 1, 2)],
        "counted_since": None,
        "queues": [],
        "workers": {},
        "limits": [],
        "spent": Decimal("1.234"),
        "calls": 4,
        "unpriced_calls": 0,
        "budgets": [],
    }
    return Overview(**{**given, **fields})  # type: ignore[arg-type]


def test_figures_say_what_needs_attention() -> None:
    shown = {each.name: each for each in outlook.figures(_overview())}
    assert (shown["Completed"].value, shown["Failed"].value, shown["Failed"].tone) == ("12", "1", "bad")
    assert (shown["Blocked"].value, shown["Blocked"].hint, shown["Blocked"].path) == ("2", "3 paused", "/why")
    assert shown["Spent today"].value == "$1.23"
    calm = {each.name: each.tone for each in outlook.figures(_overview(runs={}, ends=[]))}
    assert set(calm.values()) == {""}


def test_charts_hold_no_markup_and_no_code() -> None:
    ends = outlook.ends_chart(_overview())
    assert [series["data"] for series in ends["series"]] == [[5, 7], [0, 1], [0, 2]]
    assert ends["tooltip"]["renderMode"] == "richText"
    lengths = outlook.lengths_chart(_overview())
    assert lengths["yAxis"]["data"] == ["b.fast", "b.slow"]
    assert [series["data"] for series in lengths["series"]] == [[0.1, 10.0], [0.25, 123.0]]
    assert outlook.ends_told(_overview()) == "Runs that ended in the last hour: 12 completed, 1 failed"
    assert outlook.short("a." + "x" * 60) == "…" + "x" * 27


def test_an_action_is_filled_in_for_one_run() -> None:
    (rerun, _) = remedies("decision")
    held = Held("a b/c", "w", "blocked", 5.0, "pay:1/x")
    assert outlook.request(rerun, held) == (
        "POST",
        "/runs/a%20b/c/steps/pay%3A1%2Fx/resolve",
        {"rerun": True, "since": 5.0},
    )
    (more, _) = remedies("budget", budget="team", owner="ann")
    assert outlook.request(more, None, "5") == ("POST", "/budgets/team/raise", {"usd": "5", "owner": "ann"})
    assert more.body == {"usd": "", "owner": "ann"}
    group = Group("decision", "t", "w", 2, runs=(held, held), actions=(rerun,))
    assert outlook.targets(group, rerun) == [held, held]
    assert outlook.targets(group, Action("x", "POST", "/x")) == [None]


def test_pages_of_groups_are_put_together() -> None:
    one = Group(
        "pause", "Paused", "x", 2, since=5.0, runs=[Held("a", "w", "paused"), Held("b", "w", "paused")]
    )
    two = Group("pause", "Paused", "x", 3, since=4.0, runs=(Held("c", "w", "paused"),))
    other = Group("pause", "Paused", "x", 9, runs=(Held("d", "v", "paused"),))
    first, second = outlook.merged([one], [two, other])
    assert (first.count, second.count, second.since) == (9, 5, 4.0)
    assert [held.id for held in second.runs] == ["a", "b", "c"]


def test_they_are_told_over_http_and_what_is_told_helps() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            for n in range(2):
                await engine.start(waits(), id=f"w/{n}")
                await engine.get(f"w/{n}").pause("lunch")
            while (await engine.overview()).runs.get("paused") != 2:
                await asyncio.sleep(0.01)
            told = (await client.get("/api/v1/overview", params={"window": "day"})).json()
            assert told["runs"]["paused"] == 2
            assert len(told["ends"]) == 48
            assert told["spent"] == "0"
            page = (await client.get("/api/v1/why")).json()
            (group,) = page["groups"]
            assert (group["kind"], group["count"], page["stuck"]) == ("pause", 2, 2)
            (action,) = group["actions"]
            for held in group["runs"]:
                path = action["path"].replace("{id}", held["id"])
                answer = await client.request(action["method"], "/api/v1" + path, json=action["body"])
                assert answer.status_code == 200
            while (await client.get("/api/v1/why")).json()["groups"]:
                await asyncio.sleep(0.01)
            for wrong in ("/api/v1/why?cursor=x", "/api/v1/why?size=0", "/api/v1/overview?window=year"):
                assert (await client.get(wrong)).status_code == 422

    run(main)


def test_a_client_gets_what_an_engine_tells() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            await engine.start(waits(), id="w")
            await engine.get("w").pause()
            while (await engine.overview()).runs.get("paused") != 1:
                await asyncio.sleep(0.01)
            async with HttpClient("http://127.0.0.1:8700", transport=client._transport) as remote:
                assert (await remote.overview()).runs == (await engine.overview()).runs
                assert await remote.stuck() == await engine.stuck()
                assert await remote.disk() == await engine.disk()
                assert await remote.workflows() == await engine.workflows()

    run(main)


def test_the_room_of_a_database_in_lines() -> None:
    use = DiskUsage(
        bytes=12_345_678,
        free=1_500,
        log=0,
        shrinks=True,
        runs=2000,
        oldest=None,
        tables={},
        workflows=[WorkflowSize("app.order", 2000, 9000, 800)],
        removing=0,
        rules=["runs that ended go after 1 days"],
        due=7,
        due_more=True,
    )
    assert disk_lines(use) == [
        ("size", "12.3 MB, 1.5 kB free", None),
        ("runs", "about 2,000", None),
        ("app.order", "800 B", None),
        ("to be removed", "7 or more", None),
    ]
