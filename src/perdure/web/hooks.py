"""Webhooks as code declares them: a name, the sender's secrets, and what a delivery starts or tells whom.

A hook decides what is to be done by the delivery alone, and what it returns is done under names made of the delivery's
id: a run's id, a message's key, a publication's key. A delivery that comes again, at another server or after a crash
between deed and answer, means the same names, and so it is done once.

This needs no server's packages: workers import the same modules.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from perdure.api.call import Call
from perdure.api.durable import Step, Workflow
from perdure.api.naming import named_call
from perdure.codec.values import ValueCodec
from perdure.core.attributes import AttributeValue
from perdure.core.namespaces import check_namespace
from perdure.errors import ConfigurationError, DuplicateNameError
from perdure.web.signatures import SCHEMES, Scheme, keys_of

MAX_BODY: Final = 1 << 20  #: bytes of a delivery that a hook takes unless it says otherwise

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_PLAIN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,100}", re.ASCII)

F = TypeVar("F", bound="Target")


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What came with a webhook, once its signature is proved.

    Attributes:
        hook: the hook's name.
        id: the sender's id of this delivery; the same one when it is delivered again.
        headers: all of them, by names in small letters. Of those only the id and the time are signed, and with other
            schemes than the standard one not even these.
        body: as it came.
    """

    hook: str
    id: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def name_of(self, number: int) -> str:
        """What the deed of this number is known by, wherever and how often it is done."""
        plain = _PLAIN_ID.fullmatch(self.id) is not None
        id = self.id if plain else "sha256-" + hashlib.sha256(self.id.encode()).hexdigest()
        return f"hook/{self.hook}/{id}" + (f"/{number}" if number > 1 else "")


@dataclass(frozen=True)
class Start:
    """Start a run. The first delivery counts: one that comes again means the run that is there.

    Attributes:
        call: the workflow to run, as in `fulfil(order)`.
        id: the run's id; by default one made of the delivery's id. With one made of what the delivery is about, such as
            an order's, several deliveries mean one run; they must give it the same input.
        messages: (name, value) of what the run is sent, each delivery's once, also when the run is there already.
        queue, key, priority, delay, timeout, attributes: as for `engine.start`.
    """

    call: Call[Any]
    id: str | None = None
    messages: Sequence[tuple[str, Any]] = ()
    queue: str | None = None
    key: str | None = None
    priority: int = 0
    delay: float | timedelta | None = None
    timeout: float | timedelta | None = None
    attributes: Mapping[str, AttributeValue] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.call, Call):  # pyright: ignore[reportUnnecessaryIsInstance] - users don't all check
            self.call.mark_used()


@dataclass(frozen=True)
class Send:
    """Send a run a message, each delivery's once. A run that isn't there (yet) lets the delivery fail, and the sender
    deliver it again later.

    Attributes:
        run: its id.
        name, value: the message.
    """

    run: str
    name: str
    value: Any = None


@dataclass(frozen=True)
class Publish:
    """Publish an event, each delivery's once, see `engine.publish`.

    Attributes:
        name, payload: the event.
    """

    name: str
    payload: Any = None


Action: TypeAlias = Start | Send | Publish
#: What a hook's function returns; None is for deliveries that mean nothing here.
Actions: TypeAlias = Action | Sequence[Action] | None
#: A workflow that takes the payload, or its name, or a function of the payload (and the Delivery).
Target: TypeAlias = Workflow[..., Any] | str | Callable[..., Actions] | Callable[..., Awaitable[Actions]]
Secrets: TypeAlias = str | Sequence[str] | Callable[[], Sequence[str]]


