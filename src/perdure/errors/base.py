"""Where the tree of errors begins."""

from __future__ import annotations


class PerdureError(Exception):
    """Base of every error that Perdure raises."""
