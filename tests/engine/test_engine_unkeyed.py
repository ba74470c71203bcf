"""Clients without keys, in a database with sealed runs: they look, and write nothing to those."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from engine_kit import Place, history, reaches, run, until
from sealed_kit import OLD, codec, waits

import perdure
from perdure import Engine, errors, events
from perdure.storage.memory import MemoryStore
from perdure.storage.protocol import Store
from perdure.storage.sealing import SealedStore
from perdure.storage.sealing.unkeyed import Unkeyed

Deed = Callable[[Engine, "perdure.Handle[Any]"], Awaitable[Any]]

DEEDS: dict[str, Deed] = {
    "pause": lambda _, handle: handle.pause("lunch"),
    "resume": lambda _, handle: handle.resume(),
    "cancel": lambda _, handle: handle.cancel("enough"),
    "terminate": lambda _, handle: handle.terminate("enough"),
    "send": lambda _, handle: handle.send("word", "w"),
    "update": lambda _, handle: handle.update("add", "w", timeout=5),
    "set_attributes": lambda _, handle: handle.set_attributes(team="red"),
    "fork": lambda _, handle: handle.fork(),
    "start": lambda engine, handle: engine.start(waits("y"), id=handle.id),
    "restart": lambda engine, handle: engine.start(waits("y"), id=handle.id, if_exists="restart"),
}


@perdure.workflow(name="unkeyed.asks")
async def asks_people(what: str) -> str:
    answer: str = await perdure.ask(f"{what}?", str)
    return answer


@perdure.workflow(name="unkeyed.calls_back")
async def calls_back() -> int:
    ready = perdure.callback(int)
    perdure.emit("token", ready.token)
    return await ready


def sealed(place: Place, **options: Any) -> Engine:
    return place.engine(lambda store: SealedStore(store, codec(OLD)), **options)


def test_nothing_is_written_to_a_sealed_run_without_keys(tmp_path: Path) -> None:
    place = Place(tmp_path / "agents.db")

    async def main() -> None:
        async with sealed(place) as one:
            await one.start(waits("x"), id="live")
            await one.start(asks_people("x"), id="asks")
            await reaches(one.get("live"), "waiting")
            await until(lambda: _asked(one))
            calling = await one.start(calls_back(), id="calls")
            async for item in calling.stream("token"):
                token = item.value
                break
            (asked,) = [each.id async for each in one.questions()]
        async with place.engine(codec=(), worker=False) as plain:
            seen = await history(plain.get("live"))
            assert all(isinstance(event, events.Sealed) for event in seen)
            for name, deed in DEEDS.items():
                with pytest.raises(errors.SealedError) as told:
                    await deed(plain, plain.get("live"))
                assert name == "fork" or "PERDURE_KEYS" in str(told.value), name
            with pytest.raises(errors.SealedError):
                await plain.answer(asked, "yes")
            with pytest.raises(errors.SealedError, match="PERDURE_KEYS"):
                await plain.callbacks.complete(token, 7)
            assert len(await history(plain.get("live"))) == len(seen)
            clear = await plain.start(waits("x"), id="clear")
            await clear.send("word", "w")
            await clear.pause("it isn't sealed")
            await clear.terminate("done")
        async with sealed(place) as one:
            await one.get("live").send("word", "w")
            assert await one.get("live").result(timeout=60) == "wxx"
            await one.answer(asked, "yes")
            await one.callbacks.complete(token, 7)
            assert await one.get("calls").result(timeout=60) == 7
            assert await one.get("asks").result(timeout=60) == "yes"

    run(main)


async def _asked(one: Engine) -> bool:
    return bool([each async for each in one.questions()])


#: Verbs by which clients write to runs. A new one is written down here, or beside it as one that doesn't.
REFUSED = {
    "": {"create", "send", "terminate"},
    "pauses": {"pause", "resume"},
    "updates": {"request"},
    "attributes": {"set"},
    "callbacks": {"end"},
}
HARMLESS = {
    "": {"open", "close", "get", "generation", "inbox", "find", "events", "last_event", "load"},
    "updates": {"look"},
    "attributes": {"of"},
    "callbacks": {"get", "questions", "heartbeat", "time_out"},
}
OF_WORKERS = {
    "claim",
    "append",
    "mail",
    "owned",
    "register",
    "heartbeat",
    "announce",
    "workers",
    "suspects",
    "crowd",
    "bury",
    "retire",
    "strand",
}


@pytest.mark.parametrize("part", REFUSED)
def test_every_verb_that_writes_to_runs_is_thought_about(part: str) -> None:
    protocol = get_type_hints(vars(Store)[part].fget)["return"] if part else Store
    verbs = {
        name
        for kind in protocol.__mro__
        for name, member in vars(kind).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    around: Any = Unkeyed(MemoryStore())
    assert REFUSED[part] <= set(vars(type(getattr(around, part) if part else around)))
    assert verbs - (OF_WORKERS if not part else set()) == REFUSED[part] | HARMLESS.get(part, set())
