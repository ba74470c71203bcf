"""Counterfactual forks act on nobody, whatever their code asks for."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from engine_kit import Mortal, Place, bury, crash, history, of_kind, reaches, run, until

import perdure
from perdure import Args, Change, EffectRefused, Retry, events, step, workflow
from perdure.api.inline import inline_step
from perdure.errors import ConfigurationError, UsageError
from perdure.runtime.definitions import StepOptions

DONE: Counter[str] = Counter()
BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def fresh() -> None:
    DONE.clear()
    BROKEN.clear()


@step(name="cf.asks", effect="read")
async def asks(prompt: str) -> str:
    DONE[f"asks {prompt}"] += 1
    perdure.record_usage(model="m", input_tokens=10, cost="0.01")
    return prompt.upper()


@step(name="cf.mails")
async def mails(text: str) -> str:
    DONE[f"mails {text}"] += 1
    return f"sent {text}"


@step(name="cf.pays", effect="write", stub=lambda amount: f"would pay {amount}")
async def pays(amount: int) -> str:
    DONE[f"pays {amount}"] += 1
    return f"paid {amount}"


@workflow(name="cf.answers")
async def answers(question: str) -> list[str]:
    told = await asks(question)
    return [told, await mails(told), await mails("always"), await pays(len(told))]


async def answered(engine: perdure.Engine, id: str = "r") -> perdure.Handle[Any]:
    handle = await engine.start(answers("why"), id=id)
    assert await handle.result() == ["WHY", "sent WHY", "sent always", "paid 3"]
    DONE.clear()
    return handle


OTHER: Any = {"input": Args("how so")}


def test_what_would_act_is_refused_and_waits_for_a_person(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.05) as engine:
            handle = await answered(engine)
            plan = await handle.fork(**OTHER, effects="reuse", dry_run=True)
            assert (plan.runs, plan.refused, plan.stubbed) == (("cf.asks#1",), (), ())
            fork = await handle.fork(**OTHER, effects="reuse", id="f")
            await reaches(fork, "blocked")
            info = await fork.info()
            assert info.reason is not None
            assert "effect refused" in info.reason
            assert "perdure resolve f 'cf.mails#1' --result JSON" in info.reason
            assert "--rerun" not in info.reason
            told = await fork.why()
            assert told.causes[0].kind == "refused"
            assert "--rerun" not in told.causes[0].todo
            await fork.resolve("mails", rerun=True)  # it is refused again

            async def again() -> bool:
                return len(await of_kind(fork, events.StepParked)) == 2

            await until(again)
            await reaches(fork, "blocked")
            await fork.resolve("mails", result="sent HOW SO", by="ann")
            assert await fork.result() == ["HOW SO", "sent HOW SO", "sent always", "would pay 6"]
            assert DONE == {"asks how so": 1}
            done = await of_kind(fork, events.StepCompleted)
            assert [(event.reused, event.stubbed) for event in done] == [
                (False, False),
                (False, True),
                (True, False),
                (False, True),
            ]

    run(main)


def test_a_refused_step_may_raise_instead(place: Place) -> None:
    @workflow(name="cf.catches")
    async def catches(text: str) -> str:
        try:
            return await mails(text)
        except EffectRefused as error:
            return f"refused: {'counterfactual' in str(error)}"

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(catches("a"), id="r")
            await handle.result()
            fork = await handle.fork(input=Args("b"), effects="reuse", refused="fail")
            assert await fork.result() == "refused: True"
            assert DONE == {"mails a": 1}
            assert await (await fork.fork(effects="reuse", refused="fail")).result() == "refused: True"
            assert await (await fork.fork()).result() == "sent b"  # which acts

    run(main)


def test_stubs_stand_in_for_what_would_act(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await answered(engine)
            fork = await handle.fork(**OTHER, effects="reuse", stubs={"mails": "stub"}, id="given")
            assert await fork.result() == ["HOW SO", "stub", "sent always", "would pay 6"]
            every = await handle.fork(
                **OTHER, effects="reuse", stubs={"*": "any", "mails#1": "one"}, id="every"
            )
            assert await every.result() == ["HOW SO", "one", "sent always", "any"]
            as_before = await handle.fork(**OTHER, effects="stub", id="as-before")
            assert await as_before.result() == ["HOW SO", "sent WHY", "sent always", "would pay 6"]
            assert DONE == {"asks how so": 3}
            usage = await as_before.usage()
            assert usage.calls == 1
            with pytest.raises(perdure.NotSerializableError):
                await handle.fork(effects="reuse", stubs={"mails": 7})
            misfit = await handle.fork(**OTHER, effects="reuse", stubs={"*s": 7}, id="misfit")
            await reaches(misfit, "blocked")
            assert "The stub 7 doesn't fit" in str((await misfit.info()).reason)
            same = await handle.fork(**OTHER, effects="reuse", stubs={"mails": "stub"}, id="given")
            assert same.id == "given"
            with pytest.raises(perdure.RunConflictError):
                await handle.fork(**OTHER, id="given")

    run(main)


def test_what_was_stubbed_never_passes_for_done(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await answered(engine)
            fork = await handle.fork(**OTHER, effects="stub")
            await fork.result()
            DONE.clear()
            again = await fork.fork(effects="reuse")  # counterfactual itself: it takes the stubs over
            assert await again.result() == await fork.result()
            assert not DONE
            real = await fork.fork(id="real")
            assert await real.result() == ["HOW SO", "sent HOW SO", "sent always", "paid 6"]
            assert DONE == {"mails HOW SO": 1, "pays 6": 1}

    run(main)


@step(name="cf.declines", retry=Retry(max_attempts=1))
async def declines(amount: int) -> str:
    DONE[f"declines {amount}"] += 1
    raise ValueError(f"declined {amount}")


@workflow(name="cf.copes")
async def copes(prompt: str) -> list[str]:
    try:
        await declines(5)
    except ValueError as error:
        return [str(error), await asks(prompt)]
    return []


def test_recorded_failures_are_met_again(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(copes("a"), id="r")
            await handle.result()
            fork = await handle.fork(input=Args("b"), effects="reuse")
            assert await fork.result() == ["declined 5", "B"]
            assert DONE["declines 5"] == 1
            (failed,) = await of_kind(fork, events.StepFailed)
            assert failed.reused
            assert await (await handle.fork(input=Args("b"))).result() == ["declined 5", "B"]
            assert DONE["declines 5"] == 2  # a fork that acts tries again

    run(main)


def test_a_retry_of_a_counterfactual_fork_is_one_too(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await answered(engine)
            fork = await handle.fork(**OTHER, effects="reuse", refused="fail", id="f")
            with pytest.raises(perdure.RunFailed, match="counterfactual"):
                await fork.result()
            await fork.retry()
            with pytest.raises(perdure.RunFailed, match="counterfactual"):
                await fork.result()
            assert DONE == {"asks how so": 1}
            told = await engine.diff("f", "f", generations=(1, 2))
            assert [step.verdict for step in told.steps] == ["same", "same"]

    run(main)


# -- children -----------------------------------------------------------------------------------------


@workflow(name="cf.child")
async def child(prompt: str) -> list[str]:
    return [await asks(prompt), await asks("same"), await mails(f"of {prompt}")]


@workflow(name="cf.parent")
async def parent(prompt: str, extra: str = "") -> list[Any]:
    first = await child(prompt)
    second = await child("unchanged")
    handle = await perdure.start(child(extra), id="chosen") if extra else None
    return [first, second, None if handle is None else await handle.result()]


def test_children_are_counterfactual_too(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            real = await engine.start(child("other"), id="chosen")
            await real.result()
            handle = await engine.start(parent("a"), id="r")
            await handle.result()
            DONE.clear()
            fork = await handle.fork(input=Args("b", "new"), effects="reuse", stubs={"mails": "stub"}, id="f")
            assert await fork.result() == [
                ["B", "SAME", "stub"],
                ["UNCHANGED", "SAME", "sent of unchanged"],
                ["NEW", "SAME", "stub"],
            ]
            assert DONE == {
                "asks b": 1,
                "asks new": 1,
                "asks same": 1,
            }  # the first child has asked the same before
            ids = [info.id async for info in engine.runs()]
            assert "f/chosen" in ids
            assert await real.result() == ["OTHER", "SAME", "sent of other"]
            for id in ("f/cf.child#1", "f/chosen"):
                (started,) = await of_kind(engine.get(id), events.RunStarted)
                assert started.donor.counterfactual is not None

    run(main)


@workflow(name="cf.chain")
async def chain(left: int) -> str:
    told = await mails(f"n{left}")
    if left > 1:
        perdure.continue_as(chain(left - 1))
    return told


def test_the_next_generation_is_counterfactual_too(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(chain(1), id="r")
            await handle.result()
            fork = await handle.fork(input=Args(3), effects="reuse", stubs={"mails": "stub"})
            assert await fork.result() == "stub"
            assert (await fork.info()).generation == 3
            assert DONE == {"mails n1": 1}

    run(main)


@workflow(name="cf.single", singleton=True)
async def single(prompt: str) -> str:
    told = await asks(prompt)
    await perdure.receive("go")
    return told


def test_of_a_singleton_a_counterfactual_run_isnt_the_one(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(single("a"), id="r")
            await reaches(handle, "waiting")
            fork = await handle.fork(input=Args("b"), effects="reuse", id="f")
            await reaches(fork, "waiting")
            assert (await engine.start(single("c"), id="other")).id == "r"
            await handle.send("go", 1)
            await handle.result()
            assert (await engine.start(single("d"), id="real")).id == "real"
            await fork.send("go", 1)
            assert await fork.result() == "B"

    run(main)


# -- messages and events --------------------------------------------------------------------------------


@workflow(name="cf.hears")
async def hears() -> list[Any]:
    return [await perdure.receive("word") for _ in range(2)]


@workflow(name="cf.echoes")
async def echoes(hello: str) -> str:
    word = await perdure.receive("word", str)
    await perdure.send(perdure.info().parent or "", "echo", word)
    return word


@workflow(name="cf.sends")
async def sends(word: str) -> list[Any]:
    await perdure.send("listener", "word", "same")
    await perdure.send("listener", "word", word)
    inner = await perdure.start(echoes(word))
    await inner.send("word", word)
    perdure.publish("cf.happened", {"word": word})
    perdure.emit("said", word)
    return [await perdure.receive("echo"), await inner.result()]


def test_messages_leave_the_family_of_no_counterfactual_run(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            listener = await engine.start(hears(), id="listener")
            handle = await engine.start(sends("one"), id="r")
            assert await handle.result() == ["one", "one"]
            assert await listener.result() == ["same", "one"]
            fork = await handle.fork(input=Args("two"), effects="reuse")
            result = await fork.result()
            assert result == ["two", "two"]
            sent = await of_kind(fork, events.MessageSent)
            outside = [event for event in sent if event.run == "listener"]
            assert [(event.reused, event.withheld) for event in outside] == [(True, False), (False, True)]
            assert len((await listener.info()).undelivered) == 0
            assert [event.withheld for event in await of_kind(fork, events.Published)] == [True]
            known = [item async for item in engine.publications("cf.happened")]
            assert len(known) == 1
            assert [item.value async for item in fork.stream("said", follow=False)] == ["two"]
            with pytest.raises(perdure.RunFailed):  # which acts: nobody listens any more
                await (await fork.fork()).result()

    run(main)


@step(name="cf.announces", effect="read")
async def announces(word: str) -> str:
    perdure.publish("cf.announced", word)
    return word


@step(name="cf.announces_there", effect="read", queue="there")
async def announces_there(word: str) -> str:
    DONE[word] += 1
    perdure.publish("cf.announced", word)
    return word


@step(name="cf.mails_there", queue="there")
async def mails_there(word: str) -> str:
    DONE[f"mails {word}"] += 1
    return word


@workflow(name="cf.tells")
async def tells(word: str) -> list[str]:
    return [await announces(word), await announces_there(word), await mails_there(word)]


def test_of_steps_elsewhere_reads_execute_and_writes_do_not(place: Place) -> None:
    async def main() -> None:
        async with place.engine(queues=("default", "there")) as engine:
            handle = await engine.start(tells("a"), id="r")
            await handle.result()
            fork = await handle.fork(input=Args("b"), effects="reuse", stubs={"mails_there": "stub"})
            assert await fork.result() == ["b", "b", "stub"]
            assert DONE == {"a": 1, "mails a": 1, "b": 1}
            known = [item.payload async for item in engine.publications("cf.announced")]
            assert known == ["a", "a"]

    run(main)


# -- kinds of steps -------------------------------------------------------------------------------------


@step(name="cf.once", once=True)
async def once(what: str) -> str:
    DONE[what] += 1
    return what


@step(name="cf.threads")
def threads(what: str) -> str:
    DONE[what] += 1
    return what


@step(name="cf.reads_in_thread", effect="read")
def reads_in_thread(what: str) -> str:
    DONE[f"reads {what}"] += 1
    return what


@step(name="cf.computes", process=True, effect="read")
def computes(what: str) -> str:
    return f"computed {what}"


@step(name="cf.acts_in_process", process=True)
def acts_in_process(what: str) -> str:
    raise AssertionError(what)


@workflow(name="cf.kinds")
async def kinds(what: str) -> list[Any]:
    async def body(given: str) -> str:
        DONE[f"inline {given}"] += 1
        return given

    read = StepOptions(key="read", effect="read")
    return [
        await once(what),
        await threads(what),
        await reads_in_thread(what),
        await computes(what),
        await inline_step("cf.tool", body, given=what, result=str),
        await inline_step("cf.model", body, given=what, result=str, options=read),
        await mails.with_options(effect="read", key="with-options")(what),
        await acts_in_process(what) if what != "a" else "",
    ]


def test_every_kind_of_step_is_withheld_unless_it_reads(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(kinds("a"), id="r")
            await handle.result()
            DONE.clear()
            stubs = {name: f"stub {name}" for name in ("once", "threads", "tool", "acts_in_process")}
            fork = await handle.fork(input=Args("b"), effects="reuse", stubs=stubs)
            assert await fork.result() == [
                "stub once",
                "stub threads",
                "b",
                "computed b",
                "stub tool",
                "b",
                "sent b",
                "stub acts_in_process",
            ]
            assert DONE == {"reads b": 1, "inline b": 1, "mails b": 1}

    run(main)


def test_transactions_are_writes(memory: Place, tmp_path: Any) -> None:
    import apsw

    path = str(tmp_path / "shop.db")

    def connect() -> apsw.Connection:
        connection = apsw.Connection(path)
        connection.execute("CREATE TABLE IF NOT EXISTS sold (what TEXT)")
        return connection

    def stub(what: str) -> str:
        return f"would sell {what}"

    @step(name="cf.sells", transaction=connect, stub=stub)
    def sells(connection: apsw.Connection, what: str) -> str:
        connection.execute("INSERT INTO sold VALUES (?)", (what,))
        return f"sold {what}"

    @workflow(name="cf.shop")
    async def shop(what: str) -> str:
        return await sells(what)

    with pytest.raises(ConfigurationError, match="can't be effect"):
        step(transaction=connect, effect="read")

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(shop("tea"), id="r")
            assert await handle.result() == "sold tea"
            fork = await handle.fork(input=Args("jam"), effects="reuse")
            assert await fork.result() == "would sell jam"
            assert apsw.Connection(path).execute("SELECT * FROM sold").fetchall() == [("tea",)]

    run(main)


@perdure.entity(name="cf.accounts")
class Accounts:
    state: dict[str, int]

    async def add(self, amount: int) -> int:
        self.state["balance"] = self.state.get("balance", 0) + amount
        return self.state["balance"]

    @perdure.read
    def total(self) -> int:
        return self.state.get("balance", 0)


@workflow(name="cf.banks")
async def banks(amount: int) -> list[int]:
    account = perdure.entity(Accounts, "ann")
    return [await account.add(amount), await account.total()]


def test_entities_are_read_and_not_called(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(banks(5), id="r")
            assert await handle.result() == [5, 5]
            fork = await handle.fork(input=Args(7), effects="reuse", stubs={"*add": 12})
            assert await fork.result() == [12, 5]
            assert await engine.entity(Accounts, "ann").total() == 5

    run(main)


@workflow(name="cf.calls_back")
async def calls_back(prompt: str) -> list[Any]:
    answer = perdure.callback(str)
    await mails(f"answer with {answer.token[:0]}{prompt}")
    return [await answer, await asks(prompt)]


TOKENS: list[str] = []


@step(name="cf.hands_out")
async def hands_out(token: str) -> None:
    TOKENS.append(token)


@workflow(name="cf.waits_for_somebody")
async def waits_for_somebody(prompt: str) -> list[Any]:
    answer = perdure.callback(str)
    await hands_out(answer.token)
    return [await answer, await asks(prompt)]


def test_callbacks_are_as_they_ended_and_new_tokens_go_nowhere(place: Place) -> None:
    async def main() -> None:
        TOKENS.clear()
        async with place.engine() as engine:
            handle = await engine.start(waits_for_somebody("a"), id="r")
            await until(lambda: TOKENS)
            await engine.callbacks.complete(TOKENS[0], "yes")
            assert await handle.result() == ["yes", "A"]
            fork = await handle.fork(input=Args("b"), effects="stub")
            assert await fork.result() == ["yes", "B"]  # whose own token was shown to nobody
            assert len(TOKENS) == 1

    run(main)


# -- stubs that are functions ---------------------------------------------------------------------------


async def slow_stub(what: str) -> str:
    DONE["stub"] += 1
    if DONE["stub"] == 1:
        raise ConnectionError("try again")
    return f"stub of {what}"


@step(name="cf.stubbed", stub=slow_stub, queue="nowhere", once=True, retry=Retry(initial=0.001))
async def stubbed(what: str) -> str:
    DONE["real"] += 1
    return what


@workflow(name="cf.uses_a_stub")
async def uses_a_stub(what: str) -> str:
    return await stubbed(what)


def test_a_function_that_is_a_stub_is_tried_as_a_step_is(place: Place) -> None:
    async def main() -> None:
        async with place.engine(queues=("default", "nowhere")) as engine:
            handle = await engine.start(uses_a_stub("a"), id="r")
            await handle.result()
        async with place.engine(evict_after=0.05) as engine:
            fork = await engine.get("r").fork(input=Args("b"), effects="reuse")
            assert await fork.result() == "stub of b"
            (done,) = await of_kind(fork, events.StepCompleted)
            assert done.stubbed
            assert done.attempt == 2
            assert DONE == {"real": 1, "stub": 2}

    run(main)


def test_options_that_do_not_go_together(memory: Place) -> None:
    with pytest.raises(ConfigurationError, match="effect="):
        step(effect="delete")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="stub="):
        step(stub="x")  # type: ignore[call-overload]

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await answered(engine)
            for wrong in ({"effects": "none"}, {"stubs": {"a": 1}}, {"refused": "fail"}):
                with pytest.raises(UsageError):
                    await handle.fork(**wrong)

    run(main)


def test_a_plan_tells_what_is_refused(memory: Place) -> None:
    @workflow(name="cf.many")
    async def many(what: str) -> None:
        await asyncio.gather(mails(what), pays(len(what)), asks(what))

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(many("a"), id="r")
            await handle.result()
            plan = await handle.fork(input=Args("bb"), effects="reuse", dry_run=True)
            assert len(plan.runs) == 3
            assert list(plan.refused) == ["cf.mails#1"]
            assert list(plan.stubbed) == ["cf.pays#1"]
            assert plan.cost.calls == 1

    run(main)


# -- crashes --------------------------------------------------------------------------------------------


class Uncounted:
    def __init__(self) -> None:
        self.ids: dict[int, str] = {}

    def committed(self, append: Any) -> None:
        pass

    def dies(self, batch: Any) -> None:
        pass


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_a_crash_at_any_append_of_a_counterfactual_fork_changes_nothing(
    commits: bool, make_place: Any
) -> None:
    async def forked(engine: perdure.Engine) -> Any:
        fork = await engine.get("r").fork(input=Args("b"), effects="reuse", stubs={"mails": "stub"}, id="f")
        return await fork.result()

    async def main() -> None:
        number, died = 0, True
        while died:
            number += make_place.stride
            place = make_place()
            async with place.engine() as engine:
                await (await engine.start(parent("a"), id="r")).result()
            DONE.clear()
            engine = place.engine(lambda store, at=number: Mortal(store, at, commits, Uncounted()))  # type: ignore[arg-type]
            await engine.__aenter__()
            store: Any = engine._store
            driving = asyncio.ensure_future(forked(engine))
            dying = asyncio.ensure_future(store.dead.wait())
            await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
            died = store.dead.is_set()
            driving.cancel()
            dying.cancel()
            with suppress(asyncio.CancelledError, perdure.PerdureError):
                await driving
            await crash(engine)
            await bury(place)
            async with place.engine() as engine:
                result = await forked(engine)
                assert result[:2] == [["B", "SAME", "stub"], ["UNCHANGED", "SAME", "sent of unchanged"]]
                assert not [what for what in DONE if what.startswith("mails")], f"died at append {number}"
                assert DONE["asks b"] <= 2
                assert DONE["asks same"] == 0
                inner = await history(engine.get("f/cf.child#1"))
                assert sum(isinstance(event, events.StepCompleted) for event in inner) == 3
        assert number > 3

    run(main)


def test_a_change_of_a_prompt_in_a_counterfactual_fork(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await answered(engine)
            fork = await handle.fork(edits={"asks": Change({"prompt": "who"})}, effects="stub")
            assert (await fork.result())[0] == "WHO"
            assert DONE == {"asks who": 1}

    run(main)
