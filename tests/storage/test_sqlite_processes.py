"""Several processes on one file, some of which die, and a disk that is truly full."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import apsw
import pytest

from perdure.storage.sqlite import SqliteStore
from perdure.testing.conformance.bench import Bench

SCRIPT = Path(__file__).with_name("appender.py")


def start(path: Path, name: str, runs: int, events: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(path), name, str(runs), str(events)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check(path: Path, lines: list[str]) -> None:
    """Everything that was acknowledged is there, once."""
    latest: Counter[str] = Counter()
    mails: list[str] = []
    for line in lines:
        match line.split():
            case ["event", name, n]:
                assert int(n) == max(latest[name], 1) + 1
                latest[name] = int(n)
            case ["mail", text]:
                mails.append(text)
            case other:
                raise AssertionError(other)

    async def run() -> None:
        bench = Bench(lambda: SqliteStore(path))
        await bench.open()
        for name, n in latest.items():
            row = await bench.row(name)
            assert row.seq >= n
            owner = name.rpartition("-")[0]
            assert list(await bench.history(row)) == [
                b"first",
                *(f"{owner}-{n}".encode() for n in range(2, row.seq + 1)),
            ]
        found = Counter(data.decode() for data in await bench.inbox(await bench.row("shared")))
        assert all(found[text] == 1 for text in mails)
        assert (await bench.row("shared")).mail == found.total() == len(found)
        await bench.close()

    asyncio.run(run())
    connection = apsw.Connection(str(path))
    assert connection.pragma("integrity_check") == "ok"
    connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a run that all processes send to."""
    path = tmp_path / "test.db"

    async def run() -> None:
        bench = Bench(lambda: SqliteStore(path))
        await bench.open()
        await bench.make("shared")
        await bench.close()

    asyncio.run(run())
    return path


def test_processes_share_a_file(path: Path) -> None:
    processes = [start(path, name, 4, 100) for name in ("a", "b", "c")]
    outputs = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert [len(lines) for lines in outputs] == [4 * 110] * 3
    for lines in outputs:
        check(path, lines)


@pytest.mark.parametrize("after", [1, 300, 700])
def test_a_killed_process_loses_nothing(path: Path, after: int) -> None:
    """Another process on the file goes on as if nothing had happened."""
    victim, other = start(path, "victim", 8, 100_000), start(path, "other", 2, 50)
    assert victim.stdout is not None
    lines = [victim.stdout.readline() for _ in range(after)]
    victim.send_signal(signal.SIGKILL)
    lines += victim.stdout.readlines()  # not communicate(), which forgets what readline() has buffered
    victim.stdout.close()
    victim.wait(timeout=60)
    if not lines[-1].endswith("\n"):  # killed within a print
        lines.pop()
    others = other.communicate(timeout=60)[0].splitlines()
    assert other.returncode == 0
    check(path, [line.rstrip() for line in lines])
    check(path, others)


FULL_DISK = r"""
import asyncio, os, sys
from perdure.errors import StoreUnavailableError
from perdure.storage.sqlite import SqliteStore
from perdure.testing.conformance.bench import Bench

async def main(folder):
    ballast = os.path.join(folder, "ballast")
    with open(ballast, "wb") as file:
        file.write(b"x" * 400_000)
    bench = Bench(lambda: SqliteStore(os.path.join(folder, "test.db")))
    await bench.open()
    row = await bench.make("r", owner=await bench.worker())
    acknowledged = [b"first"]
    message = ""
    while not message:
        event = os.urandom(10_000)
        try:
            await bench.append(row, event, expected=len(acknowledged))
            acknowledged.append(event)
        except StoreUnavailableError as error:
            message = str(error)
    assert "disk is full" in message, message
    assert len(acknowledged) > 10
    for _ in range(3):
        try:
            await bench.append(row, os.urandom(200_000), expected=len(acknowledged))
            raise AssertionError("the disk should be full")
        except StoreUnavailableError:
            pass
    assert list(await bench.history(row)) == acknowledged
    os.remove(ballast)
    await bench.append(row, b"after", expected=len(acknowledged))
    assert list(await bench.history(row)) == [*acknowledged, b"after"]
    await bench.close()
    bench = Bench(lambda: SqliteStore(os.path.join(folder, "test.db")))
    await bench.open()
    assert list(await bench.history(row)) == [*acknowledged, b"after"]
    await bench.close()

asyncio.run(main(sys.argv[1]))
"""


def can_mount() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a small file system")
def test_a_full_disk(tmp_path: Path) -> None:
    """A real one, of 2 MB: a clear error, nothing lost, and work goes on when there is room again."""
    mount_and_run = 'mount -t tmpfs -o size=2m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", mount_and_run, "sh", str(tmp_path), sys.executable, FULL_DISK]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ.copy()
    )
    assert done.returncode == 0, done.stderr
