"""Viewers of values: recorded JSON, long texts, pictures and failures as markup that can be shown as it is.

Whatever a value holds is a text, an escaped attribute, or the bytes of a picture of a known kind. Nothing of it
is ever taken as markup. All of it is bounded, since a value may have megabytes: what is left out is counted.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement

import msgspec

from perdure.codec.failures import masked_failure
from perdure.codec.kinds import is_dict, is_sequence
from perdure.codec.redaction import mask_json
from perdure.core.events import Failure
from perdure.web.views.markup import markup, text_of

#: Elements of a tree, children of one node, levels, and characters of all texts that are drawn.
NODES_MAX: Final = 1500
CHILDREN_MAX: Final = 100
DEPTH_MAX: Final = 20
CHARACTERS_MAX: Final = 200_000
#: A text longer than this is folded away within a tree.
LONG: Final = 300
#: Bytes of one picture, pictures of one value, and pixels of one whose head tells its size.
PICTURE_MAX: Final = 3_000_000
PICTURES_MAX: Final = 6
PIXELS_MAX: Final = 50_000_000
#: Exceptions of a group, and causes behind one another, that are told.
FAILURES_MAX: Final = 20

#: Raster pictures by how their base64 begins. SVG is markup, and so is not among them.
_PICTURES: Final = (
    ("iVBORw0KGgo", "image/png", b"\x89PNG\r\n\x1a\n"),
    ("/9j/", "image/jpeg", b"\xff\xd8\xff"),
    ("R0lGODdh", "image/gif", b"GIF87a"),
    ("R0lGODlh", "image/gif", b"GIF89a"),
    ("UklGR", "image/webp", b"RIFF"),
)
_SHORTEST_PICTURE = 40  # characters of base64


def value_markup(data: bytes) -> str:
    """A recorded value as markup.

    Args:
        data: JSON; anything else is told by its size.

    Example:
        >>> value_markup(b'"<b>"')
        '<div class="pd-value"><pre class="pd-block">&lt;b&gt;</pre></div>'
    """
    drawing = _Drawing()
    root = Element("div", {"class": "pd-value"})
    data = mask_json(data)
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        told = f"{len(data):,} bytes that aren't JSON: encrypted, perhaps, or nested very deeply"
        SubElement(root, "p", {"class": "pd-dim"}).text = told
        return markup(root)
    drawing.top(root, value)
    return markup(root)


def call_markup(data: bytes) -> str:
    """Recorded arguments, `[[...], {...}]`, as markup: a single one as itself, several by position and name."""
    data = mask_json(data)
    try:
        args, kwargs = msgspec.json.decode(data, type=tuple[list[Any], dict[str, Any]])
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return value_markup(data)
    root = Element("div", {"class": "pd-value"})
    if not args and not kwargs:
        SubElement(root, "p", {"class": "pd-dim"}).text = "no arguments"
    elif len(args) == 1 and not kwargs:
        _Drawing().top(root, args[0])
    elif not kwargs:
        _Drawing().top(root, args)
    else:
        named = {str(index): each for index, each in enumerate(args, 1)}
        _Drawing().top(root, {**named, **kwargs})
    return markup(root)


def failure_markup(failure: Failure) -> str:
    """A failure as markup: what it says, its causes, and where it was raised."""
    root = Element("div", {"class": "pd-value"})
    _failure(root, masked_failure(failure), "", [FAILURES_MAX])
    return markup(root)


def picture(text: str) -> str | None:
    """The data: URI of a picture, if a text is one of a known raster kind, as base64 or as a data: URI.

    What the URI says of its kind doesn't count, only what its bytes begin with.

    Example:
        >>> picture("data:image/svg+xml;base64,PHN2Zz48L3N2Zz4" + "=" * 60) is None
        True
    """
    if text.startswith("data:"):
        head, _, text = text[: PICTURE_MAX * 2].partition(",")
        if not head.endswith(";base64"):
            return None
    known = next((each for each in _PICTURES if text.startswith(each[0])), None)
    if known is None or not _SHORTEST_PICTURE <= len(text) <= PICTURE_MAX * 4 // 3:
        return None
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    _, kind, magic = known
    if not data.startswith(magic) or (kind == "image/webp" and data[8:12] != b"WEBP") or _huge(kind, data):
        return None
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _huge(kind: str, data: bytes) -> bool:
    """A few bytes may say that they are a picture of the size of a house, which a browser would make room for."""
    if kind == "image/png":
        return int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big") > PIXELS_MAX
    if kind == "image/gif":
        return int.from_bytes(data[6:8], "little") * int.from_bytes(data[8:10], "little") > PIXELS_MAX
    return False


class _Drawing:
    """One value's drawing, and what there is still room for."""

    def __init__(self) -> None:
        self.nodes = NODES_MAX
        self.characters = CHARACTERS_MAX
        self.pictures = PICTURES_MAX

    def top(self, root: Element, value: Any) -> None:
        if isinstance(value, str) and not self.image(root, value):
            SubElement(
                root,
                "pre",
                {"class": "pd-block", "tabindex": "0"} if len(value) > LONG else {"class": "pd-block"},
            ).text = self.cut(value)
        elif is_dict(value) or is_sequence(value):
            tree = SubElement(root, "ul", {"class": "pd-json"})
            self.children(tree, value, 0)
        elif not isinstance(value, str):
            _leaf(SubElement(root, "div", {"class": "pd-json"}), value)

    def children(self, tree: Element, value: Any, depth: int) -> None:
        pairs: Iterable[tuple[str, Any]]
        pairs = value.items() if is_dict(value) else ((str(index), each) for index, each in enumerate(value))
        drawn = 0
        for name, inner in islice(pairs, CHILDREN_MAX):
            if self.nodes <= 0:
                break
            self.nodes -= 1
            drawn += 1
            self.node(SubElement(tree, "li"), name, inner, depth, named=is_dict(value))
        if drawn < len(value):
            SubElement(tree, "li", {"class": "pd-dim"}).text = f"… {len(value) - drawn:,} more"

    def node(self, item: Element, name: str, value: Any, depth: int, *, named: bool) -> None:
        kind = "pd-json-key" if named else "pd-json-index"
        if is_dict(value) or is_sequence(value):
            size = len(value)
            told = f"{{{size:,}}}" if is_dict(value) else f"[{size:,}]"
            if not size or depth >= DEPTH_MAX:
                SubElement(item, "span", {"class": kind}).text = self.cut(name, LONG)
                SubElement(item, "span", {"class": "pd-dim"}).text = told if not size else f"{told} …"
                return
            shut = depth >= 2 or size > 30
            fold = SubElement(item, "details", {} if shut else {"open": ""})
            label = SubElement(fold, "summary")
            SubElement(label, "span", {"class": kind}).text = self.cut(name, LONG)
            SubElement(label, "span", {"class": "pd-dim"}).text = told
            self.children(SubElement(fold, "ul"), value, depth + 1)
            return
        SubElement(item, "span", {"class": kind}).text = self.cut(name, LONG)
        if not isinstance(value, str):
            _leaf(item, value)
        elif not self.image(item, value):
            self.string(item, value)

    def string(self, item: Element, value: str) -> None:
        if len(value) <= LONG and "\n" not in value:
            SubElement(item, "span", {"class": "pd-json-text"}).text = self.cut(value)
            return
        fold = SubElement(item, "details")
        label = SubElement(fold, "summary")
        first = value[:100].split("\n", 1)[0]
        SubElement(label, "span", {"class": "pd-json-text"}).text = self.cut(first) + " …"
        SubElement(label, "span", {"class": "pd-dim"}).text = f"{len(value):,} characters"
        SubElement(fold, "pre", {"class": "pd-block"}).text = self.cut(value)

    def image(self, parent: Element, value: str) -> bool:
        """Draw a text that is a picture as one."""
        if self.pictures <= 0 or (source := picture(value)) is None:
            return False
        self.pictures -= 1
        size = len(source) * 3 // 4
        frame = SubElement(parent, "figure", {"class": "pd-picture"})
        SubElement(
            frame,
            "img",
            {"src": source, "alt": "a picture in this value", "loading": "lazy", "decoding": "async"},
        )
        SubElement(
            frame, "figcaption", {"class": "pd-dim"}
        ).text = f"{source[5 : source.index(';')]}, {size // 1000:,} kB"
        return True

    def cut(self, text: str, most: int = CHARACTERS_MAX) -> str:
        """A text, as far as there is room."""
        room = min(most, max(0, self.characters))
        self.characters -= min(len(text), room)
        left = len(text) - room
        return text_of(text) if left <= 0 else f"{text_of(text[:room])}… {left:,} more characters"


