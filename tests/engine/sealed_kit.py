"""A run that does much with one value, and a look at all that a database holds of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import perdure
from perdure import Compression, Encryption, KeyRing, step, workflow

CANARY = "canary-7f3a"
OLD = {"k1": bytes(range(32))}
BOTH = {**OLD, "k2": bytes(range(32, 64))}
OTHER = {"k9": bytes(32)}


def codec(keys: dict[str, bytes] = OLD, **options: Any) -> list[perdure.Codec]:
    return [Compression(above=256), Encryption(KeyRing(keys), **options)]


class Trouble(Exception):
    pass


@step
def learn(what: str) -> str:
    return what + what


@step(retry=perdure.Retry(max_attempts=2, initial=0.01))
async def stumble(what: str) -> str:
    perdure.heartbeat({"at": what})
    perdure.emit("progress", {"item": what})
    if perdure.step_info().attempt == 1:
        raise Trouble(what)
    return what


@workflow(name="sealed.child")
async def child(what: str) -> str:
    return await learn(what)


@workflow(name="sealed.hears", on=perdure.Event("sealed.news"))
async def hears(news: dict[str, Any]) -> str:
    return await learn(str(news["what"]))


@workflow(name="sealed.much")
async def much(what: str) -> str:
    state = [what]

    def peek() -> list[str]:
        return state

    async def add(more: str) -> str:
        state.append(more)
        return await learn(more)

    perdure.on_query(peek)
    perdure.on_update(add)
    await learn(what * 100)
    await stumble(what)
    await child(what)
    perdure.emit("out", what)
    got = await perdure.receive("word", str)
    answer = await perdure.ask(f"is it {what}?", str, details={"what": what})
    return got + answer


@workflow(name="sealed.fails")
async def fails(what: str) -> None:
    await learn(what)
    raise Trouble(what)


@workflow(name="sealed.waits")
async def waits(what: str) -> str:
    await learn(what)
    got = await perdure.receive("word", str)
    return got + await learn(what)


def holds(path: Path, needle: str) -> list[str]:
    """The files of a SQLite database in which a text is."""
    return [
        one.name for one in sorted(path.parent.glob(path.name + "*")) if needle.encode() in one.read_bytes()
    ]
