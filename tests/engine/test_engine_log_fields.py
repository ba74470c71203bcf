"""Log lines say what they are about: of steps anywhere, of workflow code, of the engine; once, and not on replay."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any

import pytest
from engine_kit import Place, run, until
from trace_kit import Collected

import perdure
from perdure import Retry, Status, step, workflow
from perdure.codec import redaction
from perdure.errors import ConfigurationError
from perdure.logs import ContextFilter, JsonFormatter, TextFormatter, configure

users = logging.getLogger("shop")


@step(retry=Retry(max_attempts=2, initial=0.01))
async def sells(item: str) -> None:
    users.info("selling %s", item, extra={"item": item})
    if perdure.step_info().attempt == 1:
        users.warning("sold out", exc_info=ValueError("none left"))
        raise ValueError("none left")


@step
def in_thread() -> None:
    users.info("in a thread")


@step(process=True)
def in_process() -> None:
    logging.getLogger("shop").info("in a process")


@workflow
async def sale() -> None:
    perdure.log.info("begins")
    users.info("my own line")
    await sells("tea")
    in_order = asyncio.gather(in_thread(), in_process())
    await in_order
    await perdure.receive("go")
    perdure.log.info("ends")


class Lines:
    """What was logged, as objects."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def of(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.all() if line["message"] == message]

    def one(self, message: str) -> dict[str, Any]:
        (line,) = self.of(message)
        return line


@pytest.fixture
def lines() -> Iterator[Lines]:
    root, ours = logging.getLogger(), logging.getLogger("perdure")
    before = root.level, ours.level, users.level
    found = Lines()
    handler = configure("json", stream=found.stream)
    users.setLevel(logging.INFO)
    yield found
    root.removeHandler(handler)
    for logger, level in zip((root, ours, users), before, strict=True):
        logger.setLevel(level)


def test_each_line_says_what_it_is_about_and_replays_are_silent(lines: Lines) -> None:
    place, collected = Place(), Collected()

    async def main() -> None:
        async with place.engine(name="w", telemetry=collected.telemetry()) as engine:
            handle = await engine.start(sale(), id="r")

            async def waits() -> bool:
                return await handle.status() == Status.WAITING

            await until(waits)
        async with place.engine(name="v") as engine:
            await engine.get("r").send("go", None)
            await engine.get("r").result()

    run(main)
    run_fields = {"run_id": "r", "workflow": sale.name, "worker": "w"}
    for message in ("begins", "my own line", "in a thread", "in a process", "sold out"):
        line = lines.one(message)
        assert {name: line.get(name) for name in run_fields} == run_fields, message
    first, second = lines.of("selling tea")
    assert (first["step_id"], first["attempt"], first["item"]) == ("test_engine_log_fields.sells#1", 1, "tea")
    assert second["attempt"] == 2
    assert lines.one("sold out")["error"]["type"] == "ValueError"
    assert lines.one("ends")["worker"] == "v"
    spans = {f"{span.context.span_id:016x}": span.name for span in collected.spans}
    assert spans[first["span_id"]].endswith("sells")
    assert spans[lines.one("in a process")["span_id"]].endswith("in_process")
    trace = f"{collected.spans[0].context.trace_id:032x}"
    assert {lines.one(message)["trace_id"] for message in ("begins", "in a thread", "in a process")} == {
        trace
    }


def test_lines_of_the_engine_name_the_run(lines: Lines) -> None:
    @workflow(name="spins", guard=True)
    async def opens() -> None:
        if await asyncio.sleep(0, True):
            asyncio.get_running_loop().call_exception_handler({"message": "trouble"})

    async def main() -> None:
        async with Place().engine() as engine:
            await engine.run(opens(), id="r")

    run(main)
    (line,) = [line for line in lines.all() if line["message"] == "run r: trouble"]
    assert line["run_id"] == "r"
    assert line["level"] == "ERROR"


def test_a_queue_handler_takes_the_fields_along() -> None:
    taken: SimpleQueue[Any] = SimpleQueue()
    handler = QueueHandler(taken)
    handler.addFilter(ContextFilter())
    users.addHandler(handler)
    users.setLevel(logging.INFO)

    @workflow(name="queued")
    async def queued() -> None:
        await in_thread()

    async def main() -> None:
        async with Place().engine() as engine:
            await engine.run(queued(), id="r")

    try:
        run(main)
    finally:
        users.removeHandler(handler)
    told = JsonFormatter({"service": "shop"}).format(taken.get())
    assert json.loads(told)["run_id"] == "r"
    assert json.loads(told)["service"] == "shop"


def test_lines_are_json_whatever_was_given() -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError

    given = {"x": object, "nan": float("nan"), "deep": {"a": {1, 2}}, "bad": Bad(), "run_id": "r\n1"}
    record = logging.makeLogRecord(
        {"msg": "a\nb %s", "args": ("c",), "levelname": "INFO", "name": "n", **given}
    )
    told = JsonFormatter().format(record)
    assert "\n" not in told
    line = json.loads(told, parse_constant=lambda name: pytest.fail(name))
    assert line["message"] == "a\nb c"
    assert line["bad"] == "<Bad whose str() raised RuntimeError>"
    assert line["nan"] == "nan"


def test_secrets_are_masked_in_lines() -> None:
    redaction.remember("hunter2-hunter2", "password")
    record = logging.makeLogRecord({"msg": "with hunter2-hunter2", "extra_text": "hunter2-hunter2"})
    try:
        raise ValueError("hunter2-hunter2")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    try:
        for formatter in (JsonFormatter(), TextFormatter()):
            assert "hunter2" not in formatter.format(record)
    finally:
        redaction.forget_all()


def test_a_format_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigurationError, match='"text" or "json"'):
        configure("xml")
