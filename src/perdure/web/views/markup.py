"""From elements to markup that a page can take as it is."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring


def markup(root: Element) -> str:
    """An element as HTML: every text and every attribute is escaped, `<` and `>` included."""
    return tostring(root, encoding="unicode", short_empty_elements=False)


def text_of(text: str) -> str:
    """A text without anything invisible that could mislead a reader; line breaks and tabs stay.

    Example:
        >>> text_of("a\\u202eb\\x00")
        'a\\\\u202eb\\\\x00'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)
