"""`perdure keys` and `perdure erase`; and what other commands show of what they have no key for."""

from __future__ import annotations

import asyncio
import os

import pytest

import perdure
from perdure import Encryption, KeyRing

CANARY = "canary-5d1c"


@perdure.step
async def keeps(what: str) -> str:
    return what * 2


@perdure.workflow
async def kept(what: str) -> str:
    return await keeps(what)


@pytest.fixture
def ring(tmp_path, monkeypatch):
    """A file of keys with one key, which the environment names."""
    path = tmp_path / "keys.txt"
    monkeypatch.setenv("PERDURE_KEYS", f"@{path}")
    return path


def drive(cli, id, **options):
    async def main() -> None:
        async with perdure.Engine(cli.url) as worker:
            await worker.run(kept(CANARY), id=id, **options)

    asyncio.run(main())


def test_keys_are_made_listed_and_rotated(cli, ring, monkeypatch):
    assert "the newest key is first" in cli("keys", "new", "--id", "first", "--file", str(ring)).err
    assert ring.stat().st_mode & 0o077 == 0
    drive(cli, "r")
    drive(cli, "s", subject="customer-42")
    before = cli("keys", "list", "--json").json
    assert (before["newest"], before["here"]) == ("first", ["first"])
    assert before["keys"]["first"] > 0
    cli("keys", "new", "--id", "second", "--file", str(ring))
    assert "sealed anew with second" in cli("keys", "rotate").err
    after = cli("keys", "list", "--json").json["keys"]
    assert after["first"] == 0
    assert after["second"] == before["keys"]["first"]
    assert "newest" in cli("keys", "list").out
    assert CANARY in cli("show", "r").out
    monkeypatch.setenv("PERDURE_KEYS", KeyRing.from_file(ring).newest + ":" + "A" * 43)
    told = cli("show", "r")
    assert CANARY not in told.out
    assert "second" in told.out
    assert "run started" in told.out


def test_without_keys_there_are_heads_only(cli, ring, monkeypatch):
    cli("keys", "new", "--file", str(ring))
    drive(cli, "r")
    monkeypatch.delenv("PERDURE_KEYS")
    shown = cli("show", "r").out
    assert "step completed" in shown
    assert CANARY not in shown
    assert "kept" in cli("ls").out
    events = cli("show", "r", "--json").json["history"]
    assert [event["kind"] for event in events] == ["sealed"] * 3
    assert [event["what"] for event in events] == ["run_started", "step_completed", "run_completed"]
    assert cli("check").code == 0
    assert "set PERDURE_KEYS" in cli("keys", "rotate").err


def test_a_subject_is_erased(cli, ring):
    cli("keys", "new", "--file", str(ring))
    drive(cli, "r", subject="customer-42")
    assert "is destroyed" in cli("erase", "--subject", "customer-42", "--yes").err
    assert "erased before" in cli("erase", "--subject", "customer-42", "--yes").err
    shown = cli("show", "r").out
    assert CANARY not in shown
    assert "destroyed" in shown
    assert cli("check").code == 0


def test_a_database_that_goes_over_to_encryption(cli, ring, monkeypatch):
    """What was in the clear is sealed by a rotation."""
    file, _ = ring, cli("keys", "new", "--id", "k", "--file", str(ring))
    monkeypatch.delenv("PERDURE_KEYS")
    drive(cli, "r")
    monkeypatch.setenv("PERDURE_KEYS", f"@{file}")
    monkeypatch.setenv("PERDURE_KEYS_STRICT", "0")
    assert "sealed anew with k" in cli("keys", "rotate").err
    monkeypatch.delenv("PERDURE_KEYS_STRICT")
    assert set(cli("keys", "list", "--json").json["keys"]) == {"k"}
    assert CANARY in cli("show", "r").out
    assert cli("check").code == 0

    async def again() -> str:
        async with perdure.Engine(cli.url, codec=Encryption(KeyRing.from_file(file))) as engine:
            return await engine.run(kept(CANARY), id="r")

    assert asyncio.run(again()) == CANARY * 2


