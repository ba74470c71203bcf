"""How many errands a worker takes, by where their steps execute and what executes already."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import step
from perdure.runtime import definitions
from perdure.runtime.capacity import Capacity, Share
from perdure.runtime.settings import Settings


class Busy:
    """An executor with attempts of these steps under way."""

    def __init__(self, *definitions: Any, waiting: int = 0) -> None:
        self.executing = {Attempt(definition) for definition in definitions}
        self.occupied = len(self.executing) + waiting
        self.freed: Any = None


class Attempt:
    def __init__(self, definition: Any) -> None:
        self.definition = definition
        self.call = self
        self.operation = self


@pytest.fixture(autouse=True)
def nothing_else_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "_workflows", {"app.film": None})
    monkeypatch.setattr(definitions, "_queues_of", {})
    monkeypatch.setattr(definitions, "_steps", {})


def steps() -> tuple[Any, Any]:
    @step(queue="gpu", name="app.render")
    async def render() -> None: ...

    @step(queue="gpu", name="app.shade")
    def shade() -> None: ...

    return render, shade


def capacity(busy: Any, queues: tuple[str, ...] = ("default", "gpu"), **limits: int) -> Capacity:
    return Capacity(busy, Settings(queues=queues, **limits))  # type: ignore[arg-type]


def test_without_errands_there_is_one_claim() -> None:
    steps()
    assert capacity(Busy(), ("default",)).shares(256) == [Share(["app.film"], 256)]


def test_with_much_room_there_is_one_claim_for_all() -> None:
    steps()
    looked = capacity(Busy(), threads=40)
    assert looked.shares(256) == [Share(["app.film", "step/app.render", "step/app.shade"], 40)]
    assert not looked.short


def test_with_little_room_each_kind_has_its_own() -> None:
    render, shade = steps()
    looked = capacity(Busy(render.definition, shade.definition, waiting=1), concurrency=20, threads=3)
    expected = [Share(["app.film"], 256), Share(["step/app.render"], 17), Share(["step/app.shade"], 2)]
    seen = [looked.shares(256) for _ in range(3)]
    assert all(sorted(shares) == sorted(expected) for shares in seen)
    assert len({str(shares[0]) for shares in seen}) == 3  # none is always the first
    assert not looked.short


def test_without_room_errands_are_left_to_others() -> None:
    _, shade = steps()
    looked = capacity(Busy(shade.definition), threads=1, concurrency=5)
    assert sorted(share.workflows for share in looked.shares(256)) == [["app.film"], ["step/app.render"]]
    assert looked.short
    looked = capacity(Busy(waiting=5), concurrency=5)
    assert looked.shares(256) == [Share(["app.film"], 256)]
    assert looked.short
