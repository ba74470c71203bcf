"""`perdure blobs`, and what other commands show of events that are blobs."""

from __future__ import annotations

import flows

import perdure


def test_blobs_are_counted_shown_and_removed(cli, tmp_path, monkeypatch):
    folder = tmp_path / "blobs"
    monkeypatch.setenv("PERDURE_BLOBS", "")  # so that what the command sets is taken back

    async def populate(engine):
        async with perdure.Engine(cli.url, blobs=perdure.Blobs(str(folder), above=4096)) as worker:
            await worker.run(flows.echo("y" * 5000), id="large")
            store = worker._blobs
            await store._kept("large", b"x" * 5000)
            await store._kept("gone", b"x" * 5000)

    cli.within(populate)
    assert "Where are the blobs?" in cli.fails("blobs")
    assert "which can't be read" in cli("show", "large").err
    told = cli("blobs", "--place", str(folder), "--json").json
    assert (told["removed"], told["kept"]) == (0, 0)
    assert told["young"] >= 3
    assert "yyyyy" in cli("show", "large").out
    told = cli("blobs", "--grace", "0s", "--json").json
    assert told["removed"] == 2
    assert told["kept"] >= 1
    assert "0 removed (0 bytes)" in cli("blobs", "--grace", "0s").err
