"""`perdure publish`, `publications` and `subscriptions`, and what other commands tell of events."""

from __future__ import annotations

import asyncio

import pytest

import perdure
from perdure import Engine, events, workflow
from perdure.runtime import definitions

pytestmark = pytest.mark.usefixtures("no_definitions_of_others")


@workflow
async def waits_for_payment(customer: str) -> str:
    try:
        await perdure.event("nothing", timeout=0.01)
    except TimeoutError:
        pass
    paid = await perdure.event("order.paid", dict[str, str], where={"customer": customer}, timeout=3600)
    perdure.publish("order.shipped", paid)
    return paid["order"]


@pytest.fixture(autouse=True)
def database(cli):
    cli.within(lambda engine: engine.subscriptions())


@pytest.fixture
def subscribed():
    """A workflow that is started by an event, for one test."""

    @workflow(
        name="cli.on_paid",
        on=perdure.Event("order.paid", where={"vip": True}, batch=2, within=60, by="customer"),
    )
    async def on_paid(orders: list[dict[str, str]]) -> int:
        return len(orders)

    yield on_paid
    del definitions._workflows["cli.on_paid"]


def drive(cli, id=None, kind=events.PublicationAwaited, count=1):
    """Let a worker drive the runs, until one has so many of these events."""

    async def act() -> None:
        async with Engine(cli.url) as engine, asyncio.timeout(60):
            while id is not None:
                found = [one async for one in engine.get(id).history() if isinstance(one, kind)]
                if len(found) >= count:
                    return
                await asyncio.sleep(0.01)

    asyncio.run(act())


def test_publishing_for_a_run_that_waits(cli):
    cli.within(lambda engine: engine.start(waits_for_payment("c-7"), id="r"))
    drive(cli, "r", count=2)
    told = cli("why", "r").out
    assert "waits for the event 'order.paid' where customer = c-7" in told
    assert "perdure publish order.paid JSON" in told
    shown = cli("show", "r").out
    assert "waits for the event order.paid where customer = c-7" in shown
    assert "given up by the code" in shown
    (waiting,) = cli("subscriptions", "--json").json
    assert waiting == {"event": "order.paid", "where": {"customer": "c-7"}, "runs": 1}
    assert "1 run waits" in cli("subscriptions").out
    told = cli("publish", "order.paid", '{"customer": "c-7", "order": 7}').err
    assert told == "The event order.paid is published. Workers bring it to those who want it.\n"
    assert cli("publish", "order.paid", '{"customer": "c-7", "order": "o-7"}', "--key", "o-7").code == 0
    drive(cli, "r", events.RunCompleted)
    shown = cli("show", "r").out
    assert "event order.paid passed over: " in shown
    assert '→ {"customer":"c-7","order":"o-7"}' in shown
    assert "published order.shipped" in shown


def test_a_repeat_is_told(cli):
    cli("publish", "a", "--key", "k")
    told = cli("publish", "a", "1", "--key", "k").err
    assert told == "An event a with the key k was published before: nothing was done.\n"


def test_listing_publications(cli):
    assert cli("publications").err == "No event is kept.\n"
    cli("publish", "a", '{"x": 1}', "--key", "k")
    cli("publish", "b", '"two"')
    assert cli("publications", "c").err == "No event c is kept.\n"
    (one,) = cli("publications", "a", "--json").json
    assert (one["name"], one["key"], one["payload"], one["settled"]) == ("a", "k", {"x": 1}, False)
    title, *lines = cli("publications").out.splitlines()
    assert title.split() == ["name", "key", "published", "state", "payload"]
    assert len(lines) == 2
    assert "under way" in lines[0]
    assert len(cli("publications", "--limit", "1", "--json").json) == 1


def test_listing_and_removing_subscriptions(cli, subscribed):
    assert cli("subscriptions").err == "Nobody waits for an event, and no workflow is started by one.\n"
    drive(cli)
    (one,) = cli("subscriptions", "--json").json
    assert (one["workflow"], one["event"], one["where"], one["queue"]) == (
        "cli.on_paid",
        "order.paid",
        {"vip": True},
        "default",
    )
    assert (one["batch"], one["within"], one["by"], one["debounce"]) == (2, 60.0, "customer", None)
    shown = cli("subscriptions").out
    assert "starts cli.on_paid in queue default" in shown
    assert "2 at a time, or after 1 min, by customer" in shown
    assert "Did you mean cli.on_paid?" in cli.fails("subscriptions", "remove", "cli.on_pay")
    assert "isn't started by events any more" in cli("subscriptions", "remove", "cli.on_paid").err
    assert cli("subscriptions", "--json").json == []


def test_what_publish_cant_do(cli):
    assert "isn't JSON" in cli.fails("publish", "a", "{x}")
    assert "can't be an event's name" in cli.fails("publish", "")
