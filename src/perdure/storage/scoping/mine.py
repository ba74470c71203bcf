"""Which keys of runs are a namespace's: whoever has a number may have it from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from perdure.errors import NamespaceError, UnknownRunError
from perdure.storage.protocol import Store
from perdure.storage.records import RunRow

#: So many keys are remembered; a run never changes its namespace, and its key is no other's.
KNOWN_MAX = 10_000


class Mine:
    """Tells the keys of a namespace's runs from others."""

    def __init__(self, inner: Store, prefix: str) -> None:
        self._inner = inner
        self._prefix = prefix
        self._known: dict[int, None] = {}

    def know(self, rows: Iterable[RunRow]) -> None:
        """These rows were seen; those of the namespace needn't be looked up again."""
        for row in rows:
            if row.id.startswith(self._prefix):
                self._known[row.run] = None
        while len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]

    async def only(self, keys: Sequence[int]) -> list[int]:
        """Those of these keys that are the namespace's, in their order."""
        unknown = [key for key in keys if key not in self._known]
        found = set(keys).difference(unknown)
        for start in range(0, len(unknown), KNOWN_MAX):
            rows = await self._inner.survey.rows(unknown[start : start + KNOWN_MAX])
            self.know(rows)
            found.update(row.run for row in rows if row.id.startswith(self._prefix))
        return [key for key in keys if key in found]


def unknown_keys(count: int) -> UnknownRunError:
    """As a store says it of keys that it never gave."""
    return UnknownRunError(
        f"{count} runs were asked for by their keys, but not all of them exist. Ask only for keys that this "
        "database has given."
    )


def of_workers() -> NoReturn:
    """Refuse what only workers do."""
    raise NamespaceError(
        "A namespace's store is for clients, and this is what workers do: they drive the runs of all namespaces. Give "
        "them the store itself."
    )


def of_operators(what: str) -> NoReturn:
    """Refuse what concerns everybody in the database."""
    raise NamespaceError(
        f"{what} concerns the whole database, of which one namespace is seen here. Do it with an engine, a token or a "
        "command that is bound to no namespace."
    )
