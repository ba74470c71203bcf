"""A shop that hears of orders and payments by webhooks: signed, delivered again and again, and each counts once.

    python examples/webhook_receiver.py [database]

No network is needed: this script plays the payment service, which signs what it sends, and sends it again until it is
told that it was taken. The shop is a server and a worker in one process. It is killed while an order waits for its
payment; the payment is sent to nobody, then again to the next process, and then once more by mistake.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass

import httpx
import uvicorn

import perdure
from perdure import Engine, step, workflow
from perdure.web import Send, Start, create_app, hook, new_secret, sign

SECRET = os.environ.setdefault("SHOP_WEBHOOK_SECRET", new_secret())  # the payment service has it, too


@dataclass
class Event:
    """What the payment service tells."""

    type: str
    order: str
    item: str = ""
    cents: int = 0


@step
async def ship(order: str, item: str) -> str:
    print(f"  shop {os.getpid()}: ships the {item} of order {order}")
    return f"parcel-{order}"


@workflow
async def fulfil(order: str, item: str) -> str:
    cents = await perdure.receive("paid", int, timeout=86_400)
    parcel = await ship(order, item)
    return f"{cents / 100:.2f} were paid, and {parcel} is on its way"


@hook("shop", env="SHOP_WEBHOOK_SECRET")
def shop(event: Event) -> Start | Send | None:
    """What each of them means. Its deeds are known by the delivery's id, so they happen once."""
    match event.type:
        case "order.placed":
            return Start(fulfil(event.order, event.item), id=f"order-{event.order}")
        case "order.paid":
            return Send(f"order-{event.order}", "paid", event.cents)
        case _:
            return None


def keep_shop(url: str, port: int) -> None:
    """The shop's process. `perdure dev examples.webhook_receiver` does the same."""

    async def serve() -> None:
        async with Engine(url) as engine:
            config = uvicorn.Config(create_app(engine), port=port, log_level="critical", lifespan="off")
            await uvicorn.Server(config).serve()

    asyncio.run(serve())


def send(port: int, id: str, body: str, secret: str = SECRET) -> int | None:
    """The payment service sends something once. What was answered; None if nobody was there."""
    headers = sign(body, secret, id=id)
    try:
        answer = httpx.post(f"http://127.0.0.1:{port}/hooks/shop", content=body, headers=headers, timeout=30)
    except httpx.TransportError:
        return None
    return answer.status_code


def deliver(port: int, id: str, body: str) -> None:
    """It sends something until that is taken."""
    while send(port, id, body) != 202:
        time.sleep(0.1)
    print(f"{id} was taken")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def outcome(url: str) -> str:
    async with Engine(url, worker=False) as engine:
        told: str = await engine.get("order-7").result()
        return told


def main(url: str) -> None:
    port = free_port()
    processes = multiprocessing.get_context("spawn")
    first = processes.Process(target=keep_shop, args=(url, port))
    first.start()
    deliver(port, "msg-1", '{"type": "order.placed", "order": "7", "item": "tent"}')
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    print("the shop is killed")
    paid = '{"type": "order.paid", "order": "7", "cents": 12000}'
    print(f"msg-2 finds {'nobody' if send(port, 'msg-2', paid) is None else 'somebody'}")
    second = processes.Process(target=keep_shop, args=(url, port))
    second.start()
    deliver(port, "msg-2", paid)
    deliver(port, "msg-2", paid)  # some senders do
    forged = '{"type": "order.placed", "order": "8", "item": "yacht"}'
    print(f"a forged one is answered {send(port, 'msg-3', forged, secret=new_secret())}")
    print(asyncio.run(outcome(url)))
    second.terminate()
    second.join()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(f"sqlite:///{sys.argv[1]}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(f"sqlite:///{folder}/shop.db")
