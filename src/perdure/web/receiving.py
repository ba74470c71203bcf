"""Receiving webhooks: the only way in that asks for a signature and not for who somebody is.

The gate lets what is posted below /hooks/ through to here, and here nothing happens before a signature is proved. Who
can't prove one learns nothing: an unknown hook answers as a wrong signature does, and takes as long. What then is
done is durable when the answer goes out; a sender that gets none, or another one, delivers again, and that does
nothing twice.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from perdure.api.engine import Engine
from perdure.api.messages import Message
from perdure.errors import ConfigurationError, RunConflictError, RunEndedError, UndecodableError
from perdure.web.access import Role, Who
from perdure.web.engines import EngineHere, engine_within
from perdure.web.hooks import MAX_BODY, Action, Delivery, Hook, Publish, Start
from perdure.web.problems import problem
from perdure.web.signatures import BadSignature, Proof, Scheme, Untimely, prove

logger = logging.getLogger("perdure.web")

router = APIRouter(tags=["hooks"])

_PATIENCE: Final = 20.0  # seconds that a body may take to arrive


class Hooks:
    """The hooks of an application, by name.

    Raises:
        ConfigurationError: two have one name, or one has no secret.
    """

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self._by_name: dict[str, Hook] = {}
        self._nobodys = [secrets.token_bytes(32)]
        for hook in hooks:
            if hook.name in self._by_name:
                msg = f"two hooks are named {hook.name!r}: name one otherwise"
                raise ConfigurationError(msg)
            hook.keys()  # so that a missing secret is told now, and not by senders who are turned away
            self._by_name[hook.name] = hook

    @property
    def most(self) -> int:
        """Bytes that are read before anything is proved: the same for all, so they don't tell which hooks there are."""
        return max((hook.max_body for hook in self._by_name.values()), default=MAX_BODY)

    def named(self, name: str) -> tuple[Hook | None, Scheme, list[bytes]]:
        """A hook, how it is signed, and its keys; for an unknown name none, and a key that nobody has."""
        found = self._by_name.get(name)
        if found is None:
            return None, "standard", self._nobodys
        try:
            return found, found.scheme, found.keys()
        # What gives the secrets may be the user's, and fail as it likes; a stranger mustn't learn of it.
        except Exception:
            logger.exception("the secrets of hook %r can't be had, so its deliveries are refused", name)
            return None, found.scheme, self._nobodys


class _TooLarge(Exception):
    pass


@router.post("/hooks/{name:path}", status_code=202)
async def receive(engine: EngineHere, request: Request, name: str) -> JSONResponse:
    """Take a webhook."""
    hooks: Hooks = request.app.state.hooks
    try:
        async with asyncio.timeout(_PATIENCE):
            body = await _body(request, hooks.most)
    except _TooLarge:
        return _too_large()
    except TimeoutError:
        return problem(408, "TooSlow", f"The delivery didn't arrive within {_PATIENCE:g} seconds.")
    hook, scheme, keys = hooks.named(name)
    try:
        proof = prove(scheme, request.headers, body, keys, now=time.time())
        if hook is None:
            raise BadSignature
    except Untimely:
        return _refused(
            "UntimelySignature", "The signature is too old, or from the future. Is the clock right?"
        )
    except BadSignature:
        return _refused("BadSignature", "There is no such hook, or the signature isn't one that it takes.")
    return await _take(engine, request, hook, proof, body)


async def _body(request: Request, most: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most:
        raise _TooLarge
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise _TooLarge
    return bytes(body)


def _too_large() -> JSONResponse:
    return problem(413, "BodyTooLarge", "The delivery is larger than what is taken here.")


def _refused(kind: str, told: str) -> JSONResponse:
    answer = problem(401, kind, told)
    answer.headers["www-authenticate"] = "Webhook-Signature"
    return answer


async def _take(engine: Engine, request: Request, hook: Hook, proof: Proof, body: bytes) -> JSONResponse:
    request.state.who = Who(f"hook {hook.name}", Role.OPERATOR, namespace=hook.namespace)
    engine = engine_within(engine, hook.namespace)
    told: dict[str, Any] = {"delivery": proof.id}
    request.state.told = told
    if len(body) > hook.max_body:
        return _too_large()
    delivery = Delivery(hook=hook.name, id=proof.id, headers=dict(request.headers), body=body)
    try:
        actions = await hook.decide(delivery)
    except (UndecodableError, msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        cause = error.__cause__ or error
        return problem(422, "InvalidPayload", f"The payload isn't what this hook takes: {cause}")
    did: list[str] = []
    told["did"] = did
    for number, action in enumerate(actions, 1):
        did.append(await _do(engine, action, delivery.name_of(number)))
    return JSONResponse({"status": "accepted"}, status_code=202)


async def _do(engine: Engine, action: Action, name: str) -> str:
    """Do it once, whatever has been done under this name before.

    Returns:
        What was done, for the audit log.
    """
    if isinstance(action, Publish):
        await engine.publish(action.name, action.payload, key=name)
        return f"publish {action.name}"
    if isinstance(action, Start):
        return f"start {await _start(engine, action, name)}"
    await engine.get(action.run).send(action.name, action.value, key=name)
    return f"send {action.run} {action.name}"


async def _start(engine: Engine, action: Start, name: str) -> str:
    options: dict[str, Any] = {
        "queue": action.queue,
        "key": action.key,
        "priority": action.priority,
        "delay": action.delay,
        "timeout": action.timeout,
        "attributes": action.attributes,
    }
    messages = [
        Message(what, value, f"{name}/m{index}") for index, (what, value) in enumerate(action.messages)
    ]
    try:
        handle = await engine.start(action.call, id=action.id or name, messages=messages, **options)
    except RunEndedError:
        raise
    except RunConflictError:
        if action.id is not None:
            raise
        # Only an earlier delivery of the same id makes a run of this name, and the first one counts: the sender, or
        # the code here, has changed what it makes of it meanwhile.
        logger.warning("a delivery came again with another meaning: run %s stays as it is", name)
        return name
    return handle.id
