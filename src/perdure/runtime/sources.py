"""The text of functions, as their files have it, for those who look at where code stands."""

from __future__ import annotations

import contextlib
import inspect
import linecache
import os
from types import CodeType

from perdure.core.standing import SourceText

LINES_MAX = 1200  #: of a longer function only what is around the current line is shown
LINE_MAX = 400  #: characters


class Sources:
    """Collects the texts of the functions that one answer shows.

    Attributes:
        texts: by the key that `of` returns.
        files: when the files were changed, in nanoseconds.
    """

    def __init__(self) -> None:
        self.texts: dict[str, SourceText] = {}
        self.files: dict[str, int] = {}

    def of(self, code: CodeType, line: int) -> str | None:
        """The key of a function's text. None if there is no text."""
        known = _function(code)
        if known is None:
            return None
        key = f"{code.co_filename}:{known.first}"
        if len(known.lines) > LINES_MAX:
            known = _around(known, line)
            key += f":{known.first}"
        self.texts[key] = known
        with contextlib.suppress(OSError):
            self.files[code.co_filename] = os.stat(code.co_filename).st_mtime_ns
        return key

    def character(self, code: CodeType, line: int, byte: int) -> int:
        """The number of the character at which the byte of a line stands."""
        text = linecache.getline(code.co_filename, line)
        return len(text.encode("utf-8", "replace")[:byte].decode("utf-8", "replace"))


#: Functions whose text was looked up; what replays one run asks for the same few again and again.
_known: dict[CodeType, SourceText | None] = {}
_KNOWN_MAX = 500


def _function(code: CodeType) -> SourceText | None:
    if code not in _known:
        if len(_known) >= _KNOWN_MAX:
            _known.clear()
        _known[code] = _read(code)
    return _known[code]


def _read(code: CodeType) -> SourceText | None:
    lines = linecache.getlines(code.co_filename)
    first = code.co_firstlineno
    if not 1 <= first <= len(lines):
        return None
    block = lines[first - 1 : first]
    with contextlib.suppress(Exception):  # the text may be anything: it isn't what was compiled, say
        block = inspect.getblock(lines[first - 1 :])
    last = max((line for _, _, line in code.co_lines() if line is not None), default=first)
    if len(block) <= last - first:  # a lambda, or a part of an expression
        block = lines[first - 1 : last]
    texts = tuple(line.rstrip("\n").expandtabs(4)[:LINE_MAX] for line in block)
    return SourceText(file=code.co_filename, function=code.co_qualname, first=first, lines=texts)


def _around(text: SourceText, line: int) -> SourceText:
    start = max(0, min(line - text.first - LINES_MAX // 2, len(text.lines) - LINES_MAX))
    return SourceText(
        file=text.file,
        function=text.function,
        first=text.first + start,
        lines=text.lines[start : start + LINES_MAX],
    )
