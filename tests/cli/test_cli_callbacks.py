"""`perdure callback`, and how callbacks are shown."""

from __future__ import annotations

import re

import flows
import pytest

import perdure
from perdure import step, workflow

TOKENS: list[str] = []


@step(name="cli.hand_out")
async def hand_out(name: str) -> None:
    pass


@workflow(name="cli.asks")
async def asks(timeout: float | None = None, heartbeat: float | None = None) -> flows.Order:
    answer = perdure.callback(flows.Order, timeout=timeout, heartbeat=heartbeat)
    TOKENS.append(answer.token)
    await hand_out("somebody")
    return await answer


@pytest.fixture
def waiting(cli):
    """A run that waits for a callback, and no worker."""
    return start(cli, timeout=3600, heartbeat=600)


def start(cli, **limits):
    async def drive(engine):
        await engine.start(asks(**limits), id="open")
        async with perdure.Engine(cli.url) as worker:
            handle = worker.get("open")
            while not (await handle.info()).waiting_for:
                await perdure.sleep(0.02)

    TOKENS.clear()
    cli.within(drive)
    return cli


def result(cli):
    async def drive(engine):
        async with perdure.Engine(cli.url) as worker:
            return await worker.get("open").result()

    return cli.within(drive)


def test_complete(waiting):
    outcome = waiting("callback", "complete", TOKENS[0], '{"item": "tea", "price": "1.50"}')
    assert (outcome.code, outcome.out) == (0, "")
    assert "completed" in outcome.err
    assert str(result(waiting).price) == "1.50"
    told = waiting.fails("callback", "complete", TOKENS[0], "1")
    assert "was completed already" in told
    assert TOKENS[0] not in told


def test_fail(waiting):
    assert "failed" in waiting("callback", "fail", TOKENS[0], "no more tea").err
    with pytest.raises(perdure.RunFailed, match="CallbackFailed: no more tea"):
        result(waiting)
    assert re.search(r"✗\s+callback:1.*failed: no more tea", waiting("show", "open").out)


def test_heartbeat(waiting):
    assert "noted" in waiting("callback", "heartbeat", TOKENS[0]).err


@pytest.mark.parametrize("value", ["{", "NaN", "text", "1 2"])
def test_what_isnt_json_is_told(waiting, value):
    assert "isn't JSON" in waiting.fails("callback", "complete", TOKENS[0], value)
    assert "completed" in waiting("callback", "complete", TOKENS[0], '{"item": "tea", "price": 1}').err


def test_an_unknown_token_is_told(waiting):
    for arguments in (["complete", "nonsense"], ["fail", "nonsense", "why"], ["heartbeat", "nonsense"]):
        assert "no callback in this database has this token" in waiting.fails("callback", *arguments)


def test_show_tells_of_open_callbacks(waiting):
    shown = waiting("show", "open").out
    assert re.search(r"waits for\s+callback callback:1, since .*until .*heartbeat every 600 s", shown)
    assert re.search(r"·\s+callback:1\s+opened for 1 h, with a heartbeat every 10 min", shown)
    (wait,) = waiting("show", "open", "--json").json["waiting_for"]
    assert (wait["kind"], wait["id"]) == ("callback", "callback:1")


def test_show_tells_what_came_of_callbacks(cli):
    start(cli)
    cli("callback", "complete", TOKENS[0], '{"item": "tea", "price": "1.50"}')
    result(cli)
    shown = cli("show", "open").out
    assert re.search(r"·\s+callback:1\s+opened\s", shown)
    assert re.search(r"✓\s+callback:1\s.*→ {.item.: .tea.", shown)


def test_nothing_shown_is_enough_to_make_a_token(waiting):
    """A person may paste it into a bug report."""
    for arguments in (["show", "open"], ["show", "open", "--json"], ["show", "open", "--full"]):
        assert TOKENS[0] not in waiting(*arguments).out
    first = waiting("show", "open", "--json").json["history"][0]
    assert first["seed"] == "(not shown)"
