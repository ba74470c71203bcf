"""Questions: callbacks that show themselves, are listed, and keep their answer; and what a retry takes over."""

from __future__ import annotations

import asyncio

import msgspec

from perdure.codec.events import decode_event
from perdure.core.events import CallbackEnded, Failure, Question, QuestionAnswered
from perdure.storage.callbacks import (
    Answerer,
    CallbackRow,
    CallbackState,
    OpenCallback,
    QuestionFilter,
    WithdrawCallback,
    pack_question,
    unpack_question,
)
from perdure.storage.records import RunRow
from perdure.testing.conformance.bench import NOW, Bench, Check
from perdure.testing.conformance.callbacks import ends_told, verdict
from perdure.testing.conformance.generations import ended

HASH = bytes(range(32))
ANN = Answerer("ann", "cli")
ASKED = Question(id="q_1", text="Sure?", form=b'{"type":"boolean"}', details=b'{"a":1}', to="ann")


def question(
    token_hash: bytes = HASH, at: float = NOW, timeout: float | None = None, **changes: object
) -> OpenCallback:
    """What asks a question."""
    packed = pack_question(msgspec.structs.replace(ASKED, **changes))
    expires_at = None if timeout is None else at + timeout
    return OpenCallback(token_hash, "ask:1", opened_at=at, expires_at=expires_at, question=packed)


async def asked(bench: Bench, effect: OpenCallback | None = None, *, id: str = "r") -> RunRow:
    """A run that asks; a worker drives it."""
    row = await bench.make(id, owner=await bench.worker())
    return await bench.put(row, b"asked", effects=[effect or question()])


async def listed(bench: Bench, **filters: object) -> list[tuple[bytes, str]]:
    """The hashes and runs of the questions that a filter matches, as they are at NOW + 1."""
    given = {"now": NOW + 1, **filters}
    found = await bench.store.callbacks.questions(QuestionFilter(**given))  # type: ignore[arg-type]
    return [(token_hash, row.run_id) for token_hash, row in found]


async def got(bench: Bench, token_hash: bytes = HASH) -> CallbackRow:
    row = await bench.store.callbacks.get(token_hash)
    assert row is not None
    return row


def answered_at(at: float) -> QuestionAnswered:
    """What a run is told of Ann's yes."""
    return QuestionAnswered(at, "ask:1", result=b"true", answered_at=at, by="ann", via="cli")


async def a_question_is_shown_with_who_asks(bench: Bench) -> None:
    """From the append that asks it on, and not before."""
    assert await bench.store.callbacks.get(HASH) is None
    row = await asked(bench)
    found = await got(bench)
    assert found.question is not None
    assert unpack_question(found.question) == ASKED
    assert (found.run_id, found.workflow, found.generation) == ("r", row.workflow, 1)
    assert (found.state, found.answer, found.run_ended) == (CallbackState.OPEN, None, False)
    assert await bench.store.callbacks.questions(QuestionFilter(NOW)) == [(HASH, found)]


async def an_answer_is_told_and_kept(bench: Bench) -> None:
    """The run hears of it with who and through what; so does whoever looks at the question. The first one counts."""
    row = await asked(bench)
    answer = await bench.store.callbacks.end(HASH, result=b"true", answerer=ANN, now=NOW + 5)
    told = answered_at(NOW + 5)
    assert verdict(answer) == "done"
    assert await ends_told(bench, row) == [told]
    for kept in (await got(bench), answer.row):
        assert kept is not None
        assert kept.answer is not None
        assert decode_event(kept.answer) == told
        assert kept.state == CallbackState.COMPLETED
    again = await bench.store.callbacks.end(HASH, result=b"false", answerer=Answerer("bob", "x"), now=NOW + 6)
    assert verdict(again) == "ended"
    assert again.row is not None
    assert again.row.answer == (await got(bench)).answer
    assert await listed(bench) == []
    assert await listed(bench, open=False) == [(HASH, "r")]


async def a_question_whose_time_is_over_is_not_open(bench: Bench) -> None:
    """Also if nobody has noted it yet."""
    await asked(bench, question(timeout=60))
    assert await listed(bench, now=NOW + 59) == [(HASH, "r")]
    assert await listed(bench, now=NOW + 60) == []
    answer = await bench.store.callbacks.end(HASH, result=b"true", answerer=ANN, now=NOW + 60)
    assert (verdict(answer), (await got(bench)).answer) == ("expired", None)
    assert await listed(bench, now=NOW) == []


