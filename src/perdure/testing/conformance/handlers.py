"""Updates and inquiries: what is asked of runs, and how the answers come back."""

from __future__ import annotations

from perdure.storage.effects import SetUpdate, UpdateState
from perdure.storage.inquiries import TAKE_MAX, NewInquiry
from perdure.storage.records import Delivery, Stale
from perdure.storage.updates import UpdateRow
from perdure.testing.conformance.bench import NOW, WORKFLOW, Bench, Check


async def _look(bench: Bench, update: str, run_id: str = "r") -> UpdateRow | None:
    (row,) = await bench.store.updates.look([(run_id, update)])
    return row


async def _request(bench: Bench, update: str, run_id: str = "r") -> Delivery:
    return await bench.store.updates.request(
        run_id, update, b"call of " + update.encode(), call=b"digest", now=NOW
    )


async def a_request_is_mail_and_a_row(bench: Bench) -> None:
    """Both at once; and it wakes the run."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await bench.put(row, status="waiting", release=True)
    assert await _request(bench, "u") is Delivery.DELIVERED
    assert await bench.inbox(row) == [b"call of u"]
    assert (await bench.row("r")).wake_at == NOW
    assert await _look(bench, "u") == UpdateRow(
        "r", "u", UpdateState.REQUESTED, None, ended=False, call=b"digest"
    )
    assert await _look(bench, "v") is None
    assert await _look(bench, "u", "other") is None


async def a_request_says_what_became_of_it(bench: Bench) -> None:
    """There is no such run, or it has ended; nothing is kept of it then."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    assert await _request(bench, "u", "nobody") is Delivery.UNKNOWN_RUN
    await bench.put(row, b"end", status="completed")
    assert await _request(bench, "u") is Delivery.RUN_ENDED
    assert await _look(bench, "u") is None
    assert await _look(bench, "u", "nobody") is None


async def a_request_waits_for_a_delayed_start(bench: Bench) -> None:
    await bench.make("r", wake_at=NOW + 60)
    await _request(bench, "u")
    assert (await bench.row("r")).wake_at == NOW + 60


async def a_repeated_request_delivers_nothing(bench: Bench) -> None:
    """Whether the update waits, is accepted or has its answer; also from another store, and after the run's end."""
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    assert await _request(bench, "u") is Delivery.DELIVERED
    assert await _request(bench, "u") is Delivery.REPEATED
    (item,) = await bench.store.mail(worker)
    accepted = SetUpdate("u", UpdateState.ACCEPTED)
    row = await bench.put(row, b"accepted", consumed=[item.id], effects=[accepted])
    assert await _request(bench, "u") is Delivery.REPEATED
    completed = SetUpdate("u", UpdateState.COMPLETED, b"7")
    await bench.put(row, b"completed", b"end", status="completed", effects=[completed])
    other = await bench.another()
    assert await other.updates.request("r", "u", b"again", call=b"another", now=NOW) is Delivery.REPEATED
    assert await other.updates.look([("r", "v"), ("r", "u")]) == [
        None,
        UpdateRow("r", "u", UpdateState.COMPLETED, b"7", ended=True, call=b"digest"),
    ]
    assert await bench.inbox(row) == []


async def a_rejected_update_may_be_tried_again(bench: Bench) -> None:
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await _request(bench, "u")
    (item,) = await bench.store.mail(worker)
    row = await bench.put(
        row, consumed=[item.id], effects=[SetUpdate("u", UpdateState.REJECTED, b"no")], now=NOW
    )
    assert row.seq == 1
    assert await _look(bench, "u") == UpdateRow(
        "r", "u", UpdateState.REJECTED, b"no", ended=False, call=b"digest"
    )
    assert await _request(bench, "u") is Delivery.DELIVERED
    assert await _look(bench, "u") == UpdateRow(
        "r", "u", UpdateState.REQUESTED, None, ended=False, call=b"digest"
    )
    assert await bench.inbox(row) == [b"call of u"]
    rejected = SetUpdate("u", UpdateState.REJECTED, b"no")
    await bench.put(row, b"end", status="completed", effects=[rejected])
    assert await _request(bench, "u") is Delivery.REPEATED
    assert await _look(bench, "u") == UpdateRow(
        "r", "u", UpdateState.REJECTED, b"no", ended=True, call=b"digest"
    )


async def the_end_of_a_run_shows_in_its_updates(bench: Bench) -> None:
    """Those without an answer will get none; a repeated request is then like a first one."""
    worker = await bench.worker()
    for id, end in (("r", "append"), ("s", "terminate")):
        row = await bench.make(id, owner=worker)
        await _request(bench, "waits", id)
        await _request(bench, "goes on", id)
        row = await bench.put(row, b"x", effects=[SetUpdate("goes on", UpdateState.ACCEPTED)])
        if end == "append":
            await bench.put(row, b"end", status="failed")
        else:
            await bench.store.terminate(id, b"end", now=NOW)
        assert await _look(bench, "waits", id) == UpdateRow(
            id, "waits", UpdateState.REQUESTED, None, ended=True, call=b"digest"
        )
        assert await _look(bench, "goes on", id) == UpdateRow(
            id, "goes on", UpdateState.ACCEPTED, None, ended=True, call=b"digest"
        )
        assert await bench.inbox(row) == []
        assert await _request(bench, "waits", id) is Delivery.RUN_ENDED
        assert await _request(bench, "goes on", id) is Delivery.RUN_ENDED


async def a_refused_append_answers_nothing(bench: Bench) -> None:
    worker = await bench.worker()
    row = await bench.make("r", owner=worker)
    await _request(bench, "u")
    effect = SetUpdate("u", UpdateState.COMPLETED, b"7")
    assert isinstance(await bench.append(row, b"x", expected=7, effects=[effect]), Stale)
    found = await _look(bench, "u")
    assert found is not None
    assert found.state is UpdateState.REQUESTED


