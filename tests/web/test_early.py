"""The list that is in the page's own HTML: the same cells, and texts that stay texts."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from perdure.web.dashboard.early import early_list

COLUMNS = [
    {"name": "id", "title": "Run", "kind": "link", "wide": False},
    {"name": "status", "title": "Status", "kind": "status", "wide": False},
    {"name": "queue", "title": "Queue", "kind": "text", "wide": True},
]
KNOWN = {"div", "nav", "a", "main", "h1", "table", "thead", "tbody", "tr", "th", "td", "span"}


class Seen(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.names: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names.update(name for name, _ in attrs)
        if tag == "a":
            self.links.append(str(dict(attrs)["href"]))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


foreign = st.text(st.characters(exclude_categories=("Cs", "Cc"))) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</td></table><b>",
        "&lt;b&gt;",
        "{{ 7 * 7 }}",
    ]
)


@given(foreign, foreign)
def test_foreign_texts_stay_texts(id: str, queue: str) -> None:
    row = {"id": id, "id_href": "/runs/x", "status": "failed", "status_tone": "bad", "queue": queue}
    seen = Seen(early_list("Runs", [("/runs", "Runs", True), ("/why", "Why", False)], COLUMNS, [row]))
    assert set(seen.tags) <= KNOWN
    assert seen.names <= {"id", "class", "href", "aria-current"}
    assert seen.links == ["/runs", "/why", "/runs/x"]
    whole = "".join(seen.texts)
    assert id in whole
    assert queue in whole
