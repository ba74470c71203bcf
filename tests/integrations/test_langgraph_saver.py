"""PerdureSaver with real graphs outside of runs: from loops and threads, forks, deltas, pruning, refusals."""

from __future__ import annotations

import asyncio
import dataclasses
import operator
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph")

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from helpers.postgres import lent_database
from perdure import Engine
from perdure.errors import ConfigurationError, EngineClosedError, UsageError
from perdure.integrations.langgraph import PerdureSaver

CONFIG: Any = {"configurable": {"thread_id": "t"}}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        yield "memory:"
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'threads.db'}"
    else:
        with lent_database() as lent:
            yield lent


@dataclasses.dataclass
class Page:
    title: str


class State(TypedDict, total=False):
    found: Annotated[list[Any], operator.add]


class Delta(TypedDict, total=False):
    words: Annotated[
        list[str], DeltaChannel(lambda before, writes: [*before, *(w for it in writes for w in it)])
    ]


def adds(word: Any, key: str = "found") -> Any:
    def node(state: Any) -> Any:
        return {key: [word]}

    return node


def built(saver: Any, *nodes: Any, state: Any = State) -> Any:
    builder = StateGraph(state)
    names = [f"n{number}" for number in range(len(nodes))]
    for name, node in zip(names, nodes, strict=True):
        builder.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(before, after)
    return builder.compile(checkpointer=saver)


def test_a_thread_goes_on_in_another_engine(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'threads.db'}"

    async def asks(state: State) -> State:
        return {"found": [interrupt("go on?")]}

    async def main() -> None:
        async with Engine(url, worker=False) as engine:
            graph = built(PerdureSaver(engine), adds("a"), asks, adds("b"))
            found = await graph.ainvoke({"found": []}, CONFIG)
            assert found["__interrupt__"][0].value == "go on?"
        with pytest.raises(EngineClosedError, match="async with engine"):
            await graph.ainvoke({"found": []}, CONFIG)
        async with Engine(url, worker=False) as engine:
            graph = built(PerdureSaver(engine), adds("a"), asks, adds("b"))
            assert (await graph.ainvoke(Command(resume="yes"), CONFIG))["found"] == ["a", "yes", "b"]
            steps = [it.metadata["step"] async for it in graph.aget_state_history(CONFIG)]
            assert steps == [3, 2, 1, 0, -1]

    asyncio.run(main())


def test_sync_code_may_use_it_without_a_loop(url: str) -> None:
    with PerdureSaver(url) as saver:
        graph = built(saver, adds("a"), adds("b"))
        assert graph.invoke({"found": []}, CONFIG)["found"] == ["a", "b"]
        assert graph.invoke({"found": ["x"]}, CONFIG)["found"] == ["a", "b", "x", "a", "b"]
        history = list(graph.get_state_history(CONFIG))
        assert [it.metadata["step"] for it in history] == [6, 5, 4, 3, 2, 1, 0, -1]
        fork = graph.update_state(history[-2].config, {"found": ["forked"]})
        assert graph.invoke(None, fork)["found"][0] == "forked"
        saver.copy_thread("t", "u")
        saver.prune(["t"])
        assert len(list(saver.list(CONFIG))) == 1
        saver.delete_thread("t")
        assert saver.get_tuple(CONFIG) is None
        assert len(list(saver.list(None))) == len(list(saver.list({"configurable": {"thread_id": "u"}})))


def test_threads_of_an_engines_process_may_use_it_but_not_its_loop(url: str) -> None:
    async def main() -> None:
        async with Engine(url, worker=False) as engine:
            graph = built(PerdureSaver(engine), adds("a"))
            with pytest.raises(UsageError, match="would wait for itself"):
                graph.invoke({"found": []}, CONFIG)
            found = await asyncio.to_thread(graph.invoke, {"found": []}, CONFIG)
            assert found["found"] == ["a"]
            assert (await graph.aget_state(CONFIG)).values["found"] == ["a"]

    asyncio.run(main())


