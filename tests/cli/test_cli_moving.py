"""`perdure move`, `export` and `import`."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import flows
import pytest

import perdure
from perdure.storage.urls import shown_url

PROGRAM = "from perdure.cli import main; main()"
SOAK = os.environ.get("PERDURE_SOAK") == "1"


@pytest.fixture
def family(cli):
    """A run that has ended, with a child; and one that waits."""

    async def populate(engine):
        async with perdure.Engine(cli.url) as worker:
            await worker.run(flows.parent("x"), id="family")
            await worker.start(flows.wait(timedelta(hours=1)), id="open")
            while not (await worker.get("open").info()).waiting_for:
                await perdure.sleep(0.01)

    cli.within(populate)
    return cli


def there(cli, name="there.db"):
    return f"sqlite:///{cli.folder / name}"


def test_move_takes_everything_over(family):
    told = family("move", "--from", family.url, "--to", there(family), url=None)
    assert told.code == 0, told.err
    counts = {line.split()[0]: line.split()[-2:] for line in told.out.splitlines()[1:]}
    assert counts["runs"] == ["3", "3"]
    assert counts["of"] == ["1", "1"]
    assert counts["digest"][0] == counts["digest"][1]
    assert "Moved. Give sqlite:///" in told.err
    old = {run["id"]: run["status"] for run in family("ls", "--json").json}
    new = {run["id"]: run["status"] for run in family("ls", "--json", url=there(family)).json}
    assert (old["open"], new["open"], new["family"]) == ("terminated", "waiting", "completed")
    assert family("show", "open").out.count("it was moved to sqlite:///") >= 1
    assert "were moved to" in family.fails("run", "flows:echo", "--input", '"x"')
    again = family("move", "--from", family.url, "--to", there(family), url=None)
    assert (again.code, again.out) == (0, "")
    assert "An earlier attempt" in again.err
    assert "was moved to" in family.fails(
        "move", "--from", family.url, "--to", there(family, "third.db"), url=None
    )
    (run,) = family(
        "run", "flows:parent", "--input", '"x"', "--id", "family", url=there(family)
    ).out.splitlines()
    assert run == '"xfine"'


def test_move_says_what_is_wrong(family):
    assert "no database at" in family.fails("move", "--from", there(family), "--to", family.url, url=None)
    assert not Path(family.folder / "there.db").exists()
    assert "same database" in family.fails("move", "--from", family.url, "--to", family.url, url=None)
    assert "within one process" in family.fails("move", "--from", family.url, "--to", "memory:", url=None)
    family("run", "flows:echo", "--input", '"x"', "--id", "open", url=there(family))
    assert "these ids already: open" in family.fails(
        "move", "--from", family.url, "--to", there(family), url=None
    )
    assert "No move is under way" in family.fails(
        "move", "--from", family.url, "--to", there(family), "--give-up", url=None
    )


def test_export_and_import(family):
    told = family("export", "family", "--out", "family.jsonl", "--with-children")
    assert "2 runs are written to family.jsonl" in told.err
    lines = [json.loads(line) for line in Path("family.jsonl").read_text().splitlines()]
    assert lines[0] == {"perdure_export": 1, "runs": 2}
    assert lines[-1]["part"] == "end"
    assert lines[-1]["lines"] == len(lines) - 1
    assert "2 runs are imported" in family("import", "family.jsonl", url=there(family)).err
    assert (
        family("show", "family", "--json", url=there(family)).json == family("show", "family", "--json").json
    )
    assert "has a run 'family' already" in family.fails("import", "family.jsonl", url=there(family))
    (child,) = [run["id"] for run in family("ls", "--json").json if run["id"] not in ("family", "open")]
    assert family("import", "family.jsonl", "--id", "copy").code == 2  # the child's id is taken here
    assert family("export", "family").out.count("\n") < len(lines)
    Path("alone.jsonl").write_text(family("export", "family").out)
    assert family("import", "alone.jsonl", "--id", "copy").code == 0
    assert family("show", "copy", "--json").json["status"] == "completed"
    assert child
    assert "No run has the id 'nobody'" in family.fails("export", "nobody")


def test_an_imported_live_run_is_paused_unless_it_is_to_resume(family):
    family("export", "open", "--out", "open.jsonl")
    told = family("import", "open.jsonl", url=there(family))
    assert "paused, as the original may go on elsewhere" in told.err
    assert family("show", "open", "--json", url=there(family)).json["status"] == "paused"
    family("resume", "open", url=there(family))
    assert family("show", "open", "--json", url=there(family)).json["status"] == "waiting"
    family("import", "open.jsonl", "--resume", url=there(family, "third.db"))
    assert family("show", "open", "--json", url=there(family, "third.db")).json["status"] == "waiting"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text.replace('"part":"event"', '"part":"evemt"', 1), "isn't as it was written"),
        (lambda text: "".join(text.splitlines(keepends=True)[:-1]), "isn't as it was written"),
        (lambda text: text.replace('"perdure_export":1', '"perdure_export":2'), "version 2"),
        (lambda text: "hello\n", "no export"),
        (lambda text: "", "no export"),
    ],
)
def test_a_damaged_file_is_refused(family, damage, told):
    family("export", "family", "--out", "f.jsonl")
    file = Path("f.jsonl")
    file.write_text(damage(file.read_text()))
    assert told in family.fails("import", "f.jsonl", url=there(family))


def test_a_file_that_isnt_there(cli):
    assert "can't be read" in cli.fails("import", "nothing.jsonl")


def test_a_killed_move_is_completed_by_the_next(cli):
    """kill -9 of the command, later and later until one gets through."""

    async def populate(engine):
        await engine.start_many(
            [flows.wait(timedelta(hours=1)) for _ in range(2000)], ids=[f"w{n}" for n in range(2000)]
        )

    cli.within(populate)
    command = [sys.executable, "-c", PROGRAM, "move", "--from", cli.url, "--to", there(cli)]
    killed = 0
    for attempt in itertools.count():
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
        try:
            process.wait(0.25 + 0.07 * attempt if SOAK else 0.3 * 1.2**attempt)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
            continue
        assert process.returncode == 0, process.communicate()
        process.communicate()
        break
    assert killed
    old = cli("ls", "--json", "--limit", "3000").json
    new = cli("ls", "--json", "--limit", "3000", url=there(cli)).json
    assert {run["status"] for run in old} == {"terminated"}
    assert {run["status"] for run in new} == {"queued"}
    assert len(old) == len(new) == 2000


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "postgresql://me:secret@host:5432/db?sslmode=require",
            "postgresql://me@host:5432/db?sslmode=require",
        ),
        ("postgresql://host/db?password=secret&user=me", "postgresql://host/db?user=me"),
        ("postgresql:///db?host=/run", "postgresql:///db?host=/run"),
        ("sqlite:////var/a.db", "sqlite:////var/a.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert shown_url(url) == shown
