"""Bank transfers that happen exactly once: the booking and its record are one transaction of the bank's own database.

    python examples/bank_transfer.py

Twenty transfers among three accounts; the process is killed three times, always between the bank's commit and the
engine's record, the worst moment there is. Then the books are checked: no transfer is missing, none is booked twice.
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

import apsw

import perdure
from perdure import Engine, step, workflow

ACCOUNTS = ("ada", "grace", "linus")
KILLS = 3


def bank() -> apsw.Connection:
    connection = apsw.Connection("bank.db")
    connection.set_busy_timeout(5_000)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, cents INTEGER CHECK (cents >= 0));"
        "CREATE TABLE IF NOT EXISTS bookings (source TEXT, target TEXT, cents INTEGER);"
        "INSERT OR IGNORE INTO accounts VALUES ('ada', 10000), ('grace', 10000), ('linus', 10000);"
    )
    return connection


def number_from(connection: apsw.Connection, question: str, *values: str) -> int:
    row = connection.execute(question, values).fetchone()
    assert row is not None
    return int(row[0])


@step(transaction=bank)
def book(connection: apsw.Connection, source: str, target: str, cents: int) -> bool:
    """Both sides of a transfer. False if there isn't enough."""
    held = number_from(connection, "SELECT cents FROM accounts WHERE name = ?", source)
    if held < cents:
        return False
    connection.execute("UPDATE accounts SET cents = cents - ? WHERE name = ?", (cents, source))
    connection.execute("UPDATE accounts SET cents = cents + ? WHERE name = ?", (cents, target))
    connection.execute("INSERT INTO bookings VALUES (?, ?, ?)", (source, target, cents))
    connection.set_wal_hook(dies_of_it)
    return True


def dies_of_it(connection: apsw.Connection, database: str, pages: int) -> int:
    """SQLite calls this when a commit is done: three times the process ends then, and the engine knows nothing."""
    booked = number_from(connection, "SELECT count(*) FROM bookings")
    kills = len(list(Path().glob("kill-*")))
    if kills < KILLS and booked % 5 == 0:
        Path(f"kill-{kills}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return apsw.SQLITE_OK


@workflow
async def transfers(count: int) -> int:
    booked = 0
    for number in range(count):
        source, target = ACCOUNTS[number % 3], ACCOUNTS[(number + 1) % 3]
        booked += await book(source, target, 1000 + number)
    return booked


def works() -> None:
    async def drive() -> None:
        async with Engine("sqlite:///runs.db") as engine:
            print("  booked:", await engine.run(transfers(20), id="transfers"))

    asyncio.run(drive())


def main() -> None:
    perdure.log.info("in %s", Path.cwd())
    while True:
        process = multiprocessing.get_context("spawn").Process(target=works)
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        print("  kill -9")
    connection = bank()
    rows = number_from(connection, "SELECT count(*) FROM bookings")
    cents = number_from(connection, "SELECT sum(cents) FROM bookings")
    total = number_from(connection, "SELECT sum(cents) FROM accounts")
    wanted = sum(1000 + number for number in range(20))
    print(f"{rows} bookings of {cents} cents, as it should be: {(rows, cents) == (20, wanted)}")
    print(f"all accounts together: {total} cents, as before: {total == 30_000}")


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    main()
