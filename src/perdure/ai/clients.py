"""What differs between the clients: how they are told not to retry, and that a call is the same one again.

A client's own retries would multiply with those of the step, wait for hours in a process, and nobody would see them.
They are switched off for one call by the client's own means; the client that was given isn't changed.

    openai, anthropic   a copy of the client, made by its `with_options(max_retries=0)`, which shares its connections
    google              `http_options` of the call
    litellm             `num_retries` and `max_retries` of the call
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from perdure.ai.given import is_table
from perdure.ai.responses import PACKAGES
from perdure.errors import ConfigurationError, UsageError

C = TypeVar("C")

#: The header under which a provider, or whatever stands before it, can know a call again.
IDEMPOTENCY = "Idempotency-Key"


class Method:
    """A method of a client, or a function of litellm's.

    Attributes:
        package: whose client it is.
        is_async: calling it gives something to await.

    Raises:
        UsageError: it is none.
    """

    __slots__ = ("_given", "is_async", "package")

    def __init__(self, method: Callable[..., Any]) -> None:
        owner = getattr(method, "__self__", None)
        package = package_of(owner) if owner is not None else method.__module__.partition(".")[0]
        if package not in PACKAGES or (owner is None) != (package == "litellm"):
            msg = (
                f"llm() got {method!r}: give the method of a client, such as client.messages.create (openai, anthropic "
                "and google.genai are known here, and functions of litellm). For anything else write a @step"
            )
            raise UsageError(msg)
        self._given = method
        self.package: str = package
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(getattr(method, "__func__", method)))

    @property
    def name(self) -> str:
        """`Messages.create`, say: the same for clients that wait and those that don't."""
        name = str(getattr(self._given, "__qualname__", "")).removeprefix("Async")
        return f"chat.{name}" if ".chat." in type(self.resource).__module__ else name

    @property
    def provider(self) -> str | None:
        """Whose price list holds, as far as the client tells."""
        return None if self.package == "litellm" else self.package

    def is_secret(self, name: str) -> bool:
        """Whether an argument of that name opens doors."""
        return self.package == "litellm" and name.endswith(("_key", "_secret", "_token", "_password"))

    @property
    def resource(self) -> Any:
        """What the method belongs to."""
        return getattr(self._given, "__self__", None)

    def named(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """All arguments by their names."""
        if not arguments:
            return dict(keywords)
        bound = inspect.signature(self._given).bind_partial(*arguments).arguments
        return {**bound, **keywords}

    def plain(self) -> Callable[..., Any]:
        """As it was given."""
        return self._given

    def unretried(self, name: str | None = None) -> Callable[..., Any]:
        """The method (or another one of its resource) of a client that doesn't retry by itself."""
        resource = self.resource
        if self.package not in ("openai", "anthropic"):
            return self._given if name is None else cast("Callable[..., Any]", getattr(resource, name))
        fresh = type(resource)(no_retries(resource._client))
        return cast("Callable[..., Any]", getattr(fresh, name or self._given.__name__))

    def once(self, arguments: dict[str, Any], key: str) -> dict[str, Any]:
        """The arguments for one attempt, which the provider can know again by its key."""
        if self.package == "litellm":
            return {**arguments, "num_retries": 0, "max_retries": 0}
        if self.package == "google":
            return _once_google(arguments, key)
        headers = dict(arguments.get("extra_headers") or {})
        if not any(name.casefold() == IDEMPOTENCY.casefold() for name in headers):
            headers[IDEMPOTENCY] = key
        return {**arguments, "extra_headers": headers}


def _once_google(arguments: dict[str, Any], key: str) -> dict[str, Any]:
    fields = _fields(arguments.get("config"))
    options = _fields(fields.pop("httpOptions", None) or fields.get("http_options"))
    options["headers"] = {IDEMPOTENCY: key, **(options.get("headers") or {})}
    options["retry_options"] = {"attempts": 1}
    return {**arguments, "config": {**fields, "http_options": options}}


def _fields(given: Any) -> dict[str, Any]:
    """What is given as a dict, or as a model, or not at all."""
    if given is None:
        return {}
    return dict(given) if is_table(given) else {name: getattr(given, name) for name in given.model_fields_set}


def no_retries(client: C) -> C:
    """A client that doesn't retry by itself, for use in the body of a step.

    The step's own policy retries then: durably, so that waits survive restarts, and together with all other calls that
    the same provider turns away. `llm()` does this by itself. The client that was given isn't changed, and shares its
    connections with the new one.

    Args:
        client: of openai or anthropic. One of google.genai is given back as it is, since it retries only if it was
            made with `retry_options`.

    Raises:
        ConfigurationError: it is a client of google.genai that was made with `retry_options`.
        UsageError: it isn't a client that is known here.

    Example:
        >>> @perdure.step  # doctest: +SKIP
        ... async def ask(question: str) -> str:
        ...     message = await no_retries(client).messages.create(...)
    """
    given: Any = client
    package = package_of(given)
    if package in ("openai", "anthropic"):
        return cast("C", given if given.max_retries == 0 else given.with_options(max_retries=0))
    if package == "google":
        if getattr(getattr(given._api_client, "_http_options", None), "retry_options", None) is not None:
            msg = (
                "this client of google.genai was made with retry_options, and has no way to do without them: make "
                "another one without them for use in steps, which retry themselves"
            )
            raise ConfigurationError(msg)
        return client
    msg = (
        f"no_retries() got {client!r}: it knows the clients of openai, anthropic and google.genai. Tell another one "
        "by its own means not to retry"
    )
    raise UsageError(msg)


def package_of(value: Any) -> str | None:
    """Which client it is, or belongs to; subclasses count."""
    names = (kind.__module__.partition(".")[0] for kind in type(value).__mro__)
    return next((name for name in names if name in PACKAGES), None)
