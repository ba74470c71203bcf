"""Steps whose bodies are made on the spot: recorded once, compared by what they were given, in the caller's context."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest
from engine_kit import Place, run

import perdure
from perdure.api.inline import in_run, inline_step
from perdure.runtime.definitions import StepOptions

calls: list[Any] = []
where = contextvars.ContextVar("where", default="nowhere")


class Client:
    """Something live, which no history could hold."""

    async def double(self, given: dict[str, int]) -> int:
        assert not in_run()
        calls.append((given["x"], where.get(), perdure.step_info().step_id))
        where.set("inside")
        return given["x"] * 2


@perdure.workflow
async def inline_run(x: int) -> list[int]:
    client = Client()
    where.set("in the run")
    assert in_run()
    first = await inline_step("client.double", client.double, given={"x": x}, result=int, editable=True)
    assert where.get() == "in the run"
    keyed = inline_step(
        "client.double", client.double, given={"x": first}, result=int, options=StepOptions(key="b")
    )
    return [first, await keyed]


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


def test_it_is_recorded_once_and_executes_in_the_callers_context(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(inline_run(3), id="r") == [6, 12]
        assert [call[:2] for call in calls] == [(3, "in the run"), (6, "in the run")]
        async with place.engine() as engine:
            assert await engine.run(inline_run(3), id="r") == [6, 12]
        assert len(calls) == 2

    run(main)


def test_a_fork_may_change_what_an_editable_one_is_given(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(inline_run(3), id="r")
            ids = [call[2] for call in calls]
            forked = await engine.get("r").fork(edits={ids[0]: perdure.Args({"x": 50})})
            assert await forked.result() == [100, 200]
            refused = await engine.get("r").fork(edits={ids[1]: perdure.Args({"x": 50})})
            with pytest.raises(perdure.RunFailed, match="can't be made again from data"):
                await refused.result()

    run(main)


def test_outside_of_runs_it_is_just_called() -> None:
    async def main() -> None:
        async def body(given: int) -> int:
            return given + 1

        assert await inline_step("plain", body, given=1, result=int) == 2
        with pytest.raises(perdure.errors.ConfigurationError, match="can't name"):
            inline_step("a/b", body)

    run(main)
