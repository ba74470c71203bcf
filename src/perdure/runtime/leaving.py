"""The one place through which texts leave this process for logs and traces.

What people write into messages of errors and logs may hold what isn't to be seen elsewhere. Whoever knows how to
take it out sets `redactor`; every text of a trace and of a formatted log record goes through `text`.
"""

from __future__ import annotations

from collections.abc import Callable

#: Takes out of a text what isn't to leave. Called from any thread. None = everything may leave.
redactor: Callable[[str], str] | None = None


def text(value: str) -> str:
    """A text as it may leave."""
    return value if redactor is None else redactor(value)