async def updates_of_one_run_are_its_own(bench: Bench) -> None:
    """The same id in two runs is two updates; an effect on one that isn't there does nothing."""
    worker = await bench.worker()
    for id in ("r", "s"):
        row = await bench.make(id, owner=worker)
        await _request(bench, "u", id)
    await bench.put(
        row,
        b"x",
        effects=[SetUpdate("u", UpdateState.FAILED, b"why"), SetUpdate("v", UpdateState.FAILED, b"?")],
    )
    states = [
        row and row.state for row in await bench.store.updates.look([("r", "u"), ("s", "u"), ("s", "v")])
    ]
    assert states == [UpdateState.REQUESTED, UpdateState.FAILED, None]


def _inquiry(run_id: str = "r", **fields: object) -> NewInquiry:
    given = {"workflow": WORKFLOW, "name": "status", "input": b"[]", "expires_at": NOW + 60}
    return NewInquiry(run_id=run_id, **{**given, **fields})  # type: ignore[arg-type]


async def a_inquiry_goes_to_one_worker(bench: Bench) -> None:
    """To one that has the code, in order, and to another only after a while."""
    await bench.make("r")
    first, second = await bench.worker(), await bench.worker()
    inquiries = bench.store.inquiries
    ids = [await inquiries.ask(_inquiry(name=name), now=NOW) for name in ("a", "b")]
    assert ids == sorted(set(ids))
    assert not await inquiries.waiting(["other"], now=NOW)
    assert await inquiries.take(first, ["other"], now=NOW, again=5.0) == []
    assert await inquiries.waiting([WORKFLOW, "other"], now=NOW)
    taken = await inquiries.take(first, [WORKFLOW], now=NOW, again=5.0)
    assert [(item.id, item.run_id, item.name, item.input) for item in taken] == [
        (ids[0], "r", "a", b"[]"),
        (ids[1], "r", "b", b"[]"),
    ]
    assert await inquiries.take(second, [WORKFLOW], now=NOW + 4, again=5.0) == []
    assert await inquiries.take(second, [WORKFLOW], now=NOW + 6, again=5.0) == taken


async def the_driver_of_a_run_is_asked_first(bench: Bench) -> None:
    driver, other = await bench.worker(), await bench.worker()
    await bench.make("r", owner=driver)
    inquiries = bench.store.inquiries
    id = await inquiries.ask(_inquiry(), now=NOW)
    assert await inquiries.take(other, [WORKFLOW], now=NOW + 1, again=5.0) == []
    assert [item.id for item in await inquiries.take(driver, [WORKFLOW], now=NOW + 1, again=5.0)] == [id]
    assert [item.id for item in await inquiries.take(other, [WORKFLOW], now=NOW + 9, again=5.0)] == [id]


async def the_first_answer_counts(bench: Bench) -> None:
    """It can be read from elsewhere, until the asker forgets the inquiry."""
    worker = await bench.worker()
    inquiries = bench.store.inquiries
    id = await inquiries.ask(_inquiry(), now=NOW)
    other = await bench.another()
    assert await other.inquiries.answers([id, id + 1]) == [None, None]
    await inquiries.answer(id, b"first")
    await inquiries.answer(id, b"second")
    await inquiries.answer(id + 1, b"to nobody")
    assert await other.inquiries.answers([id + 1, id]) == [None, b"first"]
    assert not await inquiries.waiting([WORKFLOW], now=NOW)
    assert await inquiries.take(worker, [WORKFLOW], now=NOW + 9, again=5.0) == []
    await other.inquiries.forget(id)
    assert await inquiries.answers([id]) == [None]
    assert await inquiries.ask(_inquiry(), now=NOW) > id


async def a_inquiry_whose_time_is_over_is_gone(bench: Bench) -> None:
    worker = await bench.worker()
    inquiries = bench.store.inquiries
    id = await inquiries.ask(_inquiry(expires_at=NOW + 1), now=NOW)
    await inquiries.answer(id, b"late")
    await inquiries.ask(_inquiry(expires_at=NOW + 1), now=NOW)
    assert not await inquiries.waiting([WORKFLOW], now=NOW + 2)
    assert await inquiries.take(worker, [WORKFLOW], now=NOW + 2, again=0.5) == []
    await inquiries.ask(_inquiry(), now=NOW + 2)
    assert await inquiries.answers([id]) == [None]


async def many_inquiries_are_taken_in_parts(bench: Bench) -> None:
    worker = await bench.worker()
    inquiries = bench.store.inquiries
    for _ in range(TAKE_MAX + 1):
        await inquiries.ask(_inquiry(), now=NOW)
    assert len(await inquiries.take(worker, [WORKFLOW], now=NOW, again=5.0)) == TAKE_MAX
    assert len(await inquiries.take(worker, [WORKFLOW], now=NOW, again=5.0)) == 1


CHECKS: tuple[Check, ...] = (
    a_request_is_mail_and_a_row,
    a_request_says_what_became_of_it,
    a_request_waits_for_a_delayed_start,
    a_repeated_request_delivers_nothing,
    a_rejected_update_may_be_tried_again,
    the_end_of_a_run_shows_in_its_updates,
    a_refused_append_answers_nothing,
    updates_of_one_run_are_its_own,
    a_inquiry_goes_to_one_worker,
    the_driver_of_a_run_is_asked_first,
    the_first_answer_counts,
    a_inquiry_whose_time_is_over_is_gone,
    many_inquiries_are_taken_in_parts,
)
