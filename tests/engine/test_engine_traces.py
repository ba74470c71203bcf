"""One trace a run: who tells which spans, under which ids; what stands in them; where steps stand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, bury, crash, run, until
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased
from trace_kit import Collected, moments

import perdure
from perdure import Queue, Retry, step, workflow
from perdure.errors import ConfigurationError
from perdure.integrations import opentelemetry as traces


def here() -> str:
    """The current span, as a step's body sees it."""
    return f"{trace.get_current_span().get_span_context().span_id:016x}"


calls = 0


@step(retry=Retry(max_attempts=3, initial=0.01))
async def flaky(fails: int) -> str:
    global calls
    calls += 1
    if calls <= fails:
        raise ValueError(f"no {calls}")
    return here()


@step
def in_thread() -> str:
    return here()


@step
async def plain() -> str:
    return here()


@step(process=True)
def in_process() -> str:
    return here()


@workflow
async def child(number: int) -> str:
    return await plain()


@workflow
async def family() -> list[str]:
    seen = [await flaky(1), await in_thread()]
    seen += await asyncio.gather(child(1), child(2))
    await asyncio.sleep(0.01)
    await perdure.receive("go")
    return seen


@workflow
async def failing() -> None:
    await flaky(9)


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    global calls
    calls = 0


def test_a_run_is_one_trace_over_its_steps_and_children(place: Place) -> None:
    collected = Collected()

    async def main() -> list[str]:
        async with place.engine(telemetry=collected.telemetry(), name="w") as engine:
            with collected.provider.get_tracer("test").start_as_current_span("caller"):
                handle = await engine.start(family(), id="r")
            await handle.send("go", None)
            return await handle.result()

    seen = run(main)
    children = [("run child", ["step plain"])] * 2
    assert collected.tree() == [
        ("caller", [("run family", ["step flaky", "step flaky", "step in_thread", *children])])
    ]
    assert len({span.context.trace_id for span in collected.spans}) == 1
    ids = [f"{span.context.span_id:016x}" for span in collected.spans]
    assert set(seen) <= set(ids)  # inside a step its own span is current
    failed, succeeded = collected.named("flaky")
    assert failed.status.status_code.name == "ERROR"
    assert failed.status.description == "ValueError: no 1"
    (exception,) = failed.events
    assert exception.attributes is not None
    assert exception.attributes["exception.type"] == "ValueError"
    assert "raise ValueError" in str(exception.attributes["exception.stacktrace"])
    assert succeeded.attributes is not None
    assert {
        name: succeeded.attributes[f"perdure.{name}"] for name in ("run.id", "step.attempt", "worker")
    } == {
        "run.id": "r",
        "step.attempt": 2,
        "worker": "w",
    }
    told = moments(collected.one("run test_engine_traces.family"))
    assert told.count("perdure.child.ended") == 2
    assert {"perdure.timer.fired", "perdure.message.received"} <= set(told)
    for span in collected.spans:
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time


@workflow
async def waiting() -> None:
    await plain()
    await perdure.receive("go")
    await plain()


def test_a_replay_tells_nothing_and_the_rest_goes_on_in_the_same_trace(place: Place) -> None:
    first, second = Collected(), Collected()

    async def main() -> None:
        async with place.engine(telemetry=first.telemetry()) as engine:
            handle = await engine.start(waiting(), id="r")
            await until(lambda: first.named("plain"))
        assert [span.name for span in first.spans] == ["step test_engine_traces.plain"]
        async with place.engine(telemetry=second.telemetry()) as engine:
            handle = engine.get("r")
            await handle.send("go", None)
            await handle.result()

    run(main)
    assert second.tree() == [("run waiting", ["step plain"])]
    (before,), root = first.spans, second.one("waiting")
    assert before.context.trace_id == root.context.trace_id
    assert before.parent is not None
    assert before.parent.span_id == root.context.span_id
    assert before.context.span_id not in {span.context.span_id for span in second.spans}


@workflow
async def three() -> None:
    for _ in range(3):
        await plain()


def ids_of(collected: Collected) -> dict[int, tuple[Any, ...]]:
    return {
        span.context.span_id: (span.name, span.start_time, span.end_time, span.context.trace_id)
        for span in collected.spans
    }