def _leaf(parent: Element, value: Any) -> None:
    told = msgspec.json.encode(value).decode()
    SubElement(parent, "span", {"class": "pd-json-plain"}).text = told


def _failure(parent: Element, failure: Failure, lead: str, room: list[int]) -> None:
    room[0] -= 1
    box = SubElement(parent, "div", {"class": "pd-failure"})
    title = SubElement(box, "p", {"class": "pd-failure-title"})
    if lead:
        SubElement(title, "span", {"class": "pd-dim"}).text = lead
    SubElement(title, "strong").text = text_of(failure.type.removeprefix("builtins."))
    drawing = _Drawing()
    if failure.message:
        SubElement(box, "pre", {"class": "pd-failure-text"}).text = drawing.cut(failure.message, 20_000)
    for note in failure.notes[:FAILURES_MAX]:
        SubElement(box, "p", {"class": "pd-dim"}).text = drawing.cut(note, 2000)
    if failure.traceback.strip():
        fold = SubElement(box, "details")
        SubElement(fold, "summary").text = "Traceback"
        SubElement(fold, "pre", {"class": "pd-block", "tabindex": "0"}).text = drawing.cut(
            failure.traceback.rstrip()
        )
    for member in failure.members:
        if room[0] > 0:
            _failure(box, member, "one of the group: ", room)
    if failure.cause is not None and room[0] > 0:
        _failure(box, failure.cause, "caused by ", room)