def test_verify_replays_what_is_encrypted(cli, ring, monkeypatch):
    """With the keys; without them it says which are missing."""
    import changing

    cli("keys", "new", "--id", "k", "--file", str(ring))

    async def main() -> None:
        async with perdure.Engine(cli.url) as engine:
            await engine.start(changing.parcel(["pen"]), id="p-1")
            while await engine.get("p-1").status() != "waiting":
                await asyncio.sleep(0.02)

    asyncio.run(main())
    assert cli("verify", "changing").code == 0
    monkeypatch.delenv("PERDURE_KEYS")
    told = cli("verify", "changing")
    assert told.code != 0
    assert "PERDURE_KEYS" in told.out + told.err


@pytest.mark.parametrize(
    "command",
    [
        ["pause", "r", "--reason", "lunch"],
        ["resume", "r"],
        ["cancel", "r"],
        ["terminate", "r", "--reason", "enough"],
        ["send", "r", "word", '"w"'],
        ["retry", "r"],
    ],
    ids=lambda command: command[0],
)
def test_without_keys_nothing_is_written_to_sealed_runs(cli, ring, monkeypatch, command):
    cli("keys", "new", "--file", str(ring))
    asyncio.run(_failed(cli.url) if command[0] == "retry" else _delayed(cli.url))
    before = cli("show", "r", "--json").json["history"]
    monkeypatch.delenv("PERDURE_KEYS")
    told = cli(*command)
    assert told.code != 0
    assert "PERDURE_KEYS" in told.err
    monkeypatch.setenv("PERDURE_KEYS", f"@{ring}")
    assert cli("show", "r", "--json").json["history"] == before


@perdure.workflow
async def breaks(what: str) -> None:
    raise ValueError(what)


async def _failed(url: str) -> None:
    async with perdure.Engine(url) as worker:
        with pytest.raises(perdure.RunFailed):
            await worker.run(breaks(CANARY), id="r")


async def _delayed(url: str) -> None:
    async with perdure.Engine(url) as worker:
        await worker.start(kept(CANARY), id="r", delay=3600)


def test_keys_of_blobs_are_listed_and_rotated(cli, ring, monkeypatch, tmp_path):
    """Afterwards the old key isn't needed by anything."""
    text = CANARY + os.urandom(300_000).hex()
    monkeypatch.setenv("PERDURE_BLOBS", str(tmp_path / "blobs"))
    cli("keys", "new", "--id", "first", "--file", str(ring))

    async def main() -> None:
        async with perdure.Engine(cli.url) as worker:
            await worker.run(kept(text), id="r")

    asyncio.run(main())
    before = cli("keys", "list", "--json").json["keys"]
    assert set(before) == {"first"}
    monkeypatch.delenv("PERDURE_KEYS")
    assert cli("keys", "list", "--json").json["keys"] == before
    monkeypatch.setenv("PERDURE_KEYS", f"@{ring}")
    cli("keys", "new", "--id", "second", "--file", str(ring))
    monkeypatch.delenv("PERDURE_BLOBS")
    assert "set PERDURE_BLOBS" in cli("keys", "list").out
    told = cli("keys", "rotate")
    assert told.code != 0
    assert "3 events lie in a blob store, and keep their keys: set PERDURE_BLOBS" in told.err
    monkeypatch.setenv("PERDURE_BLOBS", str(tmp_path / "blobs"))
    assert cli("keys", "rotate").code == 0
    ring.write_text(ring.read_text().splitlines()[-1] + "\n")
    assert cli("keys", "list", "--json").json["keys"] == {"second": sum(before.values())}
    assert CANARY in cli("show", "r").out
    assert cli("check").code == 0
    saved = {path: path.read_bytes() for path in (tmp_path / "blobs").rglob("*") if path.is_file()}
    for path in saved:
        path.unlink()
    assert "missing or damaged" in cli("keys", "list").out
    cli("keys", "new", "--id", "third", "--file", str(ring))
    told = cli("keys", "rotate")
    assert told.code != 0
    assert (
        "3 events are blobs that are missing or damaged, and stay as they are. The first: Run 'r'" in told.err
    )
    for path, data in saved.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert cli("keys", "rotate").code == 0
    assert CANARY in cli("show", "r").out