@pytest.mark.parametrize("append", [1, 2, 3, 4])
def test_a_death_at_any_append_leaves_no_gap_and_no_second_id(append: int) -> None:
    """The worker dies after it has recorded something and before it could tell: who takes over tells that."""
    place, before, after, again = Place(), Collected(), Collected(), Collected()

    async def main() -> None:
        doomed = place.engine(
            lambda store: Mortal(store, append, True, Ledger()), telemetry=before.telemetry()
        )
        await doomed.__aenter__()
        store: Any = doomed._store
        asking = asyncio.ensure_future(doomed.start(three(), id="r"))
        await store.dead.wait()
        asking.cancel()
        await crash(doomed)
        await bury(place)
        async with place.engine(telemetry=after.telemetry()) as engine:
            await engine.get("r").result()
            told_again = await traces.tell(engine, "r", provider=again.provider)
            assert told_again is not None
            assert told_again.spans == 4

    run(main)
    told = {**ids_of(before), **ids_of(after)}
    expected = ids_of(again)
    if append == 4:  # of the end itself nobody hears any more; it can be told again by hand
        root = {id for id, span in expected.items() if span[0].startswith("run")}
        assert set(told) == set(expected) - root
    else:
        assert told == expected
        assert "perdure.run.recovered" in moments(after.one("three"))
    assert len({span[3] for span in expected.values()}) == 1


def test_what_was_told_long_before_a_death_is_not_told_again() -> None:
    place, before, after = Place(), Collected(), Collected()

    async def main() -> None:
        doomed = place.engine(lambda store: Mortal(store, 3, False, Ledger()), telemetry=before.telemetry())
        await doomed.__aenter__()
        store: Any = doomed._store
        asking = asyncio.ensure_future(doomed.start(three(), id="r"))
        await store.dead.wait()
        asking.cancel()
        await crash(doomed)
        await bury(place)
        async with place.engine(telemetry=after.telemetry(tell_again=0.0)) as engine:
            await engine.get("r").result()

    run(main)
    both = set(ids_of(before)) & set(ids_of(after))
    assert len(both) == 1  # of the last one before the death nobody knows
    assert len(ids_of(before) | ids_of(after)) == 4


# -- what is no attempt has no span --------------------------------------------------------------------


def test_an_attempt_that_a_person_has_made_anew_has_a_span_of_its_own() -> None:
    collected = Collected()

    @step(name="parks", retry=Retry(max_attempts=2, initial=0.01, on_exhausted="block"))
    async def parks() -> str:
        global calls
        calls += 1
        if calls <= 2:
            raise ValueError("no")
        return here()

    @workflow(name="parking")
    async def parking() -> str:
        return await parks()

    async def main() -> str:
        async with Place().engine(telemetry=collected.telemetry()) as engine:
            handle = await engine.start(parking(), id="r")

            async def blocked() -> bool:
                return await handle.status() == "blocked"

            await until(blocked)
            await handle.resolve("parks#1", rerun=True, by="ann")
            return await handle.result()

    seen = run(main)
    spans = collected.named("step parks")
    numbers = [span.attributes["perdure.step.attempt"] for span in spans if span.attributes]
    assert numbers == [1, 2, 1]
    assert len({span.context.span_id for span in spans}) == 3
    assert seen == f"{spans[-1].context.span_id:016x}"
    assert [name for name in moments(collected.one("run parking")) if "step" in name] == [
        "perdure.step.parked",
        "perdure.step.decided",
    ]


def test_a_failure_without_a_further_attempt_is_no_second_span() -> None:
    collected = Collected()

    @workflow(name="gives-up")
    async def gives_up() -> None:
        await flaky.with_options(retry=Retry(max_attempts=9, initial=60), on_cancel="wait")(9)

    async def main() -> None:
        async with Place().engine(telemetry=collected.telemetry()) as engine:
            handle = await engine.start(gives_up(), id="r")
            await until(lambda: collected.named("flaky"))
            await handle.cancel("enough")
            with pytest.raises(perdure.errors.PerdureError):
                await handle.result()

    run(main)
    assert len(collected.named("flaky")) == 1
    assert "perdure.run.cancel_requested" in moments(collected.one("run gives-up"))


def test_what_a_fork_takes_over_is_told_by_the_run_that_did_it() -> None:
    collected = Collected()

    async def main() -> None:
        async with Place().engine(telemetry=collected.telemetry()) as engine:
            await engine.run(three(), id="r")
            fork = await engine.get("r").fork(at="test_engine_traces.plain#3", id="f")
            await fork.result()

    run(main)
    first, fork = collected.named("run test_engine_traces.three")
    assert [link.context.span_id for link in fork.links] == [first.context.span_id]
    assert first.context.trace_id != fork.context.trace_id
    assert len(collected.named("plain")) == 4


@workflow
async def counts(left: int) -> None:
    await plain()
    if left:
        perdure.continue_as(counts(left - 1))


