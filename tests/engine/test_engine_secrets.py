"""Secrets in runs: what steps get, what is recorded, and what shows up when they fail."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import msgspec
import pytest
from engine_kit import Place

import perdure
from perdure import Secret, Status, events, step, workflow
from perdure.api.facts import event_facts, run_facts
from perdure.api.lines import timeline
from perdure.codec import redaction
from perdure.codec.events import encode_event
from perdure.codec.redaction import active, forget_all

VALUE = "canary-of-engine-0123456789"
KEY = Secret.env("CANARY")


@pytest.fixture(autouse=True)
def canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CANARY", VALUE)
    factory = logging.getLogRecordFactory()
    yield
    forget_all()
    logging.setLogRecordFactory(factory)


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class Account(msgspec.Struct):
    user: str
    key: Secret[str]


@step
async def charge(account: Account) -> str:
    return "good" if account.key.reveal() == VALUE else "bad"


@step
def make_account(key: Secret[str]) -> Account:
    return Account("x", key)


@step
async def refused(key: Secret[str]) -> None:
    perdure.heartbeat({"sent": key.reveal()})
    await asyncio.sleep(0.01)
    raise ValueError(f"{key.reveal()} was refused", key.reveal())


@step(retry=perdure.Retry(max_attempts=1, on_exhausted="block"))
async def parks(key: Secret[str]) -> None:
    raise ValueError(f"{key.reveal()} was refused")


@step(once=True, retry=perdure.Retry(max_attempts=1))
async def ambiguous(key: Secret[str]) -> None:
    raise perdure.OutcomeUnknown(f"with {key.reveal()}")


@step(process=True)
def elsewhere(key: Secret[str]) -> None:
    logging.getLogger("shop.elsewhere").warning("using %s", key.reveal())
    raise ValueError(f"{key.reveal()} was refused in a process")


@workflow
async def shop(key: Secret[str]) -> Account:
    account = await make_account(key)
    assert await charge(account) == "good"
    told = []
    for call in (refused(key), elsewhere(key)):
        try:
            await call
        except ValueError as error:
            told.append(error.args)
    await perdure.receive("go", dict[str, Secret[str]])
    perdure.emit("out", told)
    return account


async def all_that_is_recorded(handle: perdure.Handle[Any]) -> bytes:
    history = [event async for event in handle.history()]
    shown = msgspec.json.encode([event_facts(history), run_facts(await handle.info())])
    lines = repr(timeline(history, full=True))
    return b"".join(map(encode_event, history)) + shown + lines.encode()


@in_a_loop
async def test_steps_get_the_value_and_the_history_has_the_reference(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with place.engine() as engine:
        handle = await engine.start(shop(KEY), id="shop")
        await handle.send("go", {"another": KEY})
        account = await handle.result(timeout=60)
        assert account == Account("x", KEY)
        recorded = await all_that_is_recorded(handle)
        assert VALUE.encode() not in recorded
        assert b"[secret env:CANARY] was refused" in recorded
        assert b"[secret env:CANARY] was refused in a process" in recorded
        assert VALUE not in caplog.text
        assert "using [secret env:CANARY]" in caplog.text
    async with place.engine() as engine:  # a replay by another engine, with the key rotated meanwhile
        assert await engine.get("shop").result(timeout=60) == account


@in_a_loop
async def test_reasons_of_blocked_runs_are_masked(memory: Place, caplog: pytest.LogCaptureFixture) -> None:
    @workflow(name="waits_for_people")
    async def waits_for_people(key: Secret[str]) -> None:
        await asyncio.gather(parks(key), ambiguous(key))

    async with memory.engine() as engine:
        handle = await engine.start(waits_for_people(KEY), id="p")
        async with asyncio.timeout(60):
            while (await handle.status()) is not Status.BLOCKED:
                await asyncio.sleep(0.01)
        info = await handle.info()
        assert info.reason is not None
        assert info.reason.count("[secret env:CANARY]") == 2
        assert VALUE.encode() not in await all_that_is_recorded(handle)
        assert VALUE not in repr(await handle.why())
        assert VALUE not in caplog.text


@in_a_loop
async def test_a_bare_secret_fails_in_the_first_run_and_workflow_code_reveals_nothing(memory: Place) -> None:
    @workflow(name="bare_one")
    async def bare_one() -> str:
        with pytest.raises(perdure.errors.UsageError, match="Pass the Secret to a step"):
            KEY.reveal()
        with pytest.raises(perdure.NotSerializableError, match="no reference"):
            await charge(Account("x", Secret("a bare value")))
        return "fine"

    async with memory.engine() as engine:
        assert await engine.run(bare_one(), id="b") == "fine"
        with pytest.raises(perdure.NotSerializableError):
            await engine.start(shop(Secret("bare")))


@in_a_loop
async def test_what_can_t_be_found_fails_the_step_with_what_to_do_and_a_retry_goes_on(
    memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    @workflow(name="needs_it")
    async def needs_it() -> str:
        return await charge(Account("x", Secret.env("LATER")))

    async with memory.engine() as engine:
        handle = await engine.start(needs_it(), id="n")
        with pytest.raises(perdure.RunFailed, match="no environment variable LATER"):
            await handle.result(timeout=60)
        monkeypatch.setenv("LATER", VALUE)
        await handle.retry()
        assert await handle.result(timeout=60) == "good"


@in_a_loop
async def test_redactions_change_what_is_shown_and_recorded_of_errors_and_no_results(
    memory: Place, caplog: pytest.LogCaptureFixture
) -> None:
    url = "postgresql://app:hunter2@db/app"

    @step(name="fails_with_url")
    async def fails_with_url() -> None:
        logging.getLogger("shop").error("can't connect to %s", url)
        raise ConnectionRefusedError(url)

    @step(name="returns_url")
    async def returns_url() -> str:
        return url

    @workflow(name="urls")
    async def urls() -> str:
        url = await returns_url()
        try:
            await fails_with_url.with_options(retry=perdure.Retry(max_attempts=1))()
        except ConnectionRefusedError as error:
            return f"{url} {error.args}"
        return "no error"

    def upper(text: str) -> str:
        return text.replace("can't", "CAN'T")

    async with memory.engine(redact=[perdure.redactions.common, upper]) as engine:
        assert active()
        handle = await engine.start(urls(), id="u")
        assert await handle.result(timeout=60) == f"{url} ('postgresql://app:[hidden]@db/app',)"
        history = [event async for event in handle.history()]
        failed = next(event for event in history if isinstance(event, events.StepFailed))
        assert "hunter2" not in repr(failed)
        assert "hunter2" in repr(history)
        assert "hunter2" not in repr(event_facts(history))
        assert "hunter2" not in repr(timeline(history, full=True))
        assert "hunter2" not in caplog.text
        assert "CAN'T connect to postgresql://app:[hidden]@db/app" in caplog.text
    assert not redaction._state.rules


@in_a_loop
async def test_the_environment_names_redactions(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_REDACT", "common, textwrap:dedent")
    async with memory.engine():
        assert len(redaction._state.rules) == 2
    async with memory.engine(redact=[]):
        assert not redaction._state.rules
    for wrong in ("textwrap", "nowhere:x", "textwrap:nothing", "string:digits"):
        monkeypatch.setenv("PERDURE_REDACT", wrong)
        with pytest.raises(perdure.errors.ConfigurationError, match="PERDURE_REDACT"):
            memory.engine()
    with pytest.raises(perdure.errors.ConfigurationError, match="redact="):
        memory.engine(redact=["common"])
