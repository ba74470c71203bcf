"""`perdure quotas`: giving, listing and taking away what a namespace may have."""

from __future__ import annotations

import re


def test_quotas_are_given_listed_and_taken_away(cli):
    cli.within(lambda engine: engine.quotas.list())
    assert "No namespace has a quota" in cli("quotas").err
    told = cli(
        "quotas", "set", "acme", "--runs", "100", "--starts", "1000/3600", "--storage", "1.5G", "--usd", "50"
    ).err
    assert re.search(
        r"acme may have 100 live runs, 1000 starts in 3600 s, 1,610,612,736 bytes, 50.00 USD \(month\)", told
    )
    assert re.search(
        r"acme\s+0 of 100\s+1000 per 3600 s, 500 now\s+0 of 1,610,612,736\s+0.00 of 50.00, month",
        cli("quotas").out,
    )
    (listed,) = cli("quotas", "list", "--json").json
    assert listed["namespace"] == "acme"
    assert listed["runs"] == {"limit": 100, "used": 0}
    assert listed["storage"] == {"limit": 1_610_612_736, "used": 0}
    assert "acme has no quota" in cli("quotas", "remove", "acme").err
    assert cli("quotas", "--json").json == []


def test_mistakes_are_told(cli):
    cli.within(lambda engine: engine.quotas.list())
    assert "at least one of" in cli.fails("quotas", "set", "acme")
    assert "no rate" in cli.fails("quotas", "set", "acme", "--starts", "many")
    assert "no size" in cli.fails("quotas", "set", "acme", "--storage", "much")
    assert "day, month or ever" in cli.fails("quotas", "set", "acme", "--usd", "1", "--per", "week")
    assert "can't name a namespace" in cli.fails("quotas", "set", "Acme", "--runs", "1")
