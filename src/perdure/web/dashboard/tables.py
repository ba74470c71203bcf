"""The table of all pages, as an element; `parts.table` makes them.

NiceGUI's own table builds its cells anew whenever anything on the page changes, so that whoever walks over it by
keyboard loses their place every few seconds. This one changes what has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments


class Table(ui.element, component="assets/table.js"):
    """Rows of texts, links and badges.

    Args:
        columns: plain data, see `parts.Column`.
        select: told the keys of all chosen rows, those of other pages included.
    """

    def __init__(
        self,
        columns: Sequence[dict[str, Any]],
        rows: Sequence[dict[str, Any]],
        *,
        label: str,
        key: str,
        select: Callable[[list[str]], None] | None,
    ) -> None:
        super().__init__()
        self._props["columns"] = list(columns)
        self._props["rows"] = list(rows)
        self._props["row-key"] = key
        self._props["label"] = label
        self._props["selectable"] = select is not None
        if select is not None:
            told = select
            self.on("select", lambda event: told(_keys(event)))

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._props["rows"]
        return rows

    @rows.setter
    def rows(self, rows: Sequence[dict[str, Any]]) -> None:
        self._props["rows"] = list(rows)
        self.update()

    @property
    def columns(self) -> list[dict[str, Any]]:
        columns: list[dict[str, Any]] = self._props["columns"]
        return columns

    @columns.setter
    def columns(self, columns: Sequence[dict[str, Any]]) -> None:
        self._props["columns"] = list(columns)
        self.update()

    def clear_selection(self) -> None:
        """Choose no row any more."""
        self.run_method("clear")


def _keys(event: GenericEventArguments) -> list[str]:
    given: Any = event.args
    return [str(each) for each in given] if isinstance(given, list) else []