class Hook:
    """A webhook, at `POST /hooks/{name}`. See `hook`, which declares one where its workflow or function is.

    Args:
        name: in its address: letters, digits, and _ . - between them.
        to: a workflow (or its name) that a delivery starts with its payload; or a function that gets the payload, read
            by the annotation of its first parameter, and the `Delivery` if it has a second one, and returns what is
            to be done: `Start`, `Send`, `Publish`, several of them, or None.
        env: the environment variable that has the secret, or several with spaces between: the new one and the old one.
        secrets: these themselves, or a function that gives them, asked at each delivery.
        scheme: how it is signed: "standard" (standardwebhooks.com), "github" or "stripe".
        max_body: bytes; a larger delivery is refused.
        namespace: where what it does is done; by default in none.

    Raises:
        ConfigurationError: it can't be so.
    """

    __slots__ = (
        "_decode",
        "_env",
        "_secrets",
        "_with_delivery",
        "max_body",
        "name",
        "namespace",
        "scheme",
        "to",
    )

    def __init__(
        self,
        name: str,
        to: Target,
        *,
        env: str | None = None,
        secrets: Secrets | None = None,
        scheme: Scheme = "standard",
        max_body: int = MAX_BODY,
        namespace: str | None = None,
    ) -> None:
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f"{name!r} can't name a hook: that is up to 64 letters, digits, and _ . - between them"
            raise ConfigurationError(msg)
        if (env is None) == (secrets is None):
            msg = f"hook {name!r} needs one of env= (a variable that has its secrets) and secrets="
            raise ConfigurationError(msg)
        if scheme not in SCHEMES:
            msg = f"scheme={scheme!r} of hook {name!r} isn't known: there are {', '.join(SCHEMES)}"
            raise ConfigurationError(msg)
        if max_body < 1:
            msg = f"max_body={max_body} of hook {name!r} lets nothing in: give a number of bytes"
            raise ConfigurationError(msg)
        self.name = name
        self.to = to
        self.scheme: Scheme = scheme
        self.max_body = max_body
        self.namespace = None if namespace is None else check_namespace(namespace)
        self._env = env
        self._secrets = secrets
        self._with_delivery = False
        self._decode = _reads(name, to)
        if not isinstance(to, Workflow | str):
            self._with_delivery = len(_positions(to)) > 1

    def __repr__(self) -> str:
        return f"Hook({self.name!r}, scheme={self.scheme!r})"

    def keys(self) -> list[bytes]:
        """What its senders sign with.

        Raises:
            ConfigurationError: it has none, or one is no secret.
        """
        given: Sequence[str]
        if self._env is not None:
            given = os.environ.get(self._env, "").split()
        elif isinstance(self._secrets, str):
            given = [self._secrets]
        else:
            given = self._secrets() if callable(self._secrets) else self._secrets or ()
        if not given:
            told = f"set {self._env}" if self._env else "give it one"
            msg = (
                f"hook {self.name!r} has no secret, so nobody could prove to be its sender: {told}. "
                "perdure.web.new_secret() makes one"
            )
            raise ConfigurationError(msg)
        return keys_of(self.scheme, given)

    async def decide(self, delivery: Delivery) -> list[Action]:
        """What a delivery means.

        Raises:
            UndecodableError, UsageError: the payload isn't what the function or the workflow takes.
            TypeError: the function returned something else.
        """
        payload = self._decode(delivery.body)
        to: Any = self.to
        if isinstance(to, Workflow | str):
            return [Start(named_call(to if isinstance(to, str) else str(to.name), [payload]))]
        args = (payload, delivery) if self._with_delivery else (payload,)
        made = to(*args)
        if inspect.isawaitable(made):
            made = await made
        found = [] if made is None else [made] if isinstance(made, Action) else list(made)
        for item in found:
            if not isinstance(item, Action):  # pyright: ignore[reportUnnecessaryIsInstance]
                kind = type(item).__name__
                msg = (
                    f"the function of hook {self.name!r} returned {kind}: return Start, Send, Publish or None"
                )
                raise TypeError(msg)
        return found


def _reads(name: str, to: Target) -> Callable[[bytes], Any]:
    """What makes a payload of a body."""
    if isinstance(to, Workflow | str):
        return msgspec.json.decode  # the workflow's own annotations read it afterwards
    if isinstance(to, Step) or not callable(to):
        msg = f"hook {name!r} leads to {to!r}: give it a workflow, or a function that returns Start, Send or Publish"
        raise ConfigurationError(msg)
    taken = _positions(to)
    if not 1 <= len(taken) <= 2:
        msg = f"the function of hook {name!r} must take the payload, and may take the Delivery, and nothing else"
        raise ConfigurationError(msg)
    codec = ValueCodec[Any](taken[0].annotation, f"payload of hook {name}", owner=to)
    return codec.decode


def _positions(function: Callable[..., Any]) -> list[inspect.Parameter]:
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [item for item in inspect.signature(function).parameters.values() if item.kind in by_position]


_declared: dict[str, Hook] = {}


def hook(
    name: str,
    *,
    env: str | None = None,
    secrets: Secrets | None = None,
    scheme: Scheme = "standard",
    max_body: int = MAX_BODY,
    namespace: str | None = None,
) -> Callable[[F], F]:
    """Let a webhook start a workflow, or be decided about by a function. Arguments as for `Hook`.

    Every server of this process takes it: `perdure dev`, `perdure serve --module`, `create_app`.

    Raises:
        DuplicateNameError: another function has a hook of this name.

    Example:
        >>> @hook("payments", secrets="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        ... def payments(event: dict[str, str]) -> Send | None:
        ...     if event["type"] != "paid":
        ...         return None
        ...     return Send(f"order-{event['order']}", "paid", event["amount"])
    """

    def declare(to: F) -> F:
        made = Hook(name, to, env=env, secrets=secrets, scheme=scheme, max_body=max_body, namespace=namespace)
        known = _declared.get(name)
        if known is not None and _place(known.to) != _place(to):
            msg = (
                f"two hooks are named {name!r}, of {_place(known.to)} and of {_place(to)}: name one otherwise"
            )
            raise DuplicateNameError(msg)
        _declared[name] = made
        return to

    return declare


def _place(to: Any) -> str:
    """Where a target is defined: declaring the same one again (a reload) replaces it."""
    function = to.function if isinstance(to, Workflow) else to
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"


def declared_hooks() -> list[Hook]:
    """What `hook` has declared in this process."""
    return list(_declared.values())