def test_a_saver_that_is_dropped_leaves_no_thread(url: str) -> None:
    saver = PerdureSaver(url)
    built(saver, adds("a")).invoke({"found": []}, CONFIG)
    mine = [thread for thread in threading.enumerate() if thread.name == "perdure-checkpoints"]
    assert mine
    del saver
    import gc

    gc.collect()
    for thread in mine:
        thread.join(30)
        assert not thread.is_alive()


def test_channels_of_deltas_are_rebuilt_as_by_the_default(url: str) -> None:
    with PerdureSaver(url) as saver:
        graph = built(saver, adds("a", "words"), adds("b", "words"), state=Delta)
        for word in ("x", "y"):
            graph.invoke({"words": [word]}, CONFIG)
        assert graph.get_state(CONFIG).values["words"] == ["x", "a", "b", "y", "a", "b"]
        for state in graph.get_state_history(CONFIG):
            found = saver.get_delta_channel_history(config=state.config, channels=["words"])
            plain = BaseCheckpointSaver.get_delta_channel_history(
                saver, config=state.config, channels=["words"]
            )
            assert found == plain
        saver.prune(["t"])
        assert graph.get_state(CONFIG).values["words"] == ["x", "a", "b", "y", "a", "b"]
        assert saver.get_delta_channel_history(config=CONFIG, channels=[]) == {}
        nobody: Any = {"configurable": {"thread_id": "nobody"}}
        assert saver.get_delta_channel_history(config=nobody, channels=["words"]) == {"words": {"writes": []}}


def test_classes_of_ones_own_come_back_if_they_are_allowed(url: str) -> None:
    with PerdureSaver(url, allow=[Page]) as saver:
        graph = built(saver, adds(Page("one")))
        graph.invoke({"found": []}, CONFIG)
        assert graph.get_state(CONFIG).values["found"] == [Page("one")]
    with PerdureSaver("memory:") as strict:
        graph = built(strict, adds(Page("one")))
        graph.invoke({"found": []}, CONFIG)
        assert graph.get_state(CONFIG).values["found"] == [{"title": "one"}]


def test_what_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="pickle_fallback"):
        PerdureSaver("memory:", serde=JsonPlusSerializer(pickle_fallback=True))
    with pytest.raises(ConfigurationError, match="isn't a database url"):
        PerdureSaver("mysql://x")
    with pytest.raises(UsageError, match="PERDURE_URL"):
        PerdureSaver().get_tuple(CONFIG)
    with pytest.raises(UsageError, match="keep_latest"):
        PerdureSaver("memory:").prune(["t"], strategy="keep_some")
    monkeypatch.setenv("PERDURE_URL", "memory:")
    with PerdureSaver() as saver:
        assert saver.get_tuple(CONFIG) is None


def test_versions_tell_forks_apart_and_grow() -> None:
    saver = PerdureSaver("memory:")
    first = saver.get_next_version(None, None)
    assert saver.get_next_version(first, None) > first
    assert saver.get_next_version(3, None) > saver.get_next_version(2, None)
    assert saver.get_next_version(first, None) != saver.get_next_version(first, None)


def test_a_missing_package_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules[{!r}] = None\n"
        "import perdure\n"
        "assert not [name for name, it in sys.modules.items() if it and name.startswith('lang')]\n"
        "try:\n    from perdure.integrations.langgraph import {}\n"
        "except ImportError as error:\n    print(error)\n"
    )
    for package, name in (("langgraph", "PerdureSaver"), ("langchain", "PerdureMiddleware")):
        done = subprocess.run(
            [sys.executable, "-c", program.format(package, name)], capture_output=True, text=True, check=True
        )
        assert "pip install 'perdure[langgraph]'" in done.stdout, done.stdout + done.stderr
        assert package in done.stdout