async def a_withdrawn_question_takes_no_answer(bench: Bench) -> None:
    """Only its run withdraws it, and only while it is open."""
    row = await asked(bench)
    other = await bench.make("other", owner=await bench.worker())
    await bench.put(other, b"x", effects=[WithdrawCallback(HASH), WithdrawCallback(bytes(32))])
    assert await listed(bench) == [(HASH, "r")]
    row = await bench.put(row, b"withdrawn", effects=[WithdrawCallback(HASH)])
    assert (
        verdict(await bench.store.callbacks.end(HASH, result=b"1", answerer=ANN, now=NOW + 2)) == "withdrawn"
    )
    assert await bench.store.callbacks.time_out(HASH, now=NOW + 99) is None
    assert await ends_told(bench, row) == []
    assert await listed(bench) == []
    assert ((await got(bench)).state, (await got(bench)).ended_at) == (CallbackState.WITHDRAWN, NOW + 1)
    row = await asked(bench, question(bytes(32)), id="r2")
    await bench.store.callbacks.end(bytes(32), result=b"1", answerer=ANN, now=NOW)
    await bench.put(row, b"withdrawn", effects=[WithdrawCallback(bytes(32))])
    assert (await got(bench, bytes(32))).state == CallbackState.COMPLETED


async def questions_of_ended_runs_are_not_open(bench: Bench) -> None:
    """Nobody waits for the answer."""
    row = await asked(bench)
    await bench.put(row, b"over", status="failed")
    assert await listed(bench) == []
    assert await listed(bench, open=False) == [(HASH, "r")]
    assert (await got(bench)).run_ended
    assert verdict(await bench.store.callbacks.end(HASH, result=b"1", answerer=ANN, now=NOW)) == "run_ended"


async def questions_are_listed_page_by_page(bench: Bench) -> None:
    """In the order of their asking; plain callbacks aren't questions."""
    keys = [bytes([number]) * 32 for number in range(5)]
    times = [3.0, 1.0, 2.0, 2.0, 5.0]
    for key, at in zip(keys, times, strict=True):
        await asked(bench, question(key, at=NOW + at), id=f"r{key[0]}")
    plain = await bench.make("plain", owner=await bench.worker())
    await bench.put(plain, b"x", effects=[OpenCallback(HASH, "callback:1", opened_at=NOW)])
    order = [keys[1], keys[2], keys[3], keys[0], keys[4]]
    for open in (True, False):
        assert [key for key, _ in await listed(bench, open=open)] == order
        assert [key for key, _ in await listed(bench, open=open, limit=2)] == order[:2]
        after = (NOW + 2.0, keys[2])
        assert [key for key, _ in await listed(bench, open=open, after=after)] == order[2:]
        assert [key for key, _ in await listed(bench, open=open, after=after, since=NOW + 4)] == order[4:]
        assert await listed(bench, open=open, since=NOW + 3.0) == [(keys[0], "r0"), (keys[4], "r4")]
        assert await listed(bench, open=open, run_id="r3") == [(keys[3], "r3")]
        assert await listed(bench, open=open, run_id="nobody") == []


async def retried(bench: Bench, effect: OpenCallback, id: str = "r") -> RunRow:
    """The next generation of a failed run, which asks."""
    old = await bench.row(id)
    new = bench.new(id, follows=old.run, generation=old.generation + 1, owner=await bench.worker())
    (created,) = await bench.store.create([new])
    assert created.new
    return await bench.put(created.row, b"asked", effects=[effect])


async def a_retry_takes_over_what_its_donor_left_open(bench: Bench) -> None:
    """The same question goes on as it was, for the new generation."""
    row = await asked(bench, question(timeout=60))
    await bench.put(row, b"end", status="failed")
    new = await retried(bench, question(at=NOW + 9, timeout=60))
    found = await got(bench)
    assert (found.run, found.generation, found.opened_at, found.state) == (
        new.run,
        2,
        NOW,
        CallbackState.OPEN,
    )
    assert await listed(bench) == [(HASH, "r")]
    await bench.store.callbacks.end(HASH, result=b"true", answerer=ANN, now=NOW + 20)
    assert len(await ends_told(bench, new)) == 1


