"""`perdure resolve`, and what `perdure show` tells of steps that wait for a person."""

from __future__ import annotations

import re

import flows
import pytest

import perdure
from perdure import events


@pytest.fixture
def drive(cli):
    """Let a worker drive a run until it is blocked or has ended."""

    def go(call=None):
        async def parked(handle):
            return len([event async for event in handle.history() if isinstance(event, events.StepParked)])

        async def act(engine):
            if call is not None:
                await engine.start(call, id="o-1")
            handle = engine.get("o-1")
            before = await parked(handle)
            async with perdure.Engine(cli.url):
                while not (await handle.status()).final:
                    if await parked(handle) > before and await handle.status() == "blocked":
                        break
                    await perdure.sleep(0.02)

        cli.within(act)
        return cli("show", "o-1", "--json").json

    return go


def test_a_person_decides_what_happened(cli, drive):
    run = drive(flows.order(500, "book"))
    assert run["status"] == "blocked"
    assert run["reason"].startswith("outcome unknown: step 'flows.pay#1'")
    shown = cli("show", "o-1").out
    assert "? flows.pay#1" in " ".join(shown.split())
    assert "waits for a person; outcome unknown: it ended with OutcomeUnknown" in shown
    assert "perdure resolve o-1 'flows.pay#1' --result JSON" in shown
    outcome = cli(
        "resolve", "o-1", "pay", "--result", '"paid by hand"', "--by", "ann", "--reason", "on the statement"
    )
    assert (outcome.code, outcome.out) == (0, "")
    assert "Step pay of run o-1 counts as done" in outcome.err
    again = cli.fails("resolve", "o-1", "pay", "--rerun")
    assert "no step of run 'o-1' waits for a decision (or one is on its way already)" in again
    run = drive()
    assert run["status"] == "completed"
    (done,) = [event for event in run["history"] if event.get("decision")]
    assert done["decision"] == {"by": "ann", "why": "on the statement", "since": None}
    assert '"paid by hand" (decided by ann: on the statement)' in cli("show", "o-1").out


def named(run):
    """The wait, as the reason names it."""
    return re.search(r"--since (\S+Z)", run["reason"]).group(1)


def test_fresh_attempts_and_a_failure(cli, drive):
    run = drive(flows.order(1, "anvil"))
    assert run["reason"].startswith("attempts used up: step 'flows.ship#1'")
    since = named(run)
    again = cli("resolve", "o-1", "flows.ship#1", "--rerun", "--since", since)
    assert "is to be run again" in again.err
    run = drive()
    kinds = [event["kind"] for event in run["history"]]
    assert (run["status"], kinds.count("step_parked"), kinds.count("step_rerun")) == ("blocked", 2, 1)
    about = [
        event["started_at"] for event in run["history"] if event["kind"] in ("step_parked", "step_rerun")
    ]
    assert about[0] == about[1] != about[2], "the history says which attempt it was about"
    assert "run again (decided by " in cli("show", "o-1").out
    old = cli.fails("resolve", "o-1", "ship", "--fail", "no lorry", "--since", since)
    assert "waits for something else by now" in old
    assert since in old
    assert "is no moment: give the one" in cli.fails("resolve", "o-1", "ship", "--rerun", "--since", "noon")
    told = named(run)
    assert told in old
    assert "counts as failed" in cli("resolve", "o-1", "ship", "--fail", "no lorry", "--since", told).err
    run = drive()
    assert run["status"] == "failed"
    assert "no lorry" in cli("show", "o-1").out


def test_wrong_use_is_told(cli, drive):
    drive(flows.order(500, "book"))
    assert "one of --result JSON, --rerun and --fail" in cli.fails("resolve", "o-1", "pay")
    assert "one of --result" in cli.fails("resolve", "o-1", "pay", "--rerun", "--fail")
    assert "--result isn't JSON" in cli.fails("resolve", "o-1", "pay", "--result", "paid")
    assert "goes with --fail only" in cli.fails("resolve", "o-1", "pay", "oops", "--rerun")
    assert "these do: 'flows.pay#1'" in cli.fails("resolve", "o-1", "ship", "--rerun")
    assert "No run has the id 'o-2'" in cli.fails("resolve", "o-2", "ship", "--rerun")
    assert "resolve" in cli("--help").out


def test_show_tells_the_newest_heartbeat(cli):
    async def act(engine):
        await engine.start(flows.beat(), id="b-1")
        async with perdure.Engine(cli.url):
            while not any(wait.heartbeat for wait in (await engine.get("b-1").info()).waiting_for):
                await perdure.sleep(0.02)
            flows.SEEN.set()
            assert await engine.get("b-1").result() == "done"

    shown = []
    flows.LOOK = lambda: shown.append((cli("show", "b-1").out, cli("show", "b-1", "--json").json))
    cli.within(act)
    text, facts = shown[0]
    assert "; heartbeat " in text
    assert '{"page":7}' in text
    (wait,) = facts["waiting_for"]
    assert wait["heartbeat"] == {"page": 7}
    assert wait["heard_at"].startswith("20")
    assert cli("show", "b-1", "--json").json["waiting_for"] == []
