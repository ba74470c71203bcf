"""Engines whose payloads are encrypted: nothing of them is in the database, and nothing else is accepted from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest
from engine_kit import Place, history, reaches, run, until
from sealed_kit import BOTH, CANARY, OLD, OTHER, codec, fails, hears, holds, much, waits

import perdure
from perdure import Engine, RunFailed, events
from perdure.api.lines import timeline
from perdure.storage.sealing import SealedStore

_ = hears  # it has to be defined


def engine(place: Place, keys: dict[str, bytes] = OLD, *, strict: bool = True, **options: Any) -> Engine:
    """An engine with these keys; none of them: with no codec at all."""
    if not keys:
        return place.engine(codec=(), **options)
    return place.engine(lambda store: SealedStore(store, codec(keys, strict=strict)), **options)


async def _everything(place: Place) -> None:
    """Use what there is, with one value."""
    async with engine(place, evict_after=0.05) as one:
        handle = await one.start(much(CANARY), id="much")
        await until(lambda: _asked(one))
        assert await handle.query("peek") == [CANARY]
        assert await handle.update("add", CANARY, timeout=60) == CANARY * 2
        await one.publish("sealed.news", {"what": CANARY}, key="n1")
        await one.schedules.create("nightly", waits(CANARY), every=86_400)
        await handle.send("word", CANARY)
        await until(lambda: _questions(one))
        (question,) = [asked async for asked in one.questions()]
        assert CANARY in question.text
        await one.answer(question.id, CANARY)
        assert await handle.result(timeout=60) == CANARY * 2
        assert [item.value async for item in handle.stream("out")] == [CANARY]
        with pytest.raises(RunFailed, match=CANARY):
            await one.run(fails(CANARY), id="fails")
        waiting = await one.start(waits(CANARY), id="paused", delay=3600)
        await waiting.send("unread", CANARY)
        await waiting.pause(CANARY)
        await one.get("paused").terminate(CANARY)
        assert (await one.get("paused").info()).status == "terminated"
        await until(lambda: _heard(one))


async def _asked(one: Engine) -> bool:
    return "message" in str(await one.get("much").info())


async def _questions(one: Engine) -> bool:
    return bool([asked async for asked in one.questions()])


async def _heard(one: Engine) -> bool:
    return bool([info async for info in one.runs(workflow="sealed.hears", status="completed")])


def test_nothing_of_a_payload_is_in_the_database(file: Place) -> None:
    run(lambda: _everything(file))
    assert file.path is not None
    assert holds(file.path, CANARY) == []
    assert holds(file.path, "sealed.much") != []  # names of workflows are there


def test_features_work_on_every_store(place: Place) -> None:
    run(lambda: _everything(place))


def test_a_run_with_a_key_that_is_missing_waits_for_it(place: Place) -> None:
    """No fallback: the reason names the key; and where the key is, the run goes on by itself."""

    async def main() -> None:
        async with engine(place) as one:
            await one.start(waits("x"), id="r")
            await reaches(one.get("r"), "waiting")
        async with engine(place, OTHER) as wrong, engine(place, worker=False) as client:
            await client.get("r").send("word", "w")
            handle = wrong.get("r")
            await reaches(handle, "blocked")
            info = await handle.info()
            assert info.reason is not None
            assert "'k1'" in info.reason
            with pytest.raises(perdure.SealedError, match="k1"):
                await wrong.start(waits("y"), id="new")
        async with engine(place, BOTH) as right:
            handle = right.get("r")
            assert await handle.result(timeout=60) == "wxx"
            kinds = {type(event) for event in await history(handle)}
            assert events.Sealed not in kinds

    run(main)


def test_without_keys_a_history_shows_its_heads(place: Place) -> None:
    async def main() -> None:
        async with engine(place) as one:
            assert await one.run(perdure_child("x"), id="r") == "xx"
        async with engine(place, {}, worker=False) as looking:
            seen = await history(looking.get("r"))
            assert all(isinstance(event, events.Sealed) for event in seen)
            lines = timeline(seen)
            assert lines[0].what == "run started"
            assert "step completed" in lines[1].what
            assert "learn" in lines[1].what
            assert "k1" in lines[0].detail

    run(main)


def test_a_worker_without_keys_blocks_what_is_sealed(place: Place) -> None:
    async def main() -> None:
        async with engine(place) as one:
            await one.start(waits("x"), id="r")
            await reaches(one.get("r"), "waiting")
        async with engine(place, {}) as other, engine(place, worker=False) as client:
            await client.get("r").send("word", "w")
            await reaches(other.get("r"), "blocked")
            assert "PERDURE_KEYS" in str((await other.get("r").info()).reason)

    run(main)


def test_a_database_can_go_over_to_encryption(place: Place) -> None:
    """With strict=False what is there can be read, and what is written is sealed; strict refuses the rest."""

    async def main() -> None:
        async with engine(place, {}) as plain:
            await plain.start(waits("x"), id="r")
            await plain.start(waits("y"), id="s")
            await reaches(plain.get("r"), "waiting")
            await reaches(plain.get("s"), "waiting")
        async with engine(place, strict=False) as going_over:
            handle = going_over.get("r")
            await handle.send("word", "w")
            assert await handle.result(timeout=60) == "wxx"
        async with engine(place) as strict:
            await strict.get("s").send("word", "v")
            await reaches(strict.get("s"), "blocked")
            info = await strict.get("s").info()
            assert "isn't sealed" in str(info.reason)
        async with engine(place, strict=False) as again:
            await again.get("s").resume()
            assert await again.get("s").result(timeout=60) == "vyy"

    run(main)


def test_lists_show_that_something_is_sealed(file: Place) -> None:
    """Without keys, and with others, instead of failing."""

    async def main() -> None:
        async with engine(file) as one:
            handle = await one.start(much(CANARY), id="much")
            await handle.send("word", CANARY)
            await until(lambda: _questions(one))
            await one.publish("nobody.hears", {"what": CANARY})
            paused = await one.start(waits(CANARY), id="paused", delay=3600)
            await paused.pause(CANARY)
            assert (await paused.info()).reason == CANARY
        for keys in ({}, OTHER):
            async with engine(file, keys, worker=False) as looking:
                (question,) = [asked async for asked in looking.questions()]
                assert "k1" in question.text
                (published,) = [one async for one in looking.publications("nobody.hears")]
                assert "k1" in published.payload["sealed"]
                info = await looking.get("paused").info()
                assert "k1" in str(info.reason)
                with pytest.raises(perdure.SealedError, match="k1"):
                    _ = [item async for item in looking.get("much").stream("out")]

    run(main)


@pytest.mark.parametrize("how", ["swapped", "moved", "changed", "in the clear"])
def test_rows_that_were_tampered_with_are_refused(file: Place, how: str) -> None:
    """Also if whoever did it has made the checksums right."""

    async def main() -> None:
        async with engine(file) as one:
            for id in ("a", "b"):
                await one.start(waits(id), id=id)
                await reaches(one.get(id), "waiting")
        assert file.path is not None
        _tamper(file.path, how)
        async with engine(file) as again:
            await reaches(again.get("b"), "waiting", "blocked")
            await again.get("b").send("word", "w")
            await reaches(again.get("b"), "blocked")
            reason = str((await again.get("b").info()).reason)
            assert "can't be opened" in reason or "sealed" in reason

    run(main)


def _tamper(path: Path, how: str) -> None:
    from perdure.codec.events import encode_event
    from perdure.storage.chain import links, origin

    database = apsw.Connection(str(path))
    keys = dict(database.execute("SELECT id, run FROM runs"))
    rows = [
        data
        for (data,) in database.execute("SELECT data FROM events WHERE run = ? ORDER BY seq", (keys["b"],))
    ]
    theirs = [
        data
        for (data,) in database.execute("SELECT data FROM events WHERE run = ? ORDER BY seq", (keys["a"],))
    ]
    if how == "swapped":
        rows[1] = theirs[1]
    elif how == "moved":
        rows[1], rows[2] = rows[2], rows[1]
    elif how == "changed":
        rows[1] = rows[1][:-10] + bytes([rows[1][-10] ^ 1]) + rows[1][-9:]
    else:
        forged = events.StepCompleted(
            started_at=0.0, at=0.0, step="sealed_kit.learn#1", attempt=1, result=b'"forged"'
        )
        rows[1] = encode_event(forged)
    made = links(origin("b", 1), rows)
    for seq, (data, link) in enumerate(zip(rows, made, strict=True), 1):
        database.execute(
            "UPDATE events SET data = ?, link = ? WHERE run = ? AND seq = ?", (data, link, keys["b"], seq)
        )
    database.execute("UPDATE runs SET chain = ? WHERE run = ?", (made[-1], keys["b"]))
    database.close()


def perdure_child(what: str) -> Any:
    from sealed_kit import child

    return child(what)


def test_a_start_is_recognised_and_inputs_cannot_be_guessed(file: Place) -> None:
    """The fingerprint of an input is hidden, and does its work all the same, whatever the newest key is."""

    async def main() -> None:
        async with engine(file) as one:
            await one.start(waits("x"), id="r")
        async with engine(file, BOTH) as two:
            await two.start(waits("x"), id="r")
            with pytest.raises(perdure.RunConflictError):
                await two.start(waits("y"), id="r")

    run(main)
    from perdure.runtime.runs import run_fingerprint

    assert file.path is not None
    database = apsw.Connection(str(file.path))
    ((kept,),) = database.execute("SELECT fingerprint FROM runs")
    database.close()
    call = waits("x")
    assert kept != run_fingerprint("sealed.waits", call.input(1 << 20))  # type: ignore[attr-defined]
    call.close()