async def a_retry_gets_the_answer_that_its_donor_was_given(bench: Bench) -> None:
    """It may have come after the donor's end, or when the donor's code couldn't read it."""
    row = await asked(bench)
    await bench.store.callbacks.end(HASH, result=b"true", answerer=ANN, now=NOW + 2)
    await bench.put(row, b"end", status="failed")
    new = await retried(bench, question(at=NOW + 9, to="others"))
    assert await ends_told(bench, new) == [answered_at(NOW + 2)]
    assert (await got(bench)).run == new.run
    assert verdict(await bench.store.callbacks.end(HASH, result=b"1", answerer=ANN, now=NOW + 9)) == "ended"


async def a_retry_opens_anew_what_came_to_nothing(bench: Bench) -> None:
    """Whatever came of a callback: what the retry asks for again, it waits for again; later generations, too."""
    failure = Failure(type="x", message="no")
    for number, end in enumerate(
        ("expired", "withdrawn", "failed", "completed", "asked something else", "skipped")
    ):
        key, id = bytes([number]) * 32, f"r{number}"
        effect = question(key, timeout=60)
        if end in ("failed", "completed"):
            effect = OpenCallback(key, "callback:1", opened_at=NOW, expires_at=NOW + 60)
        row = await asked(bench, effect, id=id)
        if end == "withdrawn":
            row = await bench.put(row, b"x", effects=[WithdrawCallback(key)])
        elif end == "asked something else":
            await bench.store.callbacks.end(key, result=b"1", answerer=ANN, now=NOW)
        elif end in ("failed", "completed"):
            failed = failure if end == "failed" else None
            await bench.store.callbacks.end(key, result=None if failed else b"1", failure=failed, now=NOW)
        await bench.store.callbacks.time_out(key, now=NOW + 60)
        await bench.put(row, b"end", status="failed")
        if end == "skipped":
            await retried(bench, question(bytes([99]) * 32), id=id)
            await bench.put(await bench.row(id), b"end", status="failed")
        again = msgspec.structs.replace(effect, opened_at=NOW + 100, expires_at=NOW + 160)
        if end == "asked something else":
            again = question(key, at=NOW + 100, timeout=60, text="Really?")
        new = await retried(bench, again, id=id)
        found = await got(bench, key)
        assert (found.run, found.state, found.ended_at, found.answer) == (
            new.run,
            CallbackState.OPEN,
            None,
            None,
        ), end
        assert (found.opened_at, found.expires_at, found.question) == (
            NOW + 100,
            NOW + 160,
            again.question,
        ), end
        assert await ends_told(bench, new) == []
        answerer = None if found.question is None else ANN
        done = await bench.store.callbacks.end(key, result=b"2", answerer=answerer, now=NOW + 101)
        assert verdict(done) == "done"
        (told,) = await ends_told(bench, new)
        assert isinstance(told, CallbackEnded)
        assert told.result == b"2"


async def another_run_takes_nothing_over(bench: Bench) -> None:
    """A hash means one callback for ever, whatever other runs say."""
    row = await ended(bench, "other")
    assert row.status == "failed"
    await asked(bench)
    await bench.store.callbacks.end(HASH, result=b"1", answerer=ANN, now=NOW)
    thief = await asked(bench, id="thief")
    assert (await got(bench)).run_id == "r"
    assert await ends_told(bench, thief) == []


async def of_many_answers_one_counts(bench: Bench) -> None:
    """Through several stores; what is kept is what the run was told."""
    row = await asked(bench)
    other = await bench.another()
    answers = await asyncio.gather(
        *(
            store.callbacks.end(
                HASH, result=b"%d" % number, answerer=Answerer(f"p{number}", "x"), now=NOW + 1
            )
            for number in range(5)
            for store in (bench.store, other)
        )
    )
    assert sorted(map(verdict, answers)) == ["done"] + ["ended"] * 9
    (told,) = await ends_told(bench, row)
    kept = (await got(bench)).answer
    assert kept is not None
    assert decode_event(kept) == told


CHECKS: tuple[Check, ...] = (
    a_question_is_shown_with_who_asks,
    an_answer_is_told_and_kept,
    a_question_whose_time_is_over_is_not_open,
    a_withdrawn_question_takes_no_answer,
    questions_of_ended_runs_are_not_open,
    questions_are_listed_page_by_page,
    a_retry_takes_over_what_its_donor_left_open,
    a_retry_gets_the_answer_that_its_donor_was_given,
    a_retry_opens_anew_what_came_to_nothing,
    another_run_takes_nothing_over,
    of_many_answers_one_counts,
)
