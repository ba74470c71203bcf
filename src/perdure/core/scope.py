"""Names for what a run asks for, equal live and on replay.

Every task of a run has a scope: the root task's path is empty, its first child task is `1`, that one's
second child `1.2`, and so on in the order in which tasks are created. An operation is named by what it
is and by how many of that name its task asked for before: `app.fetch#2`, in a child task `1.2/app.fetch#2`,
a timer `sleep:1` or `timeout:1`. So an operation's id depends only on the code of its own task, and concurrent branches
don't disturb each other's ids. A `map` counts as one task, and its items as that one's children by their index. Tasks
of update handlers have the paths `u1`, `u2` and so on, in the order in which the updates were accepted.
"""

from __future__ import annotations

from sys import intern

from perdure.core import bounds
from perdure.errors import ConfigurationError

#: Longest key, in characters.
KEY_MAX = bounds.NAME_MAX


class Scope:
    """The counters of one task."""

    __slots__ = ("_count", "_counts", "_name", "_prefix", "_tasks", "path")

    def __init__(self, path: str = "") -> None:
        self.path = path
        self._prefix = path + "/" if path else ""
        self._name: str | None = None  # the first that it asked for; most tasks ask for nothing else
        self._count = 0
        self._counts: dict[str, int] | None = None  # of other names
        self._tasks = 0

    def operation(self, name: str) -> str:
        """The id of the next step or child run called `name`."""
        if name == self._name:
            self._count = position = self._count + 1
        else:
            position = self._next(name)
        return f"{self._prefix}{name}#{position}"

    def numbered(self, kind: str) -> str:
        """The id of the next nameless thing of this kind: a time-out that is added moves no sleep."""
        name = intern(kind + ":")  # no name holds a colon at its end
        if name == self._name:
            self._count = position = self._count + 1
        else:
            position = self._next(name)
        return intern(f"{self._prefix}{name}{position}")  # thousands of runs may stand at the same one

    def _next(self, name: str) -> int:
        if self._name is None:
            self._name, self._count = name, 1
            return 1
        if self._counts is None:
            self._counts = {}
        position = self._counts[name] = self._counts.get(name, 0) + 1
        return position

    def item(self, index: int) -> Scope:
        """The scope of a task that is known by its index and not by the order of creation."""
        return Scope(f"{self.path}.{index}")

    def child(self) -> Scope:
        """The scope of the next task created here."""
        self._tasks += 1
        return Scope(f"{self._prefix.replace('/', '.')}{self._tasks}")


def keyed_operation(name: str, key: str) -> str:
    """The id of an operation that the user's own key identifies, wherever in the run it is asked for."""
    return f"{name}[{key}]"


def checked_key(key: str | None) -> str | None:
    """The user's own key of an operation, if it can be one."""
    if key is not None and (not key or len(key) > KEY_MAX or not key.isprintable()):
        msg = f"key={key!r}: the key of a step or question has 1 to {KEY_MAX} printable characters"
        raise ConfigurationError(msg)
    return key


def operation_name(op_id: str) -> str:
    """The name inside an op id.

    >>> operation_name("1.2/app.fetch#3"), operation_name("app.fetch[call-7]"), operation_name("u2/timer:1")
    ('app.fetch', 'app.fetch', 'timer')
    """
    if op_id.endswith("]"):
        return op_id.partition("[")[0]
    path, slash, rest = op_id.partition("/")
    if slash and path.removeprefix("u").replace(".", "").isdigit():
        op_id = rest
    if "#" in op_id:
        return op_id.rpartition("#")[0]
    return op_id.rpartition(":")[0]
