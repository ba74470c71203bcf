"""Runs that don't go on are grouped by what helps."""

from __future__ import annotations

from perdure.core.stuck import Held, grouped, percentile, remedies
from perdure.core.why import Cause


def test_runs_with_one_cause_are_one_group_the_largest_first() -> None:
    found = [
        (Held("p", "app.a", "paused", 9.0), Cause("pause", "it was paused")),
        *(
            (
                Held(f"r{n}", "app.a", "blocked", 5.0 - n, f"pay:{n}"),
                Cause("decision", f"{n}", step=f"pay:{n}"),
            )
            for n in range(3)
        ),
        (Held("x", "app.a", "blocked", None, "mail:1"), Cause("decision", "x", step="mail:1")),
        (Held("y", "app.b", "blocked", None, "pay:1"), Cause("decision", "y", step="pay:1")),
    ]
    groups = grouped(found)
    assert [(group.kind, group.count, group.since) for group in groups] == [
        ("decision", 3, 3.0),
        ("pause", 1, 9.0),
        ("decision", 1, None),
        ("decision", 1, None),
    ]
    assert [held.step for held in groups[0].runs] == ["pay:0", "pay:1", "pay:2"]


def test_a_run_with_two_steps_that_wait_counts_once() -> None:
    causes = [Cause("budget", "no money", step=f"ask:{n}", budget="team", owner="k") for n in range(2)]
    (group,) = grouped((Held("r", "app.a", "blocked", 1.0, cause.step), cause) for cause in causes)
    assert (group.count, len(group.runs)) == (1, 2)
    more, fail = group.actions
    assert (more.path, more.body, more.asks, more.each) == (
        "/budgets/team/raise",
        {"usd": "", "owner": "k"},
        "usd",
        False,
    )
    assert fail.each
    assert fail.danger


def test_names_are_quoted_in_paths() -> None:
    assert remedies("budget", budget="a/b c")[0].path == "/budgets/a%2Fb%20c/raise"
    assert remedies("message") == ()


def test_percentiles_are_values_that_were_there() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.95) == 96
    assert percentile([7.0], 0.95) == 7
