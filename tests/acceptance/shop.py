"""The program that test_exactly_once.py kills: steps on another database, and steps that mustn't happen twice.

    python shop.py URL SHOP [--die-before N]

SHOP is the shop's own database: a path, or a PostgreSQL connection string. With --die-before the process kills
itself when it is about to hand the outcome of its N-th step to the engine's store: what the step did is committed
in the shop, and the engine knows nothing of it.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

import psycopg

import perdure
from perdure import Done, Engine, events, step, workflow
from perdure.codec.events import decode_event
from perdure.runtime.journal import Journal

SHOP = sys.argv[2] if len(sys.argv) > 2 else ""
MAILED = os.path.join(os.path.dirname(os.environ.get("LEDGER", "/tmp/x")), "mailed.txt")


def open_shop() -> Any:
    if "://" in SHOP or "=" in SHOP:
        return psycopg.connect(SHOP)
    return sqlite3.connect(SHOP, timeout=30)


def write(connection: Any, item: str) -> None:
    mark = "%s" if isinstance(connection, psycopg.Connection) else "?"
    connection.execute(
        f"INSERT INTO sold (run, item) VALUES ({mark}, {mark})", [perdure.step_info().run_id, item]
    )


@step(transaction=open_shop)
def sell(connection: Any, item: str) -> str:
    write(connection, item)
    return f"sold {item}"


@step(transaction=lambda: psycopg.AsyncConnection.connect(SHOP))
async def sell_async(connection: psycopg.AsyncConnection[Any], item: str) -> str:
    await connection.execute(
        "INSERT INTO sold (run, item) VALUES (%s, %s)", [perdure.step_info().run_id, item]
    )
    return f"sold {item}"


def was_mailed(to: str) -> Done[str] | None:
    with open(MAILED, "a+") as file:
        file.seek(0)
        return Done(f"mailed {to}") if f"{perdure.step_info().run_id} {to}\n" in file.readlines() else None


@step(once=True, verify=was_mailed)
def mail(to: str) -> str:
    file = os.open(MAILED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, f"{perdure.step_info().run_id} {to}\n".encode())
    os.fsync(file)
    os.close(file)
    return f"mailed {to}"


@workflow
async def order(items: list[str], with_async: bool) -> list[str]:
    done = [await sell(item) for item in items]
    done += await asyncio.gather(*(sell(f"{item} again") for item in items))
    if with_async:
        done += [await sell_async(f"{item} async") for item in items]
    return [*done, await mail("ann"), await mail("bob")]


def die_before(number: int) -> None:
    """Kill this process when the outcome of its n-th step is about to be recorded."""
    left = [number]
    submit: Callable[..., None] = Journal.submit

    def deadly(self: Journal, append: Any, *rest: Any) -> None:
        left[0] -= sum(isinstance(decode_event(data), events.StepCompleted) for data in append.events)
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        submit(self, append, *rest)

    Journal.submit = deadly  # type: ignore[method-assign]


async def serve(url: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Engine(url):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("shop")
    parser.add_argument("--die-before", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    if arguments.die_before:
        die_before(arguments.die_before)
    asyncio.run(serve(arguments.url))
