"""How deeply JSON is nested, told from its bytes.

Readers are recursive, and each gives up at a depth of its own, which also depends on how deep the program stands where
it reads. So what is recorded is bounded: what one process has written, every other one can read. Small values cost a
comparison of lengths, others two counts of characters; only one with very many brackets is looked at.
"""

from __future__ import annotations

from perdure.core.bounds import DEPTH_MAX
from perdure.errors import NotSerializableError

__all__ = ["SHALLOW", "check_depth", "too_deep"]

#: JSON of up to so many bytes can't be too deep: whatever opens also closes.
SHALLOW = 2 * DEPTH_MAX

_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def too_deep(data: bytes, most: int = DEPTH_MAX) -> bool:
    """Whether arrays and objects in this JSON are nested more than so many times.

    Args:
        data: well-formed JSON.

    Example:
        >>> too_deep(b'[[{"a[[": []}]]', most=4), too_deep(b"[[],[]]", most=1)
        (False, True)
    """
    if data.count(b"[") + data.count(b"{") <= most:
        return False
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    left = b"".join(data.split(b'"')[::2]).translate(_TO_SQUARE, _OTHERS)  # what is between strings
    for _ in range(most):
        if not left:
            return False
        left = left.replace(
            b"[]", b""
        )  # the innermost of each branch; found from left to right, so each once
    return bool(left)


def check_depth(data: bytes, where: str) -> None:
    """Refuse JSON that is nested more than `DEPTH_MAX` times.

    Args:
        where: what it is, for the message.

    Raises:
        NotSerializableError: it is.
    """
    if too_deep(data):
        raise NotSerializableError(
            f"The {where} is nested too deeply: JSON here has up to {DEPTH_MAX} arrays and objects within each other, "
            "so that every process can read it. Use a flat list of its parts instead, or a text that holds it."
        )