def test_each_generation_is_a_trace_linked_to_the_one_before() -> None:
    collected = Collected()

    async def main() -> None:
        async with Place().engine(telemetry=collected.telemetry()) as engine:
            await engine.run(counts(2), id="r")

    run(main)
    first, second, third = sorted(
        collected.named("counts"), key=lambda span: span.attributes["perdure.run.generation"]
    )
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert [link.context.span_id for link in third.links] == [second.context.span_id]
    assert len({span.context.trace_id for span in (first, second, third)}) == 3
    assert first.attributes["perdure.run.status"] == "continued"


def test_a_run_that_is_terminated_is_told_by_who_does_it() -> None:
    collected = Collected()

    async def main() -> None:
        async with Place().engine(telemetry=collected.telemetry()) as engine:
            handle = await engine.start(waiting(), id="r")
            await until(lambda: collected.named("plain"))
            await handle.terminate("enough")
            await until(lambda: collected.named("run test_engine_traces.waiting"))

    run(main)
    assert collected.tree() == [("run waiting", ["step plain"])]
    root = collected.one("waiting")
    assert root.attributes is not None
    assert root.attributes["perdure.run.status"] == "terminated"
    assert root.attributes["perdure.run.reason"] == "enough"


def test_a_run_that_fails_is_told_with_its_error_and_texts_are_masked() -> None:
    collected = Collected()

    async def main() -> None:
        async with Place().engine(
            telemetry=collected.telemetry(), redact=lambda text: text.replace("no 3", "***")
        ) as engine:
            handle = await engine.start(failing(), id="r")
            with pytest.raises(perdure.errors.RunFailed):
                await handle.result()

    run(main)
    root = collected.one("failing")
    assert root.status.description == "ValueError: ***"
    assert "no 3" not in "".join(span.to_json() for span in collected.spans)


# -- sampling ------------------------------------------------------------------------------------------


def test_what_is_not_sampled_is_not_told_and_says_so_to_others() -> None:
    collected = Collected(sampler=ALWAYS_OFF)

    @step(name="flags")
    async def flags() -> int:
        return int(trace.get_current_span().get_span_context().trace_flags)

    @workflow(name="unsampled")
    async def unsampled() -> int:
        return await flags()

    async def main() -> int:
        async with Place().engine(telemetry=collected.telemetry()) as engine:
            return await engine.run(unsampled(), id="r")

    assert run(main) & 1 == 0
    assert not collected.spans


def test_all_workers_draw_the_same_sample() -> None:
    """It is drawn by the trace's id, which is made of the history; so a run is told whole or not at all."""
    place, halves = Place(), [Collected(sampler=TraceIdRatioBased(0.5)) for _ in range(2)]

    async def main() -> None:
        async with place.engine(telemetry=halves[0].telemetry()) as engine:
            for number in range(20):
                await engine.start(waiting(), id=f"r{number}")
            await engine.get("r19").info()

            async def waits() -> bool:
                return all([await engine.get(f"r{number}").status() == "waiting" for number in range(20)])

            await until(waits)
        async with place.engine(telemetry=halves[1].telemetry()) as engine:
            for number in range(20):
                await engine.get(f"r{number}").send("go", None)
            for number in range(20):
                await engine.get(f"r{number}").result()

    run(main)
    begun = {span.context.trace_id for span in halves[0].named("plain")}
    ended = {span.context.trace_id for span in halves[1].named("run test_engine_traces.waiting")}
    assert begun == ended
    assert 0 < len(begun) < 20


# -- where steps stand ---------------------------------------------------------------------------------

ELSEWHERE = Queue("elsewhere")


@step(queue=ELSEWHERE)
async def sent() -> str:
    perdure.record_usage(model="gpt-5", provider="openai", input_tokens=11, output_tokens=7, cost="0.5")
    return here()


@workflow
async def scattered() -> list[str]:
    return [await sent(), await in_process()]


def test_steps_in_processes_and_on_other_workers_stand_in_the_runs_trace() -> None:
    place, mine, theirs = Place(), Collected(), Collected()

    async def main() -> list[str]:
        async with (
            place.engine(telemetry=mine.telemetry()) as engine,
            place.engine(queues=[ELSEWHERE], telemetry=theirs.telemetry()),
        ):
            return await engine.run(scattered(), id="r")

    seen = run(main)
    assert mine.tree() == [("run scattered", ["step sent", "step in_process"])]
    assert seen == [
        f"{mine.one(name).context.span_id:016x}" for name in ("step test_engine_traces.sent", "in_process")
    ]
    assert (mine.one("step test_engine_traces.sent").attributes or {})["gen_ai.usage.input_tokens"] == 11
    assert not theirs.spans  # an errand is a part of the step, not a run that anybody knows


