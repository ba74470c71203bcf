"""Behind pgbouncer in transaction mode: no prepared statements, no LISTEN, and everything works all the same."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import perdure
from helpers.postgres import Server, _free_port
from perdure import Engine, step, workflow
from perdure.storage.postgres import PostgresStore
from perdure.testing.conformance import CHECKS, Check, run_check, schedules, watching

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
pytestmark = pytest.mark.skipif(
    PGBOUNCER is None, reason="pgbouncer isn't installed (apt-get install pgbouncer)"
)

SOAK = os.environ.get("PERDURE_SOAK") == "1"

#: Some of the promises; PERDURE_SOAK=1 takes all. Hints don't get through, so nothing is told.
HEARING = {*watching.CHECKS, schedules.others_hear_of_changes_to_schedules}  # no hint gets through it
SOME = [check for place, check in enumerate(CHECKS) if check not in HEARING and (SOAK or place % 8 == 0)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def pooler(server: Server) -> Iterator[int]:
    """The port of a pgbouncer that gives every transaction any of two server connections."""
    assert PGBOUNCER is not None
    port = _free_port()
    folder = server.folder / "pgbouncer"
    folder.mkdir()
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"""
[databases]
* = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
server_idle_timeout = 2
logfile = {folder}/log
pidfile = {folder}/pid
ignore_startup_parameters = extra_float_digits
"""
    )
    config.write_text(config.read_text().replace("* = host", "* = user=postgres host"))
    user = None
    if os.geteuid() == 0:
        user = "nobody"
        entry = pwd.getpwnam(user)
        for path in (folder, config):
            os.chown(path, entry.pw_uid, entry.pw_gid)
        Path(server.folder).chmod(0o755)
    process = subprocess.Popen([PGBOUNCER, "-q", str(config)], user=user, cwd="/", stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def test_it_is_between(server: Server, pooler: int) -> None:
    """The test would be worth nothing if statements were prepared all the same."""
    with psycopg.connect(server.url("postgres", port=pooler), autocommit=True) as connection:
        pids = {connection.execute("SELECT pg_backend_pid()").fetchone() for _ in range(3)}
        assert pids


@pytest.mark.parametrize("check", SOME, ids=lambda check: check.__name__)
def test_promises_hold_behind_it(check: Check, server: Server, pooler: int) -> None:
    url = server.url(server.new_database(), port=pooler)
    run_check(check, lambda: PostgresStore(url))


@step
async def twice(number: int) -> int:
    return 2 * number


@workflow
async def doubles(length: int) -> int:
    total = 0
    for number in range(length):
        total += await twice(number)
    return total + await perdure.receive("more", int)


def test_an_engine_works_behind_it(server: Server, pooler: int) -> None:
    async def main() -> None:
        url = server.url(server.new_database(), port=pooler)
        async with Engine(url) as engine, Engine(url, worker=False) as client:
            handles = await client.start_many([doubles(20) for _ in range(20)])
            for handle in handles:
                await handle.send("more", 1)
            assert await asyncio.gather(*(handle.result(timeout=60) for handle in handles)) == [381] * 20
            assert engine

    asyncio.run(main())
