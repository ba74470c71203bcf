"""`perdure send`, and what `perdure show` tells of messages."""

from __future__ import annotations

import flows
import pytest

from perdure import Engine


@pytest.fixture
def collecting(cli):
    cli.within(lambda engine: engine.start(flows.collects(2), id="c"))
    return cli


def drive(cli, id="c"):
    """Let a worker bring the run to its end."""

    async def act():
        async with Engine(cli.url) as engine:
            return await engine.get(id).result()

    import asyncio

    return asyncio.run(act())


def test_send_gives_a_run_its_messages(collecting):
    told = collecting("send", "c", "number", "5").err
    assert told == "Message number is sent to run c. It stays with the run until its code receives it.\n"
    for _ in range(3):
        assert collecting("send", "c", "number", "6", "--key", "k").code == 0
    assert drive(collecting) == [5, 6]


def test_send_without_a_value_sends_null(collecting):
    collecting("send", "c", "other")
    collecting("send", "c", "number", "1")
    collecting("send", "c", "number", "2")
    drive(collecting)
    assert [item["value"] for item in collecting("show", "c", "--json").json["undelivered"]] == [None]


def test_send_keeps_every_digit(collecting):
    collecting("send", "c", "number", "123456789012345678901234567890")
    collecting("send", "c", "number", "1")
    assert drive(collecting) == [123456789012345678901234567890, 1]


def test_what_send_cant_do(collecting):
    assert "The value isn't JSON" in collecting.fails("send", "c", "number", "{x}")
    assert "NaN is no JSON number" in collecting.fails("send", "c", "number", "NaN")
    assert "No run has the id 'd'" in collecting.fails("send", "d", "number", "1")
    assert "can't be a message's name" in collecting.fails("send", "c", "", "1")
    for value in ("1", "2"):
        collecting("send", "c", "number", value)
    drive(collecting)
    assert "run 'c' has ended: message 'number' wasn't delivered" in collecting.fails(
        "send", "c", "number", "1"
    )


def test_show_tells_what_became_of_messages(collecting):
    collecting("send", "c", "number", '"x"')
    assert "can't be a message's key" in collecting.fails("send", "c", "number", "1", "--key", "k\x1b[31m")
    for name, value in (("number", "1"), ("other", '{"a": 2}'), ("number", "2")):
        assert collecting("send", "c", name, value).code == 0
    drive(collecting)
    shown = collecting("show", "c").out
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert any(line.startswith('set aside message number "x" (event 2,') for line in lines)
    assert any("it can't be read as `int`: Expected `int`, got `str`" in line for line in lines)
    assert any(line.startswith('undelivered message other {"a":2}') for line in lines)
    assert any('✉ message number "x"; set aside, as message 2' in line for line in lines)
    assert any('✉ message other {"a": 2}; undelivered' in line for line in lines)
    facts = collecting("show", "c", "--json").json
    assert [(item["name"], item["value"], item["number"]) for item in facts["set_aside"]] == [
        ("number", "x", 2)
    ]
    assert [(item["name"], item["number"]) for item in facts["undelivered"]] == [("other", 4)]
    assert facts["history"][1]["payload"] == "x"


def test_show_tells_what_was_sent(cli):
    cli.within(lambda engine: engine.start(flows.collects(1), id="c"))
    cli.within(lambda engine: engine.start(flows.forwards("c"), id="f"))
    drive(cli, "f")
    assert drive(cli, "c") == [7]
    sent = [" ".join(line.split()) for line in cli("show", "f").out.splitlines()]
    assert any(
        "✗ send:1 message hello not delivered to run nobody: there is no such run" in line for line in sent
    )
    assert any("→ send:2 message number to run c: 7" in line for line in sent)
    assert "✉ message number 7 from run f" in " ".join(cli("show", "c").out.split())
