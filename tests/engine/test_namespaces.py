"""Namespaces side by side: whatever runs do, it stays in theirs, and looks to them as if there were no others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, bury, crash, run, until

import perdure
from perdure import Engine, step, workflow
from perdure.api.budgets import Budgets
from perdure.api.callbacks import Callbacks
from perdure.api.entitylist import EntityList
from perdure.api.handle import Handle
from perdure.api.limits import Limits
from perdure.api.namespacing import Namespace
from perdure.api.queues import Queues
from perdure.api.schedules import ScheduleHandle, Schedules
from perdure.errors import NamespaceError, QuestionError, UnknownRunError, UsageError

KEYS: dict[str, list[str]] = {}


@step
async def notes(who: str) -> str:
    KEYS.setdefault(who, []).append(perdure.idempotency_key())
    return perdure.step_info().run_id


@workflow
async def child(who: str) -> str:
    return f"{perdure.info().id} of {perdure.info().parent}: {await notes(who)}"


@workflow
async def listener() -> str:
    return await perdure.receive("said", str)


@perdure.entity
class Tally:
    state: int

    async def add(self, number: int) -> int:
        self.state += number
        return self.state


@workflow
async def works(who: str) -> list[Any]:
    other = await perdure.start(listener(), id="listener")
    named = await perdure.start(child(who), id="child")
    await other.send("said", who)
    perdure.publish("happened", who, key="once")
    perdure.emit("log", who)
    perdure.set_attributes(who=who)
    count = await perdure.entity(Tally, "one").add(1)
    return [
        perdure.info().id,
        await named.result(),
        await child(who),
        await other.result(),
        await perdure.event("happened"),
        count,
    ]


@workflow(on=perdure.Event("happened"))
async def hears(what: str) -> str:
    return f"{perdure.info().id.partition(':')[0]} heard {what}"


def test_runs_of_namespaces_are_kept_apart(place: Place) -> None:
    async def main() -> None:
        KEYS.clear()
        async with place.engine() as engine:
            names = ("acme", "acme.eu", "acme-eu", "b")
            spaces = {name: engine.namespace(name) for name in names}
            found = await asyncio.gather(*(space.run(works(name), id="r") for name, space in spaces.items()))
            plain = await engine.run(works("plain"), id="r")
            for name, result in zip((*names, "plain"), (*found, plain), strict=True):
                assert result[0] == "r"
                assert result[1] == "child of r: child"
                assert result[3:] == [name, name, 1]
            assert len({key for keys in KEYS.values() for key in keys}) == sum(map(len, KEYS.values()))
            for name, space in spaces.items():
                ids = {one.id async for one in space.runs()}
                assert {"r", "child", "listener"} <= ids
                assert not any(id.startswith(":") for id in ids)
                assert [
                    item.value async for item in space.get("r").stream("log", type=str, follow=False)
                ] == [name]
                assert [one.id async for one in space.runs(attributes={"who": name})] == ["r"]
                assert [one.id async for one in space.runs(attributes={"who": "plain"})] == []
                await until(lambda space=space: heard(space))  # type: ignore[misc]
                heards = [one async for one in space.runs(workflow="hears")]
                assert len(heards) == 1
                assert await space.get(heards[0].id).result() == f"{hears.name} heard {name}"
            total = sum([1 async for _ in engine.runs(limit=None)])
            assert total == 5 * len([1 async for _ in spaces["b"].runs()])

    run(main)


async def heard(space: Namespace) -> bool:
    return any([one.status == "completed" async for one in space.runs(workflow="hears")])


def test_an_engine_can_be_bound_to_one(place: Place) -> None:
    async def main() -> None:
        async with place.engine(namespace="acme") as acme:
            assert await acme.run(child("a"), id="r") == "r of None: r"
            assert acme.bound_to == "acme"
            assert [one.id async for one in acme.runs()] == ["r"]
            assert acme.namespace("acme").bound_to == "acme"
            with pytest.raises(NamespaceError):
                acme.namespace("other")
            with pytest.raises(NamespaceError):
                await acme.queues.set("default", concurrency=1)
            with pytest.raises(UnknownRunError):
                await acme.get(":acme/r").info()
            with pytest.raises(UsageError, match="begins with"):
                await acme.start(child("a"), id=":b/r")
        async with place.engine(worker=False) as engine:
            assert [one.id async for one in engine.runs()] == [":acme/r"]
            assert await engine.get(":acme/r").result() == "r of None: r"
            with pytest.raises(UsageError, match="belongs to a namespace"):
                await engine.start(child("a"), id=":acme/x")

    run(main)


def test_schedules_forks_and_restarts_stay_there(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            acme, beta = engine.namespace("acme"), engine.namespace("beta")
            await acme.schedules.create("s", child("a"), every=3600)
            await beta.schedules.create("s", child("b"), every=3600)
            fired = await (acme.schedules.get("s")).trigger()
            assert fired.id.startswith("s@")
            assert (await fired.result()).startswith(f"{fired.id} of None")
            assert (await acme.schedules.get("s").info()).fired == 1
            assert (await beta.schedules.get("s").info()).fired == 0
            assert sorted(one.name for one in await engine.schedules.list()) == [":acme/s", ":beta/s"]
            await engine.schedules.get(":acme/s").pause()  # by an operator
            assert (await acme.schedules.get("s").info()).paused
            assert not (await beta.schedules.get("s").info()).paused

            await acme.run(child("a"), id="r")
            forked = await acme.get("r").fork()
            assert await forked.result() == f"{forked.id} of None: r"  # the step isn't done again
            operators = await engine.get(":acme/r").fork()  # stays where its donor is
            assert operators.id.startswith(":acme/")
            await operators.result()
            again = await acme.start(child("z"), id="q")
            await again.result()
            assert await (await acme.start(child("z"), id="q", if_exists="restart")).result()
            assert (await acme.get("q").info()).generation == 2
            with pytest.raises(UnknownRunError):
                await beta.get("r").fork()

    run(main)


def test_a_run_of_a_namespace_survives_a_crash_at_each_append(place: Place) -> None:
    async def main() -> None:
        ledger = Ledger()
        for death in range(1, 40):
            engine = place.engine(lambda store, death=death: Mortal(store, death, death % 2 == 0, ledger))  # type: ignore[misc]
            await engine.__aenter__()
            mortal: Any = engine._store
            id = f"r{death}"
            going = asyncio.ensure_future(engine.namespace("acme").run(child("x"), id=id))
            await asyncio.wait(
                [going, asyncio.ensure_future(mortal.dead.wait())], return_when="FIRST_COMPLETED"
            )
            dead = mortal.dead.is_set()
            going.cancel()
            await crash(engine)
            await bury(place)
            if not dead:
                break
            async with place.engine() as engine:
                acme = engine.namespace("acme")
                assert await acme.run(child("x"), id=id) == f"{id} of None: {id}"
                assert [one.id async for one in acme.runs(text=id)] == [id]
        else:
            raise AssertionError("it never came to its end")

    run(main)


#: Every public name of what a namespace hands out, and why it can't reach another: all of them go through its store.
SURFACE: dict[type, set[str]] = {
    Namespace: {
        "answer", "awaited", "bound_to", "budgets", "call_entity", "callbacks", "diff", "disk", "entities",
        "entity", "erase", "get", "limits", "overview", "partition", "prune", "publications", "publish", "question",
        "questions", "queues", "quotas", "retention", "run", "runs", "runs_page", "schedules", "start",
        "start_many", "stuck", "subscriptions", "unsubscribe", "usage", "vacuum", "watch", "workers", "workflows",
    },
    Handle: {
        "answer", "at", "cancel", "change_of", "fork", "history", "info", "interface", "pause", "query", "resolve",
        "result", "resume", "retry", "send", "set_attributes", "status", "step_logs", "stream", "streams", "terminate",
        "update", "usage", "why",
    },
    Schedules: {"create", "get", "list"},
    ScheduleHandle: {"backfill", "delete", "info", "pause", "resume", "trigger", "update"},
    Callbacks: {"complete", "fail", "heartbeat"},
    Queues: {"drain", "get", "list", "pause", "reset", "resume", "set"},
    Limits: {"block", "get", "list", "reset", "unblock"},
    Budgets: {"close_breaker", "get", "list", "raise_by", "remove", "reset", "set"},
    EntityList: {"kinds", "page"},
}  # fmt: skip


@pytest.mark.parametrize("kind", SURFACE, ids=lambda kind: kind.__name__)
def test_every_verb_is_known(kind: type) -> None:
    """A new verb: does it go through the connection's store? Then add it here, and to `test_tenants.py` its route."""
    assert {name for name in dir(kind) if not name.startswith("_")} == SURFACE[kind]


