"""A server that is killed between what a webhook does and the answer: delivered again, it has happened once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from world import PERDURE

from perdure.web import new_secret, sign

pytestmark = pytest.mark.acceptance

SECRET = new_secret()
MODULE = """
import os
import signal

import perdure
from perdure.web import Publish, Send, Start, hook, receiving

@perdure.workflow(name="hooked.ships")
async def ships(order: int) -> int:
    return order

@perdure.workflow(name="hooked.counts")
async def counts() -> list[int]:
    return [await perdure.receive("paid", int), await perdure.receive("paid", int)]

@hook("orders", env="ORDERS_SECRET")
def orders(order: int):
    return [Start(ships(order)), Send("counter", "paid", order), Publish("order.paid", order)]

left = int(os.environ.get("DEEDS_BEFORE_DEATH", "1000"))
does = receiving._do

async def mortal(*args):
    global left
    told = await does(*args)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return told

receiving._do = mortal
"""


@contextmanager
def server(folder: Path, deeds: int | None = None) -> Iterator[str]:
    """A server's address; it dies after so many deeds."""
    started = subprocess.Popen(
        [*PERDURE, "dev", "hooked", "--no-reload", "--port", "0"],
        cwd=folder,
        env={
            **os.environ,
            "PERDURE_URL": "sqlite:///hooked.db",
            "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}",
            "ORDERS_SECRET": SECRET,
            **({} if deeds is None else {"DEEDS_BEFORE_DEATH": str(deeds)}),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert started.stderr is not None
        for line in started.stderr:
            if match := re.search(r"(http://[\d.:]+)", line):
                yield match[1]
                break
        else:
            pytest.fail("the server didn't start")
    finally:
        started.kill()
        started.communicate()


def call(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **(headers or {})})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, json.load(answer)


def test_a_delivery_happens_once_whenever_the_server_dies(tmp_path: Path) -> None:
    (tmp_path / "hooked.py").write_text(MODULE)
    body = b"7"
    headers = sign(body, SECRET, id="msg_1")
    with server(tmp_path) as url:
        started = json.dumps({"workflow": "hooked.counts", "id": "counter"}).encode()
        assert call(f"{url}/api/v1/runs", started)[0] == 201
    for deeds in (1, 2, 3):
        with server(tmp_path, deeds) as url, pytest.raises((urllib.error.URLError, ConnectionError)):
            call(f"{url}/hooks/orders", body, headers)
    with server(tmp_path) as url:
        assert call(f"{url}/hooks/orders", body, headers) == (202, {"status": "accepted"})
        runs = call(f"{url}/api/v1/runs")[1]["runs"]
        assert sorted(run["id"] for run in runs) == ["counter", "hook/orders/msg_1"]
        assert call(f"{url}/api/v1/runs/hook/orders/msg_1/result?wait=30")[1]["result"] == 7
        assert call(f"{url}/hooks/orders", b"8", sign(b"8", SECRET, id="msg_2"))[0] == 202
        assert call(f"{url}/api/v1/runs/counter/result?wait=30")[1]["result"] == [7, 8]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            call(f"{url}/hooks/orders", b"9", headers)


def test_two_servers_take_each_delivery_once(tmp_path: Path) -> None:
    (tmp_path / "hooked.py").write_text(MODULE)
    with server(tmp_path) as one, server(tmp_path) as two, ThreadPoolExecutor(8) as threads:
        started = json.dumps({"workflow": "hooked.counts", "id": "counter"}).encode()
        assert call(f"{one}/api/v1/runs", started)[0] == 201

        def deliver(number: int, url: str) -> int:
            body = str(number).encode()
            return call(f"{url}/hooks/orders", body, sign(body, SECRET, id=f"msg_{number}"))[0]

        # Each to both servers, twice, all at once. A message that came before is known after the run has ended, too.
        sent = [threads.submit(deliver, number, url) for number in (1, 2) for url in (one, two, one, two)]
        assert {each.result() for each in sent} == {202}
        assert sorted(call(f"{one}/api/v1/runs/counter/result?wait=30")[1]["result"]) == [1, 2]
        runs = call(f"{two}/api/v1/runs")[1]["runs"]
        assert sorted(run["id"] for run in runs) == ["counter", "hook/orders/msg_1", "hook/orders/msg_2"]
