"""An application that uses every feature with secrets, and lets each library that it uses tell all it knows."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
from typing import Any

import pydantic

import perdure
from perdure import Secret, step, workflow

logger = logging.getLogger("canary.app")

FROM_ENV = "canary-env-51HxT0/+q4"
FROM_FILE = 'canary-file-"quoted"-8812'
FROM_VAULT = "canary-vault-77aa99"
ALL = (FROM_ENV, FROM_FILE, FROM_VAULT)

ENV = Secret.env("CANARY_KEY")
VAULT = Secret.of("canary-vault", "db/main", dict)


def from_vault(name: str) -> dict[str, str]:
    return {"user": "app", "password": FROM_VAULT}


perdure.secrets.register("canary-vault", from_vault)


@dataclasses.dataclass
class Keys:
    api: Secret[str]
    file: Secret[str]
    database: Secret[dict[str, str]]


class Order(pydantic.BaseModel):
    number: int
    key: Secret[str]


def tell_all(keys: Keys) -> str:
    """What a careless library would put into its texts."""
    database = keys.database.reveal()
    return (
        f"POST https://x/?key={keys.api.reveal()} Authorization: {keys.file.reveal()} "
        f"postgresql://{database['user']}:{database['password']}@db {json.dumps(database)} {keys.file.reveal()!r}"
    )


@step
async def pays(keys: Keys, order: Order) -> Keys:
    logger.debug("sending %s", tell_all(keys))
    logger.info("with more", extra={"request": {"headers": [tell_all(keys)]}})
    logger.info("headers: %r", {"authorization": order.key.reveal()}, stack_info=True)
    perdure.heartbeat({"sent": [tell_all(keys)]})
    perdure.emit("progress", {"keys": "in use", "number": order.number})
    return keys


@step(retry=perdure.Retry(max_attempts=2, initial=0.01))
async def fails_once(keys: Keys) -> int:
    attempt = perdure.step_info().attempt
    if attempt == 1:
        perdure.heartbeat(tell_all(keys))
        await asyncio.sleep(0.01)
        raise ConnectionError(tell_all(keys))
    return attempt


@step
def fails_in_thread(keys: Keys) -> None:
    local = tell_all(keys)
    try:
        raise KeyError(local)
    except KeyError as error:
        logger.exception("in a thread")
        failure = ValueError(local, {"local": local})
        failure.add_note(local)
        raise ExceptionGroup(local, [failure, RuntimeError(local)]) from error


@step(process=True)
def fails_in_process(keys: Keys) -> None:
    logger.warning("in a process: %s", tell_all(keys))
    perdure.heartbeat({"in a process": tell_all(keys)})
    raise ValueError(tell_all(keys))


def unsure(keys: Keys) -> None:
    raise RuntimeError(f"the probe failed with {tell_all(keys)}")


@step(once=True, verify=unsure, retry=perdure.Retry(max_attempts=1))
async def in_doubt(keys: Keys) -> None:
    raise perdure.OutcomeUnknown(tell_all(keys))


@step(retry=perdure.Retry(max_attempts=1, on_exhausted="block"))
async def parks(keys: Keys) -> None:
    raise ValueError(tell_all(keys))


@step
async def away(keys: Keys) -> None:
    logger.error("elsewhere: %s", tell_all(keys))
    raise PermissionError(tell_all(keys))


@step
async def returns_what_cannot_be_kept(keys: Keys) -> int:
    return [tell_all(keys)]  # type: ignore[return-value]


@workflow
async def child(keys: Keys) -> Secret[str]:
    try:
        await fails_in_process(keys)
    except ValueError as error:
        raise RuntimeError(f"the child failed: {error}") from error
    return keys.api


@workflow
async def stuck(keys: Keys) -> None:
    await asyncio.gather(parks(keys), in_doubt(keys))


@workflow(on=perdure.Event("canary.published"))
async def subscriber(keys: Keys) -> None:
    await pays(keys, Order(number=1, key=keys.api))


@perdure.entity
class Wallet:
    state: dict[str, Any]

    async def add(self, number: int) -> int:
        await pays(Keys(ENV, ENV, VAULT), Order(number=number, key=ENV))
        self.state["added"] = number
        return number


@workflow
async def everything(keys: Keys, order: Order, round: int = 1) -> Keys:
    perdure.set_attributes(round=round, customer="c-1")
    perdure.on_query(current)
    perdure.on_update(change)
    saga = perdure.Saga()
    await pays(keys, order)
    saga.undo(pays(keys, order))
    await fails_once(keys)
    for call in (
        fails_in_thread(keys),
        away.with_options(queue="canary-away")(keys),
        returns_what_cannot_be_kept(keys),
    ):
        try:
            await call
        except Exception as error:
            perdure.log.warning("a step failed: %s", error, exc_info=error)
            perdure.emit("failures", {"error": str(error)})
    try:
        await child(keys)
    except Exception as error:
        perdure.log.error("the child: %r", error)
    await perdure.map(pays_order, [Order(number=number, key=keys.api) for number in range(3)])
    perdure.publish("canary.published", keys)
    await perdure.entity(Wallet, "w").add(3)
    taken = await perdure.receive("keys", Keys)
    asked = await perdure.ask("Which key?", Secret[str], key="which")
    assert asked == keys.api
    if round == 1:
        perdure.continue_as(everything(taken, order, 2))
    return taken


@step
async def pays_order(order: Order) -> Secret[str]:
    assert order.key.reveal()
    return order.key


def current() -> Secret[str]:
    return ENV


async def change(key: Secret[str]) -> Secret[str]:
    await pays(Keys(key, key, VAULT), Order(number=2, key=key))
    return key


def prepare(folder: str) -> Keys:
    """Put the secrets where they are found."""
    os.environ["CANARY_KEY"] = FROM_ENV
    path = os.path.join(folder, "key")
    with open(path, "w") as file:
        file.write(FROM_FILE + "\n")
    return Keys(ENV, Secret.file(path), VAULT)


@step
async def leaks() -> str:
    return FROM_ENV


@workflow
async def planted() -> str:
    """The leak that nobody can prevent: a result is recorded as it is."""
    return await leaks()
