"""`perdure schedule`: each of its commands, and what it says to mistakes."""

from __future__ import annotations

import re

import perdure


def test_a_schedule_from_its_creation_to_its_end(cli):
    made = cli(
        "schedule",
        "create",
        "often",
        "flows:total",
        "--input",
        "[[1, 2]]",
        "--every",
        "1h30m",
        "--jitter",
        "5s",
    )
    assert (made.code, made.out) == (0, "")
    assert "The next slot is" in made.err
    (listed,) = cli("schedule", "ls", "--json").json
    assert (listed["name"], listed["workflow"], listed["every"], listed["jitter"]) == (
        "often",
        "flows.total",
        5400.0,
        5.0,
    )
    assert re.search(
        r"often\s+flows\.total\s+every 1 h 30 min\s+in 1 h (29|30) min\s+0\s+0\s+0", cli("schedule", "ls").out
    )

    assert "is paused" in cli("schedule", "pause", "often", "--reason", "holidays").err
    assert "paused: holidays" in cli("schedule", "show", "often").out
    assert "goes on" in cli("schedule", "resume", "often").err
    shown = cli("schedule", "show", "often").out
    assert re.search(r"slots\s+0 fired, 0 skipped, 0 missed", shown)
    assert len(re.findall(r"\(in ", shown)) == 5

    id = cli("schedule", "trigger", "often").out.strip()
    assert id.startswith("often@")
    assert cli("schedule", "show", "often", "--json").json["recent"][0]["id"] == id
    assert "started by schedule often" in cli("show", id).out
    assert cli("run", "flows:total", "--input", "[[1, 2]]", "--id", id).out == "3\n"

    assert "gone" in cli("schedule", "delete", "often").err
    assert "no schedules yet" in cli("schedule", "ls").err


def test_backfill(cli):
    cli(
        "schedule",
        "create",
        "often",
        "flows:echo",
        "--input",
        '"x"',
        "--every",
        "1s",
        "--overlap",
        "buffer_all",
        "--paused",
    )

    async def wait(engine):
        await perdure.sleep(2.2)

    cli.within(wait)
    assert re.search(r"There are [123] slots", cli("schedule", "backfill", "often", "1h").err)
    assert "neither in the future" in cli.fails("schedule", "backfill", "often", "1h", "2h")
    assert "no moment" in cli.fails("schedule", "backfill", "often", "yesterday")


def test_creating_again(cli):
    first = ("schedule", "create", "s", "flows:nothing", "--at", "2999-01-01T00:00+00:00")
    assert cli(*first).code == 0
    assert cli(*first).code == 0
    other = ("schedule", "create", "s", "flows:nothing", "--every", "60s")
    assert "defined otherwise" in cli.fails(*other)
    assert cli(*other, "--replace").code == 0
    assert cli("schedule", "show", "s", "--json").json["every"] == 60.0


def test_mistakes(cli):
    create = ("schedule", "create", "s", "flows:nothing")
    assert "exactly one of" in cli.fails(*create)
    assert "no length of time" in cli.fails(*create, "--every", "often")
    assert "no moment" in cli.fails(*create, "--at", "noon")
    assert "doesn't fit" in cli.fails("schedule", "create", "s", "flows:echo", "--every", "60s")
    assert cli(*create, "--every", "60s").code == 0
    assert "Did you mean s?" in cli.fails("schedule", "show", "ss")
    assert "perdure schedule ls" in cli.fails("schedule", "pause", "elsewhere")
    assert cli("schedule", "create", "s", "flows:nothing", "--every", "60s", "--overlap", "never").code == 2