def test_what_a_step_starts_belongs_to_its_span() -> None:
    collected = Collected()
    engines: list[perdure.Engine] = []

    @step(name="starts")
    async def starts() -> None:
        await engines[0].run(child(1), id="inner")

    @workflow(name="starting")
    async def starting() -> None:
        await starts()

    async def main() -> None:
        async with Place().engine(telemetry=collected.telemetry()) as engine:
            engines.append(engine)
            await engine.run(starting(), id="r")

    run(main)
    assert collected.tree() == [("run starting", [("step starts", [("run child", ["step plain"])])])]


def test_spending_is_told_by_the_names_for_language_models() -> None:
    collected = Collected()

    @step(name="asks")
    async def asks() -> None:
        perdure.record_usage(model="gpt-5", provider="openai", input_tokens=11, output_tokens=7, cost="0.5")

    @workflow(name="spending")
    async def spending() -> None:
        await asks()

    async def main() -> None:
        async with Place().engine(telemetry=collected.telemetry()) as engine:
            await engine.run(spending(), id="r")

    run(main)
    told = collected.one("step asks").attributes
    assert told is not None
    assert {name: value for name, value in told.items() if name.startswith(("gen_ai", "perdure.cost"))} == {
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "perdure.cost.usd": 0.5,
    }


# -- setting up ----------------------------------------------------------------------------------------


def test_instrument_tells_of_all_engines_and_uninstrument_of_none() -> None:
    collected = Collected()

    async def main(id: str) -> None:
        async with Place().engine() as engine:
            await engine.run(child(1), id=id)

    traces.instrument(collected.provider)
    traces.instrument(collected.provider)
    try:
        run(lambda: main("told"))
    finally:
        traces.uninstrument()
    run(lambda: main("untold"))
    assert collected.tree() == [("run child", ["step plain"])]


def test_two_that_tell_the_same_provider_tell_the_right_ids() -> None:
    """A provider has one tracer for a scope: who asks for it later mustn't take it away from the first."""
    collected = Collected()
    first, second = collected.telemetry(), collected.telemetry()

    async def main() -> None:
        async with Place().engine(telemetry=first) as one, Place().engine(telemetry=second) as other:
            await one.run(child(1), id="r")
            await other.run(child(2), id="r")
            await one.run(child(1), id="s")

    run(main)
    assert collected.tree() == [("run child", ["step plain"])] * 3
    assert len({span.context.trace_id for span in collected.spans}) == 3


def test_a_disabled_sdk_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    collected = Collected()

    async def main() -> None:
        async with Place().engine(telemetry=collected.telemetry()) as engine:
            await engine.run(child(1), id="r")
            assert await traces.tell(engine, "r", provider=collected.provider) is None

    run(main)
    assert not collected.spans


def test_a_provider_that_holds_the_sdks_will_do() -> None:
    collected = Collected()

    class Holder(trace.TracerProvider):
        provider = collected.provider

        def get_tracer(self, *args: Any, **options: Any) -> trace.Tracer:
            raise NotImplementedError

    async def main() -> None:
        async with Place().engine(telemetry=traces.Tracing(Holder())) as engine:  # type: ignore[arg-type]
            await engine.run(child(1), id="r")

    run(main)
    assert collected.tree() == [("run child", ["step plain"])]


def test_a_provider_that_takes_no_ids_is_refused() -> None:
    async def main() -> None:
        async with Place().engine(telemetry=traces.Tracing(trace.NoOpTracerProvider())):  # type: ignore[arg-type]
            pass

    with pytest.raises(
        ConfigurationError, match="tracer provider of OpenTelemetry's SDK, not NoOpTracerProvider"
    ):
        run(main)


def test_a_namespaces_runs_are_told_under_their_own_names_and_with_one_id() -> None:
    collected, again = Collected(), Collected()

    async def main() -> None:
        async with Place().engine(telemetry=collected.telemetry()) as engine:
            acme = engine.namespace("acme")
            await engine.run(three(), id="r")
            await acme.run(three(), id="r")
            handle = await acme.start(waiting(), id="w")
            await until(lambda: len(collected.named("plain")) == 7)
            await handle.terminate()
            await until(lambda: collected.named("run test_engine_traces.waiting"))
            await traces.tell(acme, "r", provider=again.provider)

    run(main)
    theirs, mine = [span.attributes or {} for span in collected.named("three")]
    assert (mine["perdure.run.id"], mine["perdure.namespace"]) == ("r", "acme")
    assert (theirs["perdure.run.id"], theirs.get("perdure.namespace")) == ("r", None)
    of_acme = {
        span.context.span_id for span in collected.spans if (span.attributes or {})["perdure.run.id"] == "r"
    }
    assert len(again.spans) == 4
    assert set(ids_of(again)) <= of_acme
    assert collected.one("waiting").attributes["perdure.namespace"] == "acme"  # type: ignore[index]
