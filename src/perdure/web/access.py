"""Who may do what. Without any configuration only this machine gets in, and may do everything.

Tokens are kept as digests only: random ones of 256 bits need no slow hash, since nobody can try them all. They come
with each request (`Authorization: Bearer ...`), or once at the login page, which gives the browser a session.
A reverse proxy that has asked who somebody is may say so in a header, if it is told which header that is and from where
it connects; that header counts from nowhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple

from perdure.core.namespaces import check_namespace
from perdure.errors import ConfigurationError, UsageError

logger = logging.getLogger("perdure.web")

PREFIX = "pdt_"  #: of tokens, so that scanners of secrets know them


class Role(IntEnum):
    """What somebody may do; each may do what those before it may."""

    VIEWER = 1  #: look at everything
    OPERATOR = 2  #: start runs, talk to them, and decide what becomes of them
    ADMIN = 3  #: change what holds for all: limits, queues, schedules

    @classmethod
    def named(cls, name: str) -> Role:
        """The role of this name, in small letters.

        Raises:
            ConfigurationError: there is none.
        """
        try:
            return cls[name.upper()]
        except KeyError:
            known = ", ".join(role.name.lower() for role in cls)
            msg = f"{name!r} is no role: there are {known}"
            raise ConfigurationError(msg) from None


@dataclass(frozen=True)
class Who:
    """Somebody who asks.

    Attributes:
        name: for the audit log.
        browser: known by a cookie, which browsers send by themselves: their requests must come from our pages.
        namespace: what they see of the database; None = all of it.
    """

    name: str
    role: Role
    browser: bool = False
    namespace: str | None = None


class Known(NamedTuple):
    """What is kept of a token."""

    digest: str
    role: Role
    namespace: str | None = None


@dataclass
class Tokens:
    """Tokens by name, of which only digests are kept.

    Example:
        >>> tokens = Tokens()
        >>> token = tokens.issue("ci", Role.OPERATOR)
        >>> tokens.who(token)
        Who(name='ci', role=<Role.OPERATOR: 2>, browser=False, namespace=None)
    """

    by_name: dict[str, Known] = field(default_factory=dict[str, Known])
    _file: Path | None = field(default=None, repr=False, compare=False)
    _state: tuple[int, ...] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def load(cls, path: Path) -> Tokens:
        """Read a file that `save` wrote. When the file changes, what it says then counts: a token that was taken
        away opens nothing any more.

        Raises:
            ConfigurationError: it can't be read, or isn't one.
        """
        return cls(_read(path), path, _state_of(path))

    def known(self) -> Mapping[str, Known]:
        """By name, as of now. If the file can't be read any more there are none: a server that
        can't tell who may come in lets nobody in."""
        if self._file is not None and (now := _state_of(self._file)) != self._state:
            self._state = now
            try:
                self.by_name = _read(self._file)
            except ConfigurationError as error:
                logger.error("Nobody gets in: %s", error)
                self.by_name = {}
        return self.by_name

    def save(self, path: Path) -> None:
        """Write them to a file that only this user can read."""
        text = json.dumps(
            {
                name: {"sha256": known.digest, "role": known.role.name.lower()}
                | ({} if known.namespace is None else {"namespace": known.namespace})
                for name, known in self.by_name.items()
            },
            indent=2,
        )
        new = path.with_name(path.name + ".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        new.replace(path)

    def issue(self, name: str, role: Role, *, namespace: str | None = None) -> str:
        """Make a token. It is shown this once; an earlier one of the same name is void.

        Args:
            namespace: whoever has it sees this namespace of the database only; by default all of it.

        Raises:
            ConfigurationError: the name can't be one.
            UsageError: that can't name a namespace.
        """
        within = None if namespace is None else check_namespace(namespace)
        if not 0 < len(name) <= 100 or not name.isprintable():
            msg = f"{name!r} can't name a token: a name has 1 to 100 printable characters"
            raise ConfigurationError(msg)
        token = PREFIX + secrets.token_urlsafe(32)
        self.by_name[name] = Known(_digest(token), role, within)
        return token

    def who(self, token: str) -> Who | None:
        """Whose token it is."""
        digest = _digest(token)
        found = None
        for name, known in self.known().items():  # all of them, so that time tells nothing
            if hmac.compare_digest(known.digest, digest):
                found = Who(name, known.role, namespace=known.namespace)
        return found


def _read(path: Path) -> dict[str, Known]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: _known(entry) for name, entry in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
        msg = f"the file of tokens {path} can't be read ({error}): make one with `perdure token new`"
        raise ConfigurationError(msg) from error


def _known(entry: Any) -> Known:
    namespace = entry.get("namespace")
    return Known(
        str(entry["sha256"]),
        Role.named(entry["role"]),
        None if namespace is None else check_namespace(namespace),
    )


def _state_of(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written or replaced."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True)
class Proxy:
    """A reverse proxy that knows who somebody is.

    Attributes:
        header: in which it says so.
        roles: by what it says; "*" is everybody else.
        networks: from where it connects.
        namespace_header: in which it says which namespace they see, "*" for all of the database. If there is one,
            nobody is let in for whom the proxy doesn't say it.
    """

    header: str
    roles: Mapping[str, Role]
    networks: tuple[str, ...] = ("127.0.0.1/32", "::1/128")
    namespace_header: str | None = None

    def who(self, said: str | None, peer: str | None, namespace: str | None = None) -> Who | None:
        """Who somebody is, by the headers' values and the address that they came from."""
        if said is None or peer is None or not any(_within(peer, network) for network in self.networks):
            return None
        role = self.roles.get(said, self.roles.get("*"))
        if role is None:
            return None
        if self.namespace_header is None or namespace == "*":
            return Who(said, role)
        try:
            return Who(said, role, namespace=check_namespace(namespace or ""))
        except UsageError:
            return None


def _within(peer: str, network: str) -> bool:
    try:
        return ip_address(peer) in ip_network(network)
    except ValueError:
        return False


@dataclass
class Access:
    """Who gets in, and how they are known.

    Attributes:
        tokens, proxy: with neither, whoever is on this machine is an admin.
        hosts: the names by which the server is reached, besides those of this machine: any other `Host` is refused,
            so that no page elsewhere can have its own name lead here (DNS rebinding).
        origins: of other pages that may call it, such as "https://ops.example.org".
    """

    tokens: Tokens | None = None
    proxy: Proxy | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    _sessions: dict[str, Who] = field(default_factory=dict[str, Who], repr=False)

    @property
    def open_here(self) -> bool:
        """Nobody is asked who they are."""
        return self.tokens is None and self.proxy is None

    def check_bind(self, host: str) -> None:
        """Make sure that the server may listen at an address.

        Raises:
            ConfigurationError: others than this machine's users would get in without being asked.
        """
        if self.open_here and not is_loopback(host):
            msg = (
                f"the server isn't opened at {host}, where others could reach it, since nobody would be asked who they "
                "are: give it tokens (`perdure token new`, then --tokens FILE), or a proxy's header, or use 127.0.0.1"
            )
            raise ConfigurationError(msg)

    def log_in(self, token: str) -> str | None:
        """A session for a browser, named by the secret of its cookie; None if nobody has this token."""
        who = None if self.tokens is None else self.tokens.who(token)
        if who is None:
            return None
        session = secrets.token_urlsafe(32)
        self._sessions[session] = Who(who.name, who.role, browser=True, namespace=who.namespace)
        return session

    def log_out(self, session: str) -> None:
        """End a session."""
        self._sessions.pop(session, None)

    def of_session(self, session: str | None) -> Who | None:
        """Whose session it is, as long as their token is there."""
        who = self._sessions.get(session) if session else None
        token = None if who is None or self.tokens is None else self.tokens.known().get(who.name)
        # A new token of the same name may be for another namespace: that needs another session.
        return who if who is not None and token is not None and token.namespace == who.namespace else None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host in ("localhost", "localhost."):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