def test_each_verb_of_a_handle_finds_nothing_of_another_namespace(place: Place) -> None:
    arguments: dict[str, tuple[Any, ...]] = {
        "answer": (True,), "at": (1,), "change_of": ("x", 1), "query": ("q",), "resolve": ("s#1",), "send": ("m", 1),
        "stream": ("log",), "update": ("u",), "result": (5,),
    }  # fmt: skip

    async def main() -> None:
        async with place.engine() as engine:
            await engine.namespace("acme").run(works("a"), id="r")
            for id in ("r", ":acme/r", "acme/r", "../acme/r"):
                handle = engine.namespace("beta").get(id)
                for verb in sorted(SURFACE[Handle]):
                    given = arguments.get(verb, ())
                    options = {"rerun": True} if verb == "resolve" else {}
                    if verb == "set_attributes":
                        options = {"x": 1}  # type: ignore[dict-item]
                    try:
                        made = getattr(handle, verb)(*given, **options)
                        if hasattr(made, "__aiter__"):
                            assert [item async for item in made] == []
                        else:
                            assert await asyncio.wait_for(made, 5) in ([], None), verb
                    except (UnknownRunError, QuestionError):
                        continue
                    assert verb in ("streams",), f"{verb} found something"

    run(main)


def test_who_uses_no_namespace_sees_no_difference(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert engine.bound_to is None
            assert await engine.run(child("a"), id="r") == "r of None: r"
            assert isinstance(engine, Engine)
            for name in ("", "A", "a/b", ":a", None, 5):
                with pytest.raises(UsageError):
                    engine.namespace(name)  # type: ignore[arg-type]

    run(main)
