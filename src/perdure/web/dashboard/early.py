"""A list as plain HTML, within the page itself: it is there before the scripts are that will draw it.

Whoever opens the runs sees them as soon as the answer has come, and may follow the links; assets/perdure.js takes this
away when the page has been drawn. Texts are put in by ElementTree, which escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring


def early_list(
    title: str,
    places: Sequence[tuple[str, str, bool]],
    columns: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
) -> str:
    """The markup of a page with one table.

    Args:
        places: of the navigation: where to, its title, whether that is this page.
        columns, rows: as tables have them, see `parts.table`.

    Example:
        >>> columns = [{"name": "id", "title": "Run", "kind": "link"}]
        >>> "&lt;b&gt;" in early_list("Runs", [], columns, [{"id": "<b>", "id_href": "/runs/b"}])
        True
    """
    whole = Element("div", {"id": "pd-early"})
    SubElement(whole, "div", {"class": "pd-early-head"}).text = "Perdure"
    nav = SubElement(whole, "nav", {"class": "pd-early-nav"})
    for href, text, here in places:
        SubElement(
            nav, "a", {"class": "pd-nav", "href": href, **({"aria-current": "page"} if here else {})}
        ).text = text
    main = SubElement(whole, "main", {"class": "pd-main"})
    SubElement(main, "h1", {"class": "pd-h1"}).text = title
    SubElement(main, "div", {"class": "pd-early-gap"})
    table = SubElement(SubElement(main, "div", {"class": "pd-table"}), "table")
    head = SubElement(SubElement(table, "thead"), "tr")
    for column in columns:
        SubElement(head, "th", {"class": _look(column)}).text = str(column["title"])
    body = SubElement(table, "tbody")
    for row in rows:
        line = SubElement(body, "tr")
        for column in columns:
            _cell(SubElement(line, "td", {"class": _look(column)}), column, row)
    return tostring(whole, encoding="unicode", method="html")


def _look(column: Mapping[str, Any]) -> str:
    return f"pd-col-{column['kind']}" + (" pd-wide" if column.get("wide") else "")


def _cell(cell: Element, column: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    name, kind = str(column["name"]), column["kind"]
    text = str(row.get(name, ""))
    if kind == "link":
        SubElement(cell, "a", {"class": "pd-link", "href": str(row[f"{name}_href"])}).text = text
    elif kind == "status":
        SubElement(cell, "span", {"class": f"pd-badge pd-{row[f'{name}_tone']}"}).text = text
    else:
        cell.text = text
