"""`perdure prune`, `perdure retention`, `perdure archive`: old runs go, and can be read in their archive."""

from __future__ import annotations

import asyncio

import flows
import pytest

import perdure
from perdure.runtime import sweeping


@pytest.fixture
def family(cli):
    """A run with a child that have ended, and one that has failed."""

    async def populate(engine):
        async with perdure.Engine(cli.url) as worker:
            await worker.run(flows.parent("x"), id="family")
            await worker.run(flows.echo("y"), id="single")

    cli.within(populate)
    return cli


def there(cli):
    return {run["id"] for run in cli("ls", "--json").json}


def test_nothing_goes_without_a_rule(family):
    before = there(family)
    told = family("retention")
    assert told.code == 0
    assert "every run stays" in told.err
    assert "1 run removed" not in family("prune", "--older-than", "30d").err
    assert there(family) == before


def test_prune_tells_before_it_removes(family):
    before = there(family)
    told = family("prune", "--older-than", "0s", "--workflow", "*echo", "--dry-run")
    assert told.code == 0, told.err
    assert "1 run would be removed" in told.err
    assert there(family) == before
    told = family("prune", "--older-than", "0s", "--workflow", "*echo", "--json")
    assert told.json["runs"] == 1
    assert there(family) == before - {"single"}
    assert "no length of time" in family.fails("prune", "--older-than", "soon")
    assert "have ended" in family.fails("prune", "--older-than", "1d", "--status", "running")


def test_an_archive_can_be_read_and_restored(family):
    before = there(family)
    shown = family("show", "family", "--json").json
    told = family("prune", "--older-than", "0s", "--archive", "old")
    assert told.code == 0, told.err
    assert there(family) == set()
    listed = family("archive", "ls", "old", "--json", url=None).json
    assert {run["id"] for run in listed} == before
    again = family("archive", "show", "old", "family", "--json", url=None).json
    assert again["history"] == shown["history"]
    assert family("show", "family", "--archive", "old", url=None).code == 0
    (file,) = [run["file"] for run in listed if run["id"] == "family"]
    assert family("show", "family", "--archive", f"old/{file}", url=None).code == 0
    assert "No run has the id 'nobody'" in family.fails("archive", "show", "old", "nobody", url=None)
    assert "no archive at" in family.fails("archive", "ls", "nowhere", url=None)
    assert family("archive", "restore", "old", "family").code == 0
    assert family("show", "family", "--json").json["history"] == shown["history"]
    assert "nothing replaces it" in family.fails("archive", "restore", "old", "family")


def test_workers_tell_their_rules(cli, monkeypatch):
    monkeypatch.setattr(sweeping, "REST", 0.05)
    keeps = perdure.Retention(3600, workflow="flows.*", status="failed")

    async def populate(engine):
        async with perdure.Engine(cli.url, retention=[keeps]) as worker:
            while (state := await worker.retention()) is None or not state.rules:
                await asyncio.sleep(0.02)

    cli.within(populate)
    told = cli("retention")
    assert "runs of flows.* that failed go after 1 hours" in told.out
    assert cli("retention", "--json").json["working"] is False


def test_disk_tells_what_takes_room(family):
    told = family("disk", "--json").json
    assert told["runs"] == 3
    assert told["tables"]["events"] > 0
    assert {one["workflow"] for one in told["workflows"]} == {"flows.parent", "flows.echo"}
    assert sum(told["tables"].values()) <= told["bytes"]
    assert "about 3" in family("disk").out


def test_an_old_file_is_written_anew_once(family):
    """After that it shrinks in steps."""
    import apsw

    db = apsw.Connection(str(family.folder / "runs.db"))
    db.pragma("auto_vacuum", 0)
    db.execute("VACUUM").fetchall()
    db.close()
    assert family("disk", "--json").json["shrinks"] is False
    assert family("vacuum").code == 0
    assert family("disk", "--json").json["shrinks"] is True
    assert "given back" in family("vacuum").err
    assert "Only PostgreSQL" in family.fails("partition", "--by", "month")
