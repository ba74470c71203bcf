"""Things people do to a database: each is answered by a sentence, never by a traceback or a damaged file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import apsw
import pytest
from world import World

pytestmark = pytest.mark.acceptance

RUN = ("run", "program:echo", "--input", '"hi"', "--id", "hi")


def refused(world: World, *command: str) -> str:
    """What a command that can't work says on stderr."""
    process = world.perdure(*command)
    assert process.output() == ""
    told = process.log.read_text()
    assert process.popen.returncode == 2, told
    assert "Traceback" not in told
    assert told.startswith("Error: ")
    return told


def test_a_file_of_garbage_is_left_untouched(world: World) -> None:
    garbage = b"this is no database at all, but somebody's thesis\n" * 100
    world.database.write_bytes(garbage)
    for command in (RUN, ("ls",), ("worker", "program")):
        assert "isn't a SQLite database" in refused(world, *command)
    assert world.database.read_bytes() == garbage


def test_somebody_elses_database_is_left_untouched(world: World) -> None:
    connection = apsw.Connection(str(world.database))
    connection.execute("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
    connection.close()
    before = world.database.read_bytes()
    assert "not one of Perdure's" in refused(world, *RUN)
    assert world.database.read_bytes() == before


def test_a_directory_is_no_database(world: World) -> None:
    world.database.mkdir()
    assert "directory" in refused(world, *RUN)
    assert "directory" in refused(world, "ls")


def test_a_folder_that_does_not_exist(world: World) -> None:
    world.database = world.folder / "nowhere" / "runs.db"
    assert "directory exists" in refused(world, *RUN)
    assert "There is no database" in refused(world, "ls")


def test_a_read_only_file_system(world: World, tmp_path: Path) -> None:
    world.perdure(*RUN).output()
    disk = tmp_path / "read-only"
    disk.mkdir()
    bound = subprocess.run(
        ["mount", "--bind", "-o", "ro", str(world.folder), str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if bound.returncode != 0:
        pytest.skip(f"can't mount read-only here: {bound.stderr.strip()}")
    try:
        world.database = disk / "runs.db"
        told = refused(world, "run", "program:echo", "--input", '"other"')
        assert "read-only" in told
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_read_only_file(world: World) -> None:
    world.perdure(*RUN).output()
    world.database.chmod(0o444)
    assert "read-only" in refused(world, "run", "program:echo", "--input", '"other"')


def test_a_truncated_database_is_told(world: World) -> None:
    world.perdure(*RUN).output()
    whole = world.database.read_bytes()
    assert len(whole) > 8192
    world.database.write_bytes(whole[:4096])
    told = refused(world, "ls")
    assert "damaged" in told


def test_a_newer_schema_is_refused(world: World) -> None:
    world.perdure(*RUN).output()
    connection = apsw.Connection(str(world.database))
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    assert "Upgrade Perdure" in refused(world, *RUN)
