"""`perdure query` and `perdure update`, and how `perdure show` tells of updates."""

from __future__ import annotations

import asyncio
import re
import threading

import handled
import pytest

import perdure


@pytest.fixture
def cart(cli):
    """The command line, with a worker in a thread that drives a run."""
    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

    async def work():
        async with perdure.Engine(cli.url) as engine:
            await engine.start(handled.cart(), id="c")
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(work(),))
    thread.start()
    assert ready.wait(20)
    yield cli
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    loop.close()


def test_update_and_query_print_json(cart):
    assert cart("update", "c", "add", '["milk", 2]').json == {"item": "MILK", "count": 2}
    assert cart("update", "c", "add", '{"item": "eggs"}', "--key", "k").json == {"item": "EGGS", "count": 1}
    assert cart("update", "c", "add", '{"item": "eggs"}', "--key", "k").json == {"item": "EGGS", "count": 1}
    assert cart("query", "c", "content").json == [{"item": "MILK", "count": 2}, {"item": "EGGS", "count": 1}]
    assert cart("query", "c", "content", "2").json == [{"item": "MILK", "count": 2}]
    assert cart("update", "c", "close").json is None
    assert cart("query", "c", "content", '{"least": 2}').json == [{"item": "MILK", "count": 2}]
    told = cart("show", "c").out
    assert re.search(r"·\s+update add\s+\(\"milk\", 2\)", told)
    assert re.search(r"·\s+update add \[k\]\s+\(item=\"eggs\"\)", told)
    assert re.search(r"✓\s+update add \[k\]\s+\S+ .*→ {\"item\":\"EGGS\",\"count\":1}", told)
    assert "u2/handled.reserve#1" in told


def test_what_goes_wrong_is_told(cart):
    assert "Rejected: count must be at least 1" in cart.fails("update", "c", "add", '["x", 0]', code=1)
    assert "The handler raised LookupError: there is nothing" in cart.fails(
        "update", "c", "add", '"nothing"', code=1
    )
    assert "has no update handler 'nope'. It has: add, close, wait." in cart.fails("update", "c", "nope")
    assert "has no query handler 'nope'. It has: content." in cart.fails("query", "c", "nope")
    assert "isn't JSON" in cart.fails("query", "c", "content", "{")
    assert "missing 1 required" in cart.fails("update", "c", "add", code=1)
    assert "Did you mean" in cart.fails("update", "cc", "close")
    assert "No run has the id" in cart.fails("query", "nobody", "content")
    assert "use a JSON array" in cart.fails("update", "c", "add", '{"key": 1}')
    assert "it goes on" in cart.fails("update", "c", "wait", "--timeout", "0.3")
    assert re.search(r"waits for\s+update update:.*: wait", cart("show", "c").out)
    assert re.search(r"✗\s+update add\s.*failed: LookupError: there is nothing", cart("show", "c").out)
    cart("terminate", "c")
    assert "has ended and takes no updates any more" in cart.fails("update", "c", "close")
