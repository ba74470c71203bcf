"""Where secrets are found: environment variables, files, and what a program's own resolvers know."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from perdure.errors import ConfigurationError, SecretUnavailableError

__all__ = ["SOURCE", "Resolver", "look_up", "read_as", "register", "restrict", "unrestricted"]

SOURCE: Final = re.compile(r"[a-z][a-z0-9_-]{0,39}")

#: Looks a secret up by its name.
Resolver: TypeAlias = Callable[[str], Any]


def register(name: str, resolver: Resolver) -> Resolver:
    """Let `Secret.of(name, ...)` ask a function of yours, in every process that executes steps.

    Args:
        name: a word of small letters.
        resolver: called with the secret's name, each time it is revealed and in the step's thread; returns its value.
            It raises if there is none; what it raises may be retried, as any error of a step. It keeps values for a
            while itself if asking is slow.

    Raises:
        ConfigurationError: the name is taken, or none.

    Example:
        >>> def from_vault(name: str) -> str: ...
        >>> perdure.secrets.register("vault", from_vault)
    """
    if not SOURCE.fullmatch(name):
        msg = f"{name!r}: the name of a resolver is a word of small letters, digits, - and _"
        raise ConfigurationError(msg)
    known = _resolvers.get(name)
    if known is not None and _home(known) != _home(resolver):
        msg = f"secrets from {name!r} are found by {_home(known)} already: choose another name"
        raise ConfigurationError(msg)
    _resolvers[name] = resolver
    return resolver


def restrict(**allowed: Sequence[str]) -> None:
    """Say which secrets this process resolves: others are refused, whatever a recorded reference says.

    Who may start runs, or write to the database, may put any reference where a workflow takes a Secret. A worker that
    executes the work of such people should only resolve what they may use.

    Args:
        allowed: for each source patterns of names, with `*` for anything. A source that isn't given is refused.

    Example:
        >>> perdure.secrets.restrict(env=["STRIPE_*"], file=["/run/secrets/*"])
    """
    global _allowed
    for source, patterns in allowed.items():
        if isinstance(patterns, str):
            msg = f"restrict({source}={patterns!r}): give a list of patterns"
            raise ConfigurationError(msg)
    _allowed = {source: tuple(patterns) for source, patterns in allowed.items()}


def unrestricted() -> None:
    """For tests: resolve everything."""
    global _allowed
    _allowed = None


def _from_env(name: str) -> str:
    found = os.environ.get(name)
    if found is None:
        raise SecretUnavailableError(
            f"secret env:{name} can't be found: the process that executes the step has no environment variable {name}. "
            "Set it there and start the worker again; a run that has failed for this goes on with `perdure retry`"
        )
    return found


def _from_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SecretUnavailableError(
            f"secret file:{path} can't be read where the step executes: {error.strerror}. Put it there, readable "
            "for the worker; a run that has failed for this goes on with `perdure retry`"
        ) from error


_resolvers: dict[str, Resolver] = {"env": _from_env, "file": _from_file}
_allowed: Mapping[str, tuple[str, ...]] | None = None


def look_up(source: str, name: str) -> Any:
    resolver = _resolvers.get(source)
    if resolver is None:
        raise SecretUnavailableError(
            f"secret {source}:{name} can't be found: no resolver {source!r} is registered in the process that "
            f"executes the step. Call perdure.secrets.register({source!r}, ...) in a module that its workers import"
        )
    if _allowed is not None:
        asked = os.path.realpath(name) if source == "file" else name
        if not any(fnmatch.fnmatchcase(asked, pattern) for pattern in _allowed.get(source, ())):
            raise SecretUnavailableError(
                f"secret {source}:{name} isn't one of those that this process resolves (perdure.secrets.restrict). "
                "Add it there if runs may use it"
            )
    return resolver(name)


def read_as(found: Any, kind: Any, told: str) -> Any:
    if kind is bytes:
        return found.encode() if isinstance(found, str) else found
    try:
        if kind is str:
            return found.decode().removesuffix("\n").removesuffix("\r") if isinstance(found, bytes) else found
        if isinstance(found, str | bytes):
            return msgspec.json.decode(found, type=kind)
        return msgspec.convert(found, kind)
    # The errors' own texts may show what is wrong with the value.
    except (ValueError, msgspec.MsgspecError):
        name = getattr(kind, "__name__", str(kind))
        raise SecretUnavailableError(f"secret {told} is there, and can't be read as {name}") from None


def _home(resolver: Resolver) -> str:
    return f"{getattr(resolver, '__module__', '?')}.{getattr(resolver, '__qualname__', type(resolver).__qualname__)}"
