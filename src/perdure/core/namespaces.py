"""Namespaces: whose a run is, told by its id.

What belongs to a namespace is kept under ids that begin with it: run `r-1` of the namespace `acme` is stored as
`:acme/r-1`. Nothing else begins with a colon, since no id, name or key that a user gives may; and no namespace's name
has a slash, so the first one ends it. So a stored id belongs to exactly one namespace, whatever it goes on with.

The *short* id is the one without that. It is what the run's code, its history and everybody in its namespace know;
the stored id is for stores, for workers, which drive the runs of all namespaces, and for operators, who see them all.
"""

from __future__ import annotations

import re

from perdure.errors import UsageError

#: What stored ids of namespaces begin with, and nothing that a user gives.
MARK = ":"

NAMESPACE_MAX = 63

#: Lower case only: two namespaces whose names differ by case alone would be mistaken for each other by people.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.ASCII)


def check_namespace(name: str) -> str:
    """A namespace's name.

    Raises:
        UsageError: it can't be one.
    """
    if not isinstance(name, str) or len(name) > NAMESPACE_MAX or _NAME.fullmatch(name) is None:
        shown = repr(name if not isinstance(name, str) else name[: NAMESPACE_MAX + 10])
        msg = (
            f"{shown} can't name a namespace: a name has 1 to {NAMESPACE_MAX} of the characters a-z, 0-9, '-', '_' and "
            "'.', and begins and ends with a letter or digit"
        )
        raise UsageError(msg)
    return name


def prefix_for(namespace: str | None) -> str:
    """What the stored ids of a namespace begin with; "" for None.

    Example:
        >>> prefix_for("acme") + "r-1"
        ':acme/r-1'
    """
    return "" if namespace is None else f"{MARK}{namespace}/"


def prefix_of(stored: str) -> str:
    """The prefix that a stored id has; "" if it is of no namespace.

    Example:
        >>> prefix_of(":acme/r-1"), prefix_of("r-1")
        (':acme/', '')
    """
    return stored[: stored.index("/") + 1] if stored[:1] == MARK else ""


def short(stored: str) -> str:
    """A stored id without its namespace.

    Example:
        >>> short(":acme/r-1"), short("r-1")
        ('r-1', 'r-1')
    """
    return stored[stored.index("/") + 1 :] if stored[:1] == MARK else stored


def namespace_of(stored: str) -> str | None:
    """The namespace of a stored id, None if it is of none."""
    return stored[1 : stored.index("/")] if stored[:1] == MARK else None


def is_reserved(given: str) -> bool:
    """Whether something that a user gives looks like what is stored of a namespace."""
    return given[:1] == MARK


def refusal(given: str, what: str) -> str:
    """Why such a thing is refused."""
    return (
        f"{given!r} can't be {what}: what begins with {MARK!r} belongs to a namespace. Use an engine that is bound to "
        "that namespace, as in engine.namespace(...), and leave the colon and the name out"
    )
